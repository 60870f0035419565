//! What becomes of a batch: it stays as it is, loses some records, is emptied, or goes.
//!
//! Offsets never change, and neither does which offsets a batch spans: its last sequence number is counted from there.

use std::collections::HashMap;

use kafka_wire::record_batch::{
    self, Batch, BatchHeader, BuildError, EndTransactionMarker, NO_TIMESTAMP, RawRecord,
    RecordError, TimestampType,
};

use super::offset_map::{KEYS_AT_ONCE, KeyHash, OffsetMap};
use super::transactions::CleanedTransactions;
use crate::batch_scanner::MAX_DECOMPRESSED_BYTES;
use crate::transaction_index::AbortedTransaction;

/// The last thing that a producer wrote, which tells what it must send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRecord {
    /// The batch of records that ends at this offset.
    Data {
        /// Its last offset.
        last_offset: i64,
    },
    /// A marker under this epoch.
    Marker {
        /// The producer's epoch.
        epoch: i16,
    },
}

/// What a round is bound by, beside the offset map.
#[derive(Debug)]
pub(crate) struct RoundRules {
    /// When the round began, in milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// How long after its first compaction a tombstone or a marker stays.
    pub(crate) delete_retention_ms: i64,
    /// The round ends before this offset. The batch before it is kept, so that the log's offsets stay told.
    pub(crate) uncleanable_offset: i64,
    /// The producers that the log remembers.
    pub(crate) active_producers: HashMap<i64, LastRecord>,
}

/// Why a batch cannot be compacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// Its records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// What is left of it cannot be written.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// How many records there were, and are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecordCounts {
    pub(crate) read: u64,
    pub(crate) kept: u64,
    /// Records without a key, which have no place in a compacted log and go.
    pub(crate) keyless: u64,
}

/// A record on which is to be decided.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// In bytes.
    size: usize,
    offset_delta: i32,
    timestamp_delta: i64,
    has_value: bool,
    /// That of its key, if it has one.
    hash: Option<KeyHash>,
}

impl Candidate {
    fn new(record: &RawRecord<'_>, hash: Option<KeyHash>) -> Self {
        Self {
            size: record.bytes.len(),
            offset_delta: record.offset_delta,
            timestamp_delta: record.timestamp_delta,
            has_value: record.has_value,
            hash,
        }
    }
}

/// Decides for one batch after the other, in the order of the log.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    map: &'a OffsetMap,
    rules: &'a RoundRules,
    transactions: CleanedTransactions,
    pub(crate) counts: RecordCounts,
    /// The records that are left of the batch at hand; kept so that each batch need not allocate.
    kept: Vec<u8>,
    stamped: Vec<u8>,
    candidates: Vec<Candidate>,
}

/// What the records of a batch come to.
#[derive(Debug, Clone, Copy)]
struct Survivors {
    count: i32,
    max_timestamp: i64,
    any_tombstone: bool,
}

impl<'a> Filter<'a> {
    /// `aborted` are all aborted transactions that reach into what will be read.
    pub(crate) fn new(
        map: &'a OffsetMap,
        rules: &'a RoundRules,
        aborted: Vec<AbortedTransaction>,
    ) -> Self {
        Self {
            map,
            rules,
            transactions: CleanedTransactions::new(aborted),
            counts: RecordCounts::default(),
            kept: Vec::new(),
            stamped: Vec::new(),
            candidates: Vec::with_capacity(KEYS_AT_ONCE),
        }
    }

    /// Appends to `out` what is left of the batch. The transaction that the batch aborts, if there are batches of it left,
    /// goes to `aborted`.
    pub(crate) fn filter(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Vec<u8>,
        aborted: &mut Vec<AbortedTransaction>,
    ) -> Result<(), FilterError> {
        self.counts.read += batch.header.record_count as u64;
        if batch.header.attributes.is_control() {
            self.filter_marker(batch, out, aborted)
        } else {
            self.filter_records(batch, out)
        }
    }

    fn must_stay(&self, header: &BatchHeader) -> bool {
        let last_of_producer = match self.rules.active_producers.get(&header.producer_id) {
            Some(LastRecord::Data { last_offset }) => header.last_offset() == *last_offset,
            Some(LastRecord::Marker { epoch }) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
            None => false,
        };
        header.has_producer_id() && last_of_producer
            || header.next_offset() == self.rules.uncleanable_offset
    }

    fn horizon_passed(&self, header: &BatchHeader) -> bool {
        header.attributes.has_delete_horizon() && header.base_timestamp <= self.rules.now_ms
    }

    /// A marker's key is not a user's, whatever its bytes (KAFKA-14055): only its transaction decides.
    fn filter_marker(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Vec<u8>,
        aborted: &mut Vec<AbortedTransaction>,
    ) -> Result<(), FilterError> {
        let header = &batch.header;
        let fate = self
            .transactions
            .on_control(header, EndTransactionMarker::read(batch));
        aborted.extend(fate.aborted);
        if fate.discardable && (header.record_count == 0 || self.horizon_passed(header)) {
            return self.leave_empty(header, out);
        }
        self.counts.kept += header.record_count as u64;
        if fate.discardable && !header.attributes.has_delete_horizon() {
            let survivors = Survivors {
                count: header.record_count,
                max_timestamp: header.max_timestamp,
                any_tombstone: false,
            };
            let records = batch.records(MAX_DECOMPRESSED_BYTES)?;
            return self.write_with_horizon(header, survivors, records.raw_bytes(), out);
        }
        out.extend_from_slice(batch.bytes);
        Ok(())
    }

    fn filter_records(&mut self, batch: &Batch<'_>, out: &mut Vec<u8>) -> Result<(), FilterError> {
        let header = &batch.header;
        if self.transactions.on_records(header) {
            return self.leave_empty(header, out);
        }
        if header.base_offset > self.map.latest_offset() {
            // The map knows nothing of it.
            self.counts.kept += header.record_count as u64;
            out.extend_from_slice(batch.bytes);
            return Ok(());
        }
        let records = batch.records(MAX_DECOMPRESSED_BYTES)?;
        let survivors = self.sift(header, &records)?;
        self.counts.kept += survivors.count as u64;
        if survivors.count == 0 {
            return self.leave_empty(header, out);
        }
        let all = survivors.count == header.record_count;
        let kept = std::mem::take(&mut self.kept);
        let left = if all { records.raw_bytes() } else { &kept };
        let written = if survivors.any_tombstone && !header.attributes.has_delete_horizon() {
            self.write_with_horizon(header, survivors, left, out)
        } else if all {
            out.extend_from_slice(batch.bytes);
            Ok(())
        } else {
            let header = reduced(header, survivors);
            Ok(record_batch::write_batch(&header, left, out)?)
        };
        self.kept = kept;
        written
    }

    /// Finds the records that stay. Unless that is all of them, their bytes are in `self.kept`.
    fn sift(
        &mut self,
        header: &BatchHeader,
        records: &record_batch::BatchRecords<'_>,
    ) -> Result<Survivors, FilterError> {
        let mut survivors = Survivors {
            count: 0,
            max_timestamp: NO_TIMESTAMP,
            any_tombstone: false,
        };
        self.kept.clear();
        let all = records.raw_bytes();
        // Up to the first record that goes nothing is copied.
        let (mut passed, mut any_gone) = (0, false);
        let mut rest = records.raw();
        let mut candidates = std::mem::take(&mut self.candidates);
        while !rest.is_at_end() {
            candidates.clear();
            for record in rest.by_ref().take(KEYS_AT_ONCE) {
                let record = record?;
                let hash = record.key.map(|key| self.map.hash(key));
                candidates.push(Candidate::new(&record, hash));
            }
            self.map.seek(candidates.iter().filter_map(|one| one.hash));
            for candidate in &candidates {
                let bytes = &all[passed..passed + candidate.size];
                passed += candidate.size;
                if self.stays(header, candidate) {
                    survivors.count += 1;
                    let timestamp = header
                        .base_timestamp
                        .wrapping_add(candidate.timestamp_delta);
                    survivors.max_timestamp = survivors.max_timestamp.max(timestamp);
                    survivors.any_tombstone |= !candidate.has_value;
                    if any_gone {
                        self.kept.extend_from_slice(bytes);
                    }
                } else if !any_gone {
                    any_gone = true;
                    self.kept.extend_from_slice(&all[..passed - candidate.size]);
                }
            }
        }
        self.candidates = candidates;
        Ok(survivors)
    }

    fn stays(&mut self, header: &BatchHeader, candidate: &Candidate) -> bool {
        let offset = header.base_offset + i64::from(candidate.offset_delta);
        if offset > self.map.latest_offset() {
            return true;
        }
        let Some(hash) = candidate.hash else {
            self.counts.keyless += 1;
            return false;
        };
        (candidate.has_value || !self.horizon_passed(header))
            && self.map.get(hash).is_none_or(|last| offset >= last)
    }

    /// The batch without its records, or nothing.
    fn leave_empty(&self, header: &BatchHeader, out: &mut Vec<u8>) -> Result<(), FilterError> {
        if !self.must_stay(header) {
            return Ok(());
        }
        let attributes = header
            .attributes
            .with_compression(Default::default())
            .with_delete_horizon(false);
        let empty = BatchHeader {
            attributes,
            base_timestamp: NO_TIMESTAMP,
            record_count: 0,
            ..header.clone()
        };
        Ok(record_batch::write_batch(&empty, &[], out)?)
    }

    /// The delete horizon goes where the base timestamp was, and the records' timestamps are relative to it from now on.
    fn write_with_horizon(
        &mut self,
        header: &BatchHeader,
        survivors: Survivors,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FilterError> {
        let RoundRules {
            now_ms,
            delete_retention_ms,
            ..
        } = *self.rules;
        let horizon_ms = now_ms.saturating_add(delete_retention_ms);
        let earlier = header.base_timestamp.wrapping_sub(horizon_ms);
        self.stamped.clear();
        for record in
            record_batch::RawRecords::new(records, header.last_offset_delta, survivors.count)
        {
            let record = record?;
            let delta = record.timestamp_delta.wrapping_add(earlier);
            record.write_with_timestamp_delta(delta, &mut self.stamped)?;
        }
        let header = BatchHeader {
            attributes: header.attributes.with_delete_horizon(true),
            base_timestamp: horizon_ms,
            ..reduced(header, survivors)
        };
        Ok(record_batch::write_batch(&header, &self.stamped, out)?)
    }
}

fn reduced(header: &BatchHeader, survivors: Survivors) -> BatchHeader {
    let max_timestamp = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => survivors.max_timestamp,
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    BatchHeader {
        record_count: survivors.count,
        max_timestamp,
        ..header.clone()
    }
}
