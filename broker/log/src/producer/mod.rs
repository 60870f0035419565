//! What the log remembers of each idempotent producer, so that a batch that is sent again is not stored again, and of the
//! transactions that are open, so that nobody reads beyond them who wants committed records only.
//!
//! Pure: who calls reads and writes the files. The state at some offset is a function of the log before it; snapshots
//! (see [`snapshot`]) only shorten how much must be read again.

pub(crate) mod snapshot;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_wire::record_batch::{Batch, BatchHeader, EndTransactionMarker, NO_SEQUENCE};

use crate::transaction_index::AbortedTransaction;

/// So many batches of each producer are remembered: as many as a client may have in flight.
const BATCHES_KEPT: usize = 5;

/// What the state needs to know of a client's record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// [`NO_SEQUENCE`] in what a coordinator writes as part of a transaction.
    pub(crate) first_sequence: i32,
    pub(crate) first_offset: i64,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
    pub(crate) transactional: bool,
}

impl ProducerBatch {
    /// Reads it off a batch's header, `None` if it is a control batch or names no producer.
    #[inline]
    pub(crate) fn from_header(header: &BatchHeader) -> Option<Self> {
        let by_producer = header.has_producer_id() && !header.attributes.is_control();
        by_producer.then_some(Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            first_offset: header.base_offset,
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
            transactional: header.attributes.is_transactional(),
        })
    }

    fn last_sequence(&self) -> i32 {
        match self.first_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            first => sequence_after(first, self.offset_delta),
        }
    }

    fn last_offset(&self) -> i64 {
        self.first_offset
            .saturating_add(i64::from(self.offset_delta))
    }
}

/// The end of a producer's transaction, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerMarker {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) marker: EndTransactionMarker,
}

impl ProducerMarker {
    /// Reads it off a control batch; `None` if the batch is another, or compaction took the marker out of it.
    pub(crate) fn read(batch: &Batch<'_>) -> Option<Self> {
        let header = &batch.header;
        if !header.has_producer_id() {
            return None;
        }
        Some(Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            offset: header.base_offset,
            timestamp: header.max_timestamp,
            marker: EndTransactionMarker::read(batch)?,
        })
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

    pub(crate) fn first_sequence(&self) -> i32 {
        match self.last_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            last => last.wrapping_sub(self.offset_delta) & i32::MAX,
        }
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

    fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<(), ProducerError> {
        if epoch < self.epoch {
            return Err(ProducerError::StaleEpoch {
                producer_id,
                epoch,
                current: self.epoch,
            });
        }
        Ok(())
    }
}

/// Why a batch cannot come next from its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// Batches before it are missing, or it is a duplicate of one that is no longer remembered
    /// (OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {producer_id} sent sequence {sequence}, where {expected} comes next")]
    OutOfOrder {
        /// Whose batch it is.
        producer_id: i64,
        /// The first sequence number of the batch.
        sequence: i32,
        /// The one that comes next.
        expected: i32,
    },
    /// A later instance of the producer has written (INVALID_PRODUCER_EPOCH).
    #[error("producer {producer_id} sent epoch {epoch}, which epoch {current} has replaced")]
    StaleEpoch {
        /// Whose batch it is.
        producer_id: i64,
        /// The epoch in the batch.
        epoch: i16,
        /// The one that has written.
        current: i16,
    },
    /// Its transaction is open, and the batch is not part of one (INVALID_TXN_STATE).
    #[error("producer {producer_id} sent a batch outside of the transaction that it has open")]
    OutsideTransaction {
        /// Whose batch it is.
        producer_id: i64,
    },
    /// The transaction coordinator that sends the marker has been replaced (TRANSACTION_COORDINATOR_FENCED).
    #[error(
        "a marker for producer {producer_id} of coordinator epoch {epoch}, which epoch {current} has replaced"
    )]
    StaleCoordinator {
        /// Whose transaction it would end.
        producer_id: i64,
        /// The coordinator's epoch in the marker.
        epoch: i32,
        /// The one that has written.
        current: i32,
    },
}

/// A transaction that has ended, but may still be taken back by a truncation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    first_offset: i64,
    /// Of the marker.
    last_offset: i64,
}

/// The producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: HashMap<i64, ProducerEntry>,
    /// The producers with an open transaction, by its first offset.
    open: BTreeMap<i64, i64>,
    /// Transactions whose marker the high watermark has not passed, in the order of their markers. Only those are kept that
    /// began before all that ended after them, so that the first of them began first of all.
    ended: VecDeque<Ended>,
}

impl ProducerState {
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (i64, &ProducerEntry)> {
        self.producers
            .iter()
            .map(|(producer_id, entry)| (*producer_id, entry))
    }

    pub(crate) fn insert(&mut self, producer_id: i64, entry: ProducerEntry) {
        if let Some(first_offset) = entry.current_transaction_first_offset {
            self.open.insert(first_offset, producer_id);
        }
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
    pub(crate) fn check(&self, batch: &ProducerBatch) -> Result<(), ProducerError> {
        let Some(entry) = self.producers.get(&batch.producer_id) else {
            return Ok(());
        };
        let ProducerBatch {
            producer_id,
            epoch,
            first_sequence: sequence,
            ..
        } = *batch;
        entry.check_epoch(producer_id, epoch)?;
        let last_sequence = entry.batches.back().map(|stored| stored.last_sequence);
        let expected = match last_sequence {
            Some(last) if epoch == entry.epoch => sequence_after(last, 1),
            _ => 0,
        };
        if sequence != expected {
            return Err(ProducerError::OutOfOrder {
                producer_id,
                sequence,
                expected,
            });
        }
        if entry.current_transaction_first_offset.is_some() && !batch.transactional {
            return Err(ProducerError::OutsideTransaction { producer_id });
        }
        Ok(())
    }

    /// Checks that a coordinator may end the producer's transaction, or say that it has none.
    pub(crate) fn check_marker(&self, marker: &ProducerMarker) -> Result<(), ProducerError> {
        let producer_id = marker.producer_id;
        let Some(entry) = self.producers.get(&producer_id) else {
            return Ok(());
        };
        entry.check_epoch(producer_id, marker.epoch)?;
        let (epoch, current) = (marker.marker.coordinator_epoch, entry.coordinator_epoch);
        if epoch < current {
            return Err(ProducerError::StaleCoordinator {
                producer_id,
                epoch,
                current,
            });
        }
        Ok(())
    }

    /// Remembers a batch that is in the log.
    pub(crate) fn update(&mut self, batch: &ProducerBatch) {
        let entry = entry(&mut self.producers, batch.producer_id, batch.epoch);
        entry.last_timestamp = batch.timestamp;
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
            self.open.insert(batch.first_offset, batch.producer_id);
        }
    }

    /// What the transaction index must hold before [`ProducerState::end_transaction`], if the marker aborts a transaction
    /// that has records here.
    pub(crate) fn aborted_by(&self, marker: &ProducerMarker) -> Option<AbortedTransaction> {
        let producer_id = marker.producer_id;
        let entry = self.producers.get(&producer_id)?;
        let first_offset = entry.current_transaction_first_offset?;
        let mut others = self.open.iter().filter(|(_, other)| **other != producer_id);
        let last_stable_offset = others
            .next()
            .map_or(marker.offset.saturating_add(1), |(first, _)| *first);
        (!marker.marker.committed).then_some(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset: marker.offset,
            last_stable_offset,
        })
    }

    /// Remembers a marker that is in the log.
    pub(crate) fn end_transaction(&mut self, marker: &ProducerMarker) {
        let entry = entry(&mut self.producers, marker.producer_id, marker.epoch);
        entry.last_timestamp = marker.timestamp;
        entry.coordinator_epoch = marker.marker.coordinator_epoch;
        let Some(first_offset) = entry.current_transaction_first_offset.take() else {
            return;
        };
        self.open.remove(&first_offset);
        while self
            .ended
            .back()
            .is_some_and(|ended| ended.first_offset >= first_offset)
        {
            self.ended.pop_back();
        }
        self.ended.push_back(Ended {
            first_offset,
            last_offset: marker.offset,
        });
    }

    /// Takes in a batch that is read again. Of a control batch it asks for the `marker`, and tells what transaction that
    /// aborts.
    #[inline]
    pub(crate) fn replay<E>(
        &mut self,
        header: &BatchHeader,
        marker: impl FnOnce() -> Result<Option<ProducerMarker>, E>,
    ) -> Result<Option<AbortedTransaction>, E> {
        if !header.attributes.is_control() {
            if let Some(batch) = ProducerBatch::from_header(header) {
                self.update(&batch);
            }
            return Ok(None);
        }
        let Some(marker) = marker()? else {
            return Ok(None);
        };
        let aborted = self.aborted_by(&marker);
        self.end_transaction(&marker);
        Ok(aborted)
    }

    /// The first offset of the transactions of which it is not yet known for good how they end.
    pub(crate) fn first_unstable_offset(&self) -> Option<i64> {
        let open = self.open.keys().next().copied();
        let ended = self.ended.front().map(|ended| ended.first_offset);
        open.into_iter().chain(ended).min()
    }

    /// What ended below the high watermark has ended for good.
    pub(crate) fn high_watermark_advanced(&mut self, high_watermark: i64) {
        while self
            .ended
            .front()
            .is_some_and(|ended| ended.last_offset < high_watermark)
        {
            self.ended.pop_front();
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

/// The producer's entry under `epoch`: what was written under another is not repeated.
fn entry(
    producers: &mut HashMap<i64, ProducerEntry>,
    producer_id: i64,
    epoch: i16,
) -> &mut ProducerEntry {
    let entry = match producers.entry(producer_id) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(ProducerEntry::new(epoch)),
    };
    if entry.epoch != epoch {
        entry.epoch = epoch;
        entry.batches.clear();
    }
    entry
}

#[cfg(test)]
mod tests;
