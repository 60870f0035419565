//! What hostile bytes are thrown at: one entry for each fuzz target of `broker/log/fuzz`, and a test of each on the inputs
//! that are kept there.

mod memory;

use std::path::Path;
use std::sync::Arc;

use kafka_wire::TopicPartition;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BATCH_HEADER_SIZE, BatchHeader, EndTransactionMarker, batches};

use crate::batch_scanner::{BatchScanner, Depth};
use crate::config::{LogConfig, TopicCompression};
use crate::file_names::{LEADER_EPOCH_CHECKPOINT, RECOVERY_POINT_CHECKPOINT};
use crate::file_system::{FileSystem, Found};
use crate::index::{OffsetIndex, TimeIndex, offset_entries, time_entries};
use crate::producer::snapshot;
use crate::transaction_index::{self, TransactionIndex};
use crate::validate::prepare;
use crate::{checkpoint, meta_properties, partition_metadata};
use memory::MemoryFileSystem;

/// Records of a batch decompress to no more here.
const MAX_DECOMPRESSED_BYTES: usize = 1 << 20;
/// `max.message.bytes`, small, so that what decompresses stays small, too.
const MAX_MESSAGE_BYTES: u32 = 8192;
/// The base offset of the segment that an index belongs to.
const BASE_OFFSET: i64 = 1000;
const INDEX_BYTES: u32 = 4096;

/// Record batches, as they come from a client, a leader or a disk; once as they are, and once with a length and a checksum
/// that are right, behind which the rest is looked at.
pub fn record_batches(data: &[u8]) {
    read_batches(data);
    if data.len() < BATCH_HEADER_SIZE {
        return;
    }
    let mut sealed = data.to_vec();
    let length = (data.len() - 12) as u32;
    sealed[8..12].copy_from_slice(&length.to_be_bytes());
    sealed[16] = 2;
    let crc = crc_fast::crc32_iscsi(&sealed[21..]);
    sealed[17..21].copy_from_slice(&crc.to_be_bytes());
    read_batches(&sealed);
    sealed[..8].fill(0);
    produce(&sealed);
}

/// Message sets of format 0 and 1, as old clients send them: as they are, and as one message whose checksum is right.
pub fn message_sets(data: &[u8]) {
    produce(data);
    if data.len() < 26 {
        return;
    }
    let mut sealed = data.to_vec();
    let size = (data.len() - 12) as u32;
    sealed[8..12].copy_from_slice(&size.to_be_bytes());
    sealed[16] &= 1;
    let crc = crc32fast::hash(&sealed[16..]);
    sealed[12..16].copy_from_slice(&crc.to_be_bytes());
    produce(&sealed);
}

/// What a broker does with what a client produces before it is appended: whatever that lets through can be read whole, has
/// a checksum that is right, and is let through again.
fn produce(data: &[u8]) {
    let to_zstd = TopicCompression::Codec {
        codec: Compression::Zstd,
        level: None,
    };
    let topic_partition = TopicPartition::new("fuzzed", 0);
    for (compact, compression) in [(false, TopicCompression::Producer), (true, to_zstd)] {
        let config = LogConfig {
            compact,
            compression,
            max_message_bytes: MAX_MESSAGE_BYTES,
            ..LogConfig::default()
        };
        let mut sent = data.to_vec();
        let Ok(mut accepted) = prepare(&mut sent, &config, &topic_partition, 0) else {
            continue;
        };
        let record_count = accepted.header.record_count;
        let mut stored = accepted.bytes.as_mut().to_vec();
        let batch = batches(&stored)
            .next()
            .expect("a batch")
            .expect("a whole one");
        assert_eq!(batch.verify_crc(), Ok(()));
        assert_eq!(batch.header.record_count, record_count);
        let records = batch.records(MAX_DECOMPRESSED_BYTES);
        let records = records.expect("what was glanced at can be decompressed");
        let read = records.iter().map(|record| record.expect("a record"));
        assert_eq!(read.count(), record_count as usize);
        assert!(prepare(&mut stored, &config, &topic_partition, 0).is_ok());
    }
}

fn read_batches(data: &[u8]) {
    let fs = MemoryFileSystem::of(data);
    let path = Path::new("00000000000000000000.log");
    let file = fs.open(path).expect("every file of it is there");
    for depth in [Depth::Headers, Depth::Checksums] {
        let mut scanner = BatchScanner::new(file.clone(), path, 0, data.len() as u64, depth);
        let mut end = 0;
        while let Ok(Some(batch)) = scanner.next() {
            assert_eq!(batch.position, end, "batches follow each other");
            end = batch.end();
        }
        assert!(end <= data.len() as u64);
    }
    for batch in batches(data).map_while(Result::ok) {
        let header = &batch.header;
        assert!(header.size() >= BATCH_HEADER_SIZE && header.last_offset() >= header.base_offset);
        let intact = batch.verify_crc().is_ok();
        let marker = EndTransactionMarker::read(&batch);
        assert!(marker.is_none() || header.attributes.is_control());
        let Ok(records) = batch.records(MAX_DECOMPRESSED_BYTES) else {
            continue;
        };
        let offsets = header.base_offset..=header.last_offset();
        let read = records.iter().map_while(Result::ok);
        let read = read.inspect(|record| assert!(offsets.contains(&record.offset)));
        let raw = records.raw().map_while(Result::ok).count();
        assert!(
            read.count() <= header.record_count as usize && raw <= header.record_count as usize
        );
        // What has the right checksum is what somebody built; what is read of it can be built again.
        if intact {
            assert_eq!(BatchHeader::parse(batch.bytes).as_ref(), Ok(header));
        }
    }
}

/// The three indexes of a segment. Whatever they hold, look-ups answer with what may be, and they take further entries.
pub fn indexes(data: &[u8]) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::of(data));
    let offsets = [
        0,
        BASE_OFFSET,
        BASE_OFFSET + 5,
        BASE_OFFSET + 70_000,
        i64::MAX,
    ];
    let path = |extension: &str| format!("{BASE_OFFSET:020}.{extension}").into();

    let size = data.len() as u64 * 100;
    let opened = OffsetIndex::open(fs.clone(), path("index"), BASE_OFFSET, INDEX_BYTES, size);
    if let Some(mut index) = opened.expect("a disk that does not fail") {
        for offset in offsets {
            let found = index.lookup(offset).expect("a disk that does not fail");
            assert!(found.offset <= offset.max(BASE_OFFSET));
            let _ = index.first_from(u64::from(found.position) + 1);
        }
        let _ = index.append(BASE_OFFSET + 80_000, size);
        let _ = index.truncate_to(BASE_OFFSET + 5);
        let last = index.last().expect("a disk that does not fail");
        assert!(last.is_none_or(|last| last.offset < BASE_OFFSET + 5));
        let _ = index.trim();
    }
    let opened = TimeIndex::open(fs.clone(), path("timeindex"), BASE_OFFSET, INDEX_BYTES);
    if let Some(mut index) = opened.expect("a disk that does not fail") {
        for timestamp in [i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX] {
            let found = index.lookup(timestamp).expect("a disk that does not fail");
            assert!(found.is_none_or(|found| found.timestamp < timestamp));
        }
        let _ = index.truncate_to(BASE_OFFSET + 5);
        let _ = index.trim();
    }
    let mut index = TransactionIndex::new(fs, path("txnindex"));
    index.open(BASE_OFFSET).expect("a disk that does not fail");
    let mut found = Vec::new();
    for to in offsets {
        let _ = index.collect(BASE_OFFSET, to, &mut found);
    }
    assert!(found.len() <= data.len());
    let _ = index.truncate_to(BASE_OFFSET + 5);

    assert_eq!(offset_entries(BASE_OFFSET, data).count(), data.len() / 8);
    assert_eq!(time_entries(BASE_OFFSET, data).count(), data.len() / 12);
    let _ = transaction_index::entries(data);
}

/// The small files: checkpoints, snapshots of producers, whose directory it is. What is taken for good is written as it
/// was read.
pub fn checkpoints(data: &[u8]) {
    let fs = MemoryFileSystem::of(data);
    let path = Path::new(RECOVERY_POINT_CHECKPOINT);
    if let Ok(Found::Intact(offsets)) = checkpoint::read_offsets(&fs, path) {
        checkpoint::write_offsets(&fs, path, &offsets).expect("a disk that does not fail");
        let again = checkpoint::read_offsets(&fs, path).expect("a disk that does not fail");
        assert!(matches!(again, Found::Intact(again) if again == offsets));
        let named = |partition: &TopicPartition| !partition.topic.contains('/');
        assert!(
            offsets.keys().all(named),
            "no name leads out of the directory"
        );
    }
    let fs = MemoryFileSystem::of(data);
    if let Ok(Found::Intact(epochs)) =
        checkpoint::read_epochs(&fs, Path::new(LEADER_EPOCH_CHECKPOINT))
    {
        assert!(epochs.is_sorted());
    }
    if let Some(producers) = snapshot::entries(data) {
        assert!(producers.len() <= data.len());
    }
    let _ = meta_properties::read(&fs, Path::new("/"));
    let _ = partition_metadata::read(&fs, Path::new("/"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All inputs that are kept for a target.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let entries = std::fs::read_dir(&corpus).expect("the inputs are kept");
        let inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "no inputs in {}", corpus.display());
        for input in inputs {
            let data = std::fs::read(&input).unwrap();
            // A panic names no input of itself.
            let survived = std::panic::catch_unwind(|| run(&data));
            assert!(survived.is_ok(), "{}", input.display());
        }
    }

    #[test]
    fn record_batches_of_the_corpus() {
        replay("record_batches", record_batches);
    }

    #[test]
    fn message_sets_of_the_corpus() {
        replay("message_sets", message_sets);
    }

    #[test]
    fn indexes_of_the_corpus() {
        replay("indexes", indexes);
    }

    #[test]
    fn checkpoints_of_the_corpus() {
        replay("checkpoints", checkpoints);
    }
}
