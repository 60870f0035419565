//! Writes are linearizable, with the zxids as the witness: every acknowledged write is in the log exactly once, behind
//! all that was known when it was sent, and did there what its answer says. What is in the log was asked for, in the
//! order of its session. Every refused write met a state in which the refusal was right, while it was on its way.

use std::collections::{BTreeMap, BTreeSet};

use coord_core::request::{Response, WriteKind};
use coord_core::txn::Change;
use coord_core::{OpError, SessionId};

use super::Violation;
use crate::model::{Model, Outcome, writes};
use crate::story::{Answer, Asked, Story};

const NAME: &str = "linearizable_writes";

pub(super) fn check(story: &Story<'_>) -> Result<(), Violation> {
    let mut sessions: BTreeMap<SessionId, Vec<&Asked>> = BTreeMap::new();
    for conversation in &story.conversations {
        let Some((_, session, _)) = conversation.session else {
            continue;
        };
        let of_session = sessions.entry(session).or_default();
        for asked in &conversation.asked {
            if writes(&asked.request).is_none() {
                continue;
            }
            match asked
                .answer
                .as_ref()
                .and_then(|answer| Some((answer, refusal(answer)?)))
            {
                Some((answer, refused)) => was_right(story, session, asked, answer, refused)?,
                None => of_session.push(asked),
            }
        }
    }
    let mut done: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
    for (number, committed) in story.committed.iter().enumerate() {
        if let Some(txn) = &committed.txn
            && let Change::Effects(_) = txn.change
            && txn.session.is_some()
        {
            done.entry(txn.session).or_default().push(number);
        }
    }
    for (&session, asked) in &sessions {
        let done = done.remove(&session).unwrap_or_default();
        are_the_same(story, session, asked, &done)?;
    }
    match done.first_key_value() {
        Some((session, _)) => {
            let why = format!("{session} wrote, and no client has it");
            Err(Violation::overall(NAME, why))
        }
        None => Ok(()),
    }
}

/// Which part of a write was refused, and why; `None` if it was done.
fn refusal(answer: &Answer) -> Option<(usize, OpError)> {
    match &answer.result {
        Err(error) => Some((0, *error)),
        Ok(Response::MultiFailed(outcomes)) => {
            let mut outcomes = outcomes.iter().enumerate();
            outcomes.find_map(|(at, outcome)| outcome.map(|error| (at, error)))
        }
        Ok(_) => None,
    }
}

fn was_right(
    story: &Story<'_>,
    session: SessionId,
    asked: &Asked,
    answer: &Answer,
    refused: (usize, OpError),
) -> Result<(), Violation> {
    // Only says that it was not done, which is checked with those that were.
    if refused.1 == OpError::SessionMoved {
        return Ok(());
    }
    let wanted = writes(&asked.request).unwrap_or_default();
    let floor = story.floor[asked.sent];
    let right = |state: &Model| {
        let next = state.zxid.next();
        state.execute(session, (next, 0), wanted).err() == Some(refused)
    };
    let known = story.state(floor).is_some_and(right);
    let meanwhile = story.between(floor, answer.zxid);
    if known || story.committed[meanwhile].iter().any(|of| right(&of.after)) {
        return Ok(());
    }
    let why = format!(
        "{wanted:?} was refused ({}, part {}), and no state from {floor} to {} gives reason to",
        refused.1, refused.0, answer.zxid
    );
    Err(Violation::at(NAME, answer.at, why))
}

/// Lays what a session wrote beside what it asked for, both in their order: every transaction is one of the requests,
/// and every acknowledged request is one of the transactions.
fn are_the_same(
    story: &Story<'_>,
    session: SessionId,
    asked: &[&Asked],
    done: &[usize],
) -> Result<(), Violation> {
    // How many of the requests may be accounted for so far: an unanswered one may have been done or not.
    let mut reached = BTreeSet::from([0]);
    for &number in done {
        let mut next = BTreeSet::new();
        for &from in &reached {
            for (at, request) in asked.iter().enumerate().skip(from) {
                if is(story, session, request, number) {
                    next.insert(at + 1);
                }
                if request.answer.is_some() {
                    break;
                }
            }
        }
        if next.is_empty() {
            let committed = &story.committed[number];
            let expected = reached.first().and_then(|&from| asked.get(from));
            let why = format!(
                "{} of {session} is {:?}, and its next request was {expected:?}",
                committed.zxid, committed.txn
            );
            return Err(Violation::at(NAME, committed.applied, why));
        }
        reached = next;
    }
    let lost = |from: usize| {
        let rest = asked[from..].iter();
        rest.filter_map(|asked| asked.answer.as_ref().map(|answer| (*asked, answer)))
            .next()
    };
    if reached.iter().any(|&from| lost(from).is_none()) {
        return Ok(());
    }
    match reached.last().and_then(|&from| lost(from)) {
        Some((asked, answer)) => {
            let why = format!("acknowledged and nowhere to be found: {asked:?}");
            Err(Violation::at(NAME, answer.at, why))
        }
        None => Ok(()),
    }
}

/// Whether a transaction is what a request asked for, at a time when it may have happened, with the result that was told.
fn is(story: &Story<'_>, session: SessionId, asked: &Asked, number: usize) -> bool {
    let committed = &story.committed[number];
    let wanted = writes(&asked.request).unwrap_or_default();
    let time_ms = committed.txn.as_ref().map_or(0, |txn| txn.time_ms);
    let in_time = story.floor[asked.sent] < committed.zxid
        && asked.sent < committed.applied
        && asked
            .answer
            .as_ref()
            .is_none_or(|answer| committed.zxid <= answer.zxid);
    in_time
        && match story
            .before(number)
            .execute(session, (committed.zxid, time_ms), wanted)
        {
            Ok((after, outcomes)) => {
                let answer = asked.answer.as_ref();
                after == committed.after
                    && answer.is_none_or(|answer| {
                        answer
                            .result
                            .as_ref()
                            .is_ok_and(|result| says(result, &outcomes))
                    })
            }
            Err(_) => false,
        }
}

fn says(response: &Response, outcomes: &[Outcome]) -> bool {
    let one = |response: &Response, outcome: &Outcome| match (response, outcome) {
        (Response::Path(path) | Response::PathStat(path, _), Outcome::Created(created)) => {
            path == created.as_str()
        }
        (Response::Stat(stat), Outcome::Set(version)) => stat.version == *version,
        (Response::Empty, Outcome::Done) => true,
        _ => false,
    };
    match (response, outcomes) {
        (Response::Multi(responses), outcomes) => {
            let all = |((_, response), outcome): (&(WriteKind, Response), &Outcome)| {
                one(response, outcome)
            };
            responses.len() == outcomes.len() && responses.iter().zip(outcomes).all(all)
        }
        (response, [outcome]) => one(response, outcome),
        _ => false,
    }
}
