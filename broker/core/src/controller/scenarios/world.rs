//! A coord and brokers in memory, which perform what the controller asks for and can be hurt.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid};

use super::super::*;
use crate::znode::{BrokerRegistration, TopicNode};

/// Coord's tree and the brokers, as far as the controller sees them.
#[derive(Default)]
pub(super) struct World {
    pub(super) brokers: BTreeMap<i32, LiveBroker>,
    pub(super) topics: BTreeMap<ByteString, (TopicNode, i32)>,
    pub(super) states: BTreeMap<TopicPartition, (PartitionStateNode, i32)>,
    pub(super) deletions: BTreeSet<ByteString>,
    pub(super) unclean: BTreeSet<ByteString>,
    pub(super) controller_epoch: i32,
    /// What was sent during the last event.
    pub(super) sent: BTreeMap<i32, BrokerBatch>,
    pub(super) replies: Vec<Reply>,
    pub(super) notices: Vec<String>,
    pub(super) resigned: bool,
    /// The topics whose znodes make no sense.
    pub(super) unreadable: BTreeSet<ByteString>,
    /// The state writes that coord refuses before it takes the next.
    pub(super) refusals: usize,
    /// The state writes still let through before coord stops answering this controller.
    pub(super) writes_left: Option<usize>,
    pub(super) next_czxid: i64,
}

impl World {
    pub(super) fn new(brokers: impl IntoIterator<Item = i32>) -> Self {
        let mut world = Self::default();
        brokers.into_iter().for_each(|id| world.start(id));
        world
    }

    pub(super) fn start(&mut self, id: i32) {
        self.next_czxid += 1;
        let registration = BrokerRegistration {
            endpoints: Vec::new(),
            rack: None,
            timestamp_ms: 0,
        };
        self.brokers.insert(
            id,
            LiveBroker {
                id,
                epoch: self.next_czxid,
                registration,
            },
        );
    }

    pub(super) fn elect(&mut self) -> Controller {
        self.controller_epoch += 1;
        self.writes_left = None;
        let settings = Settings {
            num_partitions: 1,
            default_replication_factor: 1,
            delete_topic_enable: true,
            rebalance_interval_ms: Some(300_000),
            imbalance_per_broker_percentage: 10,
        };
        let mut controller = Controller::new(settings, self.controller_epoch, 7);
        let loaded = Loaded {
            brokers: self.brokers.clone(),
            topics: self.topics.clone(),
            unreadable: self.unreadable.clone(),
            states: self.states.clone(),
            deletions: self.deletions.clone(),
        };
        self.run(&mut controller, Event::Elected(Box::new(loaded)));
        controller
    }

    /// Hands an event in and performs all that comes of it.
    pub(super) fn run(&mut self, controller: &mut Controller, event: Event) {
        self.run_at(0, controller, event);
    }

    pub(super) fn run_at(&mut self, now_ms: i64, controller: &mut Controller, event: Event) {
        self.sent.clear();
        self.replies.clear();
        self.notices.clear();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in controller.handle(now_ms, event) {
                events.extend(self.perform(controller, action));
            }
        }
        assert!(
            controller.is_idle() || self.resigned || self.writes_left.is_some(),
            "stuck"
        );
    }

    pub(super) fn perform(&mut self, controller: &Controller, action: Action) -> Option<Event> {
        let fenced = controller.epoch < self.controller_epoch;
        match action {
            Action::ReadUnclean(topics) => Some(Event::UncleanRead(&topics & &self.unclean)),
            Action::ReadStates(tps) => {
                let read = tps
                    .into_iter()
                    .filter_map(|tp| Some((tp.clone(), self.states.get(&tp)?.clone())));
                Some(Event::StatesRead(read.collect()))
            }
            Action::ReadTopics(names) => {
                let read = names
                    .into_iter()
                    .filter_map(|name| Some((name.clone(), self.topics.get(&name)?.clone())));
                Some(Event::TopicsRead {
                    topics: read.collect(),
                    unreadable: self.unreadable.clone(),
                })
            }
            Action::WriteStates(_) if fenced => Some(Event::StatesWritten(Err(Fenced))),
            Action::WriteStates(writes) => {
                let mut results = Vec::new();
                for write in writes {
                    if let Some(left) = &mut self.writes_left {
                        *left = left.checked_sub(1)?;
                    }
                    let present = self.states.get(&write.tp).map(|(_, version)| *version);
                    let written = if self.refusals > 0 {
                        self.refusals -= 1;
                        Written::Failed("not now".to_owned())
                    } else if present == write.expected_version {
                        let version = present.map_or(0, |version| version + 1);
                        self.states.insert(write.tp.clone(), (write.node, version));
                        Written::Done(version)
                    } else {
                        Written::Conflict
                    };
                    results.push((write.tp, written));
                }
                Some(Event::StatesWritten(Ok(results)))
            }
            Action::WriteTopics(_) if fenced => Some(Event::TopicsWritten(Err(Fenced))),
            Action::WriteTopics(writes) => {
                let mut results = Vec::new();
                for write in writes {
                    let present = self.topics.get(&write.name).map(|(_, version)| *version);
                    let written = if present == write.expected_version {
                        let version = present.map_or(0, |version| version + 1);
                        self.topics
                            .insert(write.name.clone(), (write.node, version));
                        Written::Done(version)
                    } else {
                        Written::Conflict
                    };
                    results.push((write.name, written));
                }
                Some(Event::TopicsWritten(Ok(results)))
            }
            Action::RequestDeletions(names) => {
                self.deletions.extend(names.iter().cloned());
                let done = names.into_iter().map(|name| (name, Written::Done(0)));
                Some(Event::DeletionsWritten(Ok(done.collect())))
            }
            Action::RemoveTopics(topics) => {
                for (name, _) in &topics {
                    self.topics.remove(name);
                    self.deletions.remove(name);
                    self.states.retain(|tp, _| tp.topic != *name);
                }
                let done = topics.into_iter().map(|(name, _)| (name, Written::Done(0)));
                Some(Event::TopicsRemoved(Ok(done.collect())))
            }
            Action::Send { broker, batch } => {
                assert!(
                    self.sent.insert(broker.id, batch).is_none(),
                    "one batch per broker and event"
                );
                None
            }
            Action::Reply { reply, .. } => {
                self.replies.push(reply);
                None
            }
            Action::DropDeletions(names) => {
                self.deletions.retain(|name| !names.contains(name));
                None
            }
            Action::Notice(text) => {
                self.notices.push(text);
                None
            }
            Action::Resign => {
                self.resigned = true;
                None
            }
        }
    }

    pub(super) fn create(
        &mut self,
        controller: &mut Controller,
        name: &str,
        assignments: &[&[i32]],
    ) {
        let assignments = (0..)
            .zip(assignments.iter().map(|replicas| replicas.to_vec()))
            .collect();
        let topic = NewTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments,
            ..NewTopic::default()
        };
        let event = Event::CreateTopics {
            request: RequestId(1),
            topics: vec![topic],
            validate_only: false,
        };
        self.run(controller, event);
    }

    pub(super) fn kill(&mut self, controller: &mut Controller, id: i32) {
        self.brokers.remove(&id);
        self.run(controller, Event::Brokers(self.brokers.clone()));
    }

    pub(super) fn restart(&mut self, controller: &mut Controller, id: i32) {
        self.start(id);
        self.run(controller, Event::Brokers(self.brokers.clone()));
    }

    pub(super) fn shut_down(&mut self, controller: &mut Controller, id: i32) {
        let broker_epoch = self.brokers[&id].epoch;
        self.run(
            controller,
            Event::ControlledShutdown {
                request: RequestId(1),
                broker_id: id,
                broker_epoch,
            },
        );
    }

    pub(super) fn alter(
        &mut self,
        controller: &mut Controller,
        leader: i32,
        item: AlterItem,
    ) -> Result<AlteredPartition, ErrorCode> {
        let broker_epoch = self.brokers[&leader].epoch;
        let event = Event::AlterPartition {
            request: RequestId(1),
            broker_id: leader,
            broker_epoch,
            items: vec![item],
        };
        self.run(controller, event);
        match self.replies.pop() {
            Some(Reply::PartitionsAltered(Ok(mut results))) => results.pop().unwrap().1,
            Some(Reply::PartitionsAltered(Err(code))) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn item(&self, partition: i32, new_isr: &[i32]) -> AlterItem {
        let tp = TopicPartition::new("t", partition);
        let (node, version) = &self.states[&tp];
        AlterItem {
            tp,
            topic_id: Uuid::ZERO,
            leader_epoch: node.leader_epoch,
            partition_epoch: *version,
            new_isr: new_isr.to_vec(),
            recovering: false,
        }
    }

    /// What coord holds, which is also what the controller must think.
    pub(super) fn tell(&self, controller: &Controller) -> String {
        let lines = self.states.iter().map(|(tp, (node, version))| {
            let partition = controller.context().partition(tp).unwrap();
            assert_eq!(
                (partition.node.as_ref(), partition.partition_epoch),
                (Some(node), *version)
            );
            let leader = if node.leader < 0 {
                "none".to_owned()
            } else {
                node.leader.to_string()
            };
            format!(
                "{tp}: leader {leader} epoch {} isr {:?}",
                node.leader_epoch, node.isr
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The topics whose logs a broker that is told everything keeps.
    pub(super) fn kept(&self, id: i32) -> Vec<&str> {
        let request = self.sent[&id].leader_and_isr.as_ref().unwrap();
        assert!(request.full);
        request.kept_topics.iter().map(|name| &**name).collect()
    }

    pub(super) fn told(&self, id: i32) -> Vec<String> {
        let partitions = self
            .sent
            .get(&id)
            .and_then(|batch| batch.leader_and_isr.as_ref());
        partitions
            .iter()
            .flat_map(|request| &request.partitions)
            .map(|p| p.tp.to_string())
            .collect()
    }
}
