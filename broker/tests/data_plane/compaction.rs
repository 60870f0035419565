//! The tutorial `004_…`'s experiment with `cleanup.policy=compact`: 2,000 messages, each with its number as its key, small
//! segments, and what is left of them on the disk.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{Batch, BatchHeader, RecordBatchBuilder, batches};

use crate::client::TOPIC;
use crate::cluster::{Cluster, eventually};

const MESSAGES: usize = 2_000;
const SEGMENT_BYTES: u64 = 10_240;
const PER_BATCH: usize = 50;

/// The tutorial's settings, and none of its waiting.
const COMPACTING: [(&str, &str); 8] = [
    ("log.cleanup.policy", "compact"),
    ("log.retention.bytes", "10240"),
    ("log.segment.bytes", "10240"),
    ("log.segment.delete.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "5"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("log.initial.task.delay.ms", "1"),
    ("log.retention.check.interval.ms", "1"),
];

/// The tutorial's lines, `i:test message send i`, from one number on.
fn lines(from: usize) -> Bytes {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    for number in from..from + PER_BATCH {
        let (key, value) = (number.to_string(), format!("test message send {number}"));
        builder
            .append(
                1_700_000_000_000,
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                &[],
            )
            .unwrap();
    }
    builder.build().unwrap()
}

async fn send_all(cluster: &Cluster) {
    let mut client = cluster.client(1).await;
    for from in (1..=MESSAGES).step_by(PER_BATCH) {
        assert_eq!(client.produce(-1, lines(from)).await.error_code, 0);
    }
}

/// The base offsets of a broker's segments, and how many of its files have another name than those of a log at rest.
fn segments(directory: &Path) -> (Vec<i64>, usize) {
    let mut bases = Vec::new();
    let mut others = 0;
    for entry in std::fs::read_dir(directory.join("t-0")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.split_once('.') {
            Some((base, "log")) => bases.push(base.parse().unwrap()),
            Some((_, "cleaned" | "swap" | "deleted")) => others += 1,
            _ => others += usize::from(name.ends_with(".deleted") || name.ends_with(".swap")),
        }
    }
    bases.sort_unstable();
    (bases, others)
}

/// The broker has compacted all but the active segment, and the files that it replaced are gone.
fn is_compacted(directory: &Path) -> bool {
    let (bases, others) = segments(directory);
    let checkpoint = std::fs::read_to_string(directory.join("cleaner-offset-checkpoint"));
    let expected = format!("0\n1\n{TOPIC} 0 {}\n", bases.last().unwrap());
    others == 0 && checkpoint.is_ok_and(|text| text == expected)
}

/// Every record of a broker's segment files: offset, key and value.
fn on_disk(directory: &Path) -> Vec<(i64, String, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let mut records = Vec::new();
    for base in segments(directory).0 {
        let file = directory.join("t-0").join(format!("{base:020}.log"));
        let content = std::fs::read(&file).unwrap();
        assert!(content.len() as u64 <= SEGMENT_BYTES, "{}", file.display());
        assert!(file.with_extension("index").is_file());
        assert!(file.with_extension("timeindex").is_file());
        for batch in batches(&content) {
            let Batch { header, bytes } = batch.unwrap();
            let header: BatchHeader = header;
            let batch = Batch { header, bytes };
            batch.verify_crc().unwrap();
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                records.push((record.offset, text(record.key), text(record.value)));
            }
        }
    }
    records
}

#[tokio::test]
async fn two_thousand_keyed_messages_are_compacted_on_every_replica() {
    let cluster = Cluster::start(2, &COMPACTING).await;
    let directories = [cluster.log_directory(1), cluster.log_directory(2)];
    send_all(&cluster).await;
    for directory in &directories {
        eventually("the compaction", || is_compacted(directory)).await;
        // Each key came once: nothing goes, retention.bytes or not.
        let offsets = on_disk(directory).into_iter().map(|record| record.0);
        assert!(offsets.eq(0..MESSAGES as i64));
    }
    send_all(&cluster).await;
    for directory in &directories {
        eventually("the next compaction", || {
            is_compacted(directory) && segments(directory).0.last() > Some(&(MESSAGES as i64))
        })
        .await;
        let active = *segments(directory).0.last().unwrap();
        let records = on_disk(directory);
        let mut last = BTreeMap::new();
        for (offset, key, value) in &records {
            assert_eq!(*value, format!("test message send {key}"));
            let before = last.insert(key.clone(), *offset);
            assert!(
                before.is_none() || *offset >= active,
                "{key} is there twice below {active}"
            );
        }
        assert_eq!(last.len(), MESSAGES);
        for (key, offset) in last {
            let sent_last = MESSAGES as i64 + key.parse::<i64>().unwrap() - 1;
            assert_eq!(offset, sent_last, "the last record of {key}");
        }
    }
}

#[tokio::test]
async fn threads_of_the_cleaner_come_and_go_with_the_configuration() {
    let mut properties = COMPACTING.to_vec();
    properties.push(("log.cleaner.threads", "0"));
    let cluster = Cluster::start(1, &properties).await;
    let directory = cluster.log_directory(1);
    send_all(&cluster).await;
    assert!(!is_compacted(&directory), "nobody compacts");
    cluster.configure_brokers(&[("log.cleaner.threads", "2")]);
    eventually("the compaction", || is_compacted(&directory)).await;
}
