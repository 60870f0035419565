//! Wherever a whole state can be looked at (after recovery, after a snapshot was installed, in the end), it is the one
//! that the committed transactions make. In the end it holds all that any client was ever told.

use super::Violation;
use crate::history::Event;
use crate::story::Story;

const NAME: &str = "states_equal_at_equal_zxid";

/// Why the last look at a node is taken.
pub const IN_THE_END: &str = "in the end";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for (place, stamped) in story.history.0.iter().enumerate() {
        let Event::Holds { life, state, why } = &stamped.event else {
            continue;
        };
        let zxid = state.0.last_zxid;
        let Some(model) = story.state(zxid) else {
            let why = format!("{life} holds the state of {zxid}, which was never committed");
            return Err(Violation::at(NAME, place, why));
        };
        if let Some(difference) = model.difference(&state.0) {
            let why = format!("{life} differs at {zxid}: {difference}");
            return Err(Violation::at(NAME, place, why));
        }
        if *why == IN_THE_END && zxid < story.floor[place] {
            let why = format!(
                "{life} ends at {zxid}, and {} was answered",
                story.floor[place]
            );
            return Err(Violation::at(NAME, place, why));
        }
    }
    Ok(())
}
