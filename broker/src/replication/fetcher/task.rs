//! One fetcher: keeps asking one leader for what its followers lack.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::partition::{EpochEndOffset, Event};
use kafka_wire::fetch::{FetchRequest, FetchResponse, PartitionData, ReplicaState};
use kafka_wire::list_offsets::{
    EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic,
};
use kafka_wire::{ErrorCode, Records, TopicPartition};
use log::AppendError;
use tokio::time::Instant;

use super::connection::{Connection, ConnectionError};
use super::session::FetchSession;
use super::{Assignment, Fetched, FetcherSettings, Leaders};
use crate::replication::replica::{FetchPosition, LeaderAnswer};

/// With topic ids, sessions, epochs, and the follower's broker epoch.
const FETCH_VERSION: i16 = 17;
const LIST_OFFSETS_VERSION: i16 = 9;
/// After a failure. Short, for a new leader may not have heard of its luck yet.
const BACKOFF: Duration = Duration::from_millis(50);
/// A request, and one behind it that tells of partitions which have just started.
const MAX_IN_FLIGHT: u64 = 2;

/// Fetches from one leader until the task is aborted.
pub(super) async fn run(
    settings: FetcherSettings,
    leader: i32,
    leaders: Leaders,
    assignment: Arc<Assignment>,
) {
    let mut fetcher = Fetcher {
        settings,
        leader,
        leaders,
        assignment,
        session: FetchSession::default(),
        partitions: HashMap::new(),
        backing_off: HashMap::new(),
        out_of_range: Vec::new(),
        complained: false,
    };
    loop {
        fetcher.take_changes();
        if fetcher.partitions.is_empty() {
            fetcher.assignment.changed.notified().await;
            continue;
        }
        let error = fetcher.fetch_until_broken().await;
        if !std::mem::replace(&mut fetcher.complained, true) {
            tracing::info!(leader, %error, "cannot fetch from the leader, trying on");
        }
        fetcher.session.reset();
        tokio::time::sleep(BACKOFF).await;
    }
}

struct Fetcher {
    settings: FetcherSettings,
    leader: i32,
    leaders: Leaders,
    assignment: Arc<Assignment>,
    session: FetchSession,
    partitions: HashMap<TopicPartition, Fetched>,
    /// Partitions that the leader refused, and when to ask again.
    backing_off: HashMap<TopicPartition, Instant>,
    /// Partitions whose leader's bounds have to be asked for.
    out_of_range: Vec<TopicPartition>,
    /// Whether the log tells already that the leader cannot be reached.
    complained: bool,
}

impl Fetcher {
    /// Takes over what started and stopped.
    fn take_changes(&mut self) {
        let changing = std::mem::take(&mut *self.assignment.changing());
        for partition in changing.stopped {
            self.drop_partition(&partition);
        }
        for (partition, fetched) in changing.started {
            self.backing_off.remove(&partition);
            self.out_of_range.retain(|other| *other != partition);
            self.session
                .put(partition.clone(), fetched.replica.topic_id());
            self.partitions.insert(partition, fetched);
        }
    }

    fn drop_partition(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.backing_off.remove(partition);
        self.out_of_range.retain(|other| other != partition);
        self.session.remove(partition);
    }

    fn back_off(&mut self, partition: TopicPartition) {
        self.session.remove(&partition);
        self.backing_off.insert(partition, Instant::now() + BACKOFF);
    }

    /// Partitions that backed off for long enough come back.
    fn come_back(&mut self) {
        let now = Instant::now();
        let due = self.backing_off.extract_if(|_, until| *until <= now);
        let due: Vec<TopicPartition> = due.map(|(partition, _)| partition).collect();
        for partition in due {
            if let Some(fetched) = self.partitions.get(&partition) {
                self.session.put(partition, fetched.replica.topic_id());
            }
        }
    }

    async fn open(&self) -> Result<Connection, ConnectionError> {
        let broker = self
            .leaders
            .find(self.leader)
            .ok_or(ConnectionError::Unknown)?;
        let endpoint = broker
            .endpoint(&self.settings.listener)
            .ok_or(ConnectionError::Unknown)?;
        let client_id = format!("broker-{}-fetcher", self.settings.broker_id);
        // A first batch may exceed the limit of a response; it has one of its own.
        let max_bytes = self
            .settings
            .response_max_bytes
            .max(self.settings.partition_max_bytes);
        let max_bytes = usize::try_from(max_bytes)
            .unwrap_or_default()
            .saturating_add(256 * 1024 * 1024);
        Connection::open(&endpoint.host, endpoint.port, client_id, max_bytes).await
    }

    async fn fetch_until_broken(&mut self) -> ConnectionError {
        match self.fetch_on_one_connection().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn fetch_on_one_connection(
        &mut self,
    ) -> Result<std::convert::Infallible, ConnectionError> {
        let timeout = Duration::from_millis(
            u64::try_from(self.settings.socket_timeout_ms).unwrap_or_default(),
        );
        let mut connection = in_time(timeout, self.open()).await?;
        let mut answered = self.session.last_request();
        loop {
            self.take_changes();
            self.come_back();
            let mut in_flight = self.session.last_request() - answered;
            if in_flight == 0 && !self.out_of_range.is_empty() {
                in_time(timeout, self.ask_for_bounds(&mut connection)).await?;
            }
            let may_overtake =
                self.session.is_open() && self.session.is_dirty() && self.out_of_range.is_empty();
            if !self.session.is_empty()
                && (in_flight == 0 || (in_flight < MAX_IN_FLIGHT && may_overtake))
            {
                let request = self.next_request();
                in_time(timeout, connection.send(FETCH_VERSION, &request)).await?;
                in_flight += 1;
            }
            let assignment = self.assignment.clone();
            let back = self.backing_off.values().min().copied();
            tokio::select! {
                response = in_time(timeout, connection.receive::<FetchRequest>(FETCH_VERSION)), if in_flight > 0 => {
                    answered += 1;
                    self.complained = false;
                    self.take_response(response?, answered);
                }
                () = assignment.changed.notified() => {}
                () = sleep_until(back), if back.is_some() => {}
            }
        }
    }

    fn next_request(&mut self) -> FetchRequest {
        let opening = !self.session.is_open();
        let partitions = &self.partitions;
        let request = self
            .session
            .next_request(self.settings.partition_max_bytes, |partition| {
                let Fetched {
                    replica,
                    leader_epoch,
                } = partitions.get(partition)?;
                replica.fetch_position(*leader_epoch)
            });
        let live_brokers = self.leaders.metadata.load().live_brokers().clone();
        let replica_epoch = live_brokers
            .get(&self.settings.broker_id)
            .copied()
            .unwrap_or(-1);
        FetchRequest {
            replica_state: ReplicaState {
                replica_id: self.settings.broker_id,
                replica_epoch,
            },
            // Who opens a session does not wait in it, so that the next request may follow at once.
            max_wait_ms: if opening {
                0
            } else {
                self.settings.wait_max_ms
            },
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.response_max_bytes,
            ..request
        }
    }

    fn take_response(&mut self, response: FetchResponse, answered: u64) {
        if let Err(error) = self
            .session
            .answered(response.error_code, response.session_id)
        {
            tracing::debug!(
                leader = self.leader,
                error = error.name(),
                "the fetch session begins anew"
            );
            return;
        }
        for topic in response.responses {
            for data in topic.partitions {
                let Some(partition) = self.session.partition(topic.topic_id, data.partition_index)
                else {
                    continue;
                };
                let partition = partition.clone();
                let Some(position) = self.session.position(&partition, answered) else {
                    continue;
                };
                let Some(fetched) = self.partitions.get(&partition).cloned() else {
                    continue;
                };
                self.take_partition(partition, &fetched, &position, &data);
            }
        }
    }

    fn take_partition(
        &mut self,
        partition: TopicPartition,
        fetched: &Fetched,
        position: &FetchPosition,
        data: &PartitionData,
    ) {
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None if data.diverging_epoch.epoch >= 0 => {
                let (leader_epoch, end_offset) =
                    (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
                let leader_end = EpochEndOffset {
                    leader_epoch,
                    end_offset,
                };
                fetched.replica.diverged(position.leader_epoch, leader_end);
                // Logs that part at the same place again must not be compared as fast as the wire allows.
                if fetched.replica.fetch_position(position.leader_epoch) == Some(*position) {
                    self.back_off(partition);
                } else {
                    self.session.put(partition, fetched.replica.topic_id());
                }
            }
            ErrorCode::None => {
                let records = match &data.records {
                    Records::Inline(bytes) => &bytes[..],
                    Records::Null | Records::Deferred { .. } => &[],
                };
                let (high_watermark, log_start_offset) =
                    (data.high_watermark, data.log_start_offset);
                let answer = LeaderAnswer {
                    records,
                    high_watermark,
                    log_start_offset,
                };
                match fetched.replica.append_as_follower(position, answer) {
                    Ok(false) => {}
                    Ok(true) => self.session.put(partition, fetched.replica.topic_id()),
                    // The replica has told of it and stopped.
                    Err(AppendError::Log(_)) if fetched.replica.is_failed() => {
                        self.drop_partition(&partition);
                    }
                    Err(error) => {
                        tracing::warn!(%partition, leader = self.leader, %error, "what the leader sent is not appended");
                        self.back_off(partition);
                    }
                }
            }
            ErrorCode::OffsetOutOfRange => {
                self.session.remove(&partition);
                self.out_of_range.push(partition);
            }
            // The leader knows a newer epoch, so the controller's decision is on its way here too.
            ErrorCode::FencedLeaderEpoch => self.drop_partition(&partition),
            error => {
                tracing::debug!(%partition, leader = self.leader, error = error.name(), "not fetched, trying on");
                self.back_off(partition);
            }
        }
    }

    /// Asks where the logs of partitions begin and end whose leader does not hold the offset that was
    /// asked for. The answers are of the same leader epoch, or there are none (KAFKA-9491).
    async fn ask_for_bounds(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let asked = self.out_of_range.iter().filter_map(|partition| {
            let fetched = self.partitions.get(partition)?.clone();
            Some((partition.clone(), fetched))
        });
        let asked: Vec<(TopicPartition, Fetched)> = asked.collect();
        let starts = self
            .list_offsets(connection, &asked, EARLIEST_TIMESTAMP)
            .await?;
        let ends = self
            .list_offsets(connection, &asked, LATEST_TIMESTAMP)
            .await?;
        // Not before there is an answer: a connection that breaks meanwhile leaves them to the next one.
        self.out_of_range.clear();
        for (
            partition,
            Fetched {
                replica,
                leader_epoch,
            },
        ) in asked
        {
            let (Some(start), Some(end)) = (starts.get(&partition), ends.get(&partition)) else {
                self.back_off(partition);
                continue;
            };
            replica.handle(Event::OffsetOutOfRange {
                leader_epoch,
                leader_log_start_offset: *start,
                leader_log_end_offset: *end,
            });
            self.session.put(partition, replica.topic_id());
        }
        Ok(())
    }

    async fn list_offsets(
        &self,
        connection: &mut Connection,
        asked: &[(TopicPartition, Fetched)],
        timestamp: i64,
    ) -> Result<HashMap<TopicPartition, i64>, ConnectionError> {
        let topics = asked.iter().map(|(partition, fetched)| ListOffsetsTopic {
            name: partition.topic.clone(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: fetched.leader_epoch,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        });
        let topics = topics.collect();
        let request = ListOffsetsRequest {
            replica_id: self.settings.broker_id,
            topics,
            ..ListOffsetsRequest::default()
        };
        connection.send(LIST_OFFSETS_VERSION, &request).await?;
        let response = connection
            .receive::<ListOffsetsRequest>(LIST_OFFSETS_VERSION)
            .await?;
        let mut offsets = HashMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                if ErrorCode::from_code(partition.error_code).is_none() {
                    let key = TopicPartition::new(topic.name.clone(), partition.partition_index);
                    offsets.insert(key, partition.offset);
                }
            }
        }
        Ok(offsets)
    }
}

async fn in_time<T>(
    timeout: Duration,
    what: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::time::timeout(timeout, what)
        .await
        .unwrap_or(Err(ConnectionError::Timeout))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
