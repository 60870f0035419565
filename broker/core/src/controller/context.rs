//! What the controller knows of the cluster: its copy of coord's tree.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, TopicPartition, Uuid};

use super::election::Alive;
use super::state::{PartitionState, ReplicaState};
use crate::znode::{BrokerRegistration, PartitionReplicas, PartitionStateNode, TopicNode};

/// A broker whose znode exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBroker {
    /// Its id.
    pub id: i32,
    /// The czxid of its znode: which of its lives this is.
    pub epoch: i64,
    /// Where it is reached.
    pub registration: BrokerRegistration,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Where its replicas are.
    pub replicas: PartitionReplicas,
    /// What coord holds of its leader and ISR; None before the first election.
    pub node: Option<PartitionStateNode>,
    /// The version of that znode.
    pub partition_epoch: i32,
    /// Where it stands.
    pub state: PartitionState,
    /// Where its replicas stand, by broker.
    pub replica_states: BTreeMap<i32, ReplicaState>,
}

impl Partition {
    /// A partition that has replicas and no leader yet.
    pub fn new(replicas: PartitionReplicas) -> Self {
        let replica_states = replicas
            .replicas
            .iter()
            .map(|id| (*id, ReplicaState::New))
            .collect();
        Self {
            replicas,
            node: None,
            partition_epoch: 0,
            state: PartitionState::New,
            replica_states,
        }
    }

    /// Takes over what coord holds.
    pub fn adopt(&mut self, node: PartitionStateNode, partition_epoch: i32) {
        let state = if node.leader < 0 {
            PartitionState::Offline
        } else {
            PartitionState::Online
        };
        self.node = Some(node);
        self.partition_epoch = partition_epoch;
        self.move_to(state);
    }

    /// The leader, if there is one.
    pub fn leader(&self) -> Option<i32> {
        self.node
            .as_ref()
            .map(|node| node.leader)
            .filter(|leader| *leader >= 0)
    }

    /// Changes its state, where the present one allows.
    pub fn move_to(&mut self, state: PartitionState) {
        let valid = state.valid_previous().contains(&self.state);
        debug_assert!(
            valid,
            "partition: {:?} cannot follow {:?}",
            state, self.state
        );
        if valid {
            self.state = state;
        }
    }

    /// Changes a replica's state, where the present one allows.
    pub fn move_replica_to(&mut self, broker_id: i32, state: ReplicaState) {
        if let Some(present) = self.replica_states.get_mut(&broker_id) {
            let valid = state.valid_previous().contains(present);
            debug_assert!(
                valid,
                "replica {broker_id}: {state:?} cannot follow {present:?}"
            );
            if valid {
                *present = state;
            }
        }
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id; zero until the controller has given it one.
    pub id: Uuid,
    /// The version of its znode.
    pub version: i32,
    /// By index.
    pub partitions: BTreeMap<i32, Partition>,
    /// Whether it was asked to be deleted.
    pub deleting: bool,
}

impl Topic {
    /// What its znode is to hold.
    pub fn node(&self) -> TopicNode {
        TopicNode {
            topic_id: Some(self.id),
            partitions: self
                .partitions
                .iter()
                .map(|(index, partition)| (*index, partition.replicas.clone()))
                .collect(),
        }
    }
}

/// Everything that the controller knows.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// By id.
    pub brokers: BTreeMap<i32, LiveBroker>,
    /// Brokers that asked for a controlled shutdown and are still there.
    pub shutting_down: BTreeSet<i32>,
    /// By name.
    pub topics: BTreeMap<ByteString, Topic>,
    /// The brokers on which a partition's replica lies in a log directory that is offline. They are alive, and the
    /// replica is not, until the broker starts anew.
    pub offline_replicas: BTreeMap<TopicPartition, BTreeSet<i32>>,
    /// The topics whose znodes exist and make no sense: nothing is known of them, and nothing is done
    /// to them.
    pub unreadable: BTreeSet<ByteString>,
}

impl Context {
    /// The brokers as an election sees them.
    pub fn alive(&self) -> Alive {
        Alive {
            registered: self.brokers.keys().copied().collect(),
            shutting_down: self.shutting_down.clone(),
        }
    }

    /// The brokers as an election of that partition sees them; `alive` is [`Context::alive`].
    pub fn alive_for<'a>(&self, tp: &TopicPartition, alive: &'a Alive) -> Cow<'a, Alive> {
        match self.offline_replicas.get(tp) {
            Some(offline) => Cow::Owned(alive.without(offline)),
            None => Cow::Borrowed(alive),
        }
    }

    /// That partition.
    pub fn partition(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&tp.topic)?.partitions.get(&tp.partition)
    }

    /// That partition.
    pub fn partition_mut(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        self.topics
            .get_mut(&tp.topic)?
            .partitions
            .get_mut(&tp.partition)
    }

    /// Forgets a topic.
    pub fn remove_topic(&mut self, name: &ByteString) {
        self.topics.remove(name);
        self.offline_replicas.retain(|tp, _| tp.topic != *name);
    }

    /// The topic that has this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&ByteString> {
        self.topics
            .iter()
            .find(|(_, topic)| topic.id == id)
            .map(|(name, _)| name)
    }

    /// Every partition of topics that are not being deleted.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.topics
            .iter()
            .filter(|(_, topic)| !topic.deleting)
            .flat_map(|(name, topic)| {
                let of = |index: &i32| TopicPartition {
                    topic: name.clone(),
                    partition: *index,
                };
                topic
                    .partitions
                    .iter()
                    .map(move |(index, partition)| (of(index), partition))
            })
    }

    /// Those of them that `wanted` picks.
    pub fn partitions_where(
        &self,
        wanted: impl Fn(&Partition) -> bool,
    ) -> BTreeSet<TopicPartition> {
        self.partitions()
            .filter(|(_, partition)| wanted(partition))
            .map(|(tp, _)| tp)
            .collect()
    }

    /// The topics whose logs a broker keeps though it is not told all of their partitions: nobody can
    /// read their znodes, or a partition's state; or they are being deleted, which is told by itself.
    pub fn kept_topics(&self) -> BTreeSet<ByteString> {
        let is_untold = |topic: &Topic| {
            topic.deleting
                || topic
                    .partitions
                    .values()
                    .any(|partition| partition.node.is_none())
        };
        let untold = self.topics.iter().filter(|(_, topic)| is_untold(topic));
        untold
            .map(|(name, _)| name)
            .chain(&self.unreadable)
            .cloned()
            .collect()
    }

    /// Sets the state of every replica on those brokers: of the partitions that stay, and of those
    /// that are being deleted.
    pub fn move_replicas(
        &mut self,
        brokers: &BTreeSet<i32>,
        staying: ReplicaState,
        deleting: ReplicaState,
    ) {
        for topic in self.topics.values_mut() {
            let to = if topic.deleting { deleting } else { staying };
            for partition in topic.partitions.values_mut() {
                for broker_id in brokers {
                    let present = partition.replica_states.get(broker_id);
                    if present.is_some_and(|present| {
                        *present != to && to.valid_previous().contains(present)
                    }) {
                        partition.move_replica_to(*broker_id, to);
                    }
                }
            }
        }
    }
}
