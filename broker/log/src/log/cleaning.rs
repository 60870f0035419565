//! What compaction asks of a log, and tells it: all that needs the log's lock.

use std::collections::HashMap;

use super::Log;
use crate::cleaner::plan::{self, Dirtiness};
use crate::cleaner::source::ClosedSegment;
use crate::cleaner::{LastRecord, RoundInput};
use crate::error::LogError;
use crate::segment::LogSegment;

impl Log {
    /// How dirty the log is, where records below `high_watermark` are what all replicas agree on.
    pub(crate) fn dirtiness(
        &mut self,
        high_watermark: i64,
        now_ms: i64,
    ) -> Result<Dirtiness, LogError> {
        let checkpointed = self.log_directory.cleaner_offset(&self.topic_partition);
        let (start, end) = (self.log_start_offset, self.log_end_offset);
        let (first_dirty_offset, impossible) = plan::first_dirty_offset(checkpointed, start, end);
        if impossible {
            tracing::warn!(partition = %self.topic_partition, "the log is compacted anew from {start} on, for it ends at {end} and was compacted up to {checkpointed:?}");
            self.log_directory
                .set_cleaner_offset(&self.topic_partition, start);
        }
        let active_base = self.active().map_or(start, LogSegment::base_offset);
        let dirty_floor = self.segment_floor(first_dirty_offset);

        let mut bound = self.last_stable_offset(high_watermark).min(active_base);
        if self.config.min_compaction_lag_ms > 0 {
            let too_new = now_ms.saturating_sub(self.config.min_compaction_lag_ms);
            for (base_offset, segment) in self.segments.range(dirty_floor..bound.max(dirty_floor)) {
                if segment.youngest_ms()? > too_new {
                    bound = bound.min(*base_offset);
                    break;
                }
            }
        }
        // Segments are compacted as a whole.
        let uncleanable_offset = self
            .segment_floor(bound.max(first_dirty_offset))
            .min(active_base);

        let mut overdue = false;
        if self.config.max_compaction_lag_ms < i64::MAX {
            let due_since = now_ms.saturating_sub(self.config.max_compaction_lag_ms);
            for (_, segment) in self
                .segments
                .range_mut(dirty_floor..active_base.max(dirty_floor))
            {
                let written = segment.first_batch_timestamp()?;
                overdue |= written > 0 && written < due_since;
            }
        }
        let bytes = |from: i64, to: i64| {
            let segments = self.segments.range(from..to.max(from));
            segments.map(|(_, segment)| segment.size()).sum()
        };
        Ok(Dirtiness {
            first_dirty_offset,
            uncleanable_offset,
            clean_bytes: bytes(i64::MIN, first_dirty_offset),
            dirty_bytes: bytes(dirty_floor, uncleanable_offset),
            overdue,
        })
    }

    /// The base offset of the segment that holds `offset`; `offset` itself if it lies before all.
    fn segment_floor(&self, offset: i64) -> i64 {
        let floor = self.segments.range(..=offset).next_back();
        floor.map_or(offset, |(base_offset, _)| *base_offset)
    }

    /// All that a compaction needs, if the log is due for one.
    pub(crate) fn begin_round(
        &mut self,
        high_watermark: i64,
        now_ms: i64,
    ) -> Result<Option<RoundInput>, LogError> {
        let dirtiness = self.dirtiness(high_watermark, now_ms)?;
        if self.is_fenced() || !self.config.compact || !dirtiness.is_due(&self.config) {
            return Ok(None);
        }
        let Dirtiness {
            first_dirty_offset,
            uncleanable_offset,
            ..
        } = dirtiness;
        let first_dirty = self.segments.range(..=first_dirty_offset).next_back();
        let dirty_position = match first_dirty {
            Some((_, segment)) => segment
                .find(first_dirty_offset)?
                .map_or(segment.size(), |batch| batch.position),
            None => 0,
        };
        let segments = self
            .segments
            .range(..uncleanable_offset)
            .map(|(_, segment)| segment.closed())
            .collect::<Vec<ClosedSegment>>();
        let from = segments.first().map_or(0, |segment| segment.base_offset);
        Ok(Some(RoundInput {
            fs: self.fs.clone(),
            directory: self.directory.clone(),
            config: (*self.config).clone(),
            dirtiness,
            segments,
            dirty_position,
            aborted: self.aborted_transactions(from, uncleanable_offset)?,
            active_producers: self.last_records_of_producers(),
            truncations: self.truncations,
        }))
    }

    fn last_records_of_producers(&self) -> HashMap<i64, LastRecord> {
        let entries = self.producers.entries();
        entries
            .map(|(producer_id, entry)| {
                let last = match entry.batches.back() {
                    Some(batch) => LastRecord::Data {
                        last_offset: batch.last_offset,
                    },
                    None => LastRecord::Marker { epoch: entry.epoch },
                };
                (producer_id, last)
            })
            .collect()
    }

    /// Takes note that the log is compacted up to `offset`, unless it was cut meanwhile. False if it was.
    pub(crate) fn finish_round(&mut self, offset: i64, truncations: u64) -> bool {
        let valid = !self.was_cut_since(truncations);
        if valid {
            self.log_directory
                .set_cleaner_offset(&self.topic_partition, offset);
        }
        valid
    }
}
