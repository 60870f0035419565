//! Compaction: of each key a log keeps the last record.
//!
//! A round takes one log. It reads the dirty part, which no round has read yet, and notes for each key the offset of its
//! last record, in memory of a fixed size ([`offset_map`]); when that is full, the round ends there. Then it reads the log
//! from its start to there and writes what is left ([`filter`]), several small segments into one ([`plan`]), which takes
//! their place in one step that survives a power cut at any moment (`log/swap.rs`).
//!
//! What is decided is apart from what is done: `plan`, `filter`, `transactions` and `offset_map` know no file. The log's
//! lock is taken to begin, to swap and to end, never while a segment is read: whatever cuts the log meanwhile, deletes it
//! or some of its segments need not wait, for its swap is refused then (KAFKA-6568, KAFKA-7278, KAFKA-7322).

mod filter;
mod offset_map;
mod output;
pub(crate) mod plan;
mod round;
pub(crate) mod source;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kafka_wire::TopicPartition;

use self::filter::Filter;
pub(crate) use self::filter::LastRecord;
use self::plan::SegmentSize;
pub(crate) use self::round::RoundInput;
pub use self::round::{CleanerBuffers, CleaningStats};
use crate::error::LogError;
use crate::file_system::{Attempt, StorageError};
use crate::log::Log;
use crate::manager::{LogManager, SharedLog};

/// Who runs a compaction says how fast it goes, and when it is to end.
pub trait Pace {
    /// So many bytes were read or written. Returns when it may go on; a break ends the compaction, which leaves the log as
    /// it is.
    fn advance(&mut self, bytes: u64) -> ControlFlow<()>;

    /// The dirty part is read, and what is left is going to be written.
    fn keys_are_read(&mut self) {}
}

/// Why a compaction came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    /// Whoever runs it has ended it.
    #[error("the compaction was ended")]
    Stopped,
    /// The log was cut, deleted, or lost segments to its retention.
    #[error("the log changed meanwhile")]
    Stale,
    /// Not even one batch's keys fit.
    #[error(
        "the keys of one record batch do not fit log.cleaner.dedupe.buffer.size: raise it, or lower log.cleaner.threads"
    )]
    MapTooSmall,
    /// The log is damaged, or the disk is.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for CleanError {
    fn from(error: StorageError) -> Self {
        Self::Log(error.into())
    }
}

#[derive(Debug, Default)]
struct State {
    in_progress: BTreeSet<TopicPartition>,
    /// Logs that met an error: they are left alone until they are opened anew.
    uncleanable: BTreeMap<TopicPartition, Weak<Mutex<Log>>>,
}

/// Compacts the logs of a broker whose `cleanup.policy` has it so. Several threads may ask it for work.
#[derive(Debug)]
pub struct Cleaner {
    logs: Arc<LogManager>,
    state: Mutex<State>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cleaner {
    /// Of these logs.
    pub fn new(logs: Arc<LogManager>) -> Self {
        Self {
            logs,
            state: Mutex::default(),
        }
    }

    /// The partitions that are not compacted any more, because of an error that was logged.
    pub fn uncleanable(&self) -> Vec<TopicPartition> {
        locked(&self.state).uncleanable.keys().cloned().collect()
    }

    /// Takes on the dirtiest log of all that are due; `None` if none is. `high_watermark` knows that of a partition, and
    /// `None` of one that has none yet.
    pub fn begin(
        &self,
        now_ms: i64,
        high_watermark: &dyn Fn(&TopicPartition) -> Option<i64>,
    ) -> Option<Cleaning<'_>> {
        loop {
            let (partition, shared, high_watermark) = self.dirtiest(now_ms, high_watermark)?;
            if !locked(&self.state).in_progress.insert(partition.clone()) {
                // Another thread was faster: it has that log, and there may be others.
                continue;
            }
            let begun = locked(&shared).begin_round(high_watermark, now_ms);
            if let Ok(Some(round)) = begun {
                return Some(Cleaning {
                    cleaner: self,
                    partition,
                    log: shared,
                    round,
                    now_ms,
                });
            }
            locked(&self.state).in_progress.remove(&partition);
            // It is passed over from now on, and there may be others.
            if let Err(error) = begun {
                self.give_up(&partition, &shared, &error.into());
            }
        }
    }

    /// The dirtiest of the logs that are due and that nobody compacts, and its high watermark.
    fn dirtiest(
        &self,
        now_ms: i64,
        high_watermark: &dyn Fn(&TopicPartition) -> Option<i64>,
    ) -> Option<(TopicPartition, SharedLog, i64)> {
        let mut dirtiest: Option<(f64, TopicPartition, SharedLog, i64)> = None;
        for (partition, shared) in self.logs.all() {
            if !locked(&shared).config().compact || !self.may_clean(&partition, &shared) {
                continue;
            }
            let Some(high_watermark) = high_watermark(&partition) else {
                continue;
            };
            let mut log = locked(&shared);
            if log.is_out_of_use() {
                continue;
            }
            match log.dirtiness(high_watermark, now_ms) {
                Ok(dirtiness) if dirtiness.is_due(log.config()) => {
                    let ratio = dirtiness.ratio();
                    if dirtiest.as_ref().is_none_or(|(most, ..)| *most < ratio) {
                        drop(log);
                        dirtiest = Some((ratio, partition, shared, high_watermark));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    drop(log);
                    self.give_up(&partition, &shared, &error.into());
                }
            }
        }
        dirtiest.map(|(_, partition, shared, high_watermark)| (partition, shared, high_watermark))
    }

    fn may_clean(&self, partition: &TopicPartition, log: &SharedLog) -> bool {
        let mut state = locked(&self.state);
        if let Some(failed) = state.uncleanable.get(partition) {
            if std::ptr::eq(failed.as_ptr(), Arc::as_ptr(log)) {
                return false;
            }
            // Another log has the name now.
            state.uncleanable.remove(partition);
        }
        !state.in_progress.contains(partition)
    }

    /// Leaves the log alone from now on, and says so once. One that is out of use has said why.
    fn give_up(&self, partition: &TopicPartition, log: &SharedLog, error: &CleanError) {
        if locked(log).is_out_of_use() {
            return;
        }
        let before = locked(&self.state)
            .uncleanable
            .insert(partition.clone(), Arc::downgrade(log));
        if before.is_none() {
            tracing::error!(%partition, %error, "the log is not compacted until the broker starts anew");
        }
    }
}

/// One log's compaction. While it is there, nobody else compacts the log.
#[derive(Debug)]
pub struct Cleaning<'a> {
    cleaner: &'a Cleaner,
    partition: TopicPartition,
    log: SharedLog,
    round: RoundInput,
    now_ms: i64,
}

impl Drop for Cleaning<'_> {
    fn drop(&mut self) {
        locked(&self.cleaner.state)
            .in_progress
            .remove(&self.partition);
    }
}

impl Cleaning<'_> {
    /// Whose log it is.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Compacts the log, if nothing comes in between. `None` if it was ended, if the log changed underneath it, or if it met
    /// an error, which is logged; the log is compacted no more then.
    pub fn run(self, buffers: &mut CleanerBuffers, pace: &mut dyn Pace) -> Option<CleaningStats> {
        match self.try_run(buffers, pace) {
            Ok(stats) => Some(stats),
            Err(CleanError::Stopped | CleanError::Stale) => None,
            // A segment that was cut ends before its time.
            Err(_) if locked(&self.log).was_cut_since(self.round.truncations) => None,
            Err(error) => {
                self.cleaner.give_up(&self.partition, &self.log, &error);
                None
            }
        }
    }

    fn try_run(
        &self,
        buffers: &mut CleanerBuffers,
        pace: &mut dyn Pace,
    ) -> Result<CleaningStats, CleanError> {
        let round = &self.round;
        let mut stats = CleaningStats::default();
        let end_offset = round.build_map(buffers, &mut stats, pace)?;
        pace.keys_are_read();

        let segments: Vec<_> = round
            .segments
            .iter()
            .take_while(|segment| segment.base_offset < end_offset)
            .cloned()
            .collect();
        let sizes: Vec<SegmentSize> = segments.iter().map(SegmentSize::from).collect();
        let rules = round.rules(self.now_ms);
        let (map, (input, output)) = buffers.parts();
        let mut filter = Filter::new(map, &rules, round.aborted.clone());
        let mut rest = &segments[..];
        for count in plan::group(&sizes, &round.config, round.dirtiness.uncleanable_offset) {
            let (group, later) = rest.split_at(count);
            rest = later;
            let swapped = round
                .rewrite(group, &mut filter, (input, output), &mut stats, pace)
                .and_then(|()| {
                    let mut log = locked(&self.log);
                    match log.swap_in(group, round.truncations, self.now_ms)? {
                        true => Ok(()),
                        false => Err(CleanError::Stale),
                    }
                });
            if let Err(error) = swapped {
                round.discard(group);
                return Err(error);
            }
        }
        stats.count(filter.counts);
        // The swaps reach the disk before it says that they were made.
        round
            .fs
            .sync_directory(&round.directory)
            .attempt("sync", &round.directory)?;
        let directory = {
            let mut log = locked(&self.log);
            if !log.finish_round(end_offset, round.truncations) {
                return Err(CleanError::Stale);
            }
            log.log_directory().clone()
        };
        directory.write_cleaner_offsets()?;
        Ok(stats)
    }
}
