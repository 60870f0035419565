//! What librdkafka, and with it most of the world's clients, produces and consumes.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::{Cluster, LIMIT};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::{consumer, read_all};

#[test]
fn all_acks_and_codecs() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    for (topic, settings) in [
        ("acks-1", [("acks", "1"), ("compression.type", "none")]),
        ("gzip", [("acks", "all"), ("compression.type", "gzip")]),
        ("snappy", [("acks", "all"), ("compression.type", "snappy")]),
        ("lz4", [("acks", "all"), ("compression.type", "lz4")]),
    ] {
        cluster.create_topic(topic, 2, 3, &[])?;
        let load = Load::start(&cluster.bootstrap()?, topic, 2, &settings)?;
        load.await_more(500)?;
        let acknowledged = load.finish()?;
        let read = read_all(&cluster.bootstrap()?, topic, 2)?;
        assert_eq!(read.count(), acknowledged.len(), "{topic}");
        check_read_back(&acknowledged, &read, Duplicates::Forbidden).context(topic)?;
    }
    Ok(())
}

#[test]
fn acks_0_asks_for_no_answer() -> Result<()> {
    const COUNT: usize = 500;
    let cluster = Cluster::builder().start()?;
    cluster.create_topic("hasty", 1, 3, &[])?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap()?)
        .set("acks", "0")
        .create()?;
    for n in 0..COUNT {
        let record: BaseRecord<'_, (), String> = BaseRecord::to("hasty");
        producer
            .send(record.partition(0).payload(&n.to_string()))
            .map_err(|(e, _)| e)?;
    }
    producer.flush(LIMIT)?;
    integration::await_true("all records to arrive", LIMIT, || {
        Ok(read_all(&cluster.bootstrap()?, "hasty", 1)?.count() == COUNT)
    })
}

#[test]
fn a_record_keeps_all_that_it_carries() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.create_topic("letters", 1, 3, &[])?;
    let bootstrap = cluster.bootstrap()?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .create()?;
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "colour",
            value: Some("blue"),
        })
        .insert(Header::<&str> {
            key: "empty",
            value: None,
        });
    let record = BaseRecord::to("letters")
        .partition(0)
        .key("a key")
        .payload("a value")
        .timestamp(1_700_000_000_123)
        .headers(headers);
    producer.send(record).map_err(|(e, _)| e)?;
    // A tombstone: a key, and no value.
    producer
        .send(
            BaseRecord::<str, str>::to("letters")
                .partition(0)
                .key("a key"),
        )
        .map_err(|(e, _)| e)?;
    producer.flush(LIMIT)?;

    let consumer = consumer(&bootstrap)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset("letters", 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let next = || {
        integration::await_some("a record", LIMIT, || {
            Ok(consumer
                .poll(Duration::from_millis(100))
                .and_then(Result::ok)
                .map(|m| m.detach()))
        })
    };
    let letter = next()?;
    assert_eq!(letter.key(), Some(&b"a key"[..]));
    assert_eq!(letter.payload(), Some(&b"a value"[..]));
    assert_eq!(letter.timestamp().to_millis(), Some(1_700_000_000_123));
    let headers: Vec<_> = letter
        .headers()
        .context("no headers")?
        .iter()
        .map(|h| (h.key, h.value))
        .collect();
    assert_eq!(headers, [("colour", Some(&b"blue"[..])), ("empty", None)]);
    let tombstone = next()?;
    assert_eq!((tombstone.offset(), tombstone.payload()), (1, None));
    Ok(())
}

#[test]
fn offsets_are_found_by_time() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.create_topic("diary", 1, 3, &[])?;
    let bootstrap = cluster.bootstrap()?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .create()?;
    for day in 0..100 {
        let record: BaseRecord<'_, (), str> =
            BaseRecord::to("diary").partition(0).payload("dear diary");
        producer
            .send(record.timestamp(1_000_000 + day * 1_000))
            .map_err(|(e, _)| e)?;
    }
    producer.flush(LIMIT)?;
    let consumer = consumer(&bootstrap)?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset("diary", 0, Offset::Offset(1_041_500))?;
    let found = consumer.offsets_for_times(wanted, LIMIT)?;
    assert_eq!(found.elements()[0].offset(), Offset::Offset(42));
    Ok(())
}
