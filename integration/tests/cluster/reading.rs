//! Reads partitions back with librdkafka, without a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

const LIMIT: Duration = Duration::from_secs(60);

/// What partitions held: values by offset.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read(BTreeMap<i32, BTreeMap<i64, String>>);

impl Read {
    pub(crate) fn partition(&self, partition: i32) -> &BTreeMap<i64, String> {
        &self.0[&partition]
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = (i32, &BTreeMap<i64, String>)> {
        self.0
            .iter()
            .map(|(partition, records)| (*partition, records))
    }

    /// The values of partition 0, from offset 0 on.
    pub(crate) fn of(values: &[&str]) -> Read {
        let records = (0..)
            .zip(values)
            .map(|(offset, value)| (offset, (*value).to_owned()));
        Read(BTreeMap::from([(0, records.collect())]))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

/// A consumer that is assigned partitions by hand.
pub(crate) fn consumer(bootstrap: &str) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "200")
        .set("fetch.wait.max.ms", "50")
        .set("check.crcs", "true")
        .create()?)
}

/// Reads `partitions` of `topic` from their beginning to their high watermarks as they are now.
pub(crate) fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Result<Read> {
    let consumer = consumer(bootstrap)?;
    let mut ends = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let (start, end) = consumer
            .fetch_watermarks(topic, partition, LIMIT)
            .with_context(|| format!("no watermarks of {topic}-{partition}"))?;
        if start < end {
            ends.insert(partition, end);
        }
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut read = Read(
        (0..partitions)
            .map(|partition| (partition, BTreeMap::new()))
            .collect(),
    );
    let started = Instant::now();
    while !ends.is_empty() {
        ensure!(
            started.elapsed() < LIMIT,
            "{} records after {LIMIT:?}, and not up to {ends:?}",
            read.count()
        );
        // An error is librdkafka telling of a broker that it cannot reach; it goes on by itself.
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let (partition, offset) = (message.partition(), message.offset());
        let value = String::from_utf8(message.payload().unwrap_or_default().to_vec())?;
        let records = read
            .0
            .get_mut(&partition)
            .context("a partition that was not assigned")?;
        ensure!(
            records.insert(offset, value).is_none(),
            "offset {offset} of partition {partition} came twice"
        );
        if ends.get(&partition).is_some_and(|end| offset + 1 >= *end) {
            ends.remove(&partition);
        }
    }
    Ok(read)
}
