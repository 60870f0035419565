//! A consumer without a group: it finds all partitions, reads them all, and follows their leaders.
//!
//! What flows through: metadata says who leads what, ListOffsets where to begin, Fetch brings batches, and each record
//! goes to the caller in its partition's order. One request is in flight for each leader, so what waits in memory is
//! one answer for each.
//!
//! What must never be here: a record that is shown twice or skipped, and a wait that a dead broker can hold up.

pub(crate) mod formatter;
mod positions;
mod requests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use kafka_wire::fetch::{FetchResponse, PartitionData};
use kafka_wire::list_offsets::ListOffsetsResponse;
use kafka_wire::{ByteString, ErrorCode, Records, TopicPartition};
use regex::Regex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{Cluster, ClusterError, Connection, ConnectionError};
use crate::terminal::{Level, log};
use formatter::Message;
use positions::{Position, read_batches};
use requests::{Answer, FETCH_MAX_WAIT, Question, ask};

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
            let now = Instant::now();
            let rested = self
                .positions
                .values()
                .filter_map(Position::rests_until)
                .filter(|until| *until > now);
            let wake_at = rested
                .chain(gives_up_at)
                .chain([self.refresh_at])
                .min()
                .unwrap_or(now);
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
        let now = Instant::now();
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, position) in &self.positions {
            if let Some(leader) = position.leader
                && !self.busy.contains(&leader)
                && position.rests_until().is_none_or(|until| until <= now)
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
                    Question::offsets(&partitions, &self.positions, self.config.read_committed)
                }
                true => {
                    self.turn = self.turn.wrapping_add(1);
                    let first = self.turn % partitions.len().max(1);
                    partitions.rotate_left(first);
                    Question::records(&partitions, &self.positions, self.config.read_committed)
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

    /// Acts on what came back.
    fn complete(
        &mut self,
        asked: Asked,
        show: &mut impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ConsumeError> {
        self.busy.remove(&asked.leader);
        match asked.outcome {
            Err(_) => asked
                .partitions
                .iter()
                .for_each(|partition| self.failed(partition)),
            Ok((connection, answer)) => {
                self.idle.insert(asked.leader, connection);
                match answer {
                    Answer::Offsets(response) => self.offsets(response)?,
                    Answer::Records(response) => return self.records(response, show),
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn offsets(&mut self, response: ListOffsetsResponse) -> Result<(), ConsumeError> {
        for topic in response.topics {
            for item in topic.partitions {
                let partition = TopicPartition::new(topic.name.clone(), item.partition_index);
                match (
                    ErrorCode::from_code(item.error_code),
                    self.positions.get_mut(&partition),
                ) {
                    (ErrorCode::None, Some(position)) => position.found(item.offset),
                    (ErrorCode::None, None) => {}
                    (code, _) => self.refused(&partition, code)?,
                }
            }
        }
        Ok(())
    }

    fn records(
        &mut self,
        response: FetchResponse,
        show: &mut impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ConsumeError> {
        for topic in response.responses {
            for item in topic.partitions {
                let partition = TopicPartition::new(topic.topic.clone(), item.partition_index);
                let code = ErrorCode::from_code(item.error_code);
                if !code.is_none() {
                    self.refused(&partition, code)?;
                } else if self.show_records(partition, item, show)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hands the records of one partition over, as many as are still wanted.
    fn show_records(
        &mut self,
        partition: TopicPartition,
        data: PartitionData,
        show: &mut impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ConsumeError> {
        let Some(position) = self.positions.get_mut(&partition) else {
            return Ok(ControlFlow::Continue(()));
        };
        position.worked();
        let Records::Inline(bytes) = data.records else {
            return Ok(ControlFlow::Continue(()));
        };
        let aborted = match self.config.read_committed {
            true => data.aborted_transactions.unwrap_or_default(),
            false => Vec::new(),
        };
        let most = self.config.max_messages.unwrap_or(u64::MAX);
        let (messages, last_message) = (&mut self.messages, &mut self.last_message);
        let mut count = |message: &Message<'_>| {
            if *messages >= most {
                return ControlFlow::Break(());
            }
            *messages += 1;
            *last_message = Instant::now();
            show(message)
        };
        match read_batches(&partition, position, &bytes, aborted, &mut count) {
            // Enough is not a stop: the loop sees it and says which.
            Ok(ControlFlow::Break(())) if self.messages >= most => Ok(ControlFlow::Continue(())),
            Ok(flow) => Ok(flow),
            Err(reason) => {
                let offset = position.offset().unwrap_or_default();
                Err(ConsumeError::Corrupt {
                    partition,
                    offset,
                    reason,
                })
            }
        }
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
                self.failed(partition);
                Ok(())
            }
            code => Err(ConsumeError::Refused {
                partition: partition.clone(),
                code,
            }),
        }
    }

    /// Lets a partition rest, and has the metadata asked who leads it now.
    fn failed(&mut self, partition: &TopicPartition) {
        let now = Instant::now();
        if let Some(position) = self.positions.get_mut(partition) {
            position.failed(now, |failures| self.cluster.config().backoff(failures));
            self.refresh_at = self.refresh_at.min(position.rests_until().unwrap_or(now));
        }
    }
}

#[cfg(test)]
mod tests;
