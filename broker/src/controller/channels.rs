//! What the controller has to tell the brokers: a queue and a task for each.
//!
//! A broker is told in order, one batch at a time, again every 100 ms until it has answered or is
//! gone. Its queue grows for as long as it does not answer, which its session with coord bounds:
//! when that ends the broker is gone for the controller, and its queue with it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use broker_core::controller::{BrokerBatch, Event, LiveBroker};
use kafka_wire::{ErrorCode, TopicPartition};
use proto::control;
use proto::control::broker_client::BrokerClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use super::{Signal, convert};
use crate::control::{MAX_MESSAGE_BYTES, connect_lazily};

/// How long to wait before a broker is told again what it did not acknowledge.
const RETRY: Duration = Duration::from_millis(100);

/// The queues of all live brokers.
pub(super) struct Channels {
    controller_id: i32,
    controller_epoch: i32,
    listener: String,
    timeout: Duration,
    signals: mpsc::WeakSender<Signal>,
    channels: BTreeMap<i32, BrokerChannel>,
}

struct BrokerChannel {
    broker: LiveBroker,
    queue: mpsc::UnboundedSender<BrokerBatch>,
    sent: u64,
    acknowledged: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Drop for BrokerChannel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Channels {
    pub(super) fn new(
        controller_id: i32,
        controller_epoch: i32,
        listener: String,
        timeout: Duration,
        signals: mpsc::WeakSender<Signal>,
    ) -> Self {
        Self {
            controller_id,
            controller_epoch,
            listener,
            timeout,
            signals,
            channels: BTreeMap::new(),
        }
    }

    /// Forgets the brokers that are not in `live`, or are in another life.
    pub(super) fn retain(&mut self, live: &BTreeMap<i32, LiveBroker>) {
        self.channels
            .retain(|id, channel| live.get(id).is_some_and(|broker| *broker == channel.broker));
    }

    /// Queues a batch for that life of that broker.
    pub(super) fn send(&mut self, broker: LiveBroker, batch: BrokerBatch) {
        let id = broker.id;
        if self
            .channels
            .get(&id)
            .is_none_or(|channel| channel.broker != broker)
            && let Some(channel) = self.open(broker)
        {
            self.channels.insert(id, channel);
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            // The task ends only with the channel.
            let _ = channel.queue.send(batch);
            channel.sent += 1;
        }
    }

    fn open(&self, broker: LiveBroker) -> Option<BrokerChannel> {
        let Some(endpoint) = broker.registration.endpoint(&self.listener) else {
            tracing::error!(
                "broker {} has no listener {}: it cannot be told anything",
                broker.id,
                self.listener
            );
            return None;
        };
        let channel = connect_lazily(&endpoint.host, endpoint.port)
            .inspect_err(|error| tracing::error!("broker {} cannot be reached: {error}", broker.id))
            .ok()?;
        let client = BrokerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (queue, batches) = mpsc::unbounded_channel();
        let (acknowledge, acknowledged) = watch::channel(0);
        let teller = Teller {
            broker_id: broker.id,
            stamp: convert::stamp(self.controller_id, self.controller_epoch, broker.epoch),
            timeout: self.timeout,
            client,
            signals: self.signals.clone(),
        };
        let task = tokio::spawn(teller.run(batches, acknowledge));
        Some(BrokerChannel {
            broker,
            queue,
            sent: 0,
            acknowledged,
            task,
        })
    }

    /// Completes when every broker has acknowledged what was queued so far, or is gone.
    pub(super) fn acknowledged(&self) -> impl Future<Output = ()> + Send + 'static {
        let waits: Vec<_> = self
            .channels
            .values()
            .map(|channel| (channel.acknowledged.clone(), channel.sent))
            .collect();
        async move {
            for (mut acknowledged, sent) in waits {
                // An error says that the broker is gone.
                let _ = acknowledged.wait_for(|so_far| *so_far >= sent).await;
            }
        }
    }
}

/// Tells one broker.
struct Teller {
    broker_id: i32,
    stamp: Option<control::ControllerStamp>,
    timeout: Duration,
    client: BrokerClient<Channel>,
    signals: mpsc::WeakSender<Signal>,
}

impl Teller {
    async fn run(
        self,
        mut batches: mpsc::UnboundedReceiver<BrokerBatch>,
        acknowledge: watch::Sender<u64>,
    ) {
        while let Some(batch) = batches.recv().await {
            self.tell(batch).await;
            acknowledge.send_modify(|count| *count += 1);
        }
    }

    async fn tell(&self, batch: BrokerBatch) {
        if let Some(request) = &batch.leader_and_isr {
            let request = convert::leader_and_isr(self.stamp, request);
            let call = |mut client: BrokerClient<Channel>| {
                let request = request.clone();
                async move { client.leader_and_isr(request).await }
            };
            let response = self.until_answered(call).await;
            self.report("LeaderAndIsr", response.error_code, &response.partitions);
        }
        if let Some(request) = &batch.update_metadata {
            let request = convert::update_metadata(self.stamp, request);
            let call = |mut client: BrokerClient<Channel>| {
                let request = request.clone();
                async move { client.update_metadata(request).await }
            };
            let response = self.until_answered(call).await;
            self.report("UpdateMetadata", response.error_code, &[]);
        }
        if !batch.stop_replicas.is_empty() {
            let request = convert::stop_replica(self.stamp, &batch.stop_replicas);
            let call = |mut client: BrokerClient<Channel>| {
                let request = request.clone();
                async move { client.stop_replica(request).await }
            };
            let response = self.until_answered(call).await;
            self.report("StopReplica", response.error_code, &response.partitions);
            self.report_deletions(&batch, &response).await;
        }
    }

    /// Calls until the broker has answered. It ends with the channel, when the broker is gone.
    async fn until_answered<T, F>(&self, call: impl Fn(BrokerClient<Channel>) -> F) -> T
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut is_first = true;
        loop {
            let cause = match tokio::time::timeout(self.timeout, call(self.client.clone())).await {
                Ok(Ok(response)) => return response.into_inner(),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "no answer in time".to_owned(),
            };
            if std::mem::take(&mut is_first) {
                tracing::info!(
                    "broker {} is told again until it answers: {cause}",
                    self.broker_id
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn report(&self, what: &str, error_code: i32, partitions: &[control::PartitionError]) {
        let name = |code: i32| {
            i16::try_from(code)
                .map_or(ErrorCode::UnknownServerError, ErrorCode::from_code)
                .name()
        };
        if error_code != 0 {
            tracing::warn!(
                "broker {} refuses {what}: {}",
                self.broker_id,
                name(error_code)
            );
        }
        // A broker that heard the same epoch from the last controller says so: nothing is amiss.
        let known = convert::wire_code(ErrorCode::StaleControllerEpoch);
        let is_failure = |error: &&control::PartitionError| ![0, known].contains(&error.error_code);
        for error in partitions.iter().filter(is_failure) {
            let (topic, partition) = (&error.topic, error.partition);
            tracing::warn!(
                "broker {} refuses {what} for {topic}-{partition}: {}",
                self.broker_id,
                name(error.error_code)
            );
        }
    }

    async fn report_deletions(&self, batch: &BrokerBatch, response: &control::StopReplicaResponse) {
        // A replica that the broker does not know is gone as well.
        let unknown = convert::wire_code(ErrorCode::UnknownTopicOrPartition);
        let is_failure =
            |error: &&control::PartitionError| ![0, unknown].contains(&error.error_code);
        let failed: BTreeSet<_> = response
            .partitions
            .iter()
            .filter(is_failure)
            .map(|error| (error.topic.as_str(), error.partition))
            .collect();
        let is_gone = |tp: &TopicPartition| {
            response.error_code == 0 && !failed.contains(&(&*tp.topic, tp.partition))
        };
        let deleted = batch.stop_replicas.iter().filter(|stop| stop.delete);
        let replicas: Vec<_> = deleted
            .map(|stop| (stop.tp.clone(), is_gone(&stop.tp)))
            .collect();
        if let (false, Some(signals)) = (replicas.is_empty(), self.signals.upgrade()) {
            let event = Event::ReplicasDeleted {
                broker_id: self.broker_id,
                replicas,
            };
            // An error says that the term is over.
            let _ = signals.send(Signal::Event(event)).await;
        }
    }
}
