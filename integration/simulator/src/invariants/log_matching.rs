//! Entries of the Raft log with the same index and term are the same, whoever sends them.

use std::collections::BTreeMap;

use super::Violation;
use crate::history::{Event, History};

const NAME: &str = "log_matching";

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut entries: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (place, stamped) in history.0.iter().enumerate() {
        let Event::Entry {
            node,
            index,
            term,
            digest,
        } = stamped.event
        else {
            continue;
        };
        if *entries.entry((index, term)).or_insert(digest) != digest {
            let why = format!(
                "node {} sends another entry {index} of term {term} than was sent before",
                node.0
            );
            return Err(Violation::at(NAME, place, why));
        }
    }
    Ok(())
}
