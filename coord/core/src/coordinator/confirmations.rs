//! Answers that hold only if this member still was the leader when it was asked: to syncs, refusals, and whoever resumes a
//! session. Another may have led by then, and what it decided may say otherwise.

use super::Action;
use crate::forward::{ForwardAnswer, Outcome};
use crate::origin::Origin;
use crate::zxid::Zxid;

/// The answers that wait. One question to the majority is on its way at a time; it speaks for all that came before it.
#[derive(Debug)]
pub(super) struct Confirmations {
    /// What the question on its way answers.
    asked: Option<Vec<Unconfirmed>>,
    /// What came since.
    next: Vec<Unconfirmed>,
    /// Of the question that was asked last.
    token: u64,
}

#[derive(Debug, Clone, Copy)]
struct Unconfirmed {
    origin: Origin,
    /// All that was proposed when it came.
    after: Zxid,
    /// The answer if this member still was the leader.
    outcome: Outcome,
}

impl Confirmations {
    /// None yet. `leadership` counts how often this member has led, so that no answer meets another's question.
    pub(super) fn new(leadership: u32) -> Confirmations {
        Confirmations {
            asked: None,
            next: Vec::new(),
            token: u64::from(leadership) << 32,
        }
    }

    /// Count of syncs that wait.
    pub(super) fn sync_len(&self) -> usize {
        let waiting = self.asked.iter().flatten().chain(&self.next);
        waiting
            .filter(|waiting| waiting.outcome == Outcome::Synced)
            .count()
    }

    pub(super) fn add(
        &mut self,
        origin: Origin,
        after: Zxid,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        self.next.push(Unconfirmed {
            origin,
            after,
            outcome,
        });
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
        let answer = |waited: Unconfirmed| ForwardAnswer::Settled {
            request: waited.origin.request,
            after: waited.after,
            outcome: match confirmed {
                true => waited.outcome,
                false => Outcome::Unknown,
            },
        };
        asked
            .into_iter()
            .map(|waited| (waited.origin, answer(waited)))
            .collect()
    }
}
