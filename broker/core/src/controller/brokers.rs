//! Brokers that come and go, by themselves or politely, and who leads in between.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid};

use super::batch::StopReplica;
use super::context::{LiveBroker, Partition, Topic};
use super::event::{Loaded, Reply, RequestId};
use super::state::ReplicaState;
use super::{Controller, FIRST_REBALANCE_AFTER_MS, Step, Strategy};

impl Controller {
    /// The term begins: know what coord holds, finish what the predecessor left, tell everybody everything.
    pub(super) fn elected(&mut self, now_ms: i64, loaded: Loaded) {
        let Loaded {
            brokers,
            topics,
            unreadable,
            mut states,
            deletions,
        } = loaded;
        self.context.brokers = brokers;
        self.context.unreadable = unreadable;
        let mut nameless = Vec::new();
        for (name, (node, version)) in topics {
            if node.topic_id.is_none() {
                nameless.push(name.clone());
            }
            let mut partitions = BTreeMap::new();
            for (index, replicas) in node.partitions {
                let mut partition = Partition::new(replicas);
                let tp = TopicPartition {
                    topic: name.clone(),
                    partition: index,
                };
                if let Some((node, version)) = states.remove(&tp) {
                    partition.adopt(node, version);
                }
                partitions.insert(index, partition);
            }
            let id = node.topic_id.unwrap_or(Uuid::ZERO);
            self.context.topics.insert(
                name,
                Topic {
                    id,
                    version,
                    partitions,
                    deleting: false,
                },
            );
        }
        self.give_topic_ids(nameless);
        let alive: BTreeSet<_> = self.context.brokers.keys().copied().collect();
        let all: BTreeSet<_> = self.context.topics.values().flat_map(replicas_of).collect();
        self.context.move_replicas(
            &all.difference(&alive).copied().collect(),
            ReplicaState::Offline,
            ReplicaState::Offline,
        );
        self.context
            .move_replicas(&alive, ReplicaState::Online, ReplicaState::Online);
        for broker_id in &alive {
            self.batch.tell_all(*broker_id);
        }
        // Marked before the round, so that nobody is elected for a topic that goes.
        self.deletions_requested(deletions);
        let everything = self.context.partitions_where(|_| true);
        self.plan_round(Strategy::Heal, everything);
        self.next_rebalance_ms = self
            .settings
            .rebalance_interval_ms
            .map(|_| now_ms.saturating_add(FIRST_REBALANCE_AFTER_MS));
    }

    /// Who is alive now. A broker whose epoch rose failed and started in between.
    pub(super) fn brokers_read(&mut self, brokers: BTreeMap<i32, LiveBroker>) {
        let same_life = |a: &BTreeMap<i32, LiveBroker>, broker: &LiveBroker| {
            a.get(&broker.id)
                .is_some_and(|other| other.epoch == broker.epoch)
        };
        let old = std::mem::take(&mut self.context.brokers);
        let failed: BTreeSet<_> = old
            .values()
            .filter(|broker| !same_life(&brokers, broker))
            .map(|b| b.id)
            .collect();
        let started: BTreeSet<_> = brokers
            .values()
            .filter(|broker| !same_life(&old, broker))
            .map(|b| b.id)
            .collect();
        let staying = old
            .values()
            .filter(|broker| !failed.contains(&broker.id))
            .map(|broker| broker.id);
        let moved = staying.clone().any(|id| old.get(&id) != brokers.get(&id));
        self.context.brokers = staying
            .filter_map(|id| brokers.get(&id))
            .map(|broker| (broker.id, broker.clone()))
            .collect();
        if moved || !failed.is_empty() {
            self.batch.brokers_changed();
        }
        if !failed.is_empty() {
            self.context.shutting_down.retain(|id| !failed.contains(id));
            self.forget_offline_replicas(&failed);
            self.context.move_replicas(
                &failed,
                ReplicaState::Offline,
                ReplicaState::DeletionIneligible,
            );
            let affected = self
                .context
                .partitions_where(|partition| hosts_any(partition, &failed));
            self.plan_round(Strategy::Heal, affected);
            self.steps.push_back(Step::AdvanceDeletions);
        }
        if !started.is_empty() {
            let started = started
                .iter()
                .filter_map(|id| brokers.get(id))
                .cloned()
                .collect();
            self.steps.push_back(Step::BrokersStarted(started));
        }
    }

    /// The second half: those that began a life are told everything, and may lead what nobody leads.
    pub(super) fn brokers_started(&mut self, brokers: Vec<LiveBroker>) {
        let started: BTreeSet<_> = brokers.iter().map(|broker| broker.id).collect();
        for broker in brokers {
            self.batch.tell_all(broker.id);
            self.context.brokers.insert(broker.id, broker);
        }
        self.context
            .move_replicas(&started, ReplicaState::Online, ReplicaState::Offline);
        let leaderless = self.context.partitions_where(|partition| {
            partition.leader().is_none() && hosts_any(partition, &started)
        });
        self.plan_round(Strategy::Heal, leaderless);
        self.steps.push_back(Step::AdvanceDeletions);
    }

    /// Whatever a broker has not heard, it is told as one that begins a life: everything, deletions again.
    pub(super) fn broker_left_behind(&mut self, broker_id: i32) {
        let Some(broker) = self.context.brokers.get(&broker_id).cloned() else {
            return;
        };
        self.context.move_replicas(
            &BTreeSet::from([broker_id]),
            ReplicaState::Online,
            ReplicaState::DeletionIneligible,
        );
        self.brokers_started(vec![broker]);
    }

    /// A broker wants to go: its leaderships move to others in sync, its replicas leave their ISRs.
    pub(super) fn controlled_shutdown(
        &mut self,
        request: RequestId,
        broker_id: i32,
        broker_epoch: i64,
    ) {
        let refusal = match self.context.brokers.get(&broker_id) {
            None => Some(ErrorCode::BrokerNotAvailable),
            Some(broker) if broker.epoch != broker_epoch => Some(ErrorCode::StaleBrokerEpoch),
            Some(_) => None,
        };
        if let Some(code) = refusal {
            self.steps
                .push_back(Step::Reply(request, Reply::MayShutDown(Err(code))));
            return;
        }
        self.context.shutting_down.insert(broker_id);
        let affected = self
            .context
            .partitions_where(|partition| may_move_from(partition, broker_id));
        self.plan_round(Strategy::Heal, affected);
        self.steps
            .push_back(Step::ReplyShutdown(request, broker_id));
    }

    /// Names the partitions that another replica may still take over, once it is in sync again.
    pub(super) fn reply_shutdown(&mut self, request: RequestId, broker_id: i32) {
        let alive = self.context.alive();
        let (mut remaining, mut stops) = (Vec::new(), Vec::new());
        for (tp, partition) in self
            .context
            .partitions()
            .filter(|(_, partition)| may_move_from(partition, broker_id))
        {
            match &partition.node {
                // Where all others are dead or leaving too, nothing is gained by waiting.
                Some(node) if node.leader == broker_id => {
                    let replicas = &partition.replicas.replicas;
                    let alive = self.context.alive_for(&tp, &alive);
                    remaining.extend(
                        replicas
                            .iter()
                            .any(|id| alive.is_eligible(*id))
                            .then_some(tp),
                    );
                }
                Some(node) => stops.push(StopReplica {
                    tp,
                    leader_epoch: node.leader_epoch,
                    delete: false,
                }),
                None => {}
            }
        }
        for stop in stops {
            self.batch.stop_replica(broker_id, stop);
        }
        self.replies
            .push((request, Reply::MayShutDown(Ok(remaining))));
    }

    /// Unclean elections were allowed: whoever waits for a leader need not wait longer.
    pub(super) fn unclean_enabled(&mut self, topic: Option<&ByteString>) {
        let mut leaderless = self
            .context
            .partitions_where(|partition| partition.leader().is_none());
        leaderless.retain(|tp| topic.is_none_or(|topic| tp.topic == *topic));
        self.plan_round(Strategy::Heal, leaderless);
    }

    /// Preferred leaders lead again where too many of a broker's are led by others.
    pub(super) fn rebalance(&mut self, now_ms: i64) {
        let Some(interval_ms) = self.settings.rebalance_interval_ms else {
            return;
        };
        if self.next_rebalance_ms.is_some_and(|due| now_ms < due) {
            return;
        }
        self.next_rebalance_ms = Some(now_ms.saturating_add(interval_ms));
        let mut led_by_others: BTreeMap<i32, BTreeSet<_>> = BTreeMap::new();
        let mut total: BTreeMap<i32, usize> = BTreeMap::new();
        for (tp, partition) in self.context.partitions() {
            let Some(preferred) = partition.replicas.replicas.first() else {
                continue;
            };
            *total.entry(*preferred).or_default() += 1;
            if partition.leader() != Some(*preferred) {
                led_by_others.entry(*preferred).or_default().insert(tp);
            }
        }
        let percentage =
            usize::try_from(self.settings.imbalance_per_broker_percentage).unwrap_or(100);
        led_by_others.retain(|preferred, partitions| {
            let total = total.get(preferred).copied().unwrap_or_default();
            self.context.brokers.contains_key(preferred)
                && partitions.len() * 100 > total * percentage
        });
        let pending = led_by_others.into_values().flatten().collect();
        self.plan_round(Strategy::Preferred, pending);
    }
}

fn replicas_of(topic: &Topic) -> impl Iterator<Item = i32> {
    topic
        .partitions
        .values()
        .flat_map(|partition| partition.replicas.replicas.iter().copied())
}

fn hosts_any(partition: &Partition, brokers: &BTreeSet<i32>) -> bool {
    partition
        .replicas
        .replicas
        .iter()
        .any(|id| brokers.contains(id))
}

/// Whether another replica could take over what that broker does for the partition.
fn may_move_from(partition: &Partition, broker_id: i32) -> bool {
    partition.replicas.replicas.len() > 1 && partition.replicas.replicas.contains(&broker_id)
}
