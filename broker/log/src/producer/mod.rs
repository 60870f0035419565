//! What the log remembers of each idempotent producer, so that a batch that is sent again is not stored again.
//!
//! Pure: who calls reads and writes the files. The state at some offset is a function of the log before it; snapshots
//! (see [`snapshot`]) only shorten how much must be read again.

pub(crate) mod snapshot;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use kafka_wire::record_batch::BatchHeader;

/// So many batches of each producer are remembered: as many as a client may have in flight.
const BATCHES_KEPT: usize = 5;

/// What the state needs to know of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) first_offset: i64,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
}

impl ProducerBatch {
    /// Reads it off a batch's header, `None` if no producer id is in it.
    pub(crate) fn from_header(header: &BatchHeader) -> Option<Self> {
        header.has_producer_id().then_some(Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            first_offset: header.base_offset,
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
        })
    }

    fn last_sequence(&self) -> i32 {
        sequence_after(self.first_sequence, self.offset_delta)
    }

    fn last_offset(&self) -> i64 {
        self.first_offset
            .saturating_add(i64::from(self.offset_delta))
    }
}

/// `delta` sequence numbers on; after 2^31 - 1 comes 0.
fn sequence_after(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

/// A batch that the producer was, or will be, told is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredBatch {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: i64,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl StoredBatch {
    /// The offset of its first record.
    pub(crate) fn first_offset(&self) -> i64 {
        self.last_offset
            .saturating_sub(i64::from(self.offset_delta))
    }

    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) epoch: i16,
    pub(crate) coordinator_epoch: i32,
    /// Of the last batch or transaction marker, in milliseconds since 1970.
    pub(crate) last_timestamp: i64,
    /// Where its open transaction began.
    pub(crate) current_transaction_first_offset: Option<i64>,
    /// The last ones, oldest first; at most [`BATCHES_KEPT`].
    pub(crate) batches: VecDeque<StoredBatch>,
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            current_transaction_first_offset: None,
            batches: VecDeque::new(),
        }
    }
}

/// Why a batch does not come next from its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Batches before it are missing, or it is a duplicate of one that is no longer remembered.
    #[error("producer {producer_id} sent sequence {sequence}, where {expected} comes next")]
    OutOfOrder {
        /// Whose batch it is.
        producer_id: i64,
        /// The first sequence number of the batch.
        sequence: i32,
        /// The one that comes next.
        expected: i32,
    },
    /// A later instance of the producer has written.
    #[error("producer {producer_id} sent epoch {epoch}, which epoch {current} has replaced")]
    StaleEpoch {
        /// Whose batch it is.
        producer_id: i64,
        /// The epoch in the batch.
        epoch: i16,
        /// The one that has written.
        current: i16,
    },
}

/// The producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, ProducerEntry>,
}

impl ProducerState {
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (i64, &ProducerEntry)> {
        self.producers
            .iter()
            .map(|(producer_id, entry)| (*producer_id, entry))
    }

    pub(crate) fn insert(&mut self, producer_id: i64, entry: ProducerEntry) {
        self.producers.insert(producer_id, entry);
    }

    /// The stored batch that this one repeats, if it does.
    pub(crate) fn find_duplicate(&self, batch: &ProducerBatch) -> Option<StoredBatch> {
        let entry = self
            .producers
            .get(&batch.producer_id)
            .filter(|entry| entry.epoch == batch.epoch)?;
        let repeats = |stored: &&StoredBatch| {
            stored.first_sequence() == batch.first_sequence
                && stored.last_sequence == batch.last_sequence()
        };
        entry.batches.iter().find(repeats).copied()
    }

    /// Checks that a client's batch comes next from its producer.
    ///
    /// A producer that is not known may begin anywhere, since what it wrote before may have been deleted; a new epoch
    /// begins at 0.
    pub(crate) fn check(&self, batch: &ProducerBatch) -> Result<(), SequenceError> {
        let Some(entry) = self.producers.get(&batch.producer_id) else {
            return Ok(());
        };
        let current_epoch = entry.epoch;
        let last_sequence = entry.batches.back().map(|stored| stored.last_sequence);
        let ProducerBatch {
            producer_id,
            epoch,
            first_sequence: sequence,
            ..
        } = *batch;
        if epoch < current_epoch {
            return Err(SequenceError::StaleEpoch {
                producer_id,
                epoch,
                current: current_epoch,
            });
        }
        let expected = match last_sequence {
            Some(last) if epoch == current_epoch => sequence_after(last, 1),
            _ => 0,
        };
        if sequence != expected {
            return Err(SequenceError::OutOfOrder {
                producer_id,
                sequence,
                expected,
            });
        }
        Ok(())
    }

    /// Remembers a batch that is in the log.
    pub(crate) fn update(&mut self, batch: &ProducerBatch) {
        let entry = match self.producers.entry(batch.producer_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(ProducerEntry::new(batch.epoch)),
        };
        if entry.epoch != batch.epoch {
            entry.epoch = batch.epoch;
            entry.batches.clear();
        }
        entry.last_timestamp = batch.timestamp;
        if batch.control {
            entry.current_transaction_first_offset = None;
            return;
        }
        if entry.batches.len() == BATCHES_KEPT {
            entry.batches.pop_front();
        }
        entry.batches.push_back(StoredBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.offset_delta,
            timestamp: batch.timestamp,
        });
        if batch.transactional && entry.current_transaction_first_offset.is_none() {
            entry.current_transaction_first_offset = Some(batch.first_offset);
        }
    }

    /// Forgets the producers that wrote nothing for `expiration_ms`, except in the middle of a transaction.
    pub(crate) fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, entry| {
            entry.current_transaction_first_offset.is_some()
                || now_ms.saturating_sub(entry.last_timestamp) < expiration_ms
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first_sequence: i32, count: i32, first_offset: i64) -> ProducerBatch {
        ProducerBatch {
            producer_id: 9,
            epoch,
            first_sequence,
            first_offset,
            offset_delta: count - 1,
            timestamp: 1000,
            transactional: false,
            control: false,
        }
    }

    fn state(batches: &[ProducerBatch]) -> ProducerState {
        let mut state = ProducerState::default();
        for batch in batches {
            state.update(batch);
        }
        state
    }

    fn out_of_order(sequence: i32, expected: i32) -> Result<(), SequenceError> {
        Err(SequenceError::OutOfOrder {
            producer_id: 9,
            sequence,
            expected,
        })
    }

    #[test]
    fn the_next_sequence_is_the_last_plus_one() {
        let state = state(&[batch(0, 0, 3, 100)]);
        assert_eq!(state.check(&batch(0, 3, 1, 103)), Ok(()));
        assert_eq!(state.check(&batch(0, 4, 1, 103)), out_of_order(4, 3));
        assert_eq!(state.check(&batch(0, 1, 1, 103)), out_of_order(1, 3));
    }

    #[test]
    fn a_producer_that_is_not_known_may_begin_anywhere() {
        assert_eq!(ProducerState::default().check(&batch(3, 77, 1, 0)), Ok(()));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_refused() {
        let state = state(&[batch(4, 0, 3, 100)]);
        assert_eq!(state.check(&batch(5, 0, 1, 103)), Ok(()));
        assert_eq!(state.check(&batch(5, 3, 1, 103)), out_of_order(3, 0));
        let stale = SequenceError::StaleEpoch {
            producer_id: 9,
            epoch: 3,
            current: 4,
        };
        assert_eq!(state.check(&batch(3, 3, 1, 103)), Err(stale));
    }

    #[test]
    fn bug_kafka_7692_sequence_numbers_wrap_to_zero() {
        let over = batch(0, i32::MAX - 1, 4, 100);
        assert_eq!(over.last_sequence(), 1);
        let state = state(&[over]);
        assert_eq!(state.find_duplicate(&over).unwrap().first_offset(), 100);
        assert_eq!(state.check(&batch(0, 2, 1, 104)), Ok(()));
        let at_the_edge = batch(0, i32::MAX, 1, 0);
        assert_eq!(
            self::state(&[at_the_edge]).check(&batch(0, 0, 1, 1)),
            Ok(())
        );
    }

    #[test]
    fn the_last_five_batches_are_known_again() {
        let batches: Vec<_> = (0..6)
            .map(|step| batch(0, step * 2, 2, 100 + i64::from(step) * 2))
            .collect();
        let state = state(&batches);
        assert_eq!(
            state.find_duplicate(&batches[0]),
            None,
            "the sixth pushed it out"
        );
        for sent in &batches[1..] {
            assert_eq!(
                state.find_duplicate(sent).unwrap().first_offset(),
                sent.first_offset
            );
        }
        assert_eq!(
            state.find_duplicate(&batch(0, 2, 1, 0)),
            None,
            "not the same records"
        );
        assert_eq!(
            state.find_duplicate(&batch(1, 2, 2, 0)),
            None,
            "not the same epoch"
        );
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old() {
        let state = state(&[batch(0, 0, 2, 100), batch(1, 0, 1, 102)]);
        assert_eq!(state.find_duplicate(&batch(0, 0, 2, 0)), None);
        assert_eq!(
            state
                .find_duplicate(&batch(1, 0, 1, 0))
                .unwrap()
                .first_offset(),
            102
        );
    }

    #[test]
    fn a_marker_ends_the_transaction() {
        let data = ProducerBatch {
            transactional: true,
            ..batch(0, 0, 1, 100)
        };
        let marker = ProducerBatch {
            transactional: true,
            control: true,
            first_sequence: -1,
            ..batch(0, 0, 1, 101)
        };
        let mut state = state(&[data]);
        let first_offset =
            |state: &ProducerState| state.producers[&9].current_transaction_first_offset;
        assert_eq!(first_offset(&state), Some(100));
        state.remove_expired(i64::MAX, 1);
        assert_eq!(
            first_offset(&state),
            Some(100),
            "an open transaction is not forgotten"
        );
        state.update(&marker);
        assert_eq!(first_offset(&state), None);
        assert_eq!(
            state.check(&batch(0, 1, 1, 102)),
            Ok(()),
            "a marker has no sequence"
        );
    }

    #[test]
    fn a_silent_producer_is_forgotten() {
        let mut state = state(&[batch(0, 0, 1, 100)]);
        state.remove_expired(1999, 1000);
        assert_eq!(state.entries().len(), 1);
        state.remove_expired(2000, 1000);
        assert_eq!(state.entries().len(), 0);
    }
}
