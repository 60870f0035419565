//! One replica of one partition: what it decides as leader, as follower, and in between.
//!
//! The replica's log, its sockets and its clock belong to the shell. The shell reports what happened
//! ([`Event`]) and performs what is decided ([`Action`]) in the order given, while it holds the one
//! short mutex of the partition. Everything that comes back later (a fetched answer, the controller's
//! answer) carries the leader epoch under which it was asked for; stale ones are dropped here.
//!
//! Rules: KIP-101 and KIP-279 (truncation by leader epoch), KIP-320 (fencing), KIP-497 (the controller
//! alters the ISR), KIP-595 (divergence found by the fetch itself).

mod leader;
mod truncation;

use std::collections::BTreeMap;
use std::sync::Arc;

use leader::{Fetched, Leader};
use truncation::truncation;
pub use truncation::{EpochEndOffset, diverging_epoch};

/// The brokers that are alive, each with its broker epoch (the czxid of its znode).
pub type LiveBrokers = BTreeMap<i32, i64>;

/// What the controller decided about a partition, as far as its replicas care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAndIsr {
    /// `None` while no replica can lead.
    pub leader: Option<i32>,
    /// Rises with every decision of the controller about leader or assignment.
    pub leader_epoch: i32,
    /// The replicas that hold every committed record.
    pub isr: Vec<i32>,
    /// The version of the partition's state znode; rises with every ISR change too.
    pub partition_epoch: i32,
    /// The assigned replicas, the preferred leader first.
    pub replicas: Vec<i32>,
}

/// What happened to a replica.
#[derive(Debug, Clone)]
pub enum Event {
    /// The controller made this replica the leader.
    BecomeLeader(LeaderAndIsr),
    /// The controller made another replica the leader, or none.
    BecomeFollower {
        /// The controller's decision.
        state: LeaderAndIsr,
        /// The newest leader epoch in the local log; `None` for a log without epochs.
        latest_epoch: Option<i32>,
    },
    /// The leader appended to its own log.
    Appended {
        /// The log end offset after it.
        log_end_offset: i64,
    },
    /// A follower asked this leader for the records from an offset on.
    FollowerFetched {
        /// Who fetched.
        replica_id: i32,
        /// The follower's broker epoch; `None` where its protocol version knows none (KIP-903).
        replica_epoch: Option<i64>,
        /// The follower's log end offset.
        fetch_offset: i64,
        /// The follower's log start offset; -1 where its protocol version tells none.
        log_start_offset: i64,
    },
    /// This follower appended what its leader answered; also for an answer without records.
    ReplicaFetched {
        /// The epoch under which it was asked for.
        leader_epoch: i32,
        /// The local log end offset after the append.
        log_end_offset: i64,
        /// The leader's high watermark.
        leader_high_watermark: i64,
        /// The leader's log start offset.
        leader_log_start_offset: i64,
    },
    /// The leader answered that this follower's log leaves its own (KIP-595).
    Diverged {
        /// The epoch under which it was asked for.
        leader_epoch: i32,
        /// The largest epoch of the leader that is not above the asked one, and where it ends.
        leader_end: EpochEndOffset,
        /// The same, of the local log, for the epoch in `leader_end`.
        local_end: Option<EpochEndOffset>,
    },
    /// The leader does not hold the offset that this follower asked for.
    OffsetOutOfRange {
        /// The epoch under which the leader stated its bounds.
        leader_epoch: i32,
        /// The leader's log start offset.
        leader_log_start_offset: i64,
        /// The leader's log end offset.
        leader_log_end_offset: i64,
    },
    /// The local log has these bounds now: after a truncation, a deletion of old segments, a start.
    LogMoved {
        /// The log start offset.
        log_start_offset: i64,
        /// The log end offset.
        log_end_offset: i64,
    },
    /// The controller answered a [`Action::RequestAlterPartition`].
    AlterPartitionAnswered {
        /// The epoch under which it was asked.
        leader_epoch: i32,
        /// The version that the request wanted to replace: of one version there is one request in flight.
        partition_epoch: i32,
        /// What became of it.
        outcome: AlterPartitionOutcome,
    },
    /// The controller published this state of the partition (UpdateMetadata).
    StatePublished {
        /// The epoch of the published leader.
        leader_epoch: i32,
        /// The version of the published state.
        partition_epoch: i32,
        /// The published ISR.
        isr: Vec<i32>,
    },
    /// Brokers came or went.
    LiveBrokersChanged(Arc<LiveBrokers>),
    /// `min.insync.replicas` of the topic changed.
    MinInsyncReplicasChanged(usize),
    /// Half of `replica.lag.time.max.ms` went by: the ISR wants to be looked at.
    CheckIsr,
}

/// The controller's answer to a request to alter the ISR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterPartitionOutcome {
    /// Written to coord.
    Committed {
        /// The ISR as written.
        isr: Vec<i32>,
        /// The version of what was written.
        partition_epoch: i32,
    },
    /// Refused, and certainly not written: a member is dead or shutting down.
    Refused,
    /// The controller knows a newer state, which it will send or has sent; whether ours was ever
    /// written is unknown.
    Superseded,
}

/// What the shell shall do. Actions of one event are performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the partition from its fetcher. Comes before any truncation.
    StopFetching,
    /// Drop every record from this offset on, then report [`Event::LogMoved`].
    Truncate {
        /// The new log end offset.
        offset: i64,
    },
    /// Drop the whole log and start anew at this offset, then report [`Event::LogMoved`].
    TruncateFully {
        /// The new log start and log end offset.
        offset: i64,
    },
    /// Delete nothing now, but serve nothing below this offset.
    RaiseLogStartOffset {
        /// The leader's log start offset.
        offset: i64,
    },
    /// Persist that this leader epoch starts here, before any record of it is appended.
    AssignEpoch {
        /// The epoch.
        leader_epoch: i32,
        /// Its first offset.
        start_offset: i64,
    },
    /// Fetch from this leader, from the local log end offset on.
    StartFetching {
        /// The source.
        leader: i32,
        /// The epoch that every request carries.
        leader_epoch: i32,
    },
    /// Ask the controller for another ISR; answered by [`Event::AlterPartitionAnswered`].
    RequestAlterPartition {
        /// The leader epoch of the asking leader.
        leader_epoch: i32,
        /// The version that the request replaces.
        partition_epoch: i32,
        /// The wanted ISR.
        new_isr: Vec<i32>,
    },
    /// Wake who waits for the high watermark.
    HighWatermarkAdvanced {
        /// The new high watermark.
        high_watermark: i64,
    },
    /// Tell who waits that this replica does not lead any more.
    LeadershipLost,
}

/// Why a request that names a leader epoch is not served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipError {
    /// Another replica leads, or none.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The sender knows an older leader epoch than this replica (KIP-320).
    #[error("the request's leader epoch is older than the partition's")]
    FencedLeaderEpoch,
    /// The sender knows a newer leader epoch than this replica (KIP-320).
    #[error("the request's leader epoch is newer than the partition's")]
    UnknownLeaderEpoch,
}

/// Why acks=all cannot be given at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{isr} replicas are in sync where min.insync.replicas asks for {required}")]
pub struct NotEnoughReplicas {
    /// The size of the ISR.
    pub isr: usize,
    /// `min.insync.replicas`, but never more than there are replicas.
    pub required: usize,
}

#[derive(Debug)]
enum Role {
    /// The controller has not spoken yet.
    Unassigned,
    Leader(Leader),
    Follower {
        leader: Option<i32>,
    },
}

/// One replica of one partition.
#[derive(Debug)]
pub struct Partition {
    local_id: i32,
    replica_lag_time_max_ms: i64,
    min_insync_replicas: usize,
    live_brokers: Arc<LiveBrokers>,
    replicas: Vec<i32>,
    leader_epoch: Option<i32>,
    partition_epoch: i32,
    log_start_offset: i64,
    log_end_offset: i64,
    high_watermark: i64,
    role: Role,
}

/// What a replica is born with.
#[derive(Debug, Clone)]
pub struct PartitionSettings {
    /// The id of this broker.
    pub local_id: i32,
    /// How long a follower may be behind before it leaves the ISR.
    pub replica_lag_time_max_ms: i64,
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: usize,
    /// Who is alive.
    pub live_brokers: Arc<LiveBrokers>,
    /// The bounds of the local log.
    pub log_start_offset: i64,
    /// The bounds of the local log.
    pub log_end_offset: i64,
    /// As checkpointed; held within the log's bounds.
    pub high_watermark: i64,
}

impl Partition {
    /// A replica about which the controller has not spoken yet.
    pub fn new(settings: PartitionSettings) -> Partition {
        let mut partition = Partition {
            local_id: settings.local_id,
            replica_lag_time_max_ms: settings.replica_lag_time_max_ms,
            min_insync_replicas: settings.min_insync_replicas,
            live_brokers: settings.live_brokers,
            replicas: Vec::new(),
            leader_epoch: None,
            partition_epoch: 0,
            log_start_offset: settings.log_start_offset,
            log_end_offset: settings.log_end_offset,
            high_watermark: settings.high_watermark,
            role: Role::Unassigned,
        };
        partition.hold_high_watermark_in_log();
        partition
    }

    /// Decides. `now_ms` is monotonic.
    pub fn handle(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::BecomeLeader(state) => self.become_leader(now_ms, state, &mut actions),
            Event::BecomeFollower {
                state,
                latest_epoch,
            } => {
                self.become_follower(state, latest_epoch, &mut actions);
            }
            Event::Appended { log_end_offset } => {
                self.log_end_offset = log_end_offset;
                self.advance_high_watermark(now_ms, &mut actions);
            }
            Event::FollowerFetched {
                replica_id,
                replica_epoch,
                fetch_offset,
                log_start_offset,
            } => {
                let fetched = Fetched {
                    replica_epoch,
                    fetch_offset,
                    log_start_offset,
                };
                self.follower_fetched(now_ms, replica_id, fetched, &mut actions);
            }
            Event::ReplicaFetched {
                leader_epoch,
                log_end_offset,
                leader_high_watermark,
                leader_log_start_offset,
            } if self.follows_under(leader_epoch) => {
                self.log_end_offset = log_end_offset;
                let high_watermark = leader_high_watermark.min(log_end_offset);
                if high_watermark > self.high_watermark {
                    self.high_watermark = high_watermark;
                    actions.push(Action::HighWatermarkAdvanced { high_watermark });
                }
                if leader_log_start_offset > self.log_start_offset {
                    actions.push(Action::RaiseLogStartOffset {
                        offset: leader_log_start_offset.min(log_end_offset),
                    });
                }
            }
            Event::Diverged {
                leader_epoch,
                leader_end,
                local_end,
            } if self.follows_under(leader_epoch) => {
                // The high watermark of that answer is not looked at: what it speaks of is truncated first
                // (KAFKA-14704). Where one cut is not enough, the next fetch diverges again.
                let offset = truncation(leader_end, local_end, self.log_end_offset);
                actions.push(if offset < self.log_start_offset {
                    Action::TruncateFully { offset }
                } else {
                    Action::Truncate { offset }
                });
            }
            Event::OffsetOutOfRange {
                leader_epoch,
                leader_log_start_offset,
                leader_log_end_offset,
            } if self.follows_under(leader_epoch) => {
                if leader_log_end_offset < self.log_end_offset {
                    actions.push(if leader_log_end_offset < self.log_start_offset {
                        Action::TruncateFully {
                            offset: leader_log_start_offset,
                        }
                    } else {
                        Action::Truncate {
                            offset: leader_log_end_offset,
                        }
                    });
                } else if leader_log_start_offset > self.log_end_offset {
                    actions.push(Action::TruncateFully {
                        offset: leader_log_start_offset,
                    });
                }
            }
            Event::LogMoved {
                log_start_offset,
                log_end_offset,
            } => {
                self.log_start_offset = log_start_offset;
                self.log_end_offset = log_end_offset;
                self.hold_high_watermark_in_log();
            }
            // Where another version is in force by now, what is pending is a later request.
            Event::AlterPartitionAnswered {
                leader_epoch,
                partition_epoch,
                outcome,
            } if self.leader_epoch == Some(leader_epoch)
                && self.partition_epoch == partition_epoch =>
            {
                self.alter_partition_answered(now_ms, outcome, &mut actions);
            }
            Event::StatePublished {
                leader_epoch,
                partition_epoch,
                isr,
            } if self.leader_epoch == Some(leader_epoch)
                && partition_epoch > self.partition_epoch =>
            {
                self.commit_isr(now_ms, isr, partition_epoch, &mut actions);
            }
            Event::LiveBrokersChanged(live_brokers) => {
                self.live_brokers = live_brokers;
                self.advance_high_watermark(now_ms, &mut actions);
            }
            Event::MinInsyncReplicasChanged(min_insync_replicas) => {
                self.min_insync_replicas = min_insync_replicas;
                self.advance_high_watermark(now_ms, &mut actions);
            }
            Event::CheckIsr => self.check_isr(now_ms, &mut actions),
            // Asked under an epoch or a version that is over.
            Event::ReplicaFetched { .. }
            | Event::Diverged { .. }
            | Event::OffsetOutOfRange { .. }
            | Event::AlterPartitionAnswered { .. }
            | Event::StatePublished { .. } => {}
        }
        actions
    }

    /// Whether a decision of the controller is newer than the one in force.
    pub fn accepts(&self, leader_epoch: i32) -> bool {
        self.leader_epoch
            .is_none_or(|current| leader_epoch > current)
    }

    /// Whether this replica leads, and under the epoch that the request names, if it names one.
    ///
    /// # Errors
    /// An epoch that differs is said before that another leads: it tells the sender who is behind (KIP-320).
    pub fn check_leader(&self, current_leader_epoch: Option<i32>) -> Result<(), LeadershipError> {
        if let (Some(asked), Some(current)) = (current_leader_epoch, self.leader_epoch) {
            if asked < current {
                return Err(LeadershipError::FencedLeaderEpoch);
            }
            if asked > current {
                return Err(LeadershipError::UnknownLeaderEpoch);
            }
        }
        if self.is_leader() {
            Ok(())
        } else {
            Err(LeadershipError::NotLeader)
        }
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<i32> {
        match self.role {
            Role::Unassigned => None,
            Role::Leader(_) => Some(self.local_id),
            Role::Follower { leader } => leader,
        }
    }

    /// The newest leader epoch that the controller told; `None` before it spoke.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    /// The version of the partition's state that is in force.
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// The assigned replicas.
    pub fn replicas(&self) -> &[i32] {
        &self.replicas
    }

    /// The offset below which every record is committed.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The least log start offset of the live replicas: below it nobody serves a record, nor will after an election
    /// (KIP-107). -1 while a live replica has not told its own; `None` where this replica does not lead.
    pub fn low_watermark(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(leader) => {
                let live = leader.log_start_offsets(&self.live_brokers);
                Some(live.fold(self.log_start_offset, i64::min))
            }
            Role::Unassigned | Role::Follower { .. } => None,
        }
    }

    /// The ISR as the controller wrote it; empty where this replica does not lead.
    pub fn isr(&self) -> &[i32] {
        match &self.role {
            Role::Leader(leader) => leader.isr(),
            Role::Unassigned | Role::Follower { .. } => &[],
        }
    }

    /// Where the epoch of this leader begins; `None` where this replica does not lead.
    pub fn leader_epoch_start_offset(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(leader) => Some(leader.epoch_start_offset()),
            Role::Unassigned | Role::Follower { .. } => None,
        }
    }

    /// Whether the ISR is smaller than the assignment, which is what "under-replicated" means.
    pub fn is_under_replicated(&self) -> bool {
        self.is_leader() && self.isr().len() < self.replicas.len()
    }

    /// Whether an append with acks=all may begin.
    ///
    /// # Errors
    /// The committed ISR is smaller than `min.insync.replicas`.
    pub fn check_enough_replicas(&self) -> Result<(), NotEnoughReplicas> {
        self.enough(self.isr().len())
    }

    /// Whether an append with acks=all that the high watermark has passed is held by enough replicas.
    ///
    /// # Errors
    /// Even with the members that are about to join, the ISR is smaller than `min.insync.replicas`.
    pub fn check_enough_replicas_after_append(&self) -> Result<(), NotEnoughReplicas> {
        self.enough(match &self.role {
            Role::Leader(leader) => leader.maximal_isr().count(),
            Role::Unassigned | Role::Follower { .. } => 0,
        })
    }

    fn enough(&self, isr: usize) -> Result<(), NotEnoughReplicas> {
        let required = self.min_insync_replicas.min(self.replicas.len());
        if isr < required {
            Err(NotEnoughReplicas { isr, required })
        } else {
            Ok(())
        }
    }

    fn follows_under(&self, leader_epoch: i32) -> bool {
        self.leader_epoch == Some(leader_epoch) && matches!(self.role, Role::Follower { .. })
    }

    fn hold_high_watermark_in_log(&mut self) {
        self.high_watermark = self
            .high_watermark
            .min(self.log_end_offset)
            .max(self.log_start_offset);
    }

    fn become_follower(
        &mut self,
        state: LeaderAndIsr,
        latest_epoch: Option<i32>,
        actions: &mut Vec<Action>,
    ) {
        if !self.accepts(state.leader_epoch) {
            return;
        }
        match self.role {
            Role::Leader(_) => actions.push(Action::LeadershipLost),
            Role::Follower { leader: Some(_) } => actions.push(Action::StopFetching),
            Role::Follower { leader: None } | Role::Unassigned => {}
        }
        self.leader_epoch = Some(state.leader_epoch);
        self.partition_epoch = state.partition_epoch;
        self.replicas = state.replicas;
        self.role = Role::Follower {
            leader: state.leader,
        };
        // Without epochs there is nothing to compare with the leader's: only what was committed stays.
        if latest_epoch.is_none() && self.log_end_offset > self.high_watermark {
            actions.push(Action::Truncate {
                offset: self.high_watermark,
            });
        }
        if let Some(leader) = state.leader {
            actions.push(Action::StartFetching {
                leader,
                leader_epoch: state.leader_epoch,
            });
        }
    }
}

#[cfg(test)]
mod tests;
