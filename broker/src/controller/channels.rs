//! What the controller has to tell the brokers: a queue and a task for each.
//!
//! A broker is told in order, one batch at a time, again every 100 ms until it has answered or is
//! gone: when its session with coord ends the broker is gone for the controller, and its queue with
//! it. Where too much waits for a broker that does not answer, all of that is given up, and the core
//! is told: it has the broker told everything instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker_core::controller::{BrokerBatch, Event, LiveBroker};
use kafka_wire::{ErrorCode, TopicPartition};
use proto::control;
use proto::control::broker_client::BrokerClient;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use super::{Signal, convert};
use crate::control::{MAX_MESSAGE_BYTES, connect_lazily};

/// How long to wait before a broker is told again what it did not acknowledge.
const RETRY: Duration = Duration::from_millis(100);

/// So many batches may wait for a broker, beside the one that it is being told.
const MAX_WAITING: usize = 1024;

/// The queues of all live brokers.
pub(super) struct Channels {
    controller_id: i32,
    controller_epoch: i32,
    listener: String,
    timeout: Duration,
    signals: mpsc::WeakSender<Signal>,
    channels: BTreeMap<i32, BrokerChannel>,
    /// The brokers whose queues were given up.
    left_behind: BTreeSet<i32>,
}

struct BrokerChannel {
    broker: LiveBroker,
    queue: Arc<Queue>,
    /// The number of the last batch.
    sent: u64,
    acknowledged: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Drop for BrokerChannel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What waits for one broker, in order and numbered.
#[derive(Default)]
struct Queue {
    batches: Mutex<VecDeque<(u64, BrokerBatch)>>,
    more: Notify,
}

impl Queue {
    fn batches(&self) -> MutexGuard<'_, VecDeque<(u64, BrokerBatch)>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch behind the others; false if too many wait, which are given up with it.
    fn push(&self, number: u64, batch: BrokerBatch) -> bool {
        let mut batches = self.batches();
        if batches.len() >= MAX_WAITING {
            batches.clear();
            return false;
        }
        batches.push_back((number, batch));
        self.more.notify_one();
        true
    }

    async fn next(&self) -> (u64, BrokerBatch) {
        loop {
            let next = self.batches().pop_front();
            match next {
                Some(next) => return next,
                None => self.more.notified().await,
            }
        }
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
            left_behind: BTreeSet::new(),
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
            channel.sent += 1;
            if !channel.queue.push(channel.sent, batch) {
                tracing::warn!("broker {id} does not answer: it is told everything anew");
                self.left_behind.insert(id);
            }
        }
    }

    /// A broker that has not heard, and will not hear, some of what was sent to it; each time once.
    pub(super) fn take_left_behind(&mut self) -> Option<i32> {
        self.left_behind.pop_first()
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
        let queue = Arc::new(Queue::default());
        let (acknowledge, acknowledged) = watch::channel(0);
        let teller = Teller {
            broker_id: broker.id,
            broker_epoch: broker.epoch,
            stamp: convert::stamp(self.controller_id, self.controller_epoch, broker.epoch),
            timeout: self.timeout,
            client,
            signals: self.signals.clone(),
        };
        let task = tokio::spawn(teller.run(queue.clone(), acknowledge));
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
    broker_epoch: i64,
    stamp: Option<control::ControllerStamp>,
    timeout: Duration,
    client: BrokerClient<Channel>,
    signals: mpsc::WeakSender<Signal>,
}

impl Teller {
    /// Ends with the channel.
    async fn run(self, queue: Arc<Queue>, acknowledge: watch::Sender<u64>) {
        loop {
            let (number, batch) = queue.next().await;
            self.tell(batch).await;
            acknowledge.send_replace(number);
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
            self.report_offline(&response.partitions).await;
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

    /// The replicas that lie in a log directory that is offline: others lead their partitions.
    async fn report_offline(&self, partitions: &[control::PartitionError]) {
        let code = convert::wire_code(ErrorCode::KafkaStorageError);
        let offline = partitions.iter().filter(|error| error.error_code == code);
        let replicas: Vec<_> = offline
            .map(|error| TopicPartition::new(error.topic.clone(), error.partition))
            .collect();
        if let (false, Some(signals)) = (replicas.is_empty(), self.signals.upgrade()) {
            let event = Event::ReplicasOffline {
                broker_id: self.broker_id,
                broker_epoch: self.broker_epoch,
                replicas,
            };
            // An error says that the term is over.
            let _ = signals.send(Signal::Event(event)).await;
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

#[cfg(test)]
mod tests {
    use broker_core::controller::StopReplica;
    use broker_core::znode::{BrokerEndpoint, BrokerRegistration};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_broker_that_hangs_is_bounded() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = BrokerEndpoint {
            listener: "CONTROL".to_owned(),
            security_protocol: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
        };
        let broker = LiveBroker {
            id: 2,
            epoch: 5,
            registration: BrokerRegistration {
                endpoints: vec![endpoint],
                rack: None,
                timestamp_ms: 0,
            },
        };
        let stop = StopReplica {
            tp: TopicPartition::new("t", 0),
            leader_epoch: 1,
            delete: false,
        };
        let batch = BrokerBatch {
            leader_and_isr: None,
            update_metadata: None,
            stop_replicas: vec![stop],
        };
        let (signals, _queue) = mpsc::channel(1);
        let timeout = Duration::from_secs(60);
        let mut channels = Channels::new(1, 1, "CONTROL".to_owned(), timeout, signals.downgrade());
        for _ in 0..MAX_WAITING {
            channels.send(broker.clone(), batch.clone());
        }
        assert_eq!(channels.take_left_behind(), None);
        channels.send(broker.clone(), batch.clone());
        assert_eq!(channels.take_left_behind(), Some(2));
        assert_eq!(channels.take_left_behind(), None);
        assert!(channels.channels[&2].queue.batches().is_empty());
        channels.send(broker, batch);
        assert_eq!(channels.channels[&2].queue.batches().len(), 1);
    }
}
