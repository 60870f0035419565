//! A term has one leader: whoever speaks for it, and whoever begins it in the log.

use std::collections::BTreeMap;

use coord_core::NodeId;

use super::Violation;
use crate::history::{Event, History};

const NAME: &str = "one_leader_per_term";

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut leaders: BTreeMap<u64, NodeId> = BTreeMap::new();
    for (place, stamped) in history.0.iter().enumerate() {
        let (term, leader) = match stamped.event {
            Event::SpokeAsLeader { node, term } => (term, node),
            Event::Began { term, leader, .. } => (term.into(), leader),
            _ => continue,
        };
        let known = *leaders.entry(term).or_insert(leader);
        if known != leader {
            let why = format!("term {term} has the leaders {} and {}", known.0, leader.0);
            return Err(Violation::at(NAME, place, why));
        }
    }
    Ok(())
}
