//! What must hold in every history, one file each, named as what it says.

mod applied_in_order;
mod config_shows_who_votes;
mod empty_containers_go;
mod ends_only_for_its_disk;
mod ephemerals_live_with_their_session;
mod linearizable_writes;
mod log_matching;
mod one_leader_per_term;
mod reads_show_their_zxid;
mod session_order;
mod sessions_live_for_their_timeout;
mod states_equal_at_equal_zxid;
mod sync_sees_what_was_answered;
mod watches_fire_once_and_in_order;

use std::fmt;

use crate::history::History;
use crate::story::{Place, Story};
pub use states_equal_at_equal_zxid::IN_THE_END;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// Where in the history it shows.
    pub place: Option<Place>,
    /// What is wrong.
    pub why: String,
}

impl Violation {
    /// One that shows at a place.
    pub fn at(invariant: &'static str, place: Place, why: String) -> Violation {
        Violation {
            invariant,
            place: Some(place),
            why,
        }
    }

    /// One that shows nowhere in particular.
    pub fn overall(invariant: &'static str, why: String) -> Violation {
        Violation {
            invariant,
            place: None,
            why,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.why)?;
        match self.place {
            Some(place) => write!(f, " (line {place} of the history)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

/// Judges a history by every invariant.
pub fn check(history: &History) -> Result<(), Violation> {
    ends_only_for_its_disk::check(history)?;
    one_leader_per_term::check(history)?;
    log_matching::check(history)?;
    config_shows_who_votes::check(history)?;
    let story = Story::of(history)?;
    applied_in_order::check(&story)?;
    states_equal_at_equal_zxid::check(&story)?;
    session_order::check(&story)?;
    linearizable_writes::check(&story)?;
    reads_show_their_zxid::check(&story)?;
    sync_sees_what_was_answered::check(&story)?;
    ephemerals_live_with_their_session::check(&story)?;
    sessions_live_for_their_timeout::check(&story)?;
    empty_containers_go::check(&story)?;
    watches_fire_once_and_in_order::check(&story)
}
