//! Taking records back: what a follower holds that its leader does not.

use std::collections::BTreeMap;

use super::Log;
use crate::error::LogError;
use crate::file_names::{self, PRODUCER_SNAPSHOT};
use crate::file_system::{Attempt, remove_if_there};
use crate::segment::LogSegment;

impl Log {
    /// Drops all records at or above `offset`, and the epochs and producers with them. The log may end a little lower,
    /// where a batch spanned `offset`. False if there was nothing to drop.
    pub fn truncate_to(&mut self, offset: i64, now_ms: i64) -> Result<bool, LogError> {
        self.check_writable()?;
        if offset >= self.log_end_offset {
            // There may be no record to drop, but an epoch that begins here and that the leader does not know.
            if self.epochs.truncate_from_end(offset) {
                let written = self.write_epochs();
                self.fence_on_error(written)?;
            }
            return Ok(false);
        }
        if offset <= self.log_start_offset {
            self.truncate_fully_and_start_at(offset.max(0), now_ms)?;
            return Ok(true);
        }
        let truncated = self.truncate_segments(offset, now_ms);
        self.fence_on_error(truncated)?;
        Ok(true)
    }

    /// Drops everything; the next record gets `offset`.
    pub fn truncate_fully_and_start_at(
        &mut self,
        offset: i64,
        now_ms: i64,
    ) -> Result<(), LogError> {
        self.check_writable()?;
        let truncated = self.start_anew(offset, now_ms);
        self.fence_on_error(truncated)
    }

    fn truncate_segments(&mut self, offset: i64, now_ms: i64) -> Result<(), LogError> {
        // A batch that spans the offset goes as a whole.
        let floor = self.segments.range(..=offset).next_back();
        let first_dropped = match floor {
            Some((_, segment)) => segment.find(offset)?.map(|batch| batch.header.base_offset),
            None => None,
        };
        let offset = first_dropped.map_or(offset, |base_offset| base_offset.min(offset));
        if offset < self.log_start_offset {
            // The log starts within that batch, and nothing else is left of it.
            return self.start_anew(self.log_start_offset, now_ms);
        }
        // First of all the promise that the records are on the disk, for others will come in their place.
        self.lower_recovery_point(offset)?;
        self.remove_snapshots_above(offset)?;
        let dropped = self.segments.split_off(&offset);
        if let Some(mut last) = self.segments.last_entry() {
            last.get_mut().truncate_to(offset)?;
            last.get_mut().close()?;
        }
        self.replace_segments(dropped, offset, now_ms)?;
        self.truncations += 1;
        self.log_end_offset = offset;
        if self.epochs.truncate_from_end(offset) {
            self.write_epochs()?;
        }
        self.load_producers(None)
    }

    fn start_anew(&mut self, offset: i64, now_ms: i64) -> Result<(), LogError> {
        self.log_directory
            .forget_log_start_offset(&self.topic_partition)?;
        self.lower_recovery_point(offset)?;
        self.remove_snapshots_above(-1)?;
        self.truncations += 1;
        let dropped = std::mem::take(&mut self.segments);
        self.replace_segments(dropped, offset, now_ms)?;
        self.log_start_offset = offset;
        self.log_end_offset = offset;
        self.recovery_point = offset;
        self.producers = Default::default();
        if self.epochs.truncate_from_end(0) {
            self.write_epochs()?;
        }
        Ok(())
    }

    /// Removes segments and begins a new one.
    ///
    /// What comes after a truncation always goes to a file of its own, and not before the old names are gone for
    /// certain. For a cut that was not synced may be undone by a power cut: were other batches written over the old ones,
    /// old and new could stand side by side and both look right. So the new segment's name tells where the old end.
    pub(super) fn replace_segments(
        &mut self,
        dropped: BTreeMap<i64, Box<LogSegment>>,
        offset: i64,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let any_dropped = !dropped.is_empty();
        self.delete_segments(dropped.into_values().rev(), now_ms)?;
        let segment = LogSegment::create(&self.fs, &self.directory, offset, &self.config, now_ms)?;
        self.segments.insert(offset, Box::new(segment));
        if any_dropped {
            self.fs
                .sync_directory(&self.directory)
                .attempt("sync", &self.directory)?;
        }
        Ok(())
    }

    fn lower_recovery_point(&mut self, offset: i64) -> Result<(), LogError> {
        self.log_directory
            .lower_recovery_point(&self.topic_partition, offset)?;
        self.log_directory
            .lower_cleaner_offset(&self.topic_partition, offset)?;
        self.recovery_point = self.recovery_point.min(offset);
        Ok(())
    }

    pub(super) fn remove_snapshots_above(&mut self, offset: i64) -> Result<(), LogError> {
        for snapshot_offset in self.snapshot_offsets()? {
            if snapshot_offset > offset {
                remove_if_there(&*self.fs, &self.snapshot_path(snapshot_offset))?;
            }
        }
        self.snapshot_offset = self
            .snapshot_offset
            .filter(|snapshot_offset| *snapshot_offset <= offset);
        Ok(())
    }

    /// The offsets of all producer snapshots on file, largest first.
    pub(super) fn snapshot_offsets(&self) -> Result<Vec<i64>, LogError> {
        let entries = self
            .fs
            .list(&self.directory)
            .attempt("list", &self.directory)?;
        let parsed = entries
            .iter()
            .filter_map(|entry| file_names::parse_segment_file(&entry.name));
        let mut offsets: Vec<i64> = parsed
            .filter(|(_, extension)| *extension == PRODUCER_SNAPSHOT)
            .map(|(offset, _)| offset)
            .collect();
        offsets.sort_unstable_by(|left, right| right.cmp(left));
        Ok(offsets)
    }
}
