//! A container that has lost its last child is removed by the leader at one of its next looks.

use std::time::Duration;

use super::{IN_THE_END, Violation};
use crate::history::Event;
use crate::story::Story;

const NAME: &str = "empty_containers_go";

/// How long it may stay, while nothing is broken.
const STAYS: Duration = Duration::from_secs(5);

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for (place, stamped) in story.history.0.iter().enumerate() {
        let Event::Holds { life, state, why } = &stamped.event else {
            continue;
        };
        // Elsewhere nobody may lead, and where the schedule is an old one nobody makes any.
        if *why != IN_THE_END {
            continue;
        }
        let Some(model) = story.state(state.0.last_zxid) else {
            continue;
        };
        for (path, emptied) in model.outlived_containers() {
            let emptied = story.number_of(emptied).map(|number| {
                let applied = story.committed[number].applied;
                story.at(applied)
            });
            if let Some(emptied) = emptied
                && emptied + STAYS < stamped.at
            {
                let why = format!("{life} holds the container {path}, empty since {emptied:?}");
                return Err(Violation::at(NAME, place, why));
            }
        }
    }
    Ok(())
}
