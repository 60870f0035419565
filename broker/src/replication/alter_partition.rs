//! ISR changes on their way to the controller (KIP-497): one in flight for each partition, all that
//! wait in one request.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker_core::partition::{AlterPartitionOutcome, Event};
use kafka_wire::{ErrorCode, TopicPartition};
use proto::control::{
    AlterPartitionItem, AlterPartitionRequest, AlterPartitionResponse, AlterPartitionResult,
};
use tokio::sync::Notify;

use super::replica::Replica;
use crate::control::ControllerChannel;

/// How long to wait before a request that got no answer is made again.
const RETRY: Duration = Duration::from_millis(50);
/// More go into the next request.
const MAX_ITEMS: usize = 10_000;

/// The way to the controller, wherever it is.
pub trait AlterPartition: Send + Sync + 'static {
    /// Asks for ISR changes. Answers within a deadline; an error says in words why there is no answer.
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, String>> + Send + '_>>;
}

impl AlterPartition for ControllerChannel {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, String>> + Send + '_>> {
        Box::pin(async move {
            let answer = ControllerChannel::alter_partition(self, request).await;
            answer.map_err(|unavailable| unavailable.to_string())
        })
    }
}

#[derive(Debug)]
struct Wanted {
    replica: Arc<Replica>,
    leader_epoch: i32,
    partition_epoch: i32,
    new_isr: Vec<i32>,
}

/// The changes that wait to be sent. A later one of a partition replaces an earlier one.
#[derive(Debug, Default)]
pub struct AlterPartitionQueue {
    wanted: Mutex<HashMap<TopicPartition, Wanted>>,
    changed: Notify,
}

impl AlterPartitionQueue {
    pub(super) fn put(
        &self,
        replica: Arc<Replica>,
        leader_epoch: i32,
        partition_epoch: i32,
        new_isr: Vec<i32>,
    ) {
        let partition = replica.topic_partition().clone();
        tracing::debug!(%partition, leader_epoch, ?new_isr, "ISR change wanted");
        self.wanted().insert(
            partition,
            Wanted {
                replica,
                leader_epoch,
                partition_epoch,
                new_isr,
            },
        );
        self.changed.notify_one();
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<TopicPartition, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> HashMap<TopicPartition, Wanted> {
        let mut wanted = self.wanted();
        if wanted.len() <= MAX_ITEMS {
            return std::mem::take(&mut *wanted);
        }
        let some: Vec<TopicPartition> = wanted.keys().take(MAX_ITEMS).cloned().collect();
        some.into_iter()
            .filter_map(|partition| wanted.remove_entry(&partition))
            .collect()
    }

    /// What got no answer goes back, unless something newer is wanted by now.
    fn put_back(&self, unanswered: HashMap<TopicPartition, Wanted>) {
        let mut wanted = self.wanted();
        for (partition, item) in unanswered {
            wanted.entry(partition).or_insert(item);
        }
    }

    /// Sends what comes, for ever.
    pub(super) async fn run(
        &self,
        broker_id: i32,
        broker_epoch: impl Fn() -> i64,
        controller: Arc<dyn AlterPartition>,
    ) {
        loop {
            let mut batch = self.take();
            if batch.is_empty() {
                self.changed.notified().await;
                continue;
            }
            let request = AlterPartitionRequest {
                broker_id,
                broker_epoch: broker_epoch(),
                partitions: batch.values().map(item).collect(),
            };
            match controller.alter_partition(request).await {
                Ok(response) if ErrorCode::from_code(response.error_code as i16).is_none() => {
                    for result in response.partitions {
                        settle(&mut batch, result);
                    }
                }
                Ok(response) => {
                    let error = ErrorCode::from_code(response.error_code as i16);
                    tracing::debug!(
                        error = error.name(),
                        "the controller refused a request to alter partitions"
                    );
                }
                Err(error) => tracing::debug!(%error, "no answer to a request to alter partitions"),
            }
            if !batch.is_empty() {
                self.put_back(batch);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn item(wanted: &Wanted) -> AlterPartitionItem {
    let partition = wanted.replica.topic_partition();
    AlterPartitionItem {
        topic: partition.topic.to_string(),
        topic_id: wanted.replica.topic_id().as_bytes().to_vec(),
        partition: partition.partition,
        leader_epoch: wanted.leader_epoch,
        partition_epoch: wanted.partition_epoch,
        new_isr: wanted.new_isr.clone(),
        // A leader whose ISR changes has recovered (KIP-704).
        leader_recovery_state: 0,
    }
}

/// Takes an answered item from the batch; what shall be asked again stays.
fn settle(batch: &mut HashMap<TopicPartition, Wanted>, result: AlterPartitionResult) {
    let partition = TopicPartition::new(result.topic, result.partition);
    let error = ErrorCode::from_code(i16::try_from(result.error_code).unwrap_or(-1));
    let outcome = match error {
        ErrorCode::None => AlterPartitionOutcome::Committed {
            isr: result.isr,
            partition_epoch: result.partition_epoch,
        },
        ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted => {
            AlterPartitionOutcome::Refused
        }
        // The controller knows better: its LeaderAndIsr or UpdateMetadata is on its way.
        ErrorCode::FencedLeaderEpoch
        | ErrorCode::InvalidUpdateVersion
        | ErrorCode::NewLeaderElected
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId => AlterPartitionOutcome::Superseded,
        _ => return,
    };
    let Some(wanted) = batch.remove(&partition) else {
        return;
    };
    match &outcome {
        AlterPartitionOutcome::Committed { isr, .. } => {
            tracing::info!(%partition, leader_epoch = wanted.leader_epoch, ?isr, "ISR changed");
        }
        _ => {
            tracing::info!(%partition, error = error.name(), new_isr = ?wanted.new_isr, "ISR not changed")
        }
    }
    wanted.replica.handle(Event::AlterPartitionAnswered {
        leader_epoch: wanted.leader_epoch,
        partition_epoch: wanted.partition_epoch,
        outcome,
    });
}
