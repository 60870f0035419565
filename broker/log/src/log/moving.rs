//! What a log that moves to another log directory is asked: the present one, and the one that is to replace it.

use super::Log;
use crate::error::LogError;

impl Log {
    /// Changes with each truncation: what was read before may not be in the log any more.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// The size of all batches from the one on that holds `offset`, in bytes.
    pub(crate) fn bytes_from(&self, offset: i64) -> Result<u64, LogError> {
        let floor = self.segments.range(..=offset).next_back();
        let floor = floor.map_or(offset, |(base_offset, _)| *base_offset);
        let mut bytes = 0;
        for (base_offset, segment) in self.segments.range(floor..) {
            let before = match *base_offset < offset {
                true => segment
                    .find(offset)?
                    .map_or(segment.size(), |batch| batch.position),
                false => 0,
            };
            bytes += segment.size() - before;
        }
        Ok(bytes)
    }

    /// Cuts off what `present` does not hold. By the leader epochs, for one epoch writes an offset once: as a follower does
    /// with its leader's log. Without epochs nothing is known to be the same.
    pub(crate) fn align_with(&mut self, present: &Log, now_ms: i64) -> Result<(), LogError> {
        let mut end = self.log_end_offset;
        let mut common = 0;
        for entry in self.epochs().iter().rev() {
            if let Some((epoch, present_end)) = present.end_offset_for_epoch(entry.epoch)
                && epoch == entry.epoch
            {
                common = end.min(present_end);
                break;
            }
            end = entry.start_offset;
        }
        if common < self.log_end_offset {
            self.truncate_to(common, now_ms)?;
        }
        if self.log_end_offset < present.log_start_offset {
            self.truncate_fully_and_start_at(present.log_start_offset, now_ms)?;
        }
        Ok(())
    }

    /// Takes over what `present`, of which this is a copy, knows beside its records; the log takes no more writes, and its
    /// files are in the form in which it can be opened without reading it.
    pub(crate) fn complete_copy(&mut self, present: &Log, now_ms: i64) -> Result<(), LogError> {
        self.config = present.config.clone();
        // An epoch in which nothing was written is in no batch.
        self.epochs = present.epochs.clone();
        self.write_epochs()?;
        self.flush(now_ms)?;
        self.close()
    }

    /// Takes the place of `present`, of which this is a copy.
    pub(crate) fn succeed(&mut self, present: &Log) {
        self.truncations = present.truncations.max(self.truncations) + 1;
        self.log_start_offset = present.log_start_offset;
    }
}
