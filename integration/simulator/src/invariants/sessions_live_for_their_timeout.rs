//! A session ends because its client closed it, or because the leader of that term did not hear of it for its whole
//! timeout, counted anew from the beginning of the term. While nothing is broken, a leader hears of every client that
//! talks to any node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coord_core::request::Request;
use coord_core::txn::Change;
use coord_core::{NodeId, SessionId};

use super::Violation;
use crate::history::Event;
use crate::model::writes;
use crate::story::{Committed, Conversation, Story};

const NAME: &str = "sessions_live_for_their_timeout";

/// Clocks and timers count whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// What the news of a client's life takes from any node to the leader, while nothing is broken.
const NEWS: Duration = Duration::from_millis(400);

/// How long after the last fault everything is in order again.
const SETTLED: Duration = Duration::from_secs(8);

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    let mut of_session: BTreeMap<SessionId, Vec<&Conversation>> = BTreeMap::new();
    for conversation in &story.conversations {
        let got = conversation.session.map(|(_, session, _)| session);
        let sessions: BTreeSet<SessionId> = got
            .into_iter()
            .chain([conversation.asked_session])
            .collect();
        for session in sessions {
            of_session.entry(session).or_default().push(conversation);
        }
    }
    let mut began: BTreeMap<u32, (NodeId, Duration)> = BTreeMap::new();
    let mut settled = Duration::MAX;
    for stamped in &story.history.0 {
        match stamped.event {
            Event::Began { life, term, leader } if life.node == leader => {
                began.entry(term).or_insert((leader, stamped.at));
            }
            Event::Calm => settled = stamped.at + SETTLED,
            _ => {}
        }
    }
    for committed in &story.committed {
        if let Some(txn) = &committed.txn
            && let Change::CloseSession = txn.change
        {
            let session = txn.session;
            let conversations = of_session.get(&session).map_or(&[][..], Vec::as_slice);
            let begin = began.get(&committed.zxid.term()).copied();
            ended_rightly(story, committed, session, conversations, begin, settled)?;
        }
    }
    Ok(())
}

fn ended_rightly(
    story: &Story<'_>,
    committed: &Committed,
    session: SessionId,
    conversations: &[&Conversation],
    begin: Option<(NodeId, Duration)>,
    settled: Duration,
) -> Result<(), Violation> {
    let asked = || {
        conversations
            .iter()
            .flat_map(|of| of.asked.iter().map(move |asked| (of.node, asked)))
    };
    let closed = asked().any(|(_, asked)| asked.request == Request::CloseSession);
    let timeouts = conversations.iter().filter_map(|of| of.session);
    let Some(timeout_ms) = timeouts.map(|(_, _, timeout_ms)| timeout_ms).min() else {
        return Ok(());
    };
    if closed {
        return Ok(());
    }
    let timeout = Duration::from_millis(timeout_ms as u64);
    let ended = story.at(committed.applied);
    let broken = |heard: Duration, how: &str| {
        let why = format!(
            "session {session} of {timeout_ms} ms ended at {ended:?}, and {how} at {heard:?}"
        );
        Err(Violation::at(NAME, committed.applied, why))
    };
    if let Some((leader, began)) = begin {
        if ended + ROUNDING < began + timeout {
            return broken(began, "its term began");
        }
        // When the end was decided is not known, only when it was applied: somewhere before there has to be a silence.
        let mut heard = vec![began];
        for (node, asked) in asked() {
            let answer = asked.answer.as_ref();
            let Some(answer) = answer.filter(|answer| answer.at < committed.applied) else {
                continue;
            };
            let by_leader = node == leader
                || writes(&asked.request).is_some()
                    && answer.result.is_ok()
                    && answer.zxid.term() == committed.zxid.term();
            let at = story.at(asked.sent);
            if at > began && by_leader {
                heard.push(at);
            }
        }
        heard.sort_unstable();
        let next = heard.iter().skip(1).chain([&ended]);
        if !heard
            .iter()
            .zip(next)
            .any(|(&at, &next)| at + timeout <= next + ROUNDING)
        {
            let last = heard.last().copied().unwrap_or(began);
            return broken(last, "its leader heard of it");
        }
    }
    if ended < settled {
        return Ok(());
    }
    for (_, asked) in asked() {
        let answered = asked
            .answer
            .as_ref()
            .is_some_and(|answer| answer.at < committed.applied);
        let heard = story.at(asked.sent);
        if answered && ended + NEWS < heard + timeout {
            return broken(heard, "its client was answered in peace");
        }
    }
    Ok(())
}
