//! What a leader is asked: where a log begins or ends, and for records.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_wire::TopicPartition;
use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use kafka_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use tokio::time::Instant;

use super::positions::Position;
use crate::client::{Connection, ConnectionError};

/// The most that one answer brings of one partition, beyond a first batch that is larger.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
/// The most that one answer brings.
const FETCH_MAX_BYTES: i32 = 8 << 20;
/// How long a leader may wait for records before it answers.
pub(super) const FETCH_MAX_WAIT: Duration = Duration::from_millis(500);

/// A question to a leader.
pub(super) enum Question {
    Offsets(ListOffsetsRequest),
    Records(FetchRequest),
}

/// What it says.
pub(super) enum Answer {
    Offsets(ListOffsetsResponse),
    Records(FetchResponse),
}

impl Question {
    /// Where do these partitions' logs begin or end?
    pub(super) fn offsets(
        partitions: &[TopicPartition],
        positions: &BTreeMap<TopicPartition, Position>,
        read_committed: bool,
    ) -> Self {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for partition in partitions {
            let timestamp = positions.get(partition).map_or(-1, Position::timestamp);
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
        Self::Offsets(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: read_committed.into(),
            topics,
        })
    }

    /// What records follow the positions of these partitions?
    pub(super) fn records(
        partitions: &[TopicPartition],
        positions: &BTreeMap<TopicPartition, Position>,
        read_committed: bool,
    ) -> Self {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for partition in partitions {
            let item = FetchPartition {
                partition: partition.partition,
                fetch_offset: positions
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
        Self::Records(FetchRequest {
            max_wait_ms: FETCH_MAX_WAIT.as_millis() as i32,
            min_bytes: 1,
            max_bytes: FETCH_MAX_BYTES,
            isolation_level: read_committed.into(),
            topics,
            ..Default::default()
        })
    }
}

/// Asks, over the connection if there is one that leads to the address.
pub(super) async fn ask(
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
