//! AlterPartition (KIP-497): a leader asks for another ISR; the controller alone writes it.

use std::collections::BTreeMap;

use kafka_wire::{ErrorCode, TopicPartition};

use super::context::{Context, Partition};
use super::election::{Alive, Decision};
use super::event::{AlterItem, AlteredPartition, Reply, RequestId};
use super::{Controller, Step, Strategy};
use crate::znode::PartitionStateNode;

/// One request of one leader.
#[derive(Debug)]
pub(super) struct Alteration {
    request: RequestId,
    broker_id: i32,
    items: BTreeMap<TopicPartition, AlterItem>,
    /// What was refused; the rest was written, or was so already.
    refused: BTreeMap<TopicPartition, ErrorCode>,
}

impl Alteration {
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    /// Decides one partition. After a conflict it is asked again with the state as it now is, and
    /// then finds the leader's knowledge out of date.
    pub(super) fn decide(
        &mut self,
        tp: &TopicPartition,
        partition: &Partition,
        alive: &Alive,
        epoch: i32,
    ) -> Decision {
        let (Some(item), Some(node)) = (self.items.get(tp), &partition.node) else {
            return Decision::Keep;
        };
        match check(item, self.broker_id, partition, node, alive) {
            Ok(true) => Decision::Write(PartitionStateNode {
                isr: item.new_isr.clone(),
                recovering: item.recovering,
                controller_epoch: epoch,
                ..node.clone()
            }),
            Ok(false) => {
                self.refused.remove(tp);
                Decision::Keep
            }
            Err(code) => {
                self.refused.insert(tp.clone(), code);
                Decision::Keep
            }
        }
    }

    pub(super) fn reply(mut self, context: &Context) -> Reply {
        let results = self.items.into_keys().map(|tp| {
            let result = match (self.refused.remove(&tp), context.partition(&tp)) {
                (Some(code), _) => Err(code),
                (
                    None,
                    Some(Partition {
                        node: Some(node),
                        partition_epoch,
                        ..
                    }),
                ) => Ok(AlteredPartition {
                    node: node.clone(),
                    partition_epoch: *partition_epoch,
                }),
                (None, _) => Err(ErrorCode::UnknownTopicOrPartition),
            };
            (tp, result)
        });
        Reply::PartitionsAltered(Ok(results.collect()))
    }
}

/// Whether the state is to be written (false: it is so already), or why not.
fn check(
    item: &AlterItem,
    broker_id: i32,
    partition: &Partition,
    node: &PartitionStateNode,
    alive: &Alive,
) -> Result<bool, ErrorCode> {
    if item.leader_epoch > node.leader_epoch || item.partition_epoch > partition.partition_epoch {
        // The leader heard from a newer controller than this one.
        return Err(ErrorCode::NotController);
    }
    if item.leader_epoch < node.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if broker_id != node.leader {
        return Err(ErrorCode::InvalidRequest);
    }
    if item.new_isr == node.isr && item.recovering == node.recovering {
        return Ok(false);
    }
    if item.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let mut distinct = item.new_isr.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let is_subset = distinct
        .iter()
        .all(|id| partition.replicas.replicas.contains(id));
    if distinct.len() != item.new_isr.len() || !is_subset || !distinct.contains(&broker_id) {
        return Err(ErrorCode::InvalidRequest);
    }
    if item.recovering && (item.new_isr.len() > 1 || !node.recovering) {
        return Err(ErrorCode::InvalidRequest);
    }
    // A leader that is shutting down may still shrink its ISR; nobody else who is may join or stay.
    if !item
        .new_isr
        .iter()
        .all(|id| *id == broker_id || alive.is_eligible(*id))
    {
        return Err(ErrorCode::IneligibleReplica);
    }
    Ok(true)
}

impl Controller {
    pub(super) fn alter_partition(
        &mut self,
        request: RequestId,
        broker_id: i32,
        broker_epoch: i64,
        items: Vec<AlterItem>,
    ) {
        let known = self
            .context
            .brokers
            .get(&broker_id)
            .map(|broker| broker.epoch);
        if known != Some(broker_epoch) {
            let reply = Reply::PartitionsAltered(Err(ErrorCode::StaleBrokerEpoch));
            self.steps.push_back(Step::Reply(request, reply));
            return;
        }
        let mut refused = BTreeMap::new();
        for item in &items {
            let topic = self
                .context
                .topics
                .get(&item.tp.topic)
                .filter(|topic| !topic.deleting);
            let code = match topic {
                None => Some(ErrorCode::UnknownTopicOrPartition),
                Some(topic) if !item.topic_id.is_zero() && topic.id != item.topic_id => {
                    Some(ErrorCode::UnknownTopicId)
                }
                Some(topic) if !topic.partitions.contains_key(&item.tp.partition) => {
                    Some(ErrorCode::UnknownTopicOrPartition)
                }
                Some(_) => None,
            };
            if let Some(code) = code {
                refused.insert(item.tp.clone(), code);
            }
        }
        let pending = items
            .iter()
            .map(|item| item.tp.clone())
            .filter(|tp| !refused.contains_key(tp))
            .collect();
        let items = items
            .into_iter()
            .map(|item| (item.tp.clone(), item))
            .collect();
        let alteration = Alteration {
            request,
            broker_id,
            items,
            refused,
        };
        let round = super::Round {
            strategy: Strategy::Alter(alteration),
            pending,
            unclean: None,
            attempts: 0,
        };
        self.steps.push_back(Step::Round(round));
    }
}
