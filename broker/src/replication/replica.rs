//! One replica: its core, its log, and who waits for it, behind one short mutex.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker_core::partition::{
    Action, EpochEndOffset, Event, LeaderAndIsr, LeadershipError, Partition, diverging_epoch,
};
use kafka_wire::{ErrorCode, TopicPartition, Uuid};
use log::{
    AbortedTransaction, AppendError, AppendInfo, ClientBatch, FetchData, LeaderRecords, Log,
    LogError, ReadError, SharedLog,
};
use tokio::sync::Notify;

use super::clock::Clock;
use super::waiters::{FetchWaiters, OffsetWaiters, Reached, Readable};
use super::{AlterPartitionQueue, Fetchers};
use crate::clock::now_ms;

/// Stands for the high watermark where records are to be deleted.
const HIGH_WATERMARK: i64 = -1;

/// Where a replica sends what it does not do itself.
#[derive(Debug, Clone)]
pub(super) struct Effects {
    pub(super) clock: Clock,
    pub(super) fetchers: Arc<Fetchers>,
    pub(super) alter_partition: Arc<AlterPartitionQueue>,
}

/// One replica of one partition on this broker.
#[derive(Debug)]
pub struct Replica {
    topic_partition: TopicPartition,
    topic_id: Uuid,
    /// Locked after `state`, where both are.
    log: SharedLog,
    state: Mutex<State>,
    effects: Effects,
}

#[derive(Debug)]
struct State {
    core: Partition,
    produce_waiters: OffsetWaiters,
    deletion_waiters: OffsetWaiters,
    fetch_waiters: FetchWaiters,
    /// Why no request is served any more.
    ended: Option<Ended>,
}

/// Why a replica has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the log directory is offline")]
    LogFailed,
    #[error("the log is in a message format that is not served")]
    UnsupportedFormat,
    #[error("the replica was taken out of use")]
    Retired,
}

impl Ended {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::LogFailed => ErrorCode::KafkaStorageError,
            Self::UnsupportedFormat => ErrorCode::UnsupportedForMessageFormat,
            Self::Retired => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl State {
    fn check_serving(&self) -> Result<(), Ended> {
        self.ended.map_or(Ok(()), Err)
    }

    /// Tells all who wait that it is in vain here; those who wait for records come again.
    fn fail_waiters(&mut self, error: ErrorCode) {
        self.produce_waiters.fail(error);
        self.deletion_waiters.fail(error);
        self.fetch_waiters.wake_all();
    }
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error(
        "The size of the current ISR Set({isr}) is insufficient to satisfy the min.isr requirement of {required} for partition {partition}"
    )]
    NotEnoughReplicas {
        isr: usize,
        required: usize,
        partition: TopicPartition,
    },
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Records that the leader has appended.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) info: AppendInfo,
    pub(crate) log_start_offset: i64,
    /// What to wait for before the answer; `None` if nothing is to be waited for.
    pub(crate) committed: Option<Reached>,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Consumer {
        /// Only up to the last stable offset, and it must know which transactions were aborted.
        read_committed: bool,
    },
    Follower {
        replica_id: i32,
        replica_epoch: Option<i64>,
    },
}

/// What is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    pub(crate) reader: Reader,
    pub(crate) current_leader_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
    pub(crate) fetch_offset: i64,
    /// Of the follower that reads.
    pub(crate) log_start_offset: i64,
    pub(crate) max_bytes: u32,
    /// Give the first batch even if it is larger.
    pub(crate) min_one_batch: bool,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct ReadOutcome {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) records: ReadRecords,
    /// Those among the records; `None` if the reader does not ask.
    pub(crate) aborted_transactions: Option<Vec<AbortedTransaction>>,
}

#[derive(Debug)]
pub(crate) enum ReadRecords {
    Found(FetchData),
    Diverging(EpochEndOffset),
}

/// Why records are not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteRecordsError {
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    #[error("offset {offset} lies outside of 0 to {high_watermark}")]
    OffsetOutOfRange { offset: i64, high_watermark: i64 },
    #[error("the topic's cleanup.policy has no delete")]
    PolicyViolation,
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    #[error("broker {0} is no replica of the partition")]
    NotAReplica(i32),
    #[error("leader epoch {0} is unknown here")]
    UnknownEpoch(i32),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// What this follower knows when it asks its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchPosition {
    pub(super) leader_epoch: i32,
    pub(super) fetch_offset: i64,
    pub(super) last_fetched_epoch: Option<i32>,
    pub(super) log_start_offset: i64,
}

/// What the leader answered to this follower.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaderAnswer<'a> {
    pub(super) records: &'a [u8],
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
}

/// The bounds of a log and what is committed of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    pub(crate) log_start_offset: i64,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_end_offset: i64,
    /// Where the leader's epoch began.
    pub(crate) epoch_start_offset: i64,
}

impl Replica {
    pub(super) fn new(
        topic_partition: TopicPartition,
        topic_id: Uuid,
        log: SharedLog,
        core: Partition,
        effects: Effects,
    ) -> Replica {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .high_watermark_advanced(core.high_watermark());
        let state = State {
            core,
            produce_waiters: OffsetWaiters::default(),
            deletion_waiters: OffsetWaiters::default(),
            fetch_waiters: FetchWaiters::default(),
            ended: None,
        };
        Replica {
            topic_partition,
            topic_id,
            log,
            state: Mutex::new(state),
            effects,
        }
    }

    /// Which partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log itself, by which it is told from a later one of the same name.
    pub(crate) fn shared_log(&self) -> &SharedLog {
        &self.log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset below which every record is committed, as far as this replica knows.
    pub fn high_watermark(&self) -> i64 {
        self.state().core.high_watermark()
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log().log_start_offset()
    }

    /// Looks at the core.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Partition) -> T) -> T {
        look(&self.state().core)
    }

    /// Whether it serves no more.
    pub(crate) fn is_failed(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Tells the core what happened and does what it decides.
    pub(super) fn handle(self: &Arc<Self>, event: Event) {
        self.handle_locked(&mut self.state(), event);
    }

    /// The controller's decision: leader here, or follower of another.
    ///
    /// # Errors
    /// The decision is not newer than the one in force.
    pub(super) fn assign(
        self: &Arc<Self>,
        local_id: i32,
        decision: LeaderAndIsr,
    ) -> Result<(), ErrorCode> {
        let mut state = self.state();
        if state.ended.is_some() || self.log().offline().is_some() {
            self.end(&mut state, Ended::LogFailed);
            return Err(ErrorCode::KafkaStorageError);
        }
        if !state.core.accepts(decision.leader_epoch) {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        let event = if decision.leader == Some(local_id) {
            Event::BecomeLeader(decision)
        } else {
            Event::BecomeFollower {
                state: decision,
                latest_epoch: self.log().latest_epoch(),
            }
        };
        self.handle_locked(&mut state, event);
        // Who waits for records of the old leader hears of the new one.
        state.fetch_waiters.wake_all();
        match state.ended {
            Some(_) => Err(ErrorCode::KafkaStorageError),
            None => Ok(()),
        }
    }

    /// The replica ends here: who waits is told, and nothing is served any more.
    pub(super) fn retire(&self) {
        self.end(&mut self.state(), Ended::Retired);
    }

    /// The log directory is offline: the same, and who waits hears why.
    pub(super) fn log_failed(&self) {
        self.end(&mut self.state(), Ended::LogFailed);
    }

    fn end(&self, state: &mut State, why: Ended) {
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(why);
        self.effects.fetchers.stop(&self.topic_partition);
        state.fail_waiters(why.code());
    }

    /// Appends a client's records. With `acks_all` the answer waits for the high watermark.
    pub(crate) fn append_as_leader(
        self: &Arc<Self>,
        records: &mut [u8],
        acks_all: bool,
    ) -> Result<Produced, ProduceError> {
        let batch = self.prepare(records, acks_all)?;
        self.append_prepared(batch, acks_all)
    }

    /// The first half of an append, for which nobody else waits: records are decompressed.
    fn prepare<'a>(
        &self,
        records: &'a mut [u8],
        acks_all: bool,
    ) -> Result<ClientBatch<'a>, ProduceError> {
        let config = {
            let state = self.state();
            self.check_may_append(&state, acks_all)?;
            self.log().shared_config()
        };
        let batch = log::prepare(records, &config, &self.topic_partition, now_ms())?;
        Ok(batch)
    }

    /// Appends what was prepared. All may be different by now, and is asked anew.
    fn append_prepared(
        self: &Arc<Self>,
        batch: ClientBatch<'_>,
        acks_all: bool,
    ) -> Result<Produced, ProduceError> {
        let mut state = self.state();
        self.check_may_append(&state, acks_all)?;
        let leader_epoch = state.core.leader_epoch().unwrap_or_default();
        let (appended, log_start_offset, log_end_offset) = {
            let mut log = self.log();
            let appended = log.append_prepared(batch, leader_epoch, now_ms());
            (appended, log.log_start_offset(), log.log_end_offset())
        };
        let info = match appended {
            Ok(info) => info,
            Err(error) => {
                if let AppendError::Log(cause) = &error {
                    self.end_if_out_of_use(&mut state, cause);
                }
                return Err(error.into());
            }
        };
        if !info.duplicate {
            self.handle_locked(&mut state, Event::Appended { log_end_offset });
            state.fetch_waiters.wake(Readable::Appended);
        }
        // A retry of what was appended before waits like the first try did: it may not be committed yet.
        let committed = (acks_all).then(|| state.produce_waiters.wait_for(info.last_offset + 1));
        if acks_all && state.core.high_watermark() > info.last_offset {
            Self::answer_produce_waiters(&mut state);
        }
        Ok(Produced {
            info,
            log_start_offset,
            committed,
        })
    }

    /// Whether a client's records may be taken in as things are.
    fn check_may_append(&self, state: &State, acks_all: bool) -> Result<(), ProduceError> {
        state.check_serving()?;
        state.core.check_leader(None)?;
        if acks_all && let Err(not_enough) = state.core.check_enough_replicas() {
            let partition = self.topic_partition.clone();
            let (isr, required) = (not_enough.isr, not_enough.required);
            return Err(ProduceError::NotEnoughReplicas {
                isr,
                required,
                partition,
            });
        }
        Ok(())
    }

    /// Serves nothing below `offset` any more, or below the high watermark if it is -1. The offset, and what to wait for
    /// before the answer: until then another replica that is elected would serve what lies below.
    pub(crate) fn delete_records(
        self: &Arc<Self>,
        offset: i64,
    ) -> Result<(i64, Reached), DeleteRecordsError> {
        let mut state = self.state();
        state.check_serving()?;
        state.core.check_leader(None)?;
        let high_watermark = state.core.high_watermark();
        let offset = if offset == HIGH_WATERMARK {
            high_watermark
        } else {
            offset
        };
        let raised = {
            let mut log = self.log();
            if !log.config().delete {
                return Err(DeleteRecordsError::PolicyViolation);
            }
            if !(0..=high_watermark).contains(&offset) {
                return Err(DeleteRecordsError::OffsetOutOfRange {
                    offset,
                    high_watermark,
                });
            }
            log.raise_log_start_offset(offset)
        };
        match raised {
            Ok(true) => {
                tracing::info!(partition = %self.topic_partition, log_start_offset = offset, "records deleted for a client");
            }
            Ok(false) => {}
            Err(error) => {
                self.end_if_out_of_use(&mut state, &error);
                return Err(error.into());
            }
        }
        let reached = state.deletion_waiters.wait_for(offset);
        self.log_moved(&mut state);
        Ok((offset, reached))
    }

    /// Reads as a leader for a consumer or a follower; a follower's position is noted.
    pub(crate) fn read(self: &Arc<Self>, request: &ReadRequest) -> Result<ReadOutcome, FetchError> {
        let mut state = self.state();
        state.check_serving()?;
        state.core.check_leader(request.current_leader_epoch)?;
        if let Reader::Follower { replica_id, .. } = request.reader
            && !state.core.replicas().contains(&replica_id)
        {
            return Err(FetchError::NotAReplica(replica_id));
        }
        let log = self.log();
        let log_start_offset = log.log_start_offset();
        if let Some(epoch) = request.last_fetched_epoch {
            let (leader_epoch, end_offset) = log
                .end_offset_for_epoch(epoch)
                .ok_or(FetchError::UnknownEpoch(epoch))?;
            let leader_end = EpochEndOffset {
                leader_epoch,
                end_offset,
            };
            if let Some(diverging) = diverging_epoch(epoch, request.fetch_offset, leader_end) {
                let high_watermark = state.core.high_watermark();
                return Ok(ReadOutcome {
                    high_watermark,
                    last_stable_offset: log.last_stable_offset(high_watermark),
                    log_start_offset,
                    records: ReadRecords::Diverging(diverging),
                    aborted_transactions: None,
                });
            }
        }
        let last_stable_offset = log.last_stable_offset(state.core.high_watermark());
        let (up_to_offset, read_committed) = match request.reader {
            Reader::Consumer {
                read_committed: false,
            } => (state.core.high_watermark(), false),
            Reader::Consumer {
                read_committed: true,
            } => (last_stable_offset, true),
            Reader::Follower { .. } => (i64::MAX, false),
        };
        let data = log.read(
            request.fetch_offset,
            request.max_bytes,
            up_to_offset,
            request.min_one_batch,
        )?;
        let aborted_transactions = match read_committed {
            true => Some(log.aborted_transactions_of(
                &data,
                request.fetch_offset,
                last_stable_offset,
            )?),
            false => None,
        };
        drop(log);
        if let Reader::Follower {
            replica_id,
            replica_epoch,
        } = request.reader
        {
            let event = Event::FollowerFetched {
                replica_id,
                replica_epoch,
                fetch_offset: request.fetch_offset,
                log_start_offset: request.log_start_offset,
            };
            self.handle_locked(&mut state, event);
        }
        Ok(ReadOutcome {
            high_watermark: state.core.high_watermark(),
            last_stable_offset,
            log_start_offset,
            records: ReadRecords::Found(data),
            aborted_transactions,
        })
    }

    /// Wakes the fetch once when there is more for it.
    pub(crate) fn wait_for_records(&self, waiter: &Arc<Notify>, wanted: Readable) {
        self.state().fetch_waiters.wait(waiter, wanted);
    }

    /// The bounds that a leader states.
    pub(crate) fn offsets(&self, current_leader_epoch: Option<i32>) -> Result<Offsets, FetchError> {
        let state = self.state();
        state.check_serving()?;
        state.core.check_leader(current_leader_epoch)?;
        let log = self.log();
        let high_watermark = state.core.high_watermark();
        Ok(Offsets {
            log_start_offset: log.log_start_offset(),
            high_watermark,
            last_stable_offset: log.last_stable_offset(high_watermark),
            log_end_offset: log.log_end_offset(),
            epoch_start_offset: state.core.leader_epoch_start_offset().unwrap_or_default(),
        })
    }

    /// From where to fetch; `None` unless this replica still follows under that epoch.
    pub(super) fn fetch_position(&self, leader_epoch: i32) -> Option<FetchPosition> {
        let state = self.state();
        if state.ended.is_some() || !follows(&state.core, leader_epoch) {
            return None;
        }
        let log = self.log();
        Some(FetchPosition {
            leader_epoch,
            fetch_offset: log.log_end_offset(),
            last_fetched_epoch: log.latest_epoch(),
            log_start_offset: log.log_start_offset(),
        })
    }

    /// Takes in what the leader answered to a fetch from `position`. An answer to another position or
    /// epoch than today's is dropped. Whether the position is another now, which the leader has to be told.
    pub(super) fn append_as_follower(
        self: &Arc<Self>,
        position: &FetchPosition,
        answer: LeaderAnswer<'_>,
    ) -> Result<bool, AppendError> {
        // Nobody waits while checksums are computed.
        let records = match answer.records {
            [] => None,
            bytes => Some(LeaderRecords::parse(bytes)),
        };
        let mut state = self.state();
        let mut log = self.log();
        if !follows(&state.core, position.leader_epoch)
            || log.log_end_offset() != position.fetch_offset
        {
            return Ok(true);
        }
        if let Some(records) = records
            && let Err(error) = records.and_then(|records| log.append_parsed(&records, now_ms()))
        {
            drop(log);
            if let AppendError::Log(cause) = &error {
                self.end_if_out_of_use(&mut state, cause);
            }
            return Err(error);
        }
        let log_end_offset = log.log_end_offset();
        drop(log);
        let event = Event::ReplicaFetched {
            leader_epoch: position.leader_epoch,
            log_end_offset,
            leader_high_watermark: answer.high_watermark,
            leader_log_start_offset: answer.log_start_offset,
        };
        self.handle_locked(&mut state, event);
        let log_start_offset = self.log().log_start_offset();
        Ok(
            (log_end_offset, log_start_offset)
                != (position.fetch_offset, position.log_start_offset),
        )
    }

    /// The leader says where the logs part.
    pub(super) fn diverged(self: &Arc<Self>, leader_epoch: i32, leader_end: EpochEndOffset) {
        let mut state = self.state();
        let local_end = self.log().end_offset_for_epoch(leader_end.leader_epoch);
        let local_end = local_end.map(|(leader_epoch, end_offset)| EpochEndOffset {
            leader_epoch,
            end_offset,
        });
        tracing::info!(partition = %self.topic_partition, ?leader_end, ?local_end, "the log parts from the leader's");
        self.handle_locked(
            &mut state,
            Event::Diverged {
                leader_epoch,
                leader_end,
                local_end,
            },
        );
    }

    fn handle_locked(self: &Arc<Self>, state: &mut State, event: Event) {
        if state.ended.is_some() {
            return;
        }
        let actions = state.core.handle(self.effects.clock.now_ms(), event);
        for action in actions {
            if let Err(error) = self.perform(state, action) {
                self.log_failed_by(state, &error);
                return;
            }
        }
        if let Some(low_watermark) = state.core.low_watermark() {
            state.deletion_waiters.reached(low_watermark, Ok(()));
        }
    }

    fn perform(self: &Arc<Self>, state: &mut State, action: Action) -> Result<(), LogError> {
        match action {
            Action::StopFetching => self.effects.fetchers.stop(&self.topic_partition),
            Action::Truncate { offset } => {
                let mut log = self.log();
                let before = log.log_end_offset();
                log.truncate_to(offset, now_ms())?;
                let after = log.log_end_offset();
                drop(log);
                if after < before {
                    tracing::info!(partition = %self.topic_partition, before, after, "log truncated");
                }
                self.log_moved(state);
            }
            Action::TruncateFully { offset } => {
                tracing::warn!(partition = %self.topic_partition, offset, "log dropped: it has nothing of the leader's");
                self.log().truncate_fully_and_start_at(offset, now_ms())?;
                self.log_moved(state);
            }
            Action::RaiseLogStartOffset { offset } => {
                self.log().raise_log_start_offset(offset)?;
                self.log_moved(state);
            }
            Action::AssignEpoch {
                leader_epoch,
                start_offset,
            } => {
                self.log().assign_epoch(leader_epoch, start_offset)?;
            }
            Action::StartFetching {
                leader,
                leader_epoch,
            } => {
                self.effects
                    .fetchers
                    .start(self.clone(), leader, leader_epoch);
            }
            Action::RequestAlterPartition {
                leader_epoch,
                partition_epoch,
                new_isr,
            } => {
                self.effects.alter_partition.put(
                    self.clone(),
                    leader_epoch,
                    partition_epoch,
                    new_isr,
                );
            }
            Action::HighWatermarkAdvanced { high_watermark } => {
                self.log().high_watermark_advanced(high_watermark);
                Self::answer_produce_waiters(state);
                state.fetch_waiters.wake(Readable::Committed);
            }
            Action::LeadershipLost => {
                state.fail_waiters(ErrorCode::NotLeaderOrFollower);
            }
        }
        Ok(())
    }

    fn log_moved(self: &Arc<Self>, state: &mut State) {
        let (log_start_offset, log_end_offset) = {
            let mut log = self.log();
            // What a truncation leaves was read again, and what of it is committed still is.
            log.high_watermark_advanced(state.core.high_watermark());
            (log.log_start_offset(), log.log_end_offset())
        };
        self.handle_locked(
            state,
            Event::LogMoved {
                log_start_offset,
                log_end_offset,
            },
        );
    }

    /// Lets the segments go that retention or the log's start condemn.
    pub(super) fn delete_old_segments(self: &Arc<Self>) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        let high_watermark = state.core.high_watermark();
        let deleted = self.log().delete_old_segments(high_watermark, now_ms());
        match deleted {
            Ok(0) => {}
            Ok(_) => self.log_moved(&mut state),
            Err(error) => {
                self.end_if_out_of_use(&mut state, &error);
                if state.ended.is_none() {
                    tracing::warn!(partition = %self.topic_partition, %error, "not all old segments are deleted, trying again later");
                    // Some of them may be.
                    self.log_moved(&mut state);
                }
            }
        }
    }

    fn answer_produce_waiters(state: &mut State) {
        let enough = state.core.check_enough_replicas_after_append();
        let outcome = enough.map_err(|_| ErrorCode::NotEnoughReplicasAfterAppend);
        state
            .produce_waiters
            .reached(state.core.high_watermark(), outcome);
    }

    /// After an error that leaves the log as good as it was, as when no more files could be opened, the replica goes on, and
    /// what failed may be tried again.
    fn end_if_out_of_use(&self, state: &mut State, error: &LogError) {
        if self.log().is_out_of_use() {
            self.log_failed_by(state, error);
        }
    }

    fn log_failed_by(&self, state: &mut State, error: &LogError) {
        if state.ended.is_none() {
            tracing::error!(partition = %self.topic_partition, %error, "the log has failed, the replica stops");
        }
        self.end(
            state,
            match error {
                LogError::UnsupportedFormat(_) => Ended::UnsupportedFormat,
                _ => Ended::LogFailed,
            },
        );
    }
}

fn follows(core: &Partition, leader_epoch: i32) -> bool {
    !core.is_leader() && core.leader_epoch() == Some(leader_epoch)
}

#[cfg(test)]
mod tests;
