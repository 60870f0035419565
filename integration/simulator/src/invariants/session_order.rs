//! A session never goes back: answers come in the order of the requests, and show states that only grow, on whichever
//! node it is.

use std::collections::BTreeMap;

use coord_core::Zxid;

use super::Violation;
use crate::story::{Frame, Story};

const NAME: &str = "session_order";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    // A client keeps what it has seen beyond its session, and shows it to every node that it comes to.
    let mut seen: BTreeMap<usize, Zxid> = BTreeMap::new();
    for conversation in &story.conversations {
        let seen = seen.entry(conversation.client).or_default();
        for frame in &conversation.frames {
            let (place, zxid) = match frame {
                Frame::Answer(number) => match &conversation.asked[*number].answer {
                    Some(answer) => (answer.at, answer.zxid),
                    None => continue,
                },
                Frame::Notice { zxid: Zxid(-1), .. } => continue,
                Frame::Notice { at, zxid, .. } => (*at, *zxid),
            };
            if zxid < *seen {
                let why = format!("client {} saw {seen}, then {zxid}", conversation.client);
                return Err(Violation::at(NAME, place, why));
            }
            *seen = zxid;
        }
    }
    Ok(())
}
