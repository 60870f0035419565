//! Taking records in.

use kafka_wire::record_batch::{self, BatchError, BatchHeader, TimestampType};

use super::Log;
use crate::error::{AppendError, LogError};
use crate::producer::ProducerBatch;
use crate::segment::AppendedBatch;
use crate::validate::{self, ClientBatch};

/// Where appended records went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// The offset of the first record.
    pub first_offset: i64,
    /// The offset of the last record.
    pub last_offset: i64,
    /// The time that the broker stamped them with, if the topic is one of [`TimestampType::LogAppendTime`].
    pub log_append_time_ms: Option<i64>,
    /// They were in the log already: the producer had sent them before, and `first_offset` is where they are.
    pub duplicate: bool,
    /// How many bytes were appended.
    pub size: usize,
}

/// What a leader sent, as far as its batches are whole.
#[derive(Debug)]
pub struct LeaderRecords<'a> {
    bytes: &'a [u8],
    batches: Vec<AppendedBatch>,
}

impl<'a> LeaderRecords<'a> {
    /// Finds the batches, and checks all that can be checked without the log.
    pub fn parse(records: &'a [u8]) -> Result<Self, AppendError> {
        let mut batches = Vec::new();
        let mut start = 0;
        while start < records.len() {
            let rest = &records[start..];
            let parsed = BatchHeader::parse(rest);
            let whole = parsed
                .as_ref()
                .ok()
                .and_then(|header| rest.get(..header.size()));
            let (header, bytes) = match (parsed, whole) {
                (Ok(header), Some(bytes)) => (header, bytes),
                // The last batch may be cut short.
                (Ok(_) | Err(BatchError::Incomplete { .. }), _) if start > 0 => break,
                (Ok(header), None) => {
                    let size = header.size();
                    return Err(AppendError::Corrupt(format!(
                        "a batch of {size} bytes, of which {} are there",
                        rest.len()
                    )));
                }
                (Err(BatchError::UnsupportedMagic(magic @ 0..=1)), _) => {
                    return Err(AppendError::UnsupportedForMessageFormat { magic });
                }
                (Err(error), _) => return Err(AppendError::Corrupt(error.to_string())),
            };
            record_batch::verify_crc(bytes)
                .map_err(|error| AppendError::Corrupt(error.to_string()))?;
            batches.push(AppendedBatch { start, header });
            start += bytes.len();
        }
        if batches.is_empty() {
            return Err(AppendError::InvalidRecord(
                "no record batch at all".to_owned(),
            ));
        }
        Ok(Self {
            bytes: &records[..start],
            batches,
        })
    }
}

impl Log {
    /// Appends a client's record batch. It is checked down to its records; base offset and leader epoch are patched into
    /// `records`, which are then written as they are, with one call, unless the topic asks for another codec.
    ///
    /// A producer's batch that is in the log already is not appended again; the answer tells where it is. There is one
    /// answer, so that there may be only one batch: of several, some could be in the log already and others not
    /// (KIP-98 has producers send one). A message set of format 0 or 1 becomes a batch.
    pub fn append_as_leader(
        &mut self,
        records: &mut [u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        let batch = validate::prepare(records, &self.config, &self.topic_partition, now_ms)?;
        self.append_prepared(batch, leader_epoch, now_ms)
    }

    /// As [`Log::append_as_leader`], of a batch that [`prepare`](validate::prepare) found right with this log's
    /// configuration, or with the one that it had just now: a change holds from the next batch on.
    pub fn append_prepared(
        &mut self,
        mut batch: ClientBatch<'_>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        if let Some(duplicate) = self.check_sequence(&batch)? {
            return Ok(duplicate);
        }
        let log_append_time_ms =
            (batch.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        let max_timestamp = batch.max_timestamp;
        let batch = batch.bytes.as_mut();
        let first_offset = self.log_end_offset;
        let header = self.patch(batch, max_timestamp, leader_epoch, log_append_time_ms)?;
        let last_offset = header.last_offset();
        self.store(batch, &[AppendedBatch { start: 0, header }], now_ms)?;
        Ok(AppendInfo {
            first_offset,
            last_offset,
            log_append_time_ms,
            duplicate: false,
            size: batch.len(),
        })
    }

    /// Appends what a follower fetched from its leader. Offsets, leader epochs and timestamps stay the leader's; offsets that
    /// it does not have, since it compacted its log, are missing here too, but none comes a second time. A batch that the
    /// fetch cut short at the end is left out; if nothing is whole, that is an error.
    pub fn append_as_follower(
        &mut self,
        records: &[u8],
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        self.append_parsed(&LeaderRecords::parse(records)?, now_ms)
    }

    /// As [`Log::append_as_follower`], of what was looked at already.
    pub fn append_parsed(
        &mut self,
        records: &LeaderRecords<'_>,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        let LeaderRecords { bytes, batches } = records;
        self.accept(batches, now_ms)?;
        self.store_in_segments(bytes, batches, now_ms)?;
        let offsets = batches.first().zip(batches.last());
        let (first_offset, last_offset) = offsets
            .map(|(first, last)| (first.header.base_offset, last.header.last_offset()))
            .unwrap_or((self.log_end_offset, self.log_end_offset - 1));
        Ok(AppendInfo {
            first_offset,
            last_offset,
            log_append_time_ms: None,
            duplicate: false,
            size: bytes.len(),
        })
    }

    /// Makes sure that the log may be continued with batches of its leader's, and brings it to where it can be.
    ///
    /// A leader whose log starts within a batch serves it whole (KAFKA-6975): an empty log begins where the batch does, and
    /// starts where it did.
    fn accept(&mut self, batches: &[AppendedBatch], now_ms: i64) -> Result<(), AppendError> {
        let Some(AppendedBatch { header: first, .. }) = batches.first() else {
            return Ok(());
        };
        let start = self.log_start_offset;
        let begins_before_start = self.log_end_offset == start
            && first.base_offset < start
            && first.last_offset() >= start;
        let mut next_offset = match begins_before_start {
            true => first.base_offset,
            false => self.log_end_offset,
        };
        let mut gaps = false;
        for AppendedBatch { header, .. } in batches {
            if header.base_offset < next_offset {
                return Err(AppendError::UnexpectedOffset {
                    found: header.base_offset,
                    log_end_offset: next_offset,
                });
            }
            gaps |= header.base_offset > next_offset;
            next_offset = header.next_offset();
        }
        if gaps {
            self.note_gaps()?;
        }
        if begins_before_start {
            self.truncate_fully_and_start_at(first.base_offset, now_ms)?;
            self.log_start_offset = start;
        }
        Ok(())
    }

    /// Notes that offsets may be missing in this log, before one is: a log that does not say so is taken for damaged where
    /// one is.
    pub(super) fn note_gaps(&mut self) -> Result<(), LogError> {
        let noted = self.log_directory.note_gaps(&self.topic_partition);
        self.fence_on_error(noted)
    }

    /// Checks that the client's batch comes next from its producer, or finds that it is in the log already.
    fn check_sequence(&self, batch: &ClientBatch<'_>) -> Result<Option<AppendInfo>, AppendError> {
        let Some(produced) = ProducerBatch::from_header(&batch.header) else {
            return Ok(None);
        };
        let Some(stored) = self.producers.find_duplicate(&produced) else {
            self.producers.check(&produced)?;
            return Ok(None);
        };
        Ok(Some(AppendInfo {
            first_offset: stored.first_offset(),
            last_offset: stored.last_offset,
            log_append_time_ms: (batch.timestamp_type == TimestampType::LogAppendTime)
                .then_some(stored.timestamp),
            duplicate: true,
            size: 0,
        }))
    }

    /// Writes offset, leader epoch and time into the client's batch: the broker's if that stamps it, otherwise the largest
    /// of its records, should the header say another. The header that it has then.
    fn patch(
        &self,
        records: &mut [u8],
        max_timestamp: i64,
        leader_epoch: i32,
        log_append_time_ms: Option<i64>,
    ) -> Result<BatchHeader, AppendError> {
        record_batch::set_base_offset(records, self.log_end_offset);
        record_batch::set_partition_leader_epoch(records, leader_epoch);
        let parse = |records: &[u8]| {
            BatchHeader::parse(records).map_err(|error| AppendError::Corrupt(error.to_string()))
        };
        let mut header = parse(records)?;
        let (clock, time) = match log_append_time_ms {
            Some(now_ms) => (TimestampType::LogAppendTime, now_ms),
            None => (TimestampType::CreateTime, max_timestamp),
        };
        if header.attributes.timestamp_type() != clock || header.max_timestamp != time {
            record_batch::set_max_timestamp(records, clock, time);
            header = parse(records)?;
        }
        Ok(header)
    }

    /// Stores batches of a leader's log, each run of them that fits a segment with one write: a follower's segments are
    /// no larger than the leader's, however much it fetches at once, and reach no further than an index does.
    fn store_in_segments(
        &mut self,
        records: &[u8],
        batches: &[AppendedBatch],
        now_ms: i64,
    ) -> Result<(), LogError> {
        let limit = self.config.segment_bytes as usize;
        let mut rest = batches;
        while let Some(first) = rest.first() {
            let room =
                limit.saturating_sub(self.active().map_or(0, |active| active.size() as usize));
            let end_of = |batch: &AppendedBatch| batch.start + batch.header.size() - first.start;
            let base_offset = first.header.base_offset;
            let fitting = |room: usize| {
                rest.partition_point(|batch| {
                    let relative = batch.header.last_offset().saturating_sub(base_offset);
                    end_of(batch) <= room && relative <= i64::from(i32::MAX)
                })
            };
            let run = match fitting(room) {
                // The active segment has no room: what fits a new one, or one batch that fits none.
                0 => fitting(limit).max(1),
                fitting => fitting,
            };
            let (now, later) = rest.split_at(run);
            let end = later.first().map_or(records.len(), |batch| batch.start);
            let placed: Vec<AppendedBatch> = now
                .iter()
                .map(|batch| AppendedBatch {
                    start: batch.start - first.start,
                    header: batch.header.clone(),
                })
                .collect();
            self.store(&records[first.start..end], &placed, now_ms)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes batches that have their final form, and then takes them into memory.
    pub(super) fn store(
        &mut self,
        bytes: &[u8],
        batches: &[AppendedBatch],
        now_ms: i64,
    ) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(());
        };
        let (base_offset, last_offset) = (first.header.base_offset, last.header.last_offset());
        let max_timestamp = batches
            .iter()
            .map(|batch| batch.header.max_timestamp)
            .max()
            .unwrap_or(-1);

        let interval = self.config.index_interval_bytes;
        let must_roll = match self.segments.last_entry() {
            Some(mut active) => active.get_mut().must_roll(
                &self.config,
                bytes.len() as u64,
                last_offset,
                max_timestamp,
                now_ms,
            )?,
            None => true,
        };
        if must_roll {
            // Segments follow each other without a gap, so that a lost end of one can be told from the next one's name;
            // unless the gap is so large that offsets relative to the log's end would not fit.
            let reachable = last_offset.saturating_sub(self.log_end_offset) <= i64::from(i32::MAX);
            let has_records = self.active().is_some_and(|active| active.size() > 0);
            let rolled = self.roll(
                if reachable {
                    self.log_end_offset
                } else {
                    base_offset
                },
                now_ms,
            );
            match rolled {
                // The active segment is as good as it was, and the next append tries again. An empty one may be gone, and
                // what is before it may have been cut.
                Err(error) if has_records && error.is_for_open_files() => return Err(error),
                rolled => self.fence_on_error(rolled)?,
            }
        }
        let appended = match self.segments.last_entry() {
            Some(mut active) => active.get_mut().append(bytes, batches, interval),
            None => Ok(()),
        };
        self.fence_on_error(appended)?;

        let mut epochs_changed = false;
        for AppendedBatch { start, header } in batches {
            let noted = self.note_producer(header, &bytes[*start..]);
            self.fence_on_error(noted)?;
            if self
                .epochs
                .latest()
                .is_none_or(|latest| latest.epoch < header.partition_leader_epoch)
            {
                epochs_changed |= self
                    .epochs
                    .assign(header.partition_leader_epoch, header.base_offset);
            }
        }
        self.log_end_offset = last_offset + 1;
        if epochs_changed {
            let written = self.write_epochs();
            self.fence_on_error(written)?;
        }
        if self.unflushed() >= self.config.flush_messages {
            self.flush(now_ms)?;
        }
        Ok(())
    }

    /// Records that a power cut may take.
    fn unflushed(&self) -> u64 {
        self.log_end_offset
            .saturating_sub(self.recovery_point)
            .max(0) as u64
    }
}
