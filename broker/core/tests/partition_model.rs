//! Three replicas with plain vectors for logs, a controller, and messages that are late: whatever
//! order things happen in, what design.md says must never be, is not.
//!
//! - An acknowledged record is in the log of every later leader, and of everyone who could be one.
//! - The high watermark of a replica never goes back under one leader epoch.
//! - Two replicas hold the same records below both high watermarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::partition::{
    Action, AlterPartitionOutcome, EpochEndOffset, Event, LeaderAndIsr, LiveBrokers, Partition,
    PartitionSettings, diverging_epoch,
};
use proptest::prelude::*;

const BROKERS: [i32; 3] = [1, 2, 3];
const LAG_MS: i64 = 100;

/// Epoch under which it was written, and a number that no other record has.
type Record = (i32, u32);

#[derive(Debug, Clone, Copy)]
enum Step {
    Append(usize),
    /// A whole round trip; the three steps below are the same with other things in between.
    Fetch(usize),
    SendFetch(usize),
    AnswerFetch(usize),
    ReceiveFetch(usize),
    ReceiveLeaderAndIsr(usize),
    AllReceiveLeaderAndIsr,
    ControllerAltersPartition,
    ReceiveAlterPartition,
    /// It may overtake the answer to AlterPartition.
    ReceiveUpdateMetadata(usize),
    Elect(usize),
    /// The leader misses that another one led, was fetched from, and died.
    LeadMeanwhile(usize),
    Crash(usize),
    Restart(usize),
    Wait(i64),
    CheckIsr(usize),
    CheckpointHighWatermark(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let broker = || 0..BROKERS.len();
    prop_oneof![
        6 => broker().prop_map(Step::Append),
        10 => broker().prop_map(Step::Fetch),
        2 => broker().prop_map(Step::SendFetch),
        2 => broker().prop_map(Step::AnswerFetch),
        2 => broker().prop_map(Step::ReceiveFetch),
        3 => broker().prop_map(Step::ReceiveLeaderAndIsr),
        2 => Just(Step::AllReceiveLeaderAndIsr),
        3 => Just(Step::ControllerAltersPartition),
        3 => Just(Step::ReceiveAlterPartition),
        3 => broker().prop_map(Step::ReceiveUpdateMetadata),
        3 => broker().prop_map(Step::Elect),
        6 => broker().prop_map(Step::LeadMeanwhile),
        1 => broker().prop_map(Step::Crash),
        5 => broker().prop_map(Step::Restart),
        2 => (1..LAG_MS * 2).prop_map(Step::Wait),
        2 => broker().prop_map(Step::CheckIsr),
        1 => broker().prop_map(Step::CheckpointHighWatermark),
    ]
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Record>,
    /// (epoch, first offset)
    epochs: Vec<(i32, usize)>,
}

impl Log {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }

    fn assign_epoch(&mut self, epoch: i32, start: usize) {
        self.epochs.retain(|&(e, s)| e < epoch && s < start);
        self.epochs.push((epoch, start));
    }

    fn append(&mut self, record: Record) {
        if self
            .epochs
            .last()
            .is_none_or(|&(epoch, _)| epoch < record.0)
        {
            self.assign_epoch(record.0, self.records.len());
        }
        self.records.push(record);
    }

    fn truncate(&mut self, offset: i64) {
        self.records.truncate(offset as usize);
        self.epochs.retain(|&(_, start)| (start as i64) < offset);
    }

    fn end_of_epoch(&self, epoch: i32) -> Option<EpochEndOffset> {
        if self.epochs.last().is_none_or(|&(latest, _)| epoch > latest) {
            return None;
        }
        let at = self.epochs.partition_point(|&(e, _)| e <= epoch);
        let end_offset = self
            .epochs
            .get(at)
            .map_or(self.end(), |&(_, start)| start as i64);
        let leader_epoch = at.checked_sub(1).map_or(epoch, |at| self.epochs[at].0);
        Some(EpochEndOffset {
            leader_epoch,
            end_offset,
        })
    }
}

#[derive(Debug, Clone)]
struct FetchRequest {
    leader_epoch: i32,
    offset: i64,
    last_fetched_epoch: Option<i32>,
}

#[derive(Debug, Clone)]
enum FetchAnswer {
    Records {
        records: Vec<Record>,
        high_watermark: i64,
    },
    Diverging(EpochEndOffset),
    OutOfRange {
        end: i64,
    },
}

#[derive(Debug)]
struct Replica {
    alive: bool,
    log: Log,
    checkpointed_high_watermark: i64,
    core: Partition,
    fetching_from: Option<(i32, i32)>,
    request: Option<(i32, FetchRequest)>,
    answer: Option<(FetchRequest, FetchAnswer)>,
}

#[derive(Debug, Clone)]
struct AlterRequest {
    broker: i32,
    leader_epoch: i32,
    partition_epoch: i32,
    new_isr: Vec<i32>,
}

struct Cluster {
    now_ms: i64,
    next_record: u32,
    replicas: Vec<Replica>,
    state: LeaderAndIsr,
    undelivered: Vec<Option<LeaderAndIsr>>,
    alter_request: Vec<AlterRequest>,
    alter_answer: Vec<(AlterRequest, AlterPartitionOutcome)>,
    acked: BTreeMap<i64, Record>,
}

fn core(local_id: i32, live: Arc<LiveBrokers>, end: i64, high_watermark: i64) -> Partition {
    Partition::new(PartitionSettings {
        local_id,
        replica_lag_time_max_ms: LAG_MS,
        min_insync_replicas: 1,
        live_brokers: live,
        log_start_offset: 0,
        log_end_offset: end,
        high_watermark,
    })
}

impl Cluster {
    fn new() -> Cluster {
        let state = LeaderAndIsr {
            leader: Some(1),
            leader_epoch: 0,
            isr: BROKERS.to_vec(),
            partition_epoch: 0,
            replicas: BROKERS.to_vec(),
        };
        let live: Arc<LiveBrokers> = Arc::new(BROKERS.iter().map(|&id| (id, 0)).collect());
        let replica = |&id: &i32| Replica {
            alive: true,
            log: Log::default(),
            checkpointed_high_watermark: 0,
            core: core(id, live.clone(), 0, 0),
            fetching_from: None,
            request: None,
            answer: None,
        };
        Cluster {
            now_ms: 0,
            next_record: 0,
            replicas: BROKERS.iter().map(replica).collect(),
            undelivered: vec![Some(state.clone()); BROKERS.len()],
            state,
            alter_request: Vec::new(),
            alter_answer: Vec::new(),
            acked: BTreeMap::new(),
        }
    }

    fn live(&self) -> Arc<LiveBrokers> {
        Arc::new(
            BROKERS
                .iter()
                .filter(|&&id| self.replicas[at(id)].alive)
                .map(|&id| (id, 0))
                .collect(),
        )
    }

    fn tell(&mut self, broker: usize, event: Event) {
        let before = (
            self.replicas[broker].core.leader_epoch(),
            self.replicas[broker].core.high_watermark(),
        );
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.replicas[broker].core.handle(self.now_ms, event) {
                self.perform(broker, action, &mut events);
            }
        }
        let replica = &self.replicas[broker];
        if before.0 == replica.core.leader_epoch() && replica.core.is_leader() {
            assert!(
                replica.core.high_watermark() >= before.1,
                "high watermark went back"
            );
        }
        assert!(replica.core.high_watermark() <= replica.log.end());
    }

    fn perform(&mut self, broker: usize, action: Action, events: &mut Vec<Event>) {
        let replica = &mut self.replicas[broker];
        match action {
            Action::StopFetching => replica.fetching_from = None,
            Action::Truncate { offset } | Action::TruncateFully { offset } => {
                replica.log.truncate(offset);
                events.push(Event::LogMoved {
                    log_start_offset: 0,
                    log_end_offset: replica.log.end(),
                });
            }
            Action::AssignEpoch {
                leader_epoch,
                start_offset,
            } => {
                replica
                    .log
                    .assign_epoch(leader_epoch, start_offset as usize);
            }
            Action::StartFetching {
                leader,
                leader_epoch,
            } => replica.fetching_from = Some((leader, leader_epoch)),
            Action::RequestAlterPartition {
                leader_epoch,
                partition_epoch,
                new_isr,
            } => {
                let broker = BROKERS[broker];
                self.alter_request.push(AlterRequest {
                    broker,
                    leader_epoch,
                    partition_epoch,
                    new_isr,
                });
            }
            Action::HighWatermarkAdvanced { high_watermark } => {
                if replica.core.is_leader()
                    && replica.core.check_enough_replicas_after_append().is_ok()
                {
                    for offset in 0..high_watermark {
                        let record = replica.log.records[offset as usize];
                        assert_eq!(
                            *self.acked.entry(offset).or_insert(record),
                            record,
                            "acknowledged twice"
                        );
                    }
                }
            }
            Action::RaiseLogStartOffset { .. } => {
                unreachable!("no log of the model starts above 0")
            }
            Action::LeadershipLost => {}
        }
    }

    /// The controller: a new leader from the ISR if the old one is gone, epoch + 1, sent to all.
    fn elect(&mut self, preferred: usize) {
        let alive = |id: &i32| self.replicas[at(*id)].alive;
        let isr: Vec<i32> = self.state.isr.iter().copied().filter(alive).collect();
        let preferred = BROKERS[preferred];
        self.state.leader = if isr.contains(&preferred) {
            Some(preferred)
        } else {
            isr.first().copied()
        };
        if !isr.is_empty() {
            self.state.isr = isr;
        }
        self.state.leader_epoch += 1;
        self.state.partition_epoch += 1;
        self.undelivered = vec![Some(self.state.clone()); BROKERS.len()];
        let live = self.live();
        for broker in 0..BROKERS.len() {
            if self.replicas[broker].alive {
                self.tell(broker, Event::LiveBrokersChanged(live.clone()));
            }
        }
    }

    fn crash(&mut self, broker: usize) {
        self.replicas[broker].alive = false;
        self.replicas[broker].fetching_from = None;
    }

    fn answer_fetch(&mut self, follower: usize) {
        let Some((leader, request)) = self.replicas[follower].request.take() else {
            return;
        };
        let source = &self.replicas[at(leader)];
        if !source.alive
            || source
                .core
                .check_leader(Some(request.leader_epoch))
                .is_err()
        {
            return;
        }
        let epoch_end = request
            .last_fetched_epoch
            .and_then(|epoch| source.log.end_of_epoch(epoch));
        let diverging = request.last_fetched_epoch.zip(epoch_end);
        let diverging =
            diverging.and_then(|(epoch, end)| diverging_epoch(epoch, request.offset, end));
        let answer = if let Some(end) = diverging {
            FetchAnswer::Diverging(end)
        } else if request.offset > source.log.end() {
            FetchAnswer::OutOfRange {
                end: source.log.end(),
            }
        } else {
            let replica_id = BROKERS[follower];
            let event = Event::FollowerFetched {
                replica_id,
                replica_epoch: None,
                fetch_offset: request.offset,
                log_start_offset: 0,
            };
            self.tell(at(leader), event);
            let source = &self.replicas[at(leader)];
            let from = request.offset as usize;
            let records = source.log.records[from..].iter().take(2).copied().collect();
            FetchAnswer::Records {
                records,
                high_watermark: source.core.high_watermark(),
            }
        };
        self.replicas[follower].answer = Some((request, answer));
    }

    fn receive_fetch(&mut self, broker: usize) {
        let replica = &mut self.replicas[broker];
        let Some((request, answer)) = replica.answer.take() else {
            return;
        };
        if !replica.alive
            || replica
                .fetching_from
                .is_none_or(|(_, epoch)| epoch != request.leader_epoch)
        {
            return;
        }
        let leader_epoch = request.leader_epoch;
        let event = match answer {
            FetchAnswer::Records {
                records,
                high_watermark,
            } => {
                if replica.log.end() != request.offset {
                    return;
                }
                records
                    .into_iter()
                    .for_each(|record| replica.log.append(record));
                Event::ReplicaFetched {
                    leader_epoch,
                    log_end_offset: replica.log.end(),
                    leader_high_watermark: high_watermark,
                    leader_log_start_offset: 0,
                }
            }
            FetchAnswer::Diverging(leader_end) => {
                let local_end = replica.log.end_of_epoch(leader_end.leader_epoch);
                Event::Diverged {
                    leader_epoch,
                    leader_end,
                    local_end,
                }
            }
            FetchAnswer::OutOfRange { end } => Event::OffsetOutOfRange {
                leader_epoch,
                leader_log_start_offset: 0,
                leader_log_end_offset: end,
            },
        };
        self.tell(broker, event);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(b) => {
                let replica = &mut self.replicas[b];
                let (true, true, Some(epoch)) = (
                    replica.alive,
                    replica.core.is_leader(),
                    replica.core.leader_epoch(),
                ) else {
                    return;
                };
                self.next_record += 1;
                replica.log.append((epoch, self.next_record));
                let log_end_offset = replica.log.end();
                self.tell(b, Event::Appended { log_end_offset });
            }
            Step::Fetch(b) => {
                self.take(Step::SendFetch(b));
                self.take(Step::AnswerFetch(b));
                self.take(Step::ReceiveFetch(b));
            }
            Step::AllReceiveLeaderAndIsr => {
                (0..BROKERS.len()).for_each(|b| self.take(Step::ReceiveLeaderAndIsr(b)))
            }
            Step::SendFetch(b) => {
                let replica = &mut self.replicas[b];
                if let (true, Some((leader, leader_epoch))) = (replica.alive, replica.fetching_from)
                {
                    let last_fetched_epoch = replica.log.epochs.last().map(|&(epoch, _)| epoch);
                    let request = FetchRequest {
                        leader_epoch,
                        offset: replica.log.end(),
                        last_fetched_epoch,
                    };
                    replica.request = Some((leader, request));
                }
            }
            Step::AnswerFetch(b) => self.answer_fetch(b),
            Step::ReceiveFetch(b) => self.receive_fetch(b),
            Step::ReceiveLeaderAndIsr(b) => {
                if !self.replicas[b].alive {
                    return;
                }
                let Some(state) = self.undelivered[b].take() else {
                    return;
                };
                let event = if state.leader == Some(BROKERS[b]) {
                    Event::BecomeLeader(state)
                } else {
                    let latest_epoch = self.replicas[b].log.epochs.last().map(|&(epoch, _)| epoch);
                    Event::BecomeFollower {
                        state,
                        latest_epoch,
                    }
                };
                self.tell(b, event);
                if self.replicas[b].core.is_leader() {
                    self.check_leader_is_complete(b);
                }
            }
            Step::ControllerAltersPartition => {
                let Some(request) = self.alter_request.pop() else {
                    return;
                };
                let fresh = request.leader_epoch == self.state.leader_epoch
                    && request.partition_epoch == self.state.partition_epoch;
                let outcome = if !fresh {
                    AlterPartitionOutcome::Superseded
                } else if request
                    .new_isr
                    .iter()
                    .any(|&id| !self.replicas[at(id)].alive)
                {
                    AlterPartitionOutcome::Refused
                } else {
                    self.state.isr = request.new_isr.clone();
                    self.state.partition_epoch += 1;
                    let (isr, partition_epoch) =
                        (self.state.isr.clone(), self.state.partition_epoch);
                    AlterPartitionOutcome::Committed {
                        isr,
                        partition_epoch,
                    }
                };
                self.alter_answer.push((request, outcome));
            }
            Step::ReceiveAlterPartition => {
                let Some((request, outcome)) = self.alter_answer.pop() else {
                    return;
                };
                let broker = at(request.broker);
                if self.replicas[broker].alive {
                    let event = Event::AlterPartitionAnswered {
                        leader_epoch: request.leader_epoch,
                        partition_epoch: request.partition_epoch,
                        outcome,
                    };
                    self.tell(broker, event);
                }
            }
            Step::ReceiveUpdateMetadata(b) => {
                if self.replicas[b].alive && self.state.leader == Some(BROKERS[b]) {
                    let event = Event::StatePublished {
                        leader_epoch: self.state.leader_epoch,
                        partition_epoch: self.state.partition_epoch,
                        isr: self.state.isr.clone(),
                    };
                    self.tell(b, event);
                }
            }
            Step::Elect(b) => self.elect(b),
            Step::LeadMeanwhile(b) => {
                let old = self.state.leader.map_or(b, at);
                let others = (0..BROKERS.len()).filter(|&other| other != old);
                self.elect(b);
                others
                    .clone()
                    .for_each(|other| self.take(Step::ReceiveLeaderAndIsr(other)));
                others.for_each(|other| self.take(Step::Fetch(other)));
                self.crash(b);
                self.elect(old);
            }
            Step::Crash(b) => {
                self.crash(b);
                self.elect(0);
            }
            Step::Restart(b) => {
                if self.replicas[b].alive {
                    return;
                }
                self.replicas[b].alive = true;
                let live = self.live();
                let replica = &mut self.replicas[b];
                let checkpoint = replica.checkpointed_high_watermark;
                replica.core = core(BROKERS[b], live, replica.log.end(), checkpoint);
                (replica.request, replica.answer) = (None, None);
                self.elect(0);
            }
            Step::Wait(ms) => self.now_ms += ms,
            Step::CheckIsr(b) => {
                if self.replicas[b].alive {
                    self.tell(b, Event::CheckIsr);
                }
            }
            Step::CheckpointHighWatermark(b) => {
                let replica = &mut self.replicas[b];
                replica.checkpointed_high_watermark = replica.core.high_watermark();
            }
        }
    }

    fn check_leader_is_complete(&self, broker: usize) {
        let replica = &self.replicas[broker];
        // A leader whose successor is already elected may lack what that one acknowledged.
        if replica.core.leader_epoch() != Some(self.state.leader_epoch) {
            return;
        }
        for (&offset, record) in &self.acked {
            let held = replica.log.records.get(offset as usize);
            assert_eq!(
                held,
                Some(record),
                "leader {broker} lost the acknowledged record at {offset}"
            );
        }
    }

    /// Whoever is in the ISR may be elected by the next step.
    fn check_isr_is_complete(&self) {
        for &id in &self.state.isr {
            let log = &self.replicas[at(id)].log.records;
            for (&offset, record) in &self.acked {
                assert_eq!(
                    log.get(offset as usize),
                    Some(record),
                    "{id} is in the ISR without the acknowledged record at {offset}"
                );
            }
        }
    }

    fn check_equal_below_high_watermarks(&self) {
        for a in &self.replicas {
            for b in &self.replicas {
                let both = a.core.high_watermark().min(b.core.high_watermark()) as usize;
                assert_eq!(
                    a.log.records[..both],
                    b.log.records[..both],
                    "replicas differ below both high watermarks"
                );
            }
        }
    }

    /// With the faults over, all replicas come to hold the same log.
    fn heal(&mut self) {
        for b in 0..BROKERS.len() {
            self.take(Step::Restart(b));
        }
        self.elect(0);
        self.take(Step::AllReceiveLeaderAndIsr);
        let Some(leader) = self.state.leader else {
            panic!("all are alive, yet none leads")
        };
        for _ in 0..10 + self.next_record {
            for b in 0..BROKERS.len() {
                self.take(Step::Fetch(b));
            }
            self.take(Step::ControllerAltersPartition);
            self.take(Step::ReceiveAlterPartition);
        }
        let expected = &self.replicas[at(leader)];
        assert_eq!(self.state.isr, BROKERS, "not all came back into the ISR");
        for replica in &self.replicas {
            assert_eq!(replica.log.records, expected.log.records);
            assert_eq!(replica.core.high_watermark(), expected.log.end());
        }
    }
}

fn at(broker: i32) -> usize {
    broker as usize - 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_must_never_be_is_not(steps in prop::collection::vec(step(), 50..250)) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.take(step);
            cluster.check_isr_is_complete();
            cluster.check_equal_below_high_watermarks();
        }
        cluster.heal();
        cluster.check_equal_below_high_watermarks();
    }
}
