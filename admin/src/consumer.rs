//! A consumer without a group: it finds all partitions, reads them all, and follows their leaders.
//!
//! What flows through: metadata says who leads what, ListOffsets where to begin, Fetch brings batches, and each record
//! goes to the caller in its partition's order. One request is in flight for each leader, so what waits in memory is
//! one answer for each.
//!
//! What must never be here: a record that is shown twice or skipped, and a wait that a dead broker can hold up.

pub(crate) mod formatter;
mod positions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use kafka_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use kafka_wire::{ByteString, ErrorCode, Records, TopicPartition};
use regex::Regex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Cluster, ClusterError, Connection, ConnectionError};
use crate::terminal::{Level, log};
use formatter::Message;
use positions::{Position, read_batches};

/// The most that one answer brings of one partition, beyond a first batch that is larger.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
/// The most that one answer brings.
const FETCH_MAX_BYTES: i32 = 8 << 20;
/// How long a leader may wait for records before it answers.
const FETCH_MAX_WAIT: Duration = Duration::from_millis(500);

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the oldest record that is kept.
    Earliest,
    /// Behind the newest.
    Latest,
    /// At this offset.
    Offset(i64),
}

/// Which topics are read.
#[derive(Debug, Clone)]
pub(crate) enum Topics {
    /// This one.
    Named(String),
    /// All whose whole name matches.
    Matching(Regex),
}

/// What is read, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    /// Which topics.
    pub(crate) topics: Topics,
    /// Which partition of them; all if unset.
    pub(crate) partition: Option<i32>,
    /// Where to begin.
    pub(crate) start: Start,
    /// Where to go on when an offset is gone, or a partition is new: earliest or latest.
    pub(crate) reset: Start,
    /// After how many messages to end.
    pub(crate) max_messages: Option<u64>,
    /// After how long without a message to end.
    pub(crate) timeout: Option<Duration>,
    /// Whether records of transactions that are open or aborted are left out.
    pub(crate) read_committed: bool,
    /// How often partitions and leaders are asked for though nothing went wrong.
    pub(crate) metadata_max_age: Duration,
}

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The messages that were asked for are there.
    Enough,
    /// No message came in time.
    Timeout,
    /// The caller wanted no more.
    Stopped,
}

/// Why reading can not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumeError {
    /// The cluster gave no answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A broker refuses the partition for good.
    #[error("{partition}: {}: {}", .code.name(), .code.message())]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// What it says.
        code: ErrorCode,
    },
    /// Bytes that are no records.
    #[error("{partition}: the records at offset {offset} can not be read: {reason}")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Where reading stands.
        offset: i64,
        /// What is wrong with them.
        reason: String,
    },
}

/// What a leader was asked, and what came back.
struct Asked {
    leader: i32,
    partitions: Vec<TopicPartition>,
    outcome: Result<(Connection, Answer), ConnectionError>,
}

enum Question {
    Offsets(ListOffsetsRequest),
    Records(FetchRequest),
}

enum Answer {
    Offsets(ListOffsetsResponse),
    Records(FetchResponse),
}

/// A consumer of topics.
pub(crate) struct Consumer {
    cluster: Cluster,
    config: ConsumerConfig,
    positions: BTreeMap<TopicPartition, Position>,
    idle: HashMap<i32, Connection>,
    busy: HashSet<i32>,
    in_flight: JoinSet<Asked>,
    refresh_at: Instant,
    refresh_failures: u32,
    last_warning: String,
    messages: u64,
    last_message: Instant,
    /// Which partition of a leader stands first in the next fetch, so that none is starved.
    turn: usize,
}

impl Consumer {
    /// A consumer that has not asked anybody anything yet.
    pub(crate) fn new(cluster: Cluster, config: ConsumerConfig) -> Self {
        let now = Instant::now();
        Self {
            cluster,
            config,
            positions: BTreeMap::new(),
            idle: HashMap::new(),
            busy: HashSet::new(),
            in_flight: JoinSet::new(),
            refresh_at: now,
            refresh_failures: 0,
            last_warning: String::new(),
            messages: 0,
            last_message: now,
            turn: 0,
        }
    }

    /// How many messages have been handed over.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Reads until something ends it. `show` gets each message; `pause` is called when none is at hand. Both may break
    /// off.
    ///
    /// # Errors
    /// If the cluster does not answer at all, or a partition can not be read.
    pub(crate) async fn run(
        &mut self,
        mut show: impl FnMut(&Message<'_>) -> ControlFlow<()>,
        mut pause: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Ended, ConsumeError> {
        self.last_message = Instant::now();
        loop {
            if self
                .config
                .max_messages
                .is_some_and(|most| self.messages >= most)
            {
                return Ok(Ended::Enough);
            }
            let gives_up_at = self
                .config
                .timeout
                .map(|timeout| self.last_message + timeout);
            if gives_up_at.is_some_and(|at| Instant::now() >= at) {
                return Ok(Ended::Timeout);
            }
            if Instant::now() >= self.refresh_at {
                match gives_up_at {
                    None => self.refresh().await?,
                    // Whoever waits for messages for a while does not wait longer for metadata.
                    Some(at) => match tokio::time::timeout_at(at, self.refresh()).await {
                        Ok(refreshed) => refreshed?,
                        Err(_) => return Ok(Ended::Timeout),
                    },
                }
            }
            self.dispatch();
            let wake_at = gives_up_at.map_or(self.refresh_at, |at| at.min(self.refresh_at));
            tokio::select! {
                biased;
                Some(asked) = self.in_flight.join_next() => {
                    // A task ends with a value unless it panicked, which would be a fault of this program.
                    if let Ok(asked) = asked
                        && (self.complete(asked, &mut show)?.is_break() || pause().is_break())
                    {
                        return Ok(Ended::Stopped);
                    }
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Asks which partitions there are and who leads them.
    async fn refresh(&mut self) -> Result<(), ConsumeError> {
        self.cluster.restart_clock();
        let named = match &self.config.topics {
            Topics::Named(name) => Some([ByteString::from(name.as_str())]),
            Topics::Matching(_) => None,
        };
        let response = self
            .cluster
            .metadata(named.as_ref().map(<[_; 1]>::as_slice), named.is_some())
            .await?;
        let first_look = self.positions.is_empty();
        let mut warning = String::new();
        let mut found = HashSet::new();
        for topic in &response.topics {
            let Some(name) = topic.name.clone() else {
                continue;
            };
            let wanted = match &self.config.topics {
                Topics::Named(_) => true,
                Topics::Matching(pattern) => pattern.is_match(&name),
            };
            if !wanted {
                continue;
            }
            let code = ErrorCode::from_code(topic.error_code);
            if !code.is_none() {
                warning = format!("{{{name}={}}}", code.name());
            }
            for partition in &topic.partitions {
                let index = partition.partition_index;
                if self.config.partition.is_some_and(|only| only != index) {
                    continue;
                }
                let leader =
                    Some(partition.leader_id).filter(|id| self.cluster.address(*id).is_some());
                if leader.is_none() && warning.is_empty() {
                    warning = format!("{{{name}={}}}", ErrorCode::LeaderNotAvailable.name());
                }
                let key = TopicPartition::new(name.clone(), index);
                found.insert(key.clone());
                let start = if first_look {
                    self.config.start
                } else {
                    self.config.reset
                };
                self.positions
                    .entry(key)
                    .or_insert_with(|| Position::new(start))
                    .leader = leader;
            }
        }
        for (partition, position) in &mut self.positions {
            if !found.contains(partition) {
                position.leader = None;
            }
        }
        if found.is_empty() && warning.is_empty() {
            warning = match (&self.config.topics, self.config.partition) {
                (Topics::Named(name), Some(partition)) => {
                    format!("{{{name}-{partition}=UNKNOWN_TOPIC_OR_PARTITION}}")
                }
                (Topics::Named(name), None) => format!("{{{name}=UNKNOWN_TOPIC_OR_PARTITION}}"),
                (Topics::Matching(_), _) => String::new(),
            };
        }
        self.schedule_refresh(warning);
        Ok(())
    }

    fn schedule_refresh(&mut self, warning: String) {
        let rest = match warning.is_empty() && !self.positions.is_empty() {
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
        if !warning.is_empty() && warning != self.last_warning {
            let client_id = &self.cluster.config().client_id;
            let message =
                format!("[Consumer clientId={client_id}] Error while fetching metadata: {warning}");
            log(
                Level::Warn,
                &message,
                "org.apache.kafka.clients.NetworkClient",
            );
        }
        self.last_warning = warning;
    }

    /// Asks every leader that is not being asked: for offsets, where some are missing, or else for records.
    fn dispatch(&mut self) {
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, position) in &self.positions {
            if let Some(leader) = position.leader
                && !self.busy.contains(&leader)
            {
                by_leader.entry(leader).or_default().push(partition.clone());
            }
        }
        for (leader, mut partitions) in by_leader {
            let Some(address) = self.cluster.address(leader).map(str::to_owned) else {
                continue;
            };
            let is_lost = |partition: &TopicPartition| {
                self.positions
                    .get(partition)
                    .is_some_and(|position| position.offset().is_none())
            };
            let lost: Vec<TopicPartition> = partitions
                .iter()
                .filter(|partition| is_lost(partition))
                .cloned()
                .collect();
            let question = match lost.is_empty() {
                false => {
                    partitions = lost;
                    Question::Offsets(self.offsets_request(&partitions))
                }
                true => {
                    self.turn = self.turn.wrapping_add(1);
                    let first = self.turn % partitions.len().max(1);
                    partitions.rotate_left(first);
                    Question::Records(self.fetch_request(&partitions))
                }
            };
            self.busy.insert(leader);
            let connection = self.idle.remove(&leader);
            let client = self.cluster.config();
            let (client_id, try_timeout) = (client.client_id.clone(), client.try_timeout);
            let timeout = client.request_timeout + FETCH_MAX_WAIT;
            self.in_flight.spawn(async move {
                let outcome = ask(
                    connection,
                    &address,
                    &client_id,
                    &question,
                    try_timeout,
                    timeout,
                )
                .await;
                Asked {
                    leader,
                    partitions,
                    outcome,
                }
            });
        }
    }

    fn offsets_request(&self, partitions: &[TopicPartition]) -> ListOffsetsRequest {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for partition in partitions {
            let timestamp = self
                .positions
                .get(partition)
                .map_or(-1, Position::timestamp);
            let item = ListOffsetsPartition {
                partition_index: partition.partition,
                timestamp,
                ..Default::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.name == partition.topic => topic.partitions.push(item),
                _ => topics.push(ListOffsetsTopic {
                    name: partition.topic.clone(),
                    partitions: vec![item],
                }),
            }
        }
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.config.read_committed.into(),
            topics,
        }
    }

    fn fetch_request(&self, partitions: &[TopicPartition]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for partition in partitions {
            let item = FetchPartition {
                partition: partition.partition,
                fetch_offset: self
                    .positions
                    .get(partition)
                    .and_then(Position::offset)
                    .unwrap_or_default(),
                partition_max_bytes: PARTITION_MAX_BYTES,
                ..Default::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.topic == partition.topic => topic.partitions.push(item),
                _ => topics.push(FetchTopic {
                    topic: partition.topic.clone(),
                    partitions: vec![item],
                    ..Default::default()
                }),
            }
        }
        FetchRequest {
            max_wait_ms: FETCH_MAX_WAIT.as_millis() as i32,
            min_bytes: 1,
            max_bytes: FETCH_MAX_BYTES,
            isolation_level: self.config.read_committed.into(),
            topics,
            ..Default::default()
        }
    }

    /// Acts on what came back.
    fn complete(
        &mut self,
        asked: Asked,
        show: &mut impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ConsumeError> {
        self.busy.remove(&asked.leader);
        let answer = match asked.outcome {
            Ok((connection, answer)) => {
                self.idle.insert(asked.leader, connection);
                answer
            }
            Err(_) => {
                // Until the metadata says who leads now, nobody is asked for these.
                for partition in &asked.partitions {
                    self.forget_leader(partition);
                }
                return Ok(ControlFlow::Continue(()));
            }
        };
        match answer {
            Answer::Offsets(response) => {
                for topic in response.topics {
                    for item in topic.partitions {
                        let partition =
                            TopicPartition::new(topic.name.clone(), item.partition_index);
                        match ErrorCode::from_code(item.error_code) {
                            ErrorCode::None => {
                                if let Some(position) = self.positions.get_mut(&partition) {
                                    position.found(item.offset);
                                }
                            }
                            code => self.refused(&partition, code)?,
                        }
                    }
                }
            }
            Answer::Records(response) => {
                for topic in response.responses {
                    for item in topic.partitions {
                        let partition =
                            TopicPartition::new(topic.topic.clone(), item.partition_index);
                        let code = ErrorCode::from_code(item.error_code);
                        if !code.is_none() {
                            self.refused(&partition, code)?;
                            continue;
                        }
                        let Records::Inline(bytes) = item.records else {
                            continue;
                        };
                        let aborted = match self.config.read_committed {
                            true => item.aborted_transactions.unwrap_or_default(),
                            false => Vec::new(),
                        };
                        let Some(position) = self.positions.get_mut(&partition) else {
                            continue;
                        };
                        let (messages, most, last) = (
                            &mut self.messages,
                            self.config.max_messages,
                            &mut self.last_message,
                        );
                        let mut count = |message: &Message<'_>| {
                            if most.is_some_and(|most| *messages >= most) {
                                return ControlFlow::Break(());
                            }
                            *messages += 1;
                            *last = Instant::now();
                            show(message)
                        };
                        let read = read_batches(&partition, position, &bytes, aborted, &mut count);
                        match read {
                            Ok(ControlFlow::Continue(())) => {}
                            // Enough is not a stop: the loop sees it and says which.
                            Ok(ControlFlow::Break(()))
                                if most.is_some_and(|most| self.messages >= most) =>
                            {
                                return Ok(ControlFlow::Continue(()));
                            }
                            Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                            Err(reason) => {
                                let offset = position.offset().unwrap_or_default();
                                return Err(ConsumeError::Corrupt {
                                    partition,
                                    offset,
                                    reason,
                                });
                            }
                        }
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn refused(&mut self, partition: &TopicPartition, code: ErrorCode) -> Result<(), ConsumeError> {
        match code {
            ErrorCode::OffsetOutOfRange => {
                let reset = self.config.reset;
                if let Some(position) = self.positions.get_mut(partition) {
                    let message = format!(
                        "Fetch position {} is out of range for partition {partition}, resetting offset",
                        position.offset().unwrap_or_default()
                    );
                    log(
                        Level::Warn,
                        &message,
                        "org.apache.kafka.clients.consumer.internals.SubscriptionState",
                    );
                    position.lost(reset);
                }
                Ok(())
            }
            code if code.retriable() => {
                self.forget_leader(partition);
                Ok(())
            }
            code => Err(ConsumeError::Refused {
                partition: partition.clone(),
                code,
            }),
        }
    }

    /// Has the metadata asked for, soon the first time, later after a rest.
    fn forget_leader(&mut self, partition: &TopicPartition) {
        if let Some(position) = self.positions.get_mut(partition) {
            position.leader = None;
        }
        let rest = match self.refresh_failures {
            0 => Duration::ZERO,
            failures => self.cluster.config().backoff(failures - 1),
        };
        let soon = Instant::now() + rest;
        if soon < self.refresh_at {
            self.refresh_at = soon;
            self.refresh_failures += 1;
        }
    }
}

async fn ask(
    connection: Option<Connection>,
    address: &str,
    client_id: &str,
    question: &Question,
    try_timeout: Duration,
    timeout: Duration,
) -> Result<(Connection, Answer), ConnectionError> {
    let mut connection = match connection.filter(|connection| connection.address() == address) {
        Some(connection) => connection,
        None => Connection::open(address, client_id, Instant::now() + try_timeout).await?,
    };
    let deadline = Instant::now() + timeout;
    let answer = match question {
        Question::Offsets(request) => Answer::Offsets(connection.request(request, deadline).await?),
        Question::Records(request) => Answer::Records(connection.request(request, deadline).await?),
    };
    Ok((connection, answer))
}

#[cfg(test)]
mod tests;
