//! An ephemeral is there if and only if its session is open. That a session's end takes exactly what it owned is
//! checked as the transactions are followed; here: wherever a whole state can be looked at, and whenever a client is told
//! that a session is over.

use super::Violation;
use crate::history::Event;
use crate::model::owner_of;
use crate::story::Story;

const NAME: &str = "ephemerals_live_with_their_session";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for (place, stamped) in story.history.0.iter().enumerate() {
        let Event::Holds { life, state, .. } = &stamped.event else {
            continue;
        };
        let znodes = state.0.tree.iter();
        let orphan = znodes.into_iter().find_map(|(path, node)| {
            let owner = owner_of(node.ephemeral_type);
            let is_over = owner.is_some() && !state.0.sessions.contains_key(&owner);
            is_over.then_some((path, owner))
        });
        if let Some((path, owner)) = orphan {
            let why = format!("{life} holds {path} of {owner}, which is over");
            return Err(Violation::at(NAME, place, why));
        }
    }
    for conversation in &story.conversations {
        let Some(place) = conversation.expired else {
            continue;
        };
        let session = conversation.asked_session;
        let over = story
            .committed
            .iter()
            .take_while(|committed| committed.applied < place)
            .last()
            .is_some_and(|committed| !committed.after.sessions.contains(&session));
        if !over {
            let why = format!("a client is told that {session} is over, and it is open");
            return Err(Violation::at(NAME, place, why));
        }
    }
    Ok(())
}
