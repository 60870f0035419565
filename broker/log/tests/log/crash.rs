//! Logs with everything in them, cut at every byte and with every byte flipped: they always open, keep every intact batch
//! before the damage, and never give out a damaged one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{EndTransactionMarker, RecordBatchBuilder, batches};
use log::{AbortedTransaction, Log, LogConfig, StdFileSystem};
use tempfile::TempDir;

use crate::broker::{Broker, NOW_MS, locked, records, temporary_directory};

type Record = (i64, i64, Vec<u8>);

/// Where in its segment file a batch ends, and its records.
type PlacedBatch = (usize, Vec<Record>);

/// A log as a killed or a stopped broker left it, and what is in it.
struct Left {
    directory: Arc<TempDir>,
    config: LogConfig,
    /// In order.
    segments: Vec<(PathBuf, Vec<PlacedBatch>)>,
    remembered: Remembered,
}

/// What a log knows of its producers and their transactions.
#[derive(Debug, PartialEq)]
struct Remembered {
    producers: usize,
    first_unstable_offset: Option<i64>,
    aborted: Vec<AbortedTransaction>,
}

impl Remembered {
    fn by(log: &mut Log) -> Self {
        log.high_watermark_advanced(log.log_end_offset());
        Self {
            producers: log.producer_count(),
            first_unstable_offset: log.first_unstable_offset(),
            aborted: log.aborted_transactions(0, log.log_end_offset()).unwrap(),
        }
    }
}

fn config(compact: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        segment_index_bytes: 120,
        index_interval_bytes: 150,
        compact,
        ..LogConfig::default()
    }
}

/// Appends a batch as a follower does, which may leave out offsets at its front.
fn follow(log: &mut Log, gap: i64, epoch: i32, builder: RecordBatchBuilder) {
    let mut builder = builder
        .base_offset(log.log_end_offset() + gap)
        .partition_leader_epoch(epoch);
    for (index, value) in [b"first value".as_slice(), &[7; 40]].iter().enumerate() {
        let timestamp = NOW_MS + log.log_end_offset() * 10 + index as i64;
        builder
            .append(timestamp, Some(b"key"), Some(value), &[])
            .unwrap();
    }
    let batch = builder.build().unwrap();
    log.append_as_follower(&batch, NOW_MS).unwrap();
}

fn end_transaction(log: &mut Log, gap: i64, epoch: i32, producer_id: i64, committed: bool) {
    let marker = EndTransactionMarker {
        committed,
        coordinator_epoch: 3,
    };
    let timestamp = NOW_MS + log.log_end_offset() * 10;
    let marker = marker.batch(producer_id, 0, timestamp).unwrap();
    let marker = marker.base_offset(log.log_end_offset() + gap);
    let batch = marker.partition_leader_epoch(epoch).build().unwrap();
    log.append_as_follower(&batch, NOW_MS).unwrap();
}

/// Every codec, two producers with transactions of which one is aborted and one is left open, an idempotent one, three
/// leader epochs; `compact`ed, with offsets that are no longer there.
fn fill(log: &mut Log, compact: bool) {
    let gap = i64::from(compact);
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for (round, codec) in (0..).zip(codecs) {
        let epoch = round / 2;
        let plain = RecordBatchBuilder::new(codec);
        follow(log, gap, epoch, plain);
        let idempotent = RecordBatchBuilder::new(codec).producer(1, 0, round * 2);
        follow(log, 0, epoch, idempotent);
        let transactional = RecordBatchBuilder::new(codec).transactional();
        let producer_id = 2 + i64::from(round % 2);
        follow(
            log,
            gap,
            epoch,
            transactional.producer(producer_id, 0, round),
        );
        if round < 4 {
            end_transaction(log, 0, epoch, producer_id, round % 2 == 0);
        }
    }
}

fn leave(compact: bool, clean: bool) -> Left {
    let config = config(compact);
    let broker = Broker::start(config.clone());
    let shared = broker.log();
    fill(&mut locked(&shared), compact);
    let remembered = Remembered::by(&mut locked(&shared));
    assert_eq!((remembered.producers, remembered.aborted.len()), (3, 2));
    assert!(remembered.first_unstable_offset.is_some());
    broker
        .manager
        .checkpoint_high_watermarks(&[(shared.clone(), 9)])
        .unwrap();
    if clean {
        broker.manager.shutdown(1).unwrap();
    }
    let segments = files(&broker.partition_directory(), "log")
        .into_iter()
        .map(|path| {
            let content = std::fs::read(&path).unwrap();
            let mut end = 0;
            let described = batches(&content).map(|batch| {
                let batch = batch.unwrap();
                end += batch.header.size();
                let records = batch.records(1 << 20).unwrap();
                let of = records.iter().map(|record| {
                    let record = record.unwrap();
                    let value = record.value.unwrap_or_default().to_vec();
                    (record.offset, record.timestamp, value)
                });
                (end, of.collect())
            });
            let described = described.collect();
            let name = path.strip_prefix(broker.directory.path()).unwrap();
            (name.to_owned(), described)
        })
        .collect();
    drop(shared);
    Left {
        directory: broker.directory.clone(),
        config,
        segments,
        remembered,
    }
}

/// The files in a directory with an extension, sorted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One thing that happens to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    CutAt(usize),
    FlippedAt(usize),
}

impl Harm {
    fn position(self) -> usize {
        match self {
            Self::CutAt(position) | Self::FlippedAt(position) => position,
        }
    }

    fn to(self, mut content: Vec<u8>) -> Vec<u8> {
        match self {
            Self::CutAt(position) => content.truncate(position),
            Self::FlippedAt(position) => content[position] ^= 1 << (position % 8),
        }
        content
    }

    /// All that can happen to a file of so many bytes.
    fn all(size: usize) -> impl Iterator<Item = Self> {
        (0..size).flat_map(|position| [Self::CutAt(position), Self::FlippedAt(position)])
    }
}

impl Left {
    fn all_records(&self) -> impl Iterator<Item = &Record> {
        let batches = self.segments.iter().flat_map(|(_, batches)| batches);
        batches.flat_map(|(_, records)| records)
    }

    /// What the log holds that is opened after `harm` was done to a file. It takes more records, too.
    fn open_after(&self, file: &Path, harm: Harm) -> (Vec<Record>, Remembered) {
        let harmed = temporary_directory();
        copy(self.directory.path(), harmed.path());
        let path = harmed.path().join(file);
        let content = harm.to(std::fs::read(&path).unwrap());
        std::fs::write(&path, content).unwrap();
        let broker = Broker::start_in(harmed, Arc::new(StdFileSystem), self.config.clone());
        let shared = broker.log();
        let mut log = locked(&shared);
        let mut left = records(&log);
        let remembered = Remembered::by(&mut log);
        // A compacted log takes records with a key only.
        let mut more = RecordBatchBuilder::new(Compression::None);
        more.append(NOW_MS, Some(b"key"), Some(b"more"), &[])
            .unwrap();
        let mut more = more.build().unwrap().to_vec();
        let appended = log.append_as_leader(&mut more, 99, NOW_MS).unwrap();
        left.push((appended.first_offset, NOW_MS, b"more".to_vec()));
        assert_eq!(records(&log), left, "{} {harm:?}", file.display());
        left.pop();
        (left, remembered)
    }

    /// The records that lie before a position of a segment, batches that reach beyond it left out; those of the batch at
    /// that position; and those after it.
    fn split(&self, file: &Path, position: usize) -> [Vec<Record>; 3] {
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let mut part = 0;
        for (name, batches) in &self.segments {
            for (end, records) in batches {
                if name == file && *end > position {
                    part = (part + 1).min(2);
                }
                parts[part].extend_from_slice(records);
            }
            part = if name == file { 2 } else { part };
        }
        parts
    }

    fn start_of_batch(&self, file: &Path, position: usize) -> usize {
        let (_, batches) = self.segments.iter().find(|(name, _)| name == file).unwrap();
        let ends = batches.iter().map(|(end, _)| *end);
        ends.take_while(|end| *end <= position).last().unwrap_or(0)
    }
}

fn harm_the_last_segments(compact: bool) {
    let left = leave(compact, false);
    assert!(left.segments.len() >= 4);
    for (name, _) in left.segments.iter().rev().take(2) {
        let size = std::fs::metadata(left.directory.path().join(name)).unwrap();
        for harm in Harm::all(size.len() as usize) {
            let (found, _) = left.open_after(name, harm);
            let [before, damaged, after] = left.split(name, harm.position());
            let what = format!("{} {harm:?}", name.display());
            assert_eq!(found.get(..before.len()), Some(&before[..]), "{what}");
            let rest = &found[before.len()..];
            let into_batch = harm.position() - left.start_of_batch(name, harm.position());
            match (harm, into_batch) {
                // Neither the base offset nor the leader epoch is under the checksum. Where offsets may be missing, a
                // wrong base offset can look right; an epoch that is too high ends the log after its batch.
                (Harm::FlippedAt(_), 0..8) if compact => {}
                (Harm::FlippedAt(_), 12..16) => {
                    let behind: Vec<Record> = damaged.into_iter().chain(after).collect();
                    assert!(behind.starts_with(rest), "{what}");
                }
                // Compaction may leave a segment that ends anywhere, so that one cut between two batches looks whole.
                (Harm::CutAt(_), 0) if compact => assert!(after.ends_with(rest), "{what}"),
                _ => assert_eq!(rest, [], "{what}"),
            }
        }
    }
}

#[test]
fn a_log_with_everything_is_harmed_at_every_byte_of_its_last_segments() {
    harm_the_last_segments(false);
}

#[test]
fn a_compacted_log_is_harmed_at_every_byte_of_its_last_segments() {
    harm_the_last_segments(true);
}

/// Cuts every other file of the directory at every byte, and flips every byte.
fn harm_the_other_files(clean: bool) {
    let left = leave(false, clean);
    let all: Vec<Record> = left.all_records().cloned().collect();
    let by_offset: BTreeMap<i64, &Record> = all.iter().map(|r| (r.0, r)).collect();
    let partition = left.directory.path().join("t-0");
    let mut others: Vec<PathBuf> = ["index", "timeindex", "txnindex", "snapshot"]
        .iter()
        .flat_map(|extension| files(&partition, extension))
        .collect();
    others.push(partition.join("leader-epoch-checkpoint"));
    for checkpoint in ["recovery-point", "log-start", "replication"] {
        let path = left
            .directory
            .path()
            .join(format!("{checkpoint}-offset-checkpoint"));
        others.extend(path.exists().then_some(path));
    }
    for path in others {
        let name = path.strip_prefix(left.directory.path()).unwrap();
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        for harm in Harm::all(size) {
            let (found, remembered) = left.open_after(name, harm);
            let what = format!("clean: {clean}, {} {harm:?}", name.display());
            if name == Path::new("log-start-offset-checkpoint") {
                // It may say another number, which is then believed.
                assert!(found.iter().all(|record| by_offset[&record.0] == record));
            } else {
                assert_eq!(found, all, "{what}");
            }
            // A transaction index has no checksum: what is taken on trust may say another number, too.
            let told = !clean || name.extension().is_none_or(|found| found != "txnindex");
            if told && name != Path::new("log-start-offset-checkpoint") {
                assert_eq!(remembered, left.remembered, "{what}");
            }
        }
    }
}

#[test]
fn every_other_file_of_a_killed_brokers_log_is_harmed_at_every_byte() {
    harm_the_other_files(false);
}

#[test]
fn every_other_file_of_a_stopped_brokers_log_is_harmed_at_every_byte() {
    harm_the_other_files(true);
}
