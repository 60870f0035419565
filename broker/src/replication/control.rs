//! What the controller tells this broker: LeaderAndIsr, UpdateMetadata, StopReplica.
//!
//! One request at a time, off the threads that serve clients, for logs are made and deleted here.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use broker_core::metadata::{Broker, Endpoint, MetadataUpdate, PartitionMetadata, TopicUpdate};
use broker_core::partition::{Event, LeaderAndIsr, Partition, PartitionSettings};
use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid, valid_topic_name};
use log::GetOrCreateError;
use proto::control::{
    ControllerStamp, LeaderAndIsrRequest, LeaderAndIsrResponse, LiveBroker, PartitionError,
    PartitionState, StopReplicaPartition, StopReplicaRequest, StopReplicaResponse, TopicState,
    UpdateMetadataRequest, UpdateMetadataResponse,
};

use super::replica::Replica;
use super::{ReplicaManager, log_config, min_insync_replicas};
use crate::clock::now_ms;

/// The leader of a partition that is being deleted.
const LEADER_DURING_DELETE: i32 = -2;
/// The leader epoch of a partition that is being deleted: no epoch is newer.
const EPOCH_DURING_DELETE: i32 = -2;
/// The sender knows no leader epoch.
const NO_EPOCH: i32 = -1;

/// The newest controller that has spoken.
#[derive(Debug, Default)]
pub(super) struct ControllerEpoch(Option<i32>);

impl ControllerEpoch {
    fn accept(&mut self, stamp: &ControllerStamp, own_broker_epoch: i64) -> Result<(), ErrorCode> {
        if self.0.is_some_and(|newest| stamp.controller_epoch < newest) {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        if stamp.broker_epoch < own_broker_epoch {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        self.0 = Some(stamp.controller_epoch);
        Ok(())
    }
}

fn code(error: ErrorCode) -> i32 {
    i32::from(error as i16)
}

impl ReplicaManager {
    /// Makes partitions leaders or followers on this broker.
    pub async fn leader_and_isr(
        self: &Arc<Self>,
        request: LeaderAndIsrRequest,
    ) -> LeaderAndIsrResponse {
        let failed = LeaderAndIsrResponse {
            error_code: code(ErrorCode::UnknownServerError),
            ..Default::default()
        };
        self.in_order(|manager| manager.apply_leader_and_isr(request), failed)
            .await
    }

    /// Replaces what this broker tells clients about brokers and partitions.
    pub async fn update_metadata(
        self: &Arc<Self>,
        request: UpdateMetadataRequest,
    ) -> UpdateMetadataResponse {
        let failed = UpdateMetadataResponse {
            error_code: code(ErrorCode::UnknownServerError),
        };
        self.in_order(|manager| manager.apply_update_metadata(request), failed)
            .await
    }

    /// Stops replicas, and deletes their logs where asked.
    pub async fn stop_replica(
        self: &Arc<Self>,
        request: StopReplicaRequest,
    ) -> StopReplicaResponse {
        let failed = StopReplicaResponse {
            error_code: code(ErrorCode::UnknownServerError),
            ..Default::default()
        };
        self.in_order(|manager| manager.apply_stop_replica(request), failed)
            .await
    }

    async fn in_order<T: Send + 'static>(
        self: &Arc<Self>,
        apply: impl FnOnce(&ReplicaManager) -> T + Send + 'static,
        failed: T,
    ) -> T {
        let manager = self.clone();
        tokio::task::spawn_blocking(move || apply(&manager))
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "a request of the controller has failed");
                failed
            })
    }

    fn accept(
        &self,
        epoch: &mut ControllerEpoch,
        stamp: Option<&ControllerStamp>,
        what: &'static str,
    ) -> Result<i32, ErrorCode> {
        let stamp = stamp.ok_or(ErrorCode::InvalidRequest)?;
        let own = self.broker_epoch.load(Ordering::Acquire);
        epoch.accept(stamp, own).inspect_err(|error| {
            tracing::warn!(
                ?stamp,
                broker_epoch = own,
                error = error.name(),
                "{what} refused"
            );
        })?;
        Ok(stamp.controller_id)
    }

    fn apply_leader_and_isr(&self, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse {
        let mut epoch = self
            .controller_epoch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.accept(&mut epoch, request.stamp.as_ref(), "LeaderAndIsr") {
            return LeaderAndIsrResponse {
                error_code: code(error),
                partitions: Vec::new(),
            };
        }
        if request.full {
            self.set_aside_strays(&request.topics, &request.kept_topics);
        }
        let leaders = request.live_leaders.into_iter();
        let leaders = leaders.map(|leader| (leader.id, broker(leader)));
        self.effects.fetchers.set_leaders(leaders.collect());
        let began = Instant::now();
        let mut partitions = Vec::new();
        for topic in request.topics {
            let name = ByteString::from(topic.topic);
            let topic_id = uuid(&topic.topic_id);
            for state in topic.partitions {
                let partition = TopicPartition::new(name.clone(), state.partition);
                let outcome = self.assign(&partition, topic_id, state);
                let error_code = code(outcome.err().unwrap_or(ErrorCode::None));
                partitions.push(PartitionError {
                    topic: name.to_string(),
                    partition: partition.partition,
                    error_code,
                });
            }
        }
        let refused = partitions
            .iter()
            .filter(|partition| partition.error_code != 0)
            .count();
        let elapsed_ms = began.elapsed().as_millis();
        tracing::info!(
            partitions = partitions.len(),
            refused,
            elapsed_ms,
            "LeaderAndIsr applied"
        );
        LeaderAndIsrResponse {
            error_code: 0,
            partitions,
        }
    }

    fn assign(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        state: PartitionState,
    ) -> Result<(), ErrorCode> {
        if valid_topic_name(&partition.topic).is_err() || partition.partition < 0 {
            return Err(ErrorCode::InvalidTopicException);
        }
        if !state.replicas.contains(&self.config().broker_id) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let replica = match self.replica(&partition.topic, partition.partition) {
            Some(replica) if replica.topic_id() == topic_id => replica,
            // An id that was not understood drops no log.
            Some(_) if topic_id == Uuid::ZERO => return Err(ErrorCode::InconsistentTopicId),
            _ => {
                // KIP-516: a topic of that name that was deleted without this broker's knowing. Its log is
                // dropped like one that is found on the disk.
                if let Some(old) = self.take_out(partition) {
                    old.retire();
                }
                let created = self.create(partition, topic_id, state.is_new);
                self.note_availability(partition, created.as_ref().err().copied());
                created?
            }
        };
        let decision = LeaderAndIsr {
            leader: (state.leader >= 0).then_some(state.leader),
            leader_epoch: state.leader_epoch,
            isr: state.isr,
            partition_epoch: state.partition_epoch,
            replicas: state.replicas,
        };
        tracing::debug!(%partition, ?decision, "LeaderAndIsr");
        replica.assign(self.config().broker_id, decision)
    }

    fn create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        is_new: bool,
    ) -> Result<Arc<Replica>, ErrorCode> {
        // A log that there must be, and that is in no directory that works, is in one that is offline: made anew, it would
        // be empty, and this broker might be the last that has its records.
        if !is_new && self.logs.get(partition).is_none() && self.logs.any_offline() {
            tracing::warn!(%partition, "no log is found, it may lie in the log directory that is offline");
            return Err(ErrorCode::KafkaStorageError);
        }
        let config = self.topic_config(&partition.topic);
        let make = || {
            let log_config = log_config(&config, &self.config());
            self.logs
                .get_or_create(partition, Some(topic_id), log_config, now_ms())
        };
        let log = make().or_else(|error| match error {
            // KIP-516: the log of a topic of that name that was deleted while this broker was away.
            GetOrCreateError::InconsistentTopicId { .. } => {
                tracing::warn!(%partition, %error, "the old topic's log is dropped");
                self.logs.delete(partition, now_ms())?;
                make()
            }
            _ => Err(error),
        });
        let log = log.map_err(|error| {
            tracing::error!(%partition, %error, "no log");
            ErrorCode::KafkaStorageError
        })?;
        let (log_start_offset, log_end_offset) = {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            (log.log_start_offset(), log.log_end_offset())
        };
        let core = Partition::new(PartitionSettings {
            local_id: self.config().broker_id,
            replica_lag_time_max_ms: self.config().replica_lag_time_max_ms,
            min_insync_replicas: min_insync_replicas(&config),
            live_brokers: self.metadata.load().live_brokers().clone(),
            log_start_offset,
            log_end_offset,
            high_watermark: self
                .checkpointed
                .get(partition)
                .copied()
                .unwrap_or_default(),
        });
        let replica = Arc::new(Replica::new(
            partition.clone(),
            topic_id,
            log,
            core,
            self.effects.clone(),
        ));
        self.insert(replica.clone());
        // A change that came before it was inserted, or since its log was opened, passed it by (KAFKA-8813).
        self.configure(&partition.topic, std::slice::from_ref(&replica));
        Ok(replica)
    }

    /// Remembers what clients are to hear of a partition without a replica.
    fn note_availability(&self, partition: &TopicPartition, refused: Option<ErrorCode>) {
        let mut unavailable = self.unavailable();
        match refused {
            Some(ErrorCode::KafkaStorageError) => drop(unavailable.insert(partition.clone())),
            _ => drop(unavailable.remove(partition)),
        }
    }

    /// Logs of which the controller, which names all that it wants here, knows nothing: their topics were
    /// deleted while this broker was away. They are renamed and not removed, in case that it errs.
    fn set_aside_strays(&self, topics: &[TopicState], kept_topics: &[String]) {
        let wanted = topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|state| (topic.topic.as_str(), state.partition))
        });
        let wanted: HashSet<(&str, i32)> = wanted.collect();
        let kept_topics: HashSet<&str> = kept_topics.iter().map(String::as_str).collect();
        for (partition, log) in self.logs.all() {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let is_offline = log.offline().is_some();
            drop(log);
            if is_offline
                || kept_topics.contains(&*partition.topic)
                || wanted.contains(&(&*partition.topic, partition.partition))
            {
                continue;
            }
            if let Some(replica) = self.take_out(&partition) {
                replica.retire();
            }
            match self.logs.set_aside_stray(&partition) {
                Ok(_) => {
                    tracing::warn!(%partition, "the controller knows no such partition, its log is set aside")
                }
                Err(error) => tracing::error!(%partition, %error, "a stray log was not set aside"),
            }
        }
    }

    fn apply_update_metadata(&self, request: UpdateMetadataRequest) -> UpdateMetadataResponse {
        let mut epoch = self
            .controller_epoch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let controller_id = match self.accept(&mut epoch, request.stamp.as_ref(), "UpdateMetadata")
        {
            Ok(controller_id) => controller_id,
            Err(error) => {
                return UpdateMetadataResponse {
                    error_code: code(error),
                };
            }
        };
        let update = MetadataUpdate {
            full: request.full,
            controller_id,
            brokers: request.live_brokers.into_iter().map(broker).collect(),
            topics: request.topics.into_iter().map(topic_update).collect(),
        };
        self.publish_states(&update.topics);
        let before = self.metadata.load_full();
        let after = Arc::new(before.updated(update));
        self.metadata.store(after.clone());
        self.effects.fetchers.set_leaders(BTreeMap::new());
        if before.live_brokers() != after.live_brokers() {
            self.effects.fetchers.brokers_changed();
            for replica in self.replicas() {
                replica.handle(Event::LiveBrokersChanged(after.live_brokers().clone()));
            }
        }
        if after.is_complete() {
            self.ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        UpdateMetadataResponse { error_code: 0 }
    }

    /// A leader whose ISR was changed without its doing, or whose request went astray, learns it here.
    fn publish_states(&self, topics: &[TopicUpdate]) {
        for topic in topics {
            for (index, state) in &topic.partitions {
                let Some(state) = state else { continue };
                if state.leader != Some(self.config().broker_id) {
                    continue;
                }
                if let Some(replica) = self.replica(&topic.name, *index) {
                    replica.handle(Event::StatePublished {
                        leader_epoch: state.leader_epoch,
                        partition_epoch: state.partition_epoch,
                        isr: state.isr.clone(),
                    });
                }
            }
        }
    }

    fn apply_stop_replica(&self, request: StopReplicaRequest) -> StopReplicaResponse {
        let mut epoch = self
            .controller_epoch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.accept(&mut epoch, request.stamp.as_ref(), "StopReplica") {
            return StopReplicaResponse {
                error_code: code(error),
                partitions: Vec::new(),
            };
        }
        let mut answer = StopReplicaResponse::default();
        for asked in request.partitions {
            let error = self.stop(&asked).err().unwrap_or(ErrorCode::None);
            let StopReplicaPartition {
                topic, partition, ..
            } = asked;
            answer.partitions.push(PartitionError {
                topic,
                partition,
                error_code: code(error),
            });
        }
        answer
    }

    fn stop(&self, asked: &StopReplicaPartition) -> Result<(), ErrorCode> {
        let partition = TopicPartition::new(asked.topic.clone(), asked.partition);
        let replica = self.replica(&partition.topic, partition.partition);
        if let Some(replica) = &replica {
            let current = replica.inspect(|core| core.leader_epoch());
            let sentinel =
                asked.leader_epoch == EPOCH_DURING_DELETE || asked.leader_epoch == NO_EPOCH;
            if !sentinel && current.is_some_and(|current| asked.leader_epoch < current) {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
        }
        self.effects.fetchers.stop(&partition);
        if !asked.delete {
            return Ok(());
        }
        if let Some(replica) = self.take_out(&partition) {
            replica.retire();
        }
        match self.logs.delete(&partition, now_ms()) {
            // Lest it come back with the directory.
            Ok(false) if self.logs.any_offline() => {
                tracing::warn!(%partition, "the log is not deleted: it may lie in the log directory that is offline");
                Err(ErrorCode::KafkaStorageError)
            }
            Ok(_) => {
                tracing::info!(%partition, "the replica is deleted");
                self.note_availability(&partition, None);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%partition, %error, "the log was not deleted");
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }
}

fn uuid(bytes: &[u8]) -> Uuid {
    bytes.try_into().map_or(Uuid::ZERO, Uuid::from_bytes)
}

fn broker(live: LiveBroker) -> Broker {
    let endpoints = live.endpoints.into_iter().filter_map(|endpoint| {
        let port = u16::try_from(endpoint.port).ok()?;
        Some(Endpoint {
            listener: endpoint.listener.into(),
            host: endpoint.host.into(),
            port,
        })
    });
    Broker {
        id: live.id,
        epoch: live.epoch,
        endpoints: endpoints.collect(),
        rack: live.rack.map(ByteString::from),
    }
}

fn topic_update(topic: TopicState) -> TopicUpdate {
    let partitions = topic.partitions.into_iter().map(|state| {
        let metadata = (state.leader != LEADER_DURING_DELETE).then_some(PartitionMetadata {
            leader: (state.leader >= 0).then_some(state.leader),
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            replicas: state.replicas,
            isr: state.isr,
            offline_replicas: state.offline_replicas,
        });
        (state.partition, metadata)
    });
    TopicUpdate {
        name: topic.topic.into(),
        topic_id: uuid(&topic.topic_id),
        partitions: partitions.collect(),
    }
}
