//! From the node's transactions to entries of the log.
//!
//! An entry is what shares an fsync and a message to each of the others. While one is on its way to the disk, everything
//! that the node decides is gathered for the next.

use std::collections::VecDeque;
use std::sync::Arc;

use coord_core::{Txn, Zxid};
use tokio::sync::{Semaphore, mpsc};

use super::log::LogFigures;
use super::member::Engine;
use super::payload::{Batch, BatchEncoder, Payload};

/// Transactions that were decided together in one term.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) term: u32,
    pub(super) txns: std::vec::IntoIter<(Zxid, Arc<Txn>)>,
}

/// Proposals that are looked at at once.
const GATHERED: usize = 256;

/// The task. It runs until the node is gone or openraft ends.
pub(super) async fn run(
    raft: Engine,
    batch_max_len: usize,
    figures: Arc<LogFigures>,
    mut inbox: mpsc::UnboundedReceiver<Proposal>,
) {
    let on_the_way = Arc::new(Semaphore::new(1));
    let mut proposals = Vec::with_capacity(GATHERED);
    let mut gathered = VecDeque::new();
    loop {
        if gathered.is_empty() && inbox.recv_many(&mut proposals, GATHERED).await == 0 {
            return;
        }
        // It comes back when the entry is on this disk, or will never be. The semaphore is never closed.
        let Ok(permit) = on_the_way.clone().acquire_owned().await else {
            return;
        };
        gathered.extend(proposals.drain(..));
        while let Ok(proposal) = inbox.try_recv() {
            gathered.push_back(proposal);
        }
        let (batch, bytes) = next_batch(&mut gathered, batch_max_len);
        figures.proposals.record(bytes.len());
        let payload = Payload::proposed(batch, bytes.into(), permit);
        // A member that does not lead any more refuses it. Its node is told so by its role.
        if raft.client_write_ff(payload).await.is_err() {
            return;
        }
    }
}

/// What comes first, of one term, up to about `max_len` bytes.
fn next_batch(gathered: &mut VecDeque<Proposal>, max_len: usize) -> (Batch, Vec<u8>) {
    let term = gathered.front().map_or(0, |proposal| proposal.term);
    let mut txns = Vec::new();
    let mut encoder = BatchEncoder::new(term);
    while let Some(proposal) = gathered.front_mut()
        && proposal.term == term
        && encoder.len() < max_len
    {
        while encoder.len() < max_len
            && let Some((zxid, txn)) = proposal.txns.next()
        {
            encoder.add(zxid, &txn);
            txns.push((zxid, txn));
        }
        if proposal.txns.len() == 0 {
            gathered.pop_front();
        }
    }
    (Batch { term, txns }, encoder.finish())
}

#[cfg(test)]
mod tests {
    use coord_core::SessionId;
    use coord_core::txn::Change;

    use super::*;

    fn proposal(term: u32, zxids: std::ops::Range<i64>) -> Proposal {
        let txn = |zxid| {
            let txn = Txn {
                session: SessionId(zxid),
                time_ms: 0,
                change: Change::Effects(Vec::new()),
                origin: None,
            };
            (Zxid(zxid), Arc::new(txn))
        };
        Proposal {
            term,
            txns: zxids.map(txn).collect::<Vec<_>>().into_iter(),
        }
    }

    #[test]
    fn a_batch_is_of_one_term_and_of_bounded_length_and_keeps_the_order() {
        let mut gathered =
            VecDeque::from([proposal(1, 1..4), proposal(1, 4..6), proposal(2, 6..30)]);
        let mut batches = Vec::new();
        while !gathered.is_empty() {
            let (batch, bytes) = next_batch(&mut gathered, 200);
            assert!(bytes.len() < 300, "{}", bytes.len());
            let zxids: Vec<i64> = batch.txns.iter().map(|(zxid, _)| zxid.0).collect();
            batches.push((batch.term, zxids));
        }
        assert_eq!(batches[0], (1, vec![1, 2, 3, 4, 5]));
        assert!(batches.len() > 2 && batches[1..].iter().all(|(term, _)| *term == 2));
        let all: Vec<i64> = batches.into_iter().flat_map(|(_, zxids)| zxids).collect();
        assert_eq!(all, (1..30).collect::<Vec<_>>());
    }
}
