//! The answer to a read is what the tree was like behind the transaction that its header names: with the order of
//! zxids in a session, a session reads its own writes and nothing older than it has seen.

use coord_core::request::Request;

use super::Violation;
use crate::model::Seen;
use crate::story::Story;

const NAME: &str = "reads_show_their_zxid";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for asked in story.conversations.iter().flat_map(|of| &of.asked) {
        let Some(answer) = &asked.answer else {
            continue;
        };
        let Some(model) = story.state(answer.zxid) else {
            let why = format!(
                "an answer shows the state of {}, which never was",
                answer.zxid
            );
            return Err(Violation::at(NAME, answer.at, why));
        };
        let Request::Read(read) = &asked.request else {
            continue;
        };
        let Some(expected) = model.read(read) else {
            continue;
        };
        let shown = match &answer.result {
            Ok(response) => Ok(Seen::answered(response)),
            Err(error) => Err(*error),
        };
        let fits = match (&expected, &shown) {
            (Ok(expected), Ok(Some(shown))) => expected == shown,
            (Err(expected), Err(shown)) => expected == shown,
            _ => false,
        };
        if !fits {
            let why = format!(
                "{read:?} at {} shows {shown:?}, not {expected:?}",
                answer.zxid
            );
            return Err(Violation::at(NAME, answer.at, why));
        }
    }
    Ok(())
}
