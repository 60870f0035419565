//! What a leader knows of its followers, and what follows: high watermark and ISR.

use super::{Action, AlterPartitionOutcome, LeaderAndIsr, LiveBrokers, Partition, Role};

#[derive(Debug)]
pub(super) struct Leader {
    epoch_start_offset: i64,
    isr: Vec<i32>,
    /// What the controller was asked for and has not answered yet.
    pending_isr: Option<Vec<i32>>,
    followers: Vec<Follower>,
}

/// A follower, as its fetches show it.
#[derive(Debug)]
struct Follower {
    id: i32,
    /// `None` until it fetched from this leader.
    log_end_offset: Option<i64>,
    /// `None`: never seen caught up.
    last_caught_up_ms: Option<i64>,
    last_fetch_ms: i64,
    /// The leader's log end offset when the follower fetched last.
    leader_end_at_last_fetch: i64,
    /// -1: it has not told.
    log_start_offset: i64,
}

/// What a follower says of itself when it fetches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetched {
    pub(super) replica_epoch: Option<i64>,
    pub(super) fetch_offset: i64,
    pub(super) log_start_offset: i64,
}

impl Follower {
    fn new(id: i32) -> Follower {
        Follower {
            id,
            log_end_offset: None,
            last_caught_up_ms: None,
            last_fetch_ms: 0,
            leader_end_at_last_fetch: i64::MAX,
            log_start_offset: -1,
        }
    }

    fn fetched(&mut self, now_ms: i64, fetched: Fetched, leader_end: i64) {
        let Fetched {
            fetch_offset,
            log_start_offset,
            ..
        } = fetched;
        if fetch_offset >= leader_end {
            self.last_caught_up_ms = self.last_caught_up_ms.max(Some(now_ms));
        } else if fetch_offset >= self.leader_end_at_last_fetch {
            // It holds all that the leader had when it asked last, so it was caught up then. Otherwise
            // a follower could never catch up with a leader that is always written to.
            self.last_caught_up_ms = self.last_caught_up_ms.max(Some(self.last_fetch_ms));
        }
        self.log_end_offset = Some(fetch_offset);
        self.last_fetch_ms = now_ms;
        self.leader_end_at_last_fetch = leader_end;
        self.log_start_offset = log_start_offset;
    }

    fn is_caught_up(&self, now_ms: i64, leader_end: i64, lag_time_max_ms: i64) -> bool {
        self.log_end_offset == Some(leader_end)
            || self
                .last_caught_up_ms
                .is_some_and(|at| now_ms.saturating_sub(at) <= lag_time_max_ms)
    }
}

impl Leader {
    pub(super) fn isr(&self) -> &[i32] {
        &self.isr
    }

    pub(super) fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// Where the logs of the live followers start, as far as they have told.
    pub(super) fn log_start_offsets<'a>(
        &'a self,
        live_brokers: &'a LiveBrokers,
    ) -> impl Iterator<Item = i64> + 'a {
        let followers = self.followers.iter();
        let live = followers.filter(|follower| live_brokers.contains_key(&follower.id));
        live.map(|follower| follower.log_start_offset)
    }

    /// The committed ISR and who is about to join it. A member whose removal is asked for stays until
    /// the controller has written it: another leader could still be elected from the old ISR.
    pub(super) fn maximal_isr(&self) -> impl Iterator<Item = i32> + '_ {
        let joining = self
            .pending_isr
            .iter()
            .flatten()
            .filter(|id| !self.isr.contains(id));
        self.isr.iter().chain(joining).copied()
    }

    fn waits_for(&self, id: i32) -> bool {
        self.isr.contains(&id)
            || self
                .pending_isr
                .as_ref()
                .is_some_and(|isr| isr.contains(&id))
    }
}

impl Partition {
    pub(super) fn become_leader(
        &mut self,
        now_ms: i64,
        state: LeaderAndIsr,
        actions: &mut Vec<Action>,
    ) {
        if !self.accepts(state.leader_epoch) {
            return;
        }
        if let Role::Follower { leader: Some(_) } = self.role {
            actions.push(Action::StopFetching);
        }
        // What the followers told an earlier leadership, even this replica's own, says nothing any more:
        // under an epoch that this replica never heard of they may have truncated what they had.
        let followers = state
            .replicas
            .iter()
            .filter(|&&id| id != self.local_id)
            .map(|&id| {
                let mut follower = Follower::new(id);
                // A member of the ISR gets the whole lag time to show up.
                follower.last_caught_up_ms = state.isr.contains(&id).then_some(now_ms);
                follower
            });
        let followers = followers.collect();
        self.leader_epoch = Some(state.leader_epoch);
        self.partition_epoch = state.partition_epoch;
        self.role = Role::Leader(Leader {
            epoch_start_offset: self.log_end_offset,
            isr: state.isr,
            pending_isr: None,
            followers,
        });
        self.replicas = state.replicas;
        actions.push(Action::AssignEpoch {
            leader_epoch: state.leader_epoch,
            start_offset: self.log_end_offset,
        });
        self.advance_high_watermark(now_ms, actions);
    }

    pub(super) fn follower_fetched(
        &mut self,
        now_ms: i64,
        replica_id: i32,
        fetched: Fetched,
        actions: &mut Vec<Action>,
    ) {
        let Fetched {
            replica_epoch,
            fetch_offset,
            ..
        } = fetched;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(follower) = leader
            .followers
            .iter_mut()
            .find(|follower| follower.id == replica_id)
        else {
            return;
        };
        follower.fetched(now_ms, fetched, self.log_end_offset);
        let in_sync = fetch_offset >= self.high_watermark
            // Above the high watermark is not enough for a leader that has just been elected: its high
            // watermark lags, and the follower must hold all that was committed before this epoch.
            && fetch_offset >= leader.epoch_start_offset;
        if in_sync
            && leader.pending_isr.is_none()
            && !leader.isr.contains(&replica_id)
            && is_eligible(&self.live_brokers, replica_id, replica_epoch)
        {
            let new_isr = self.replicas.iter().copied();
            let new_isr = new_isr
                .filter(|id| *id == replica_id || leader.isr.contains(id))
                .collect();
            self.request_alter_partition(new_isr, actions);
        }
        self.advance_high_watermark(now_ms, actions);
    }

    /// Members that have been behind for too long leave the ISR.
    pub(super) fn check_isr(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if leader.pending_isr.is_some() {
            return;
        }
        let (end, lag_ms) = (self.log_end_offset, self.replica_lag_time_max_ms);
        let lagging = |id: i32| {
            let follower = leader.followers.iter().find(|follower| follower.id == id);
            follower.is_some_and(|follower| !follower.is_caught_up(now_ms, end, lag_ms))
        };
        let new_isr: Vec<i32> = leader
            .isr
            .iter()
            .copied()
            .filter(|&id| !lagging(id))
            .collect();
        if new_isr.len() < leader.isr.len() {
            self.request_alter_partition(new_isr, actions);
        }
        // A follower outside of the ISR that is not caught up any more holds the high watermark no longer.
        self.advance_high_watermark(now_ms, actions);
    }

    fn request_alter_partition(&mut self, new_isr: Vec<i32>, actions: &mut Vec<Action>) {
        let (Role::Leader(leader), Some(leader_epoch)) = (&mut self.role, self.leader_epoch) else {
            return;
        };
        leader.pending_isr = Some(new_isr.clone());
        actions.push(Action::RequestAlterPartition {
            leader_epoch,
            partition_epoch: self.partition_epoch,
            new_isr,
        });
    }

    pub(super) fn alter_partition_answered(
        &mut self,
        now_ms: i64,
        outcome: AlterPartitionOutcome,
        actions: &mut Vec<Action>,
    ) {
        match outcome {
            AlterPartitionOutcome::Committed {
                isr,
                partition_epoch,
            } => {
                if partition_epoch >= self.partition_epoch {
                    self.commit_isr(now_ms, isr, partition_epoch, actions);
                }
            }
            AlterPartitionOutcome::Refused => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.pending_isr = None;
                }
                self.advance_high_watermark(now_ms, actions);
            }
            // The pending ISR may have been written: keep waiting for its members until the
            // controller's newer state arrives.
            AlterPartitionOutcome::Superseded => {}
        }
    }

    pub(super) fn commit_isr(
        &mut self,
        now_ms: i64,
        isr: Vec<i32>,
        partition_epoch: i32,
        actions: &mut Vec<Action>,
    ) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.isr = isr;
        leader.pending_isr = None;
        self.partition_epoch = partition_epoch;
        self.advance_high_watermark(now_ms, actions);
    }

    /// The least log end offset of all whom the high watermark waits for: this leader, the maximal ISR,
    /// and live replicas that are about to come into the ISR.
    pub(super) fn advance_high_watermark(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if self.check_enough_replicas().is_err() {
            return;
        }
        let (end, lag_ms) = (self.log_end_offset, self.replica_lag_time_max_ms);
        let waits_for = |follower: &Follower| {
            leader.waits_for(follower.id)
                || (follower.is_caught_up(now_ms, end, lag_ms)
                    && self.live_brokers.contains_key(&follower.id))
        };
        let followers = leader
            .followers
            .iter()
            .filter(|follower| waits_for(follower));
        let high_watermark = followers
            .map(|follower| follower.log_end_offset)
            .fold(Some(end), Ord::min);
        if let Some(high_watermark) = high_watermark
            && high_watermark > self.high_watermark
        {
            self.high_watermark = high_watermark;
            actions.push(Action::HighWatermarkAdvanced { high_watermark });
        }
    }
}

/// Whether a replica may join the ISR: its broker is alive, and it is this life of it that fetched (KIP-903).
fn is_eligible(live_brokers: &LiveBrokers, replica_id: i32, replica_epoch: Option<i64>) -> bool {
    live_brokers
        .get(&replica_id)
        .is_some_and(|epoch| replica_epoch.is_none_or(|fetched| fetched == *epoch))
}
