//! Which batches belong to aborted transactions, and which markers have no records left.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::record_batch::{BatchHeader, EndTransactionMarker};

use crate::transaction_index::AbortedTransaction;

#[derive(Debug)]
struct OpenAborted {
    transaction: AbortedTransaction,
    /// Some of its batches are still there.
    has_batches: bool,
}

/// The transactions that are open at a point of the log, while one walks over it from some earlier one. One value for all
/// segments of a round, since transactions reach across them (KAFKA-8351).
#[derive(Debug)]
pub(crate) struct CleanedTransactions {
    /// By first offset, falling: the next is the last.
    to_come: Vec<AbortedTransaction>,
    aborted: BTreeMap<i64, OpenAborted>,
    /// Producers whose open transaction will be committed, or is not known to end, and has batches.
    committed: BTreeSet<i64>,
}

/// What becomes of a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkerFate {
    /// Nothing of its transaction is left.
    pub(crate) discardable: bool,
    /// The transaction that it aborts, which the cleaned segment's index must hold.
    pub(crate) aborted: Option<AbortedTransaction>,
}

impl CleanedTransactions {
    /// From all aborted transactions that reach into the range to be walked over, in any order.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            to_come: aborted,
            aborted: BTreeMap::new(),
            committed: BTreeSet::new(),
        }
    }

    /// The transactions that a batch lies in are open.
    fn open_at(&mut self, header: &BatchHeader) {
        while let Some(transaction) = self
            .to_come
            .pop_if(|transaction| transaction.first_offset <= header.last_offset())
        {
            // It has ended before the walk began.
            if transaction.last_offset < header.base_offset {
                continue;
            }
            self.aborted
                .entry(transaction.producer_id)
                .or_insert(OpenAborted {
                    transaction,
                    has_batches: false,
                });
        }
    }

    /// Takes note of a batch of records. True if its transaction was aborted.
    pub(crate) fn on_records(&mut self, header: &BatchHeader) -> bool {
        self.open_at(header);
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(open) => {
                open.has_batches = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Takes note of a control batch, and of the marker in it.
    pub(crate) fn on_control(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> MarkerFate {
        self.open_at(header);
        let fate = |discardable| MarkerFate {
            discardable,
            aborted: None,
        };
        let Some(marker) = marker else {
            // An earlier compaction has emptied it; what is of a kind that is not known stays.
            return fate(header.record_count == 0);
        };
        if marker.committed {
            return fate(!self.committed.remove(&header.producer_id));
        }
        match self.aborted.remove(&header.producer_id) {
            Some(open) if open.has_batches => MarkerFate {
                discardable: false,
                aborted: Some(open.transaction),
            },
            _ => fate(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::RecordBatchBuilder;

    use super::*;

    fn header(producer_id: i64, offset: i64) -> BatchHeader {
        let mut builder = RecordBatchBuilder::new(Compression::None)
            .base_offset(offset)
            .producer(producer_id, 0, 0)
            .transactional();
        builder.append(1, Some(b"k"), None, &[]).unwrap();
        BatchHeader::parse(&builder.build().unwrap()).unwrap()
    }

    fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset,
        }
    }

    const fn marker(committed: bool) -> Option<EndTransactionMarker> {
        Some(EndTransactionMarker {
            committed,
            coordinator_epoch: 0,
        })
    }
    const ABORT: Option<EndTransactionMarker> = marker(false);
    const COMMIT: Option<EndTransactionMarker> = marker(true);

    #[test]
    fn a_transaction_that_ended_before_the_walk_began_is_no_other() {
        let mut walk = CleanedTransactions::new(vec![aborted(1, 0, 2), aborted(1, 4, 6)]);
        assert!(
            !walk.on_records(&header(1, 3)),
            "of the one that begins here"
        );
        assert!(!walk.on_control(&header(1, 3), COMMIT).discardable);
        assert!(walk.on_records(&header(1, 5)));
    }

    #[test]
    fn a_producers_transactions_are_told_apart() {
        let transactions = vec![aborted(1, 10, 12), aborted(1, 0, 2), aborted(2, 1, 20)];
        let mut walk = CleanedTransactions::new(transactions);
        assert!(walk.on_records(&header(1, 0)), "aborted");
        assert!(!walk.on_records(&header(3, 0)), "of another producer");
        let fate = walk.on_control(&header(1, 2), ABORT);
        assert_eq!(fate.aborted, Some(aborted(1, 0, 2)));
        assert!(!fate.discardable, "a batch of it was there");
        assert!(!walk.on_records(&header(1, 4)), "committed");
        assert!(!walk.on_control(&header(1, 5), COMMIT).discardable);
        let fate = walk.on_control(&header(1, 6), COMMIT);
        assert!(fate.discardable, "nothing of it was there");
        let fate = walk.on_control(&header(1, 12), ABORT);
        assert_eq!((fate.discardable, fate.aborted), (true, None));
        assert!(walk.on_records(&header(2, 13)));
        assert!(!walk.on_control(&header(2, 20), None).discardable);
        let mut empty = header(2, 20);
        empty.record_count = 0;
        assert!(walk.on_control(&empty, None).discardable);
    }
}
