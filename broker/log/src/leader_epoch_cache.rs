//! Which leader wrote which part of the log: where each leader epoch began.
//!
//! Kept in memory, decided here, written by the log to `leader-epoch-checkpoint`. This is what a follower compares with its
//! leader to find the point where their histories part (KIP-101, KIP-279).

use kafka_wire::record_batch::BatchHeader;

/// The first offset that a leader epoch wrote, or may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The leader epoch.
    pub epoch: i32,
    /// Its first offset.
    pub start_offset: i64,
}

/// The leader epochs of one log; epochs and start offsets both rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochCache {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochCache {
    /// Takes over pairs that [`crate::checkpoint::read_epochs`] found in order.
    pub(crate) fn from_checkpoint(pairs: Vec<(i32, i64)>) -> Self {
        let entries = pairs
            .into_iter()
            .map(|(epoch, start_offset)| EpochEntry {
                epoch,
                start_offset,
            })
            .collect();
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Says that `epoch` begins at `start_offset`. Entries that this contradicts, those of the same or a later epoch and
    /// those that begin at or after it, are dropped. True if anything changed. Epochs below zero mean "unknown".
    pub(crate) fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || start_offset < 0 {
            return false;
        }
        if let Some(latest) = self.latest()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return false;
        }
        self.entries
            .retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        true
    }

    /// Takes in the epoch of a batch that comes after all that are known.
    #[inline]
    pub(crate) fn continue_with(&mut self, header: &BatchHeader) {
        let epoch = header.partition_leader_epoch;
        if self.latest().is_none_or(|latest| latest.epoch < epoch) {
            self.assign(epoch, header.base_offset);
        }
    }

    /// The end offset of the largest epoch that is not above `epoch`, and that epoch: what a leader answers a follower
    /// (KIP-279). `None` where this log cannot know: no epochs at all, or one later than its latest.
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if epoch < 0 || epoch > latest.epoch {
            return None;
        }
        if epoch == latest.epoch {
            return Some((epoch, log_end_offset));
        }
        let later = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.entries.get(later)?.start_offset;
        // Before the first known epoch the log is empty as far as anybody knows: the asked epoch ends where it begins.
        let floor = later
            .checked_sub(1)
            .and_then(|index| self.entries.get(index));
        Some((floor.map_or(epoch, |entry| entry.epoch), end_offset))
    }

    /// The epoch that wrote `offset`.
    pub(crate) fn epoch_of(&self, offset: i64) -> Option<i32> {
        let later = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        later
            .checked_sub(1)
            .and_then(|index| self.entries.get(index))
            .map(|entry| entry.epoch)
    }

    /// Forgets the epochs that begin at or after the new end of the log. True if there were any.
    pub(crate) fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < end_offset);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets the epochs that lie wholly before the new start of the log; the one that spans it now begins there.
    /// True if anything changed.
    pub(crate) fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let later = self
            .entries
            .partition_point(|entry| entry.start_offset <= start_offset);
        let Some(spanning) = later.checked_sub(1) else {
            return false;
        };
        if spanning == 0 && self.entries[0].start_offset == start_offset {
            return false;
        }
        self.entries.drain(..spanning);
        self.entries[0].start_offset = start_offset;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(pairs: &[(i32, i64)]) -> LeaderEpochCache {
        LeaderEpochCache::from_checkpoint(pairs.to_vec())
    }

    fn pairs(cache: &LeaderEpochCache) -> Vec<(i32, i64)> {
        cache
            .entries()
            .iter()
            .map(|entry| (entry.epoch, entry.start_offset))
            .collect()
    }

    #[test]
    fn assign_drops_what_it_contradicts() {
        let mut cache = cache(&[(1, 0), (3, 10), (5, 20)]);
        assert!(!cache.assign(5, 20), "known");
        assert!(!cache.assign(5, 25), "the epoch began earlier");
        assert!(!cache.assign(-1, 30), "no epoch");
        assert!(cache.assign(7, 30));
        assert_eq!(pairs(&cache), [(1, 0), (3, 10), (5, 20), (7, 30)]);
        assert!(
            cache.assign(8, 20),
            "two epochs cannot begin at one offset: the later one wins"
        );
        assert_eq!(pairs(&cache), [(1, 0), (3, 10), (8, 20)]);
        assert!(
            cache.assign(3, 5),
            "an older epoch that comes again drops the later ones"
        );
        assert_eq!(pairs(&cache), [(1, 0), (3, 5)]);
    }

    #[test]
    fn kip_101_end_offset_of_an_epoch() {
        let cache = cache(&[(2, 5), (4, 10), (7, 20)]);
        assert_eq!(
            cache.end_offset_for(7, 33),
            Some((7, 33)),
            "the latest epoch ends at the log's end"
        );
        assert_eq!(cache.end_offset_for(8, 33), None, "later than the latest");
        assert_eq!(cache.end_offset_for(-1, 33), None, "no epoch");
        assert_eq!(
            cache.end_offset_for(4, 33),
            Some((4, 20)),
            "ends where the next begins"
        );
        assert_eq!(
            cache.end_offset_for(6, 33),
            Some((4, 20)),
            "KIP-279: the largest epoch not above the asked one"
        );
        assert_eq!(
            cache.end_offset_for(1, 33),
            Some((1, 5)),
            "below the first: that epoch and the first start"
        );
        assert_eq!(
            LeaderEpochCache::default().end_offset_for(0, 33),
            None,
            "no epochs at all"
        );
    }

    #[test]
    fn epoch_of_an_offset() {
        let cache = cache(&[(2, 5), (4, 10)]);
        assert_eq!(
            [4, 5, 9, 10, 99].map(|offset| cache.epoch_of(offset)),
            [None, Some(2), Some(2), Some(4), Some(4)]
        );
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut truncated = cache(&[(2, 5), (4, 10), (7, 20)]);
        assert!(!truncated.truncate_from_end(21));
        assert!(truncated.truncate_from_end(20));
        assert_eq!(pairs(&truncated), [(2, 5), (4, 10)]);
        assert!(truncated.truncate_from_end(0));
        assert!(truncated.entries().is_empty());

        let mut truncated = cache(&[(2, 5), (4, 10), (7, 20)]);
        assert!(!truncated.truncate_from_start(3));
        assert!(!truncated.truncate_from_start(5));
        assert!(truncated.truncate_from_start(12));
        assert_eq!(pairs(&truncated), [(4, 12), (7, 20)]);
        assert!(truncated.truncate_from_start(20));
        assert_eq!(pairs(&truncated), [(7, 20)]);
    }
}
