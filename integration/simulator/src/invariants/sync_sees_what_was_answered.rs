//! A sync is answered at or behind every state that anybody had been shown when it was sent: a read behind it is as
//! good as one of the leader.

use coord_core::request::Request;

use super::Violation;
use crate::story::Story;

const NAME: &str = "sync_sees_what_was_answered";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    for asked in story.conversations.iter().flat_map(|of| &of.asked) {
        let (Request::Sync { .. }, Some(answer)) = (&asked.request, &asked.answer) else {
            continue;
        };
        let floor = story.floor[asked.sent];
        if answer.result.is_ok() && answer.zxid < floor {
            let why = format!(
                "a sync is answered at {}, and {floor} was known",
                answer.zxid
            );
            return Err(Violation::at(NAME, answer.at, why));
        }
    }
    Ok(())
}
