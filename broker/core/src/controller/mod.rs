//! What the controller decides.
//!
//! Events go in: what was read from coord (brokers, topics, requests to delete), what brokers and
//! clients ask. Actions come out: reads and writes of coord, batches to brokers, answers to
//! callers. One event is worked on at a time, to its end: the shell performs the actions and feeds
//! the completions of reads and writes back until the core [is idle](Controller::is_idle), then
//! hands in the next event. So all decisions see one picture of the cluster, as with Apache
//! Kafka's single controller thread, and the same events give the same actions.
//!
//! Everything is decided over sets of partitions: one round of decisions, one round of writes that
//! go out together, one batch per broker. A decision depends on the state of the partition and on
//! who is alive ([`heal`]), not on which event led to it; hence a newly elected controller that
//! applies it to all partitions completes whatever its predecessor left half done.
//!
//! There must never be a clock, a socket or a task in here, nor a write that the shell could
//! perform without checking the controller's epoch.

mod alter_partition;
mod batch;
mod brokers;
mod context;
mod deletion;
mod election;
mod event;
mod log_dirs;
mod state;
mod topics;

#[cfg(test)]
mod scenarios;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use batch::{
    BrokerBatch, EPOCH_DURING_DELETION, LEADER_DURING_DELETION, LeaderAndIsr, PartitionUpdate,
    StopReplica, UpdateMetadata,
};
pub use context::{Context, LiveBroker, Partition, Topic};
pub use election::{
    Alive, Decision, NO_LEADER, Unclean, clean_leader, elect_preferred, first_state, heal,
    preferred_leader, unclean_leader,
};
pub use event::{
    Action, AdminError, AlterItem, AlterResult, AlteredPartition, CreatedTopic, DeletedTopic,
    Event, Fenced, Loaded, MorePartitions, NewTopic, Reply, RequestId, StateWrite, TopicRef,
    TopicWrite, Written,
};
use kafka_wire::{ByteString, TopicPartition};
pub use state::{PartitionState, ReplicaState};

use self::alter_partition::Alteration;
use self::batch::Batch;
use self::deletion::{Deletion, Deletions};
use self::topics::TopicWave;
use crate::znode::PartitionStateNode;

/// How often a partition whose state could not be written is read and decided again.
const MAX_ATTEMPTS: u8 = 5;
/// How long after an election the preferred leaders are first looked at.
const FIRST_REBALANCE_AFTER_MS: i64 = 5_000;

/// The configuration that the controller decides by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `leader.imbalance.check.interval.seconds` in ms; None where `auto.leader.rebalance.enable` is false.
    pub rebalance_interval_ms: Option<i64>,
    /// `leader.imbalance.per.broker.percentage`.
    pub imbalance_per_broker_percentage: u32,
}

/// How a round decides.
#[derive(Debug)]
enum Strategy {
    /// [`first_state`] where there is none, else [`heal`].
    Heal,
    /// [`elect_preferred`].
    Preferred,
    /// What leaders asked for.
    Alter(Alteration),
}

/// One round over a set of partitions: decide, write, and again for those that changed meanwhile.
#[derive(Debug)]
struct Round {
    strategy: Strategy,
    pending: BTreeSet<TopicPartition>,
    /// The topics that allow unclean elections, once they were asked for.
    unclean: Option<BTreeSet<ByteString>>,
    attempts: u8,
}

/// What is left to do of the event at hand, in order.
#[derive(Debug)]
enum Step {
    Round(Round),
    /// Brokers began a life.
    BrokersStarted(Vec<LiveBroker>),
    ReadTopics(Vec<ByteString>),
    WriteTopics(TopicWave),
    RequestDeletions(Deletion),
    AdvanceDeletions,
    RemoveTopics(Vec<ByteString>),
    ReplyAltered(RequestId, Alteration),
    ReplyShutdown(RequestId, i32),
    Reply(RequestId, Reply),
}

/// Which completion is awaited.
#[derive(Debug)]
enum Stage {
    Idle,
    ReadingUnclean(Round),
    WritingStates(Round, BTreeMap<TopicPartition, PartitionStateNode>),
    ReadingStates(Round),
    ReadingTopics,
    WritingTopics(TopicWave),
    RequestingDeletions(Deletion),
    RemovingTopics,
    Resigned,
}

/// The controller, for the length of one term.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    epoch: i32,
    context: Context,
    deletions: Deletions,
    stage: Stage,
    steps: VecDeque<Step>,
    batch: Batch,
    replies: Vec<(RequestId, Reply)>,
    out: Vec<Action>,
    next_rebalance_ms: Option<i64>,
    random: SplitMix,
}

impl Controller {
    /// A controller of that epoch. `seed` decides the ids of topics and where assignments begin.
    pub fn new(settings: Settings, epoch: i32, seed: u64) -> Self {
        Self {
            settings,
            epoch,
            context: Context::default(),
            deletions: Deletions::default(),
            stage: Stage::Idle,
            steps: VecDeque::new(),
            batch: Batch::default(),
            replies: Vec::new(),
            out: Vec::new(),
            next_rebalance_ms: None,
            random: SplitMix(seed),
        }
    }

    /// What it knows.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Whether the next event may be handed in.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// When [`Event::Tick`] is due, in ms.
    pub fn poll_timeout(&self) -> Option<i64> {
        self.next_rebalance_ms
    }

    /// Takes one event, or one completion. A completion that nothing waits for changes nothing.
    pub fn handle(&mut self, now_ms: i64, event: Event) -> Vec<Action> {
        match (std::mem::replace(&mut self.stage, Stage::Idle), event) {
            (Stage::ReadingUnclean(round), Event::UncleanRead(topics)) => {
                self.run_round(Round {
                    unclean: Some(topics),
                    ..round
                });
            }
            (Stage::WritingStates(round, nodes), Event::StatesWritten(result)) => {
                if let Some(results) = self.unless_fenced(result) {
                    self.states_written(round, nodes, results);
                }
            }
            (Stage::ReadingStates(round), Event::StatesRead(states)) => {
                self.states_read(round, states)
            }
            (Stage::ReadingTopics, Event::TopicsRead { topics, unreadable }) => {
                self.topics_read(topics, unreadable)
            }
            (Stage::WritingTopics(wave), Event::TopicsWritten(result)) => {
                if let Some(results) = self.unless_fenced(result) {
                    self.topics_written(wave, results);
                }
            }
            (Stage::RequestingDeletions(deletion), Event::DeletionsWritten(result)) => {
                if let Some(results) = self.unless_fenced(result) {
                    self.deletions_written(deletion, results);
                }
            }
            (Stage::RemovingTopics, Event::TopicsRemoved(result)) => {
                if let Some(results) = self.unless_fenced(result) {
                    self.topics_removed(results);
                }
            }
            (Stage::Idle, event) => self.begin(now_ms, event),
            // Resigned, or a completion of something else.
            (stage, _) => self.stage = stage,
        }
        self.proceed();
        std::mem::take(&mut self.out)
    }

    /// Takes an event in while idle: changes the context and plans the steps.
    fn begin(&mut self, now_ms: i64, event: Event) {
        match event {
            Event::Elected(loaded) => self.elected(now_ms, *loaded),
            Event::Brokers(brokers) => self.brokers_read(brokers),
            Event::Topics(names) => self.topic_names_read(&names),
            Event::DeletionsRequested(names) => self.deletions_requested(names),
            Event::UncleanElectionEnabled(topic) => self.unclean_enabled(topic.as_ref()),
            Event::ReplicasDeleted {
                broker_id,
                replicas,
            } => self.replicas_deleted(broker_id, &replicas),
            Event::LogDirsFailed(brokers) => self.log_dirs_failed(&brokers),
            Event::ReplicasOffline {
                broker_id,
                broker_epoch,
                replicas,
            } => self.replicas_offline(broker_id, broker_epoch, replicas),
            Event::BrokerLeftBehind(broker_id) => self.broker_left_behind(broker_id),
            Event::Tick => self.rebalance(now_ms),
            Event::CreateTopics {
                request,
                topics,
                validate_only,
            } => {
                self.create_topics(request, topics, validate_only);
            }
            Event::CreatePartitions {
                request,
                topics,
                validate_only,
            } => {
                self.create_partitions(request, topics, validate_only);
            }
            Event::DeleteTopics { request, topics } => self.delete_topics(request, topics),
            Event::AlterPartition {
                request,
                broker_id,
                broker_epoch,
                items,
            } => {
                self.alter_partition(request, broker_id, broker_epoch, items);
            }
            Event::ControlledShutdown {
                request,
                broker_id,
                broker_epoch,
            } => {
                self.controlled_shutdown(request, broker_id, broker_epoch);
            }
            Event::UncleanRead(_)
            | Event::StatesWritten(_)
            | Event::StatesRead(_)
            | Event::TopicsRead { .. }
            | Event::TopicsWritten(_)
            | Event::DeletionsWritten(_)
            | Event::TopicsRemoved(_) => {}
        }
    }

    /// Takes steps until one awaits a completion, or the event is done.
    fn proceed(&mut self) {
        while self.is_idle() {
            match self.steps.pop_front() {
                Some(Step::Round(round)) => self.run_round(round),
                Some(Step::BrokersStarted(brokers)) => self.brokers_started(brokers),
                Some(Step::ReadTopics(names)) => {
                    self.stage = Stage::ReadingTopics;
                    self.out.push(Action::ReadTopics(names));
                }
                Some(Step::WriteTopics(wave)) => self.write_topics(wave),
                Some(Step::RequestDeletions(deletion)) => self.request_deletions(deletion),
                Some(Step::AdvanceDeletions) => self.advance_deletions(),
                Some(Step::RemoveTopics(names)) => self.remove_topics(names),
                Some(Step::ReplyAltered(request, alteration)) => {
                    let reply = alteration.reply(&self.context);
                    self.replies.push((request, reply));
                }
                Some(Step::ReplyShutdown(request, broker_id)) => {
                    self.reply_shutdown(request, broker_id)
                }
                Some(Step::Reply(request, reply)) => self.replies.push((request, reply)),
                None => break,
            }
        }
        if self.is_idle() {
            self.flush();
        }
    }

    /// The event is done: tell the brokers, then the callers.
    fn flush(&mut self) {
        let batches = std::mem::take(&mut self.batch).finish(&self.context);
        self.out.extend(
            batches
                .into_iter()
                .map(|(broker, batch)| Action::Send { broker, batch }),
        );
        let replies = std::mem::take(&mut self.replies);
        self.out.extend(
            replies
                .into_iter()
                .map(|(request, reply)| Action::Reply { request, reply }),
        );
    }

    fn plan_round(&mut self, strategy: Strategy, pending: BTreeSet<TopicPartition>) {
        if !pending.is_empty() {
            self.steps.push_back(Step::Round(Round {
                strategy,
                pending,
                unclean: None,
                attempts: 0,
            }));
        }
    }

    fn run_round(&mut self, mut round: Round) {
        let alive = self.context.alive();
        let mut nodes = BTreeMap::new();
        let mut asks = BTreeSet::new();
        for tp in &round.pending {
            let Some(partition) = self.context.partition(tp) else {
                continue;
            };
            let replicas = &partition.replicas.replicas;
            let alive = self.context.alive_for(tp, &alive);
            let decision = match (&mut round.strategy, &partition.node) {
                (_, Some(node)) if node.controller_epoch > self.epoch => {
                    self.out.push(Action::Notice(format!(
                        "{tp} was written by a newer controller: left alone"
                    )));
                    continue;
                }
                (Strategy::Heal, Some(node)) => {
                    let unclean = match &round.unclean {
                        None => Unclean::Unknown,
                        Some(topics) if topics.contains(&tp.topic) => Unclean::Allowed,
                        Some(_) => Unclean::Forbidden,
                    };
                    heal(replicas, node, &alive, unclean, self.epoch)
                }
                (Strategy::Heal, None) => first_state(replicas, &alive, self.epoch),
                (Strategy::Preferred, Some(node)) => {
                    elect_preferred(replicas, node, &alive, self.epoch)
                }
                (Strategy::Alter(alteration), Some(_)) => {
                    alteration.decide(tp, partition, &alive, self.epoch)
                }
                (Strategy::Preferred | Strategy::Alter(_), None) => continue,
            };
            match decision {
                Decision::Keep => {}
                Decision::Write(node) => {
                    nodes.insert(tp.clone(), node);
                }
                Decision::AskUnclean => {
                    asks.insert(tp.topic.clone());
                }
                Decision::NoReplicaAlive => {
                    self.out.push(Action::Notice(format!(
                        "{tp} has no leader: none of its replicas is alive"
                    )));
                }
            }
        }
        if !asks.is_empty() {
            self.stage = Stage::ReadingUnclean(round);
            self.out.push(Action::ReadUnclean(asks));
        } else if !nodes.is_empty() {
            let expected = |tp: &TopicPartition| {
                self.context.partition(tp).and_then(|partition| {
                    partition.node.as_ref().map(|_| partition.partition_epoch)
                })
            };
            let writes = nodes
                .iter()
                .map(|(tp, node)| StateWrite {
                    tp: tp.clone(),
                    node: node.clone(),
                    expected_version: expected(tp),
                })
                .collect();
            self.stage = Stage::WritingStates(round, nodes);
            self.out.push(Action::WriteStates(writes));
        } else {
            self.round_ended(round);
        }
    }

    fn states_written(
        &mut self,
        mut round: Round,
        mut nodes: BTreeMap<TopicPartition, PartitionStateNode>,
        results: Vec<(TopicPartition, Written)>,
    ) {
        let mut conflicts = BTreeSet::new();
        for (tp, written) in results {
            let Some(node) = nodes.remove(&tp) else {
                continue;
            };
            match written {
                Written::Done(version) => {
                    let Some(partition) = self.context.partition_mut(&tp) else {
                        continue;
                    };
                    let is_new = partition.node.is_none();
                    if node.leader < 0 {
                        self.out.push(Action::Notice(format!(
                            "{tp} has no leader: nobody of its ISR {:?} is alive",
                            node.isr
                        )));
                    } else if node.recovering
                        && node.leader_epoch
                            > partition.node.as_ref().map_or(0, |old| old.leader_epoch)
                    {
                        self.out.push(Action::Notice(format!(
                            "{tp} elects {} uncleanly: records may be lost",
                            node.leader
                        )));
                    }
                    partition.adopt(node, version);
                    match round.strategy {
                        Strategy::Alter(_) => self.batch.metadata_changed(&tp),
                        Strategy::Heal | Strategy::Preferred => {
                            self.batch.partition_changed(&self.context, &tp, is_new)
                        }
                    }
                }
                Written::Conflict => {
                    conflicts.insert(tp);
                }
                Written::Failed(cause) => {
                    self.out.push(Action::Notice(format!(
                        "the state of {tp} cannot be written: {cause}"
                    )));
                    conflicts.insert(tp);
                }
            }
        }
        round.attempts += 1;
        if conflicts.is_empty() {
            self.round_ended(round);
        } else if round.attempts == MAX_ATTEMPTS {
            self.out.push(Action::Notice(format!(
                "{} states were given up after {MAX_ATTEMPTS} attempts to write them",
                conflicts.len()
            )));
            self.round_ended(round);
        } else {
            self.out
                .push(Action::ReadStates(conflicts.iter().cloned().collect()));
            self.stage = Stage::ReadingStates(Round {
                pending: conflicts,
                ..round
            });
        }
    }

    fn states_read(
        &mut self,
        round: Round,
        states: BTreeMap<TopicPartition, (PartitionStateNode, i32)>,
    ) {
        for (tp, (node, version)) in states {
            if let Some(partition) = self.context.partition_mut(&tp) {
                partition.adopt(node, version);
                // Whoever wrote it may not have told the brokers.
                self.batch.partition_changed(&self.context, &tp, false);
            }
        }
        self.run_round(Round {
            unclean: None,
            ..round
        });
    }

    fn round_ended(&mut self, round: Round) {
        if let Strategy::Alter(alteration) = round.strategy {
            self.steps
                .push_front(Step::ReplyAltered(alteration.request(), alteration));
        }
    }

    fn unless_fenced<T>(&mut self, result: Result<T, Fenced>) -> Option<T> {
        if result.is_err() {
            self.stage = Stage::Resigned;
            self.steps.clear();
            self.out.push(Action::Resign);
        }
        result.ok()
    }
}

/// SplitMix64: good enough to spread topics, and the same everywhere for one seed.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}
