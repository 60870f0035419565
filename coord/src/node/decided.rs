//! What the coordinator has decided and Raft has not heard of yet.

use std::sync::Arc;

use coord_core::{Txn, Zxid};

/// Transactions of one term. They never go under another: what they were decided on may not be there.
#[derive(Debug, Default)]
pub(super) struct Decided {
    term: u32,
    txns: Vec<(Zxid, Arc<Txn>)>,
}

/// What Raft is to hear: the term, and what was decided in it.
pub(super) type Proposal = (u32, Vec<(Zxid, Arc<Txn>)>);

impl Decided {
    /// One more. Gives back those of another term, which are to be proposed before.
    #[must_use]
    pub(super) fn add(&mut self, term: u32, zxid: Zxid, txn: Arc<Txn>) -> Option<Proposal> {
        let before = match self.term == term {
            true => None,
            false => self.take(),
        };
        self.term = term;
        self.txns.push((zxid, txn));
        before
    }

    /// All of them, if there are any.
    pub(super) fn take(&mut self) -> Option<Proposal> {
        let txns = std::mem::take(&mut self.txns);
        (!txns.is_empty()).then_some((self.term, txns))
    }
}

#[cfg(test)]
mod tests {
    use coord_core::SessionId;
    use coord_core::txn::Change;

    use super::*;

    #[test]
    fn what_was_decided_in_one_term_is_not_proposed_in_another() {
        let txn = Arc::new(Txn {
            session: SessionId::NONE,
            time_ms: 0,
            origin: None,
            change: Change::Effects(Vec::new()),
        });
        let mut decided = Decided::default();
        assert_eq!(decided.add(5, Zxid(1), txn.clone()), None);
        assert_eq!(decided.add(5, Zxid(2), txn.clone()), None);
        let before = vec![(Zxid(1), txn.clone()), (Zxid(2), txn.clone())];
        assert_eq!(decided.add(7, Zxid(9), txn.clone()), Some((5, before)));
        assert_eq!(decided.take(), Some((7, vec![(Zxid(9), txn)])));
        assert_eq!(decided.take(), None);
    }
}
