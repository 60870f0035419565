//! Syncs: each is answered once the leader knows that it still was one when the sync came.

use super::Action;
use crate::forward::{ForwardAnswer, Outcome};
use crate::origin::Origin;
use crate::zxid::Zxid;

/// The syncs that wait. One question to the majority is on its way at a time; it answers for all that came before it.
#[derive(Debug)]
pub(super) struct Syncs {
    /// What the question on its way answers.
    asked: Option<Vec<Sync>>,
    /// What came since.
    next: Vec<Sync>,
    /// Of the question that was asked last.
    token: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sync {
    origin: Origin,
    /// All that was proposed when it came.
    after: Zxid,
}

impl Syncs {
    /// None yet. `leadership` counts how often this member has led, so that no answer meets another's question.
    pub(super) fn new(leadership: u32) -> Syncs {
        Syncs {
            asked: None,
            next: Vec::new(),
            token: u64::from(leadership) << 32,
        }
    }

    /// Count of those that wait.
    pub(super) fn len(&self) -> usize {
        self.asked.as_ref().map_or(0, Vec::len) + self.next.len()
    }

    pub(super) fn add(&mut self, origin: Origin, after: Zxid, actions: &mut Vec<Action>) {
        self.next.push(Sync { origin, after });
        self.ask(actions);
    }

    fn ask(&mut self, actions: &mut Vec<Action>) {
        if self.asked.is_none() && !self.next.is_empty() {
            self.asked = Some(std::mem::take(&mut self.next));
            self.token += 1;
            actions.push(Action::ConfirmLeadership { token: self.token });
        }
    }

    /// The question came back: which requests to answer, and how.
    pub(super) fn answered(
        &mut self,
        token: u64,
        confirmed: bool,
        actions: &mut Vec<Action>,
    ) -> Vec<(Origin, ForwardAnswer)> {
        if token != self.token {
            return Vec::new();
        }
        let asked = self.asked.take().unwrap_or_default();
        self.ask(actions);
        let outcome = match confirmed {
            true => Outcome::Synced,
            false => Outcome::Unknown,
        };
        let answer = |sync: Sync| ForwardAnswer::Settled {
            request: sync.origin.request,
            after: sync.after,
            outcome,
        };
        asked
            .into_iter()
            .map(|sync| (sync.origin, answer(sync)))
            .collect()
    }
}
