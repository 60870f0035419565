//! A small blocking Kafka client: it asks exactly the broker that it is told to ask, and retries nothing, so that a
//! test sees what each node answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use kafka_wire::metadata::{MetadataRequest, MetadataRequestTopic};
use kafka_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_wire::record_batch::{RecordBatchBuilder, batches};
use kafka_wire::{ErrorCode, Records, Request};

/// No answer of a test's cluster is as large.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// A connection to one broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

/// The cluster as one broker sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The ids of the brokers that are registered.
    pub brokers: Vec<i32>,
    /// The id of the controller.
    pub controller: Option<i32>,
    /// What is known of each partition.
    pub partitions: BTreeMap<(String, i32), PartitionView>,
}

/// A partition as one broker sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionView {
    /// The leader's id.
    pub leader: Option<i32>,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// The assigned replicas' ids, in order of preference.
    pub replicas: Vec<i32>,
    /// The ids of the in-sync replicas.
    pub isr: Vec<i32>,
}

impl Client {
    /// Connects; `timeout` also bounds every later read and write.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, timeout)
            .with_context(|| format!("no broker listens on {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Client {
            stream,
            correlation_id: 0,
        })
    }

    /// Sends `request` and returns the answer.
    ///
    /// # Errors
    /// When the connection breaks, nothing comes in time, or what comes cannot be read.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.correlation_id += 1;
        let frame =
            kafka_wire::encode_request(self.correlation_id, Some("integration"), version, request)?;
        self.stream.write_all(&frame)?;
        let mut size = [0; 4];
        self.stream
            .read_exact(&mut size)
            .context("the broker closed the connection")?;
        let size = usize::try_from(i32::from_be_bytes(size)).context("a frame of negative size")?;
        ensure!(size <= MAX_RESPONSE_BYTES, "a frame of {size} bytes");
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame)?;
        let (correlation_id, response) =
            kafka_wire::decode_response::<R>(Bytes::from(frame), version)?;
        ensure!(
            correlation_id == self.correlation_id,
            "an answer to another request"
        );
        Ok(response)
    }

    /// The broker's view of the cluster, with all topics.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn view(&mut self) -> Result<View> {
        self.view_of(None)
    }

    /// The broker's view of the cluster and of these topics alone.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn view_of(&mut self, topics: Option<&[&str]>) -> Result<View> {
        let named = |name: &&str| MetadataRequestTopic {
            name: Some((*name).into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.call(12, &request)?;
        let id = |id: i32| (id >= 0).then_some(id);
        let mut view = View {
            brokers: response
                .brokers
                .iter()
                .map(|broker| broker.node_id)
                .collect(),
            controller: id(response.controller_id),
            partitions: BTreeMap::new(),
        };
        view.brokers.sort_unstable();
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            for partition in &topic.partitions {
                let seen = PartitionView {
                    leader: id(partition.leader_id),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.clone(),
                    isr: partition.isr_nodes.clone(),
                };
                view.partitions
                    .insert((name.to_owned(), partition.partition_index), seen);
            }
        }
        Ok(view)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`call`](Self::call), and when the cluster refuses.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: partitions,
                replication_factor,
                configs: configs.iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.call(5, &request)?;
        let result = response
            .topics
            .first()
            .context("an answer without the topic")?;
        check(result.error_code).with_context(|| {
            format!(
                "cannot create {name}: {}",
                result.error_message.as_deref().unwrap_or_default()
            )
        })
    }

    /// Produces `values` as one batch with acks=all; returns the offset of the first.
    ///
    /// # Errors
    /// As [`call`](Self::call), and when the broker refuses.
    pub fn produce(&mut self, topic: &str, partition: i32, values: &[String]) -> Result<i64> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let mut batch = RecordBatchBuilder::new(Compression::None);
        for value in values {
            batch.append(i64::try_from(now_ms)?, None, Some(value.as_bytes()), &[])?;
        }
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Records::Inline(batch.build()?),
                }],
            }],
            ..Default::default()
        };
        let response = self.call(9, &request)?;
        let result = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .context("an answer without the partition")?;
        check(result.error_code)?;
        Ok(result.base_offset)
    }

    /// All records of a partition from its beginning to its high watermark: values by offset.
    ///
    /// # Errors
    /// As [`call`](Self::call), when the broker refuses, and when a batch is damaged.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Result<BTreeMap<i64, String>> {
        let mut records = BTreeMap::new();
        let mut offset = 0;
        loop {
            let (fetched, high_watermark) = self.fetch(topic, partition, offset)?;
            for batch in batches(&fetched) {
                let batch = batch?;
                batch.verify_crc()?;
                for record in &batch.records(MAX_RESPONSE_BYTES)? {
                    let record = record?;
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    records.insert(record.offset, value.into_owned());
                }
                offset = batch.header.next_offset();
            }
            if offset >= high_watermark {
                return Ok(records);
            }
            ensure!(
                !fetched.is_empty(),
                "nothing at {offset}, below the high watermark {high_watermark}"
            );
        }
    }

    /// Encoded batches of a partition from the one that holds `offset` on, and the high watermark.
    fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(Bytes, i64)> {
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic: topic.into(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.call(11, &request)?;
        let result = response
            .responses
            .into_iter()
            .next()
            .and_then(|topic| topic.partitions.into_iter().next())
            .context("an answer without the partition")?;
        check(result.error_code)?;
        match result.records {
            Records::Inline(records) => Ok((records, result.high_watermark)),
            _ => Ok((Bytes::new(), result.high_watermark)),
        }
    }
}

fn check(code: i16) -> Result<()> {
    match ErrorCode::from(code) {
        ErrorCode::None => Ok(()),
        error => bail!("{}: {}", error.name(), error.message()),
    }
}
