//! Which log is the dirtiest, how far it may be compacted, and which segments go together. Pure.

use super::source::ClosedSegment;
use crate::config::LogConfig;

/// A segment, as far as planning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSize {
    pub(crate) base_offset: i64,
    pub(crate) bytes: u64,
    pub(crate) offset_index_bytes: u64,
    pub(crate) time_index_bytes: u64,
}

impl From<&ClosedSegment> for SegmentSize {
    fn from(segment: &ClosedSegment) -> Self {
        Self {
            base_offset: segment.base_offset,
            bytes: segment.bytes,
            offset_index_bytes: segment.offset_index_bytes,
            time_index_bytes: segment.time_index_bytes,
        }
    }
}

/// How much of a log is dirty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dirtiness {
    /// All before it has been compacted.
    pub(crate) first_dirty_offset: i64,
    /// Nothing from here on may be.
    pub(crate) uncleanable_offset: i64,
    pub(crate) clean_bytes: u64,
    pub(crate) dirty_bytes: u64,
    /// `max.compaction.lag.ms` have passed since something that is dirty was written.
    pub(crate) overdue: bool,
}

impl Dirtiness {
    /// The dirty part of what compaction would read, from 0 to 1.
    pub(crate) fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 {
            return 0.0;
        }
        self.dirty_bytes as f64 / total as f64
    }

    /// Whether it is time for a compaction.
    pub(crate) fn is_due(&self, config: &LogConfig) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio() > config.min_cleanable_dirty_ratio)
    }
}

/// The first dirty offset, of a log that reaches from `start` to `end`, if `checkpointed` is on file. Beside it whether
/// that is worth a warning: what was on file cannot be.
pub(crate) fn first_dirty_offset(checkpointed: Option<i64>, start: i64, end: i64) -> (i64, bool) {
    match checkpointed {
        Some(offset) if offset > end => (start, true),
        // Retention, or a client, has raised the start.
        Some(offset) => (offset.max(start), false),
        None => (start, false),
    }
}

/// Puts segments, by rising base offset, into groups that become one segment each: so large that segments do not only get
/// smaller, and not larger than one may be. Each group is given by how many segments it has. `end_offset` is not below
/// any offset in the segments.
pub(crate) fn group(segments: &[SegmentSize], config: &LogConfig, end_offset: i64) -> Vec<usize> {
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some(first) = rest.first() {
        let mut total = *first;
        let mut count = 1;
        while let Some(next) = rest.get(count) {
            let next_end = rest
                .get(count + 1)
                .map_or(end_offset, |following| following.base_offset);
            let fits = total.bytes + next.bytes <= u64::from(config.segment_bytes)
                && total.offset_index_bytes + next.offset_index_bytes
                    <= u64::from(config.segment_index_bytes)
                && total.time_index_bytes + next.time_index_bytes
                    <= u64::from(config.segment_index_bytes)
                // An empty segment has no offsets that could be too far.
                && (next.bytes == 0
                    || next_end.saturating_sub(1).saturating_sub(first.base_offset)
                        <= i64::from(i32::MAX));
            if !fits {
                break;
            }
            total.bytes += next.bytes;
            total.offset_index_bytes += next.offset_index_bytes;
            total.time_index_bytes += next.time_index_bytes;
            count += 1;
        }
        groups.push(count);
        rest = &rest[count..];
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirtiness(clean_bytes: u64, dirty_bytes: u64, overdue: bool) -> Dirtiness {
        Dirtiness {
            first_dirty_offset: 0,
            uncleanable_offset: 100,
            clean_bytes,
            dirty_bytes,
            overdue,
        }
    }

    #[test]
    fn a_log_is_due_above_its_ratio_or_after_its_lag() {
        let config = LogConfig::default();
        assert!(!dirtiness(100, 100, false).is_due(&config), "exactly half");
        assert!(dirtiness(100, 101, false).is_due(&config));
        assert!(dirtiness(100, 1, true).is_due(&config), "overdue");
        assert!(!dirtiness(100, 0, true).is_due(&config), "nothing is dirty");
        let always = LogConfig {
            min_cleanable_dirty_ratio: 0.0,
            ..config
        };
        assert!(dirtiness(100, 1, false).is_due(&always));
        assert!(!dirtiness(0, 0, false).is_due(&always));
    }

    #[test]
    fn a_first_dirty_offset_outside_of_the_log_is_its_start() {
        assert_eq!(first_dirty_offset(None, 5, 20), (5, false));
        assert_eq!(first_dirty_offset(Some(7), 5, 20), (7, false));
        assert_eq!(first_dirty_offset(Some(20), 5, 20), (20, false));
        assert_eq!(first_dirty_offset(Some(3), 5, 20), (5, false));
        assert_eq!(first_dirty_offset(Some(21), 5, 20), (5, true));
    }

    fn segment(base_offset: i64, bytes: u64, index_bytes: u64) -> SegmentSize {
        SegmentSize {
            base_offset,
            bytes,
            offset_index_bytes: index_bytes,
            time_index_bytes: index_bytes / 8 * 12,
        }
    }

    #[test]
    fn groups_keep_to_segment_and_index_size() {
        let config = LogConfig {
            segment_bytes: 100,
            segment_index_bytes: 120,
            ..LogConfig::default()
        };
        let by_bytes: Vec<_> = [40, 60, 1, 99, 200, 1, 1]
            .into_iter()
            .zip((0..).step_by(10))
            .map(|(bytes, base_offset)| segment(base_offset, bytes, 0))
            .collect();
        assert_eq!(group(&by_bytes, &config, 70), [2, 2, 1, 2]);
        let by_index: Vec<_> = [40, 40, 8]
            .into_iter()
            .zip((0..).step_by(10))
            .map(|(bytes, base_offset)| segment(base_offset, 1, bytes))
            .collect();
        assert_eq!(
            group(&by_index, &config, 30),
            [2, 1],
            "the time index is the larger"
        );
        assert_eq!(group(&[], &config, 0), [0; 0]);
    }

    #[test]
    fn offsets_of_a_group_fit_thirty_two_bits() {
        let config = LogConfig::default();
        let far = i64::from(i32::MAX);
        let segments = [segment(0, 1, 0), segment(10, 1, 0)];
        assert_eq!(group(&segments, &config, far + 1), [2]);
        assert_eq!(group(&segments, &config, far + 2), [1, 1]);
        let followed = [segment(0, 1, 0), segment(10, 1, 0), segment(far + 2, 1, 0)];
        assert_eq!(group(&followed, &config, far + 3), [1, 2]);
        let empty = [segment(0, 1, 0), segment(10, 0, 0)];
        assert_eq!(group(&empty, &config, far + 2), [2]);
    }
}
