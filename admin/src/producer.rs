//! A producer that loses nothing: lines in, record batches out, one request in flight for each partition.
//!
//! What flows through: records come from a bounded queue, [`partitioner`] picks their partition, [`queue`] keeps each
//! partition's batches in order and decides what an answer means, and this file sends. A batch that a broker refuses
//! as too large is split; one that fails for a passing reason is sent again after a look at fresh metadata. With
//! acks=all batches carry a producer id and sequences, so that sending again never appends twice.
//!
//! What must never be here: a second request for a partition whose first is unanswered, and a record that is given up
//! without a line that says so.

mod partitioner;
mod queue;
mod record;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use kafka_wire::compression::Compression;
use kafka_wire::init_producer_id::InitProducerIdRequest;
use kafka_wire::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use kafka_wire::{ByteString, ErrorCode, Records};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Cluster, ClusterError, Connection, ConnectionError};
use crate::terminal::{Level, log};
use partitioner::Partitioner;
use queue::{Failed, PartitionQueue, ProducerId, Verdict};

pub(crate) use record::ProducerRecord;

/// How a producer behaves; the names are those of Kafka's producer.
#[derive(Debug, Clone)]
pub(crate) struct ProducerConfig {
    /// `acks`: -1 for all, 0, 1.
    pub(crate) acks: i16,
    /// `batch.size`: how large a batch grows, in bytes.
    pub(crate) batch_size: usize,
    /// `linger.ms`: how long a batch that is not full waits for more.
    pub(crate) linger: Duration,
    /// `compression.type`.
    pub(crate) compression: Compression,
    /// `request.timeout.ms`: how long a broker may take to answer.
    pub(crate) request_timeout: Duration,
    /// `retries`: how often a batch is sent again; `None` means as often as `delivery_timeout` allows.
    pub(crate) retries: Option<u32>,
    /// `delivery.timeout.ms`: how long a batch is tried.
    pub(crate) delivery_timeout: Duration,
    /// `buffer.memory`: how much memory waiting records take at most.
    pub(crate) buffer_memory: usize,
    /// `max.request.size`: how large a request grows, and a record may be.
    pub(crate) max_request_size: usize,
    /// `metadata.max.age.ms`: how often partitions and leaders are asked for though nothing went wrong.
    pub(crate) metadata_max_age: Duration,
    /// `max.block.ms`: how long the topic may be missing at the start.
    pub(crate) max_block: Duration,
    /// Whether each record is answered before the next is read.
    pub(crate) sync: bool,
}

/// Why a producer stopped before its input ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    /// The cluster gave no answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The topic did not come up.
    #[error("Topic {topic} not present in metadata after {waited_ms} ms: {reason}")]
    NoTopic {
        /// The topic.
        topic: String,
        /// How long it was waited for.
        waited_ms: u128,
        /// What the brokers said last.
        reason: String,
    },
    /// A batch was given up though it may have been appended, so that the order of what follows is lost.
    #[error("{records} records were not acknowledged, from line {first_line} on: {reason}")]
    Unacknowledged {
        /// How many records are still unsent or unanswered.
        records: usize,
        /// The first line of the input among them.
        first_line: u64,
        /// The last failure.
        reason: String,
    },
}

/// A request's fate: who it was for, which partitions it held, and what came back.
struct Sent {
    broker_id: i32,
    partitions: Vec<usize>,
    /// `None` in place of a response: acks=0.
    outcome: Result<(Connection, Option<ProduceResponse>), ConnectionError>,
}

/// A producer for one topic.
pub(crate) struct Producer {
    cluster: Cluster,
    config: ProducerConfig,
    topic: ByteString,
    partitioner: Partitioner,
    queues: Vec<PartitionQueue>,
    /// The leader of each partition, where there is one.
    leaders: Vec<Option<i32>>,
    producer_id: Option<ProducerId>,
    /// Open connections that wait for work, by broker.
    idle: HashMap<i32, Connection>,
    /// Brokers with a request in flight.
    busy: HashSet<i32>,
    in_flight: JoinSet<Sent>,
    /// When metadata is asked for next.
    refresh_at: Instant,
    refresh_failures: u32,
    /// Records that brokers refused for good.
    failed: u64,
}

impl Producer {
    /// A producer that has not asked anybody anything yet.
    pub(crate) fn new(cluster: Cluster, topic: &str, config: ProducerConfig) -> Self {
        let refresh_at = Instant::now();
        Self {
            cluster,
            topic: ByteString::from(topic),
            partitioner: Partitioner::new(config.batch_size),
            config,
            queues: Vec::new(),
            leaders: Vec::new(),
            producer_id: None,
            idle: HashMap::new(),
            busy: HashSet::new(),
            in_flight: JoinSet::new(),
            refresh_at,
            refresh_failures: 0,
            failed: 0,
        }
    }

    /// Sends everything that comes until the queue's other end is dropped, and waits for all answers.
    ///
    /// Returns how many records were refused for good; each has had its line on standard error.
    ///
    /// # Errors
    /// If the topic does not come up, or records can not be brought home in time.
    pub(crate) async fn run(
        mut self,
        mut input: mpsc::Receiver<ProducerRecord>,
    ) -> Result<u64, ProduceError> {
        let mut open = true;
        loop {
            if !open && self.buffered_records() == 0 {
                return Ok(self.failed);
            }
            if !self.queues.is_empty() && Instant::now() >= self.refresh_at {
                self.refresh().await;
            }
            self.dispatch(!open);
            self.expire()?;
            let wants_more = match self.config.sync {
                true => self.buffered_records() == 0,
                false => self.buffered_memory() < self.config.buffer_memory,
            };
            let wake_at = self.wake_at(!open);
            tokio::select! {
                biased;
                Some(sent) = self.in_flight.join_next() => {
                    // A task ends with a value unless it panicked, which would be a fault of this program.
                    if let Ok(sent) = sent {
                        self.complete(sent)?;
                    }
                }
                record = input.recv(), if open && wants_more => match record {
                    None => open = false,
                    Some(record) => {
                        if self.queues.is_empty() {
                            self.start().await?;
                        }
                        self.append(record);
                        while !self.config.sync && self.buffered_memory() < self.config.buffer_memory
                            && let Ok(record) = input.try_recv()
                        {
                            self.append(record);
                        }
                    }
                },
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Waits for the topic, which may have to be created first, and for a producer id.
    async fn start(&mut self) -> Result<(), ProduceError> {
        let begun = Instant::now();
        let mut failures = 0;
        let mut last_reason = String::new();
        loop {
            self.cluster.restart_clock();
            let reason = match self.ask_metadata().await? {
                ErrorCode::None if !self.queues.is_empty() => break,
                code => code.name().to_owned(),
            };
            let fatal = [
                ErrorCode::InvalidTopicException,
                ErrorCode::TopicAuthorizationFailed,
            ];
            let waited = begun.elapsed();
            if waited >= self.config.max_block || fatal.iter().any(|code| code.name() == reason) {
                let (topic, waited_ms) = (self.topic.to_string(), waited.as_millis());
                return Err(ProduceError::NoTopic {
                    topic,
                    waited_ms,
                    reason,
                });
            }
            if reason != last_reason {
                let message = format!(
                    "[Producer clientId={}] Error while fetching metadata: {{{}={reason}}}",
                    self.cluster.config().client_id,
                    self.topic
                );
                log(
                    Level::Warn,
                    &message,
                    "org.apache.kafka.clients.NetworkClient",
                );
                last_reason = reason;
            }
            let rest = self.cluster.config().backoff(failures);
            failures += 1;
            tokio::time::sleep(rest).await;
        }
        if self.config.acks == -1 {
            self.producer_id = Some(self.ask_producer_id().await?);
        }
        Ok(())
    }

    async fn ask_producer_id(&mut self) -> Result<ProducerId, ProduceError> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            self.cluster.restart_clock();
            let response = self.cluster.any(&request).await?;
            let code = ErrorCode::from_code(response.error_code);
            if code.is_none() {
                return Ok(ProducerId {
                    id: response.producer_id,
                    epoch: response.producer_epoch,
                });
            }
            if !code.retriable() || begun.elapsed() >= self.config.max_block {
                return Err(ClusterError::refused(response.error_code, None).into());
            }
            let rest = self.cluster.config().backoff(failures);
            failures += 1;
            tokio::time::sleep(rest).await;
        }
    }

    /// Asks for the topic's partitions and leaders; answers with the topic's error code.
    async fn ask_metadata(&mut self) -> Result<ErrorCode, ClusterError> {
        let response = self
            .cluster
            .metadata(Some(std::slice::from_ref(&self.topic)), true)
            .await?;
        let Some(topic) = response
            .topics
            .into_iter()
            .find(|topic| topic.name.as_ref() == Some(&self.topic))
        else {
            return Ok(ErrorCode::UnknownTopicOrPartition);
        };
        let known = |id: &i32| self.cluster.address(*id).is_some();
        // A partition's index is its place here. A broker's answer is not trusted to count them without gaps.
        let count = topic.partitions.len();
        let mut leaders = vec![None; count.max(self.leaders.len())];
        for partition in topic.partitions {
            let place = usize::try_from(partition.partition_index)
                .ok()
                .and_then(|index| leaders.get_mut(index));
            if let Some(leader) = place {
                *leader = Some(partition.leader_id).filter(known);
            }
        }
        for partition in self.queues.len()..leaders.len() {
            self.queues.push(PartitionQueue::new(
                i32::try_from(partition).unwrap_or(i32::MAX),
            ));
        }
        self.leaders = leaders;
        Ok(ErrorCode::from_code(topic.error_code))
    }

    /// Asks for metadata again. A failure is no more than a reason to ask once more: what waits has its own deadline.
    async fn refresh(&mut self) {
        self.cluster.restart_clock();
        let answered = matches!(self.ask_metadata().await, Ok(ErrorCode::None));
        let missing = self
            .queues
            .iter()
            .zip(&self.leaders)
            .any(|(queue, leader)| leader.is_none() && !queue.is_empty());
        let rest = match answered && !missing {
            true => {
                self.refresh_failures = 0;
                self.config.metadata_max_age
            }
            false => {
                self.refresh_failures += 1;
                self.cluster.config().backoff(self.refresh_failures - 1)
            }
        };
        self.refresh_at = Instant::now() + rest;
    }

    fn append(&mut self, record: ProducerRecord) {
        if record.size() > self.config.max_request_size {
            let reason = format!(
                "larger than max.request.size, {} bytes",
                self.config.max_request_size
            );
            self.report(&record, &reason);
            return;
        }
        let available: Vec<usize> = (0..self.leaders.len())
            .filter(|partition| self.leaders[*partition].is_some())
            .collect();
        let partition = self
            .partitioner
            .partition(&record, self.queues.len(), &available);
        if let Some(queue) = self.queues.get_mut(partition) {
            let batch_size = if self.config.sync {
                1
            } else {
                self.config.batch_size
            };
            queue.append(record, Instant::now(), batch_size);
        }
    }

    /// Sends a request to every broker that has none in flight and leads partitions with something to send.
    fn dispatch(&mut self, flush: bool) {
        let now = Instant::now();
        let mut by_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (partition, queue) in self.queues.iter().enumerate() {
            let linger = if flush || self.config.sync {
                Duration::ZERO
            } else {
                self.config.linger
            };
            match self.leaders.get(partition).copied().flatten() {
                Some(leader)
                    if !self.busy.contains(&leader)
                        && queue.is_ready(now, linger, self.config.batch_size) =>
                {
                    by_leader.entry(leader).or_default().push(partition);
                }
                _ => {}
            }
        }
        for (broker_id, partitions) in by_leader {
            let Some(address) = self.cluster.address(broker_id).map(str::to_owned) else {
                continue;
            };
            let (request, partitions) = self.request(&partitions);
            if partitions.is_empty() {
                continue;
            }
            self.busy.insert(broker_id);
            let connection = self.idle.remove(&broker_id);
            let client = self.cluster.config();
            let (client_id, try_timeout) = (client.client_id.clone(), client.try_timeout);
            // The broker is told to give up first, so that its answer is still heard.
            let timeout = self.config.request_timeout + Duration::from_millis(500);
            self.in_flight.spawn(async move {
                let outcome = send(
                    connection,
                    &address,
                    &client_id,
                    &request,
                    try_timeout,
                    timeout,
                )
                .await;
                Sent {
                    broker_id,
                    partitions,
                    outcome,
                }
            });
        }
    }

    /// A request with the first batch of each partition, as many as fit.
    fn request(&mut self, partitions: &[usize]) -> (ProduceRequest, Vec<usize>) {
        let mut partition_data = Vec::new();
        let mut sent = Vec::new();
        let mut size = 0;
        for &partition in partitions {
            let Some(queue) = self.queues.get_mut(partition) else {
                continue;
            };
            if size > 0 && size + queue.head_bytes() > self.config.max_request_size {
                break;
            }
            size += queue.head_bytes();
            match queue.send(self.config.compression, self.producer_id) {
                Ok(records) => {
                    let index = i32::try_from(partition).unwrap_or(i32::MAX);
                    partition_data.push(PartitionProduceData {
                        index,
                        records: Records::Inline(records),
                    });
                    sent.push(partition);
                }
                Err(reason) => {
                    let failed = queue.fail(reason.to_string());
                    self.report_all(failed);
                }
            }
        }
        let timeout_ms = i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let topic_data = vec![TopicProduceData {
            name: self.topic.clone(),
            partition_data,
        }];
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.config.acks,
            timeout_ms,
            topic_data,
        };
        (request, sent)
    }

    /// Acts on what came back.
    fn complete(&mut self, sent: Sent) -> Result<(), ProduceError> {
        self.busy.remove(&sent.broker_id);
        let answers: HashMap<usize, (ErrorCode, String)> = match sent.outcome {
            Ok((connection, response)) => {
                self.idle.insert(sent.broker_id, connection);
                match response {
                    None => sent
                        .partitions
                        .iter()
                        .map(|index| (*index, (ErrorCode::None, String::new())))
                        .collect(),
                    Some(response) => answers(&self.topic, response),
                }
            }
            Err(error) => {
                let lost = (ErrorCode::NetworkException, error.to_string());
                sent.partitions
                    .iter()
                    .map(|index| (*index, lost.clone()))
                    .collect()
            }
        };
        for partition in sent.partitions {
            let unanswered = || {
                (
                    ErrorCode::NetworkException,
                    "the broker left the partition out of its answer".to_owned(),
                )
            };
            let (code, message) = answers.get(&partition).cloned().unwrap_or_else(unanswered);
            self.judge(partition, code, message)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        partition: usize,
        code: ErrorCode,
        message: String,
    ) -> Result<(), ProduceError> {
        let Some(queue) = self.queues.get_mut(partition) else {
            return Ok(());
        };
        let backoff = |attempts: u32| self.cluster.config().backoff(attempts);
        let verdict = queue.answered(code, message, Instant::now(), &self.config, backoff);
        self.act(verdict)
    }

    /// Gives up what has waited too long for a leader.
    fn expire(&mut self) -> Result<(), ProduceError> {
        let now = Instant::now();
        for partition in 0..self.queues.len() {
            while let Some(verdict) =
                self.queues[partition].expire(now, self.config.delivery_timeout)
            {
                self.act(verdict)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, verdict: Verdict) -> Result<(), ProduceError> {
        match verdict {
            Verdict::Done => {}
            // What is queued next would be refused alike.
            Verdict::Split { half_bytes } => {
                self.config.batch_size = self.config.batch_size.min(half_bytes.max(1))
            }
            Verdict::Retry => self.refresh_at = self.refresh_at.min(Instant::now()),
            Verdict::Failed(failed) => self.report_all(failed),
            Verdict::Lost { first_line, reason } => {
                return Err(ProduceError::Unacknowledged {
                    records: self.buffered_records(),
                    first_line,
                    reason,
                });
            }
        }
        Ok(())
    }

    fn report_all(&mut self, failed: Failed) {
        for record in &failed.records {
            self.report(record, &failed.reason);
        }
    }

    fn report(&mut self, record: &ProducerRecord, reason: &str) {
        self.failed += 1;
        let bytes = |field: &Option<bytes::Bytes>| match field {
            Some(bytes) => format!("{} bytes", bytes.len()),
            None => "null".to_owned(),
        };
        let message = format!(
            "Error when sending message to topic {} with key: {}, value: {} with error: line {}: {reason}",
            self.topic,
            bytes(&record.key),
            bytes(&record.value),
            record.line
        );
        log(
            Level::Error,
            &message,
            "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback",
        );
    }

    fn buffered_records(&self) -> usize {
        self.queues.iter().map(PartitionQueue::records).sum()
    }

    fn buffered_memory(&self) -> usize {
        self.queues.iter().map(PartitionQueue::memory).sum()
    }

    /// When there is something to do though nothing came in.
    fn wake_at(&self, flush: bool) -> Instant {
        let linger = if flush {
            Duration::ZERO
        } else {
            self.config.linger
        };
        let of_queues = self
            .queues
            .iter()
            .enumerate()
            .filter(|(partition, _)| {
                self.leaders
                    .get(*partition)
                    .copied()
                    .flatten()
                    .is_some_and(|leader| !self.busy.contains(&leader))
            })
            .filter_map(|(_, queue)| queue.ready_at(linger));
        let timeout = self.config.delivery_timeout;
        let expiring = self
            .queues
            .iter()
            .filter_map(|queue| queue.expires_at(timeout));
        of_queues
            .chain(expiring)
            .chain([self.refresh_at])
            .min()
            .unwrap_or(self.refresh_at)
    }
}

/// What a response says of each partition.
fn answers(topic: &ByteString, response: ProduceResponse) -> HashMap<usize, (ErrorCode, String)> {
    let of_topic = response
        .responses
        .into_iter()
        .filter(|answer| answer.name == *topic);
    of_topic
        .flat_map(|answer| answer.partition_responses)
        .filter_map(|answer| {
            let code = ErrorCode::from_code(answer.error_code);
            let message = answer
                .error_message
                .map_or_else(|| code.message().to_owned(), |message| message.to_string());
            Some((usize::try_from(answer.index).ok()?, (code, message)))
        })
        .collect()
}

async fn send(
    connection: Option<Connection>,
    address: &str,
    client_id: &str,
    request: &ProduceRequest,
    try_timeout: Duration,
    timeout: Duration,
) -> Result<(Connection, Option<ProduceResponse>), ConnectionError> {
    let mut connection = match connection.filter(|connection| connection.address() == address) {
        Some(connection) => connection,
        None => Connection::open(address, client_id, Instant::now() + try_timeout).await?,
    };
    let deadline = Instant::now() + timeout;
    let response = match request.acks {
        0 => {
            connection.send(request, deadline).await?;
            None
        }
        _ => Some(connection.request(request, deadline).await?),
    };
    Ok((connection, response))
}

#[cfg(test)]
mod tests;
