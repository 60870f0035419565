//! Compaction.

mod history;
mod rules;
mod swap;
mod transactions;

use std::ops::ControlFlow;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{
    Batch, BatchHeader, EndTransactionMarker, RecordBatchBuilder, batches, set_base_offset,
};
use log::{Cleaner, CleanerBuffers, CleaningStats, Log, LogConfig, Pace};

use crate::broker::{Broker, NOW_MS, bytes, locked, partition};

/// As fast as it can, to the end.
struct Unpaced;

impl Pace for Unpaced {
    fn advance(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Each record, with its offset, timestamp, key and value.
type KeyedRecord = (i64, i64, Option<String>, Option<String>);

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        min_cleanable_dirty_ratio: 0.0,
        segment_index_bytes: 1000,
        index_interval_bytes: 100,
        delete_retention_ms: 1000,
        ..LogConfig::default()
    }
}

fn buffers() -> CleanerBuffers {
    CleanerBuffers::new(1 << 20, 0.9, 4096)
}

/// A batch of these records, none with a value stamped other than at `timestamp`.
fn keyed_with(
    mut builder: RecordBatchBuilder,
    timestamp: i64,
    records: &[(&str, Option<&str>)],
) -> Vec<u8> {
    for (key, value) in records {
        builder
            .append(
                timestamp,
                Some(key.as_bytes()),
                value.map(str::as_bytes),
                &[],
            )
            .unwrap();
    }
    builder.build().unwrap().to_vec()
}

fn keyed(records: &[(&str, Option<&str>)]) -> Vec<u8> {
    keyed_with(RecordBatchBuilder::new(Compression::None), NOW_MS, records)
}

fn marker(producer_id: i64, epoch: i16, committed: bool) -> Vec<u8> {
    let marker = EndTransactionMarker {
        committed,
        coordinator_epoch: 0,
    };
    let builder = marker.batch(producer_id, epoch, NOW_MS).unwrap();
    builder.build().unwrap().to_vec()
}

/// Appends as a leader would, control batches too.
fn append(log: &mut Log, batch: &[u8]) {
    let mut batch = batch.to_vec();
    set_base_offset(&mut batch, log.log_end_offset());
    kafka_wire::record_batch::set_partition_leader_epoch(&mut batch, 0);
    log.append_as_follower(&batch, NOW_MS).unwrap();
}

/// Closes the active segment, by a batch that does not fit it.
fn roll(log: &mut Log) {
    let config = log.config().clone();
    log.update_config(LogConfig {
        segment_bytes: 1,
        ..config.clone()
    });
    append(log, &keyed(&[("roll", Some("x"))]));
    log.update_config(config);
}

/// Compacts the log once, with all of it below the high watermark.
fn compact_at(broker: &Broker, now_ms: i64) -> Option<CleaningStats> {
    let end = locked(&broker.log()).log_end_offset();
    compact_up_to(broker, end, now_ms)
}

fn compact_up_to(broker: &Broker, high_watermark: i64, now_ms: i64) -> Option<CleaningStats> {
    locked(&broker.log()).high_watermark_advanced(high_watermark);
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(now_ms, &|_| Some(high_watermark))?;
    assert_eq!(*cleaning.partition(), partition());
    let stats = cleaning.run(&mut buffers(), &mut Unpaced);
    assert_eq!(cleaner.uncleanable(), [], "no error");
    stats
}

/// All batches of the log, as a follower reads them, from `offset` on.
fn batches_from(log: &Log, mut offset: i64) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut all = Vec::new();
    while offset < log.log_end_offset() {
        let data = bytes(
            &log.read(offset, 1 << 20, log.log_end_offset(), true)
                .unwrap(),
        );
        if data.is_empty() {
            break;
        }
        for batch in batches(&data) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            offset = batch.header.next_offset();
            all.push((batch.header, batch.bytes.to_vec()));
        }
    }
    all
}

fn headers(log: &Log) -> Vec<BatchHeader> {
    let all = batches_from(log, log.log_start_offset());
    all.into_iter().map(|(header, _)| header).collect()
}

/// All records of the log but markers.
fn contents(log: &Log) -> Vec<KeyedRecord> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let mut all = Vec::new();
    for (header, bytes) in batches_from(log, log.log_start_offset()) {
        if header.attributes.is_control() {
            continue;
        }
        let batch = Batch {
            header,
            bytes: &bytes,
        };
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            all.push((
                record.offset,
                record.timestamp,
                text(record.key),
                text(record.value),
            ));
        }
    }
    all
}

/// Offset, key and value, shortly.
fn short(log: &Log) -> Vec<String> {
    let all = contents(log).into_iter();
    all.map(|(offset, _, key, value)| {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        format!("{offset}:{key}={value}")
    })
    .collect()
}
