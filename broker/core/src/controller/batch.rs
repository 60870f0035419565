//! What the brokers are to be told at the end of an event: at most one batch each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_wire::{ByteString, TopicPartition, Uuid};

use super::context::{Context, LiveBroker};
use crate::znode::{PartitionReplicas, PartitionStateNode};

/// The leader that stands for "this topic is being deleted".
pub const LEADER_DURING_DELETION: i32 = -2;
/// The leader epoch that stands for the same, which no leader's epoch outbids.
pub const EPOCH_DURING_DELETION: i32 = -2;

/// The state of one partition as a broker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionUpdate {
    /// Which one.
    pub tp: TopicPartition,
    /// Its topic's id.
    pub topic_id: Uuid,
    /// Leader and ISR.
    pub node: PartitionStateNode,
    /// The version of the state's znode.
    pub partition_epoch: i32,
    /// Where the replicas are.
    pub replicas: PartitionReplicas,
    /// Whether the replicas never existed before.
    pub is_new: bool,
    /// The replicas that lie in a log directory that is offline.
    pub offline_replicas: Vec<i32>,
}

/// Makes replicas leaders and followers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAndIsr {
    /// The partitions.
    pub partitions: Vec<PartitionUpdate>,
    /// Where their leaders are reached.
    pub live_leaders: Vec<LiveBroker>,
    /// Whether these are all partitions that the broker hosts, but for those of `kept_topics`.
    pub full: bool,
    /// In a full one: topics that exist and of which not everything is told.
    pub kept_topics: BTreeSet<ByteString>,
}

/// Tells what clients are to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMetadata {
    /// The partitions.
    pub partitions: Vec<PartitionUpdate>,
    /// The brokers that are alive.
    pub live_brokers: Vec<LiveBroker>,
    /// Whether these are all partitions of the cluster.
    pub full: bool,
}

/// Stops one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReplica {
    /// Which one.
    pub tp: TopicPartition,
    /// The epoch under which it is stopped, or [`EPOCH_DURING_DELETION`].
    pub leader_epoch: i32,
    /// Whether its log goes too.
    pub delete: bool,
}

/// What one broker is told, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerBatch {
    /// First.
    pub leader_and_isr: Option<LeaderAndIsr>,
    /// Second; one for all brokers that are told the same.
    pub update_metadata: Option<Arc<UpdateMetadata>>,
    /// Last.
    pub stop_replicas: Vec<StopReplica>,
}

/// Gathers what changed during one event. The states themselves are read from the context when the
/// event ends, so that a partition that changed twice is told once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By broker: the partitions, and whether they are new.
    leader_and_isr: BTreeMap<i32, BTreeMap<TopicPartition, bool>>,
    /// Partitions of which every broker is told.
    metadata: BTreeSet<TopicPartition>,
    /// Partitions that clients are to forget.
    deleted: Vec<PartitionUpdate>,
    /// Whether the list of brokers changed.
    brokers_changed: bool,
    /// Brokers that are told everything.
    full: BTreeSet<i32>,
    stop_replicas: BTreeMap<i32, Vec<StopReplica>>,
}

impl Batch {
    /// Leader, ISR or replicas changed: the replicas' brokers and all metadata follow.
    pub(super) fn partition_changed(
        &mut self,
        context: &Context,
        tp: &TopicPartition,
        is_new: bool,
    ) {
        if let Some(partition) = context.partition(tp) {
            for broker_id in &partition.replicas.replicas {
                *self
                    .leader_and_isr
                    .entry(*broker_id)
                    .or_default()
                    .entry(tp.clone())
                    .or_default() |= is_new;
            }
        }
        self.metadata.insert(tp.clone());
    }

    /// That broker is told of the partition, and answers whether its replica works.
    pub(super) fn ask_broker(&mut self, broker_id: i32, tp: TopicPartition) {
        let told = self.leader_and_isr.entry(broker_id).or_default();
        told.entry(tp).or_default();
    }

    /// Only what clients are told changed.
    pub(super) fn metadata_changed(&mut self, tp: &TopicPartition) {
        self.metadata.insert(tp.clone());
    }

    /// A broker came, went, or moved.
    pub(super) fn brokers_changed(&mut self) {
        self.brokers_changed = true;
    }

    /// This broker is told everything.
    pub(super) fn tell_all(&mut self, broker_id: i32) {
        self.full.insert(broker_id);
        self.brokers_changed = true;
    }

    /// A replica stops.
    pub(super) fn stop_replica(&mut self, broker_id: i32, stop: StopReplica) {
        self.stop_replicas.entry(broker_id).or_default().push(stop);
    }

    /// Clients are to forget the partition.
    pub(super) fn partition_deleted(&mut self, context: &Context, tp: &TopicPartition) {
        let (Some(topic), Some(partition)) = (context.topics.get(&tp.topic), context.partition(tp))
        else {
            return;
        };
        let node = PartitionStateNode {
            leader: LEADER_DURING_DELETION,
            leader_epoch: EPOCH_DURING_DELETION,
            controller_epoch: partition
                .node
                .as_ref()
                .map_or(0, |node| node.controller_epoch),
            isr: Vec::new(),
            recovering: false,
        };
        self.deleted.push(PartitionUpdate {
            tp: tp.clone(),
            topic_id: topic.id,
            node,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.clone(),
            is_new: false,
            offline_replicas: Vec::new(),
        });
    }

    /// The batches, one per live broker that has to be told anything.
    pub(super) fn finish(self, context: &Context) -> Vec<(LiveBroker, BrokerBatch)> {
        let Self {
            mut leader_and_isr,
            metadata,
            deleted,
            brokers_changed,
            full,
            mut stop_replicas,
        } = self;
        let live_brokers: Vec<_> = context.brokers.values().cloned().collect();
        let changed = (brokers_changed || !metadata.is_empty() || !deleted.is_empty()).then(|| {
            let mut partitions: Vec<_> = metadata
                .iter()
                .filter_map(|tp| update(context, tp, false))
                .collect();
            partitions.extend(deleted);
            Arc::new(UpdateMetadata {
                partitions,
                live_brokers: live_brokers.clone(),
                full: false,
            })
        });
        let everything = (!full.is_empty()).then(|| {
            let all = context
                .partitions()
                .filter_map(|(tp, _)| update(context, &tp, false));
            Arc::new(UpdateMetadata {
                partitions: all.collect(),
                live_brokers,
                full: true,
            })
        });
        let mut batches = Vec::new();
        for broker in context.brokers.values() {
            let is_full = full.contains(&broker.id);
            let told = leader_and_isr.remove(&broker.id).unwrap_or_default();
            let partitions: Vec<_> = if is_full {
                let hosted = context
                    .partitions()
                    .filter(|(_, partition)| partition.replicas.replicas.contains(&broker.id));
                hosted
                    .filter_map(|(tp, _)| {
                        update(context, &tp, told.get(&tp).is_some_and(|is_new| *is_new))
                    })
                    .collect()
            } else {
                told.into_iter()
                    .filter_map(|(tp, is_new)| update(context, &tp, is_new))
                    .collect()
            };
            let batch = BrokerBatch {
                leader_and_isr: (is_full || !partitions.is_empty()).then(|| LeaderAndIsr {
                    live_leaders: leaders(context, &partitions),
                    partitions,
                    full: is_full,
                    kept_topics: if is_full {
                        context.kept_topics()
                    } else {
                        BTreeSet::new()
                    },
                }),
                update_metadata: if is_full {
                    everything.clone()
                } else {
                    changed.clone()
                },
                stop_replicas: stop_replicas.remove(&broker.id).unwrap_or_default(),
            };
            if batch.leader_and_isr.is_some()
                || batch.update_metadata.is_some()
                || !batch.stop_replicas.is_empty()
            {
                batches.push((broker.clone(), batch));
            }
        }
        batches
    }
}

fn update(context: &Context, tp: &TopicPartition, is_new: bool) -> Option<PartitionUpdate> {
    let topic = context
        .topics
        .get(&tp.topic)
        .filter(|topic| !topic.deleting)?;
    let partition = topic.partitions.get(&tp.partition)?;
    let offline_replicas = context.offline_replicas.get(tp).into_iter().flatten();
    Some(PartitionUpdate {
        tp: tp.clone(),
        topic_id: topic.id,
        node: partition.node.clone()?,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        is_new,
        offline_replicas: offline_replicas.copied().collect(),
    })
}

fn leaders(context: &Context, partitions: &[PartitionUpdate]) -> Vec<LiveBroker> {
    let ids: BTreeSet<_> = partitions
        .iter()
        .map(|partition| partition.node.leader)
        .collect();
    ids.iter()
        .filter_map(|id| context.brokers.get(id))
        .cloned()
        .collect()
}
