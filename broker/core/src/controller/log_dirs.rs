//! Log directories that fail while their broker lives on.
//!
//! A broker says only that one of its directories failed. It is then told anew of all its partitions, and of those that lay
//! there it answers so: what it does not know itself, as after a start, it finds out in the same way. Such a replica can
//! neither lead nor be in sync, until the broker starts anew (KIP-112).

use std::collections::BTreeSet;

use kafka_wire::TopicPartition;

use super::context::Partition;
use super::state::ReplicaState;
use super::{Controller, Strategy};

impl Controller {
    /// Asks the brokers which of their replicas still work.
    pub(super) fn log_dirs_failed(&mut self, brokers: &BTreeSet<i32>) {
        let alive = brokers
            .iter()
            .filter(|id| self.context.brokers.contains_key(id));
        for broker_id in alive {
            for (tp, partition) in self.context.partitions() {
                if partition.replicas.replicas.contains(broker_id) {
                    self.batch.ask_broker(*broker_id, tp);
                }
            }
        }
    }

    /// What one of them answered. Who heard it before has done all that follows from it.
    pub(super) fn replicas_offline(
        &mut self,
        broker_id: i32,
        broker_epoch: i64,
        replicas: Vec<TopicPartition>,
    ) {
        let known = self.context.brokers.get(&broker_id);
        if known.is_none_or(|broker| broker.epoch != broker_epoch) {
            return;
        }
        let mut newly = BTreeSet::new();
        for tp in replicas {
            let partition = self.context.partition(&tp);
            let hosts = |partition: &Partition| partition.replicas.replicas.contains(&broker_id);
            if !partition.is_some_and(hosts) {
                continue;
            }
            let offline = self.context.offline_replicas.entry(tp.clone()).or_default();
            if offline.insert(broker_id) {
                newly.insert(tp);
            }
        }
        newly.retain(|tp| {
            let topic = self.context.topics.get(&tp.topic);
            topic.is_some_and(|topic| !topic.deleting)
        });
        for tp in &newly {
            if let Some(partition) = self.context.partition_mut(tp) {
                partition.move_replica_to(broker_id, ReplicaState::Offline);
            }
            self.batch.metadata_changed(tp);
        }
        self.plan_round(Strategy::Heal, newly);
    }

    /// These brokers are gone: in what state they come back is for them to say.
    pub(super) fn forget_offline_replicas(&mut self, brokers: &BTreeSet<i32>) {
        self.context.offline_replicas.retain(|_, offline| {
            offline.retain(|id| !brokers.contains(id));
            !offline.is_empty()
        });
    }
}
