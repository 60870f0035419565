//! A reconfig that is granted shows the members that some node was told of by Raft before: whoever is said to vote votes.

use std::collections::BTreeSet;

use coord_core::reconfig::{config_text, config_version};

use super::Violation;
use crate::history::{Event, History};

const NAME: &str = "config_shows_who_votes";

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut told = BTreeSet::new();
    for (place, stamped) in history.0.iter().enumerate() {
        match &stamped.event {
            Event::Members { members, .. } => {
                told.insert(config_text(members, coord_core::Zxid(0)));
            }
            Event::Reconfigured { config } => {
                let version = config_version(config.as_bytes()).unwrap_or_default();
                let version = format!("version={:x}", version.0);
                let unversioned = config.replace(&version, "version=0");
                if !told.contains(&unversioned) {
                    let why = format!("{config:?} is granted, and nobody was told so");
                    return Err(Violation::at(NAME, place, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
