//! A broker's worth of logs in a directory of its own, and batches to put into them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use kafka_wire::TopicPartition;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{Batch, RecordBatchBuilder, batches};
use log::{
    FetchData, FileSystem, LoadProgress, Log, LogConfig, LogManager, LogManagerConfig, SharedLog,
    StdFileSystem,
};
use tempfile::TempDir;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) struct Broker {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) config: LogConfig,
    pub(crate) manager: Arc<LogManager>,
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A directory that goes away; in memory where the system has such a place, since thousands are made.
pub(crate) fn temporary_directory() -> Arc<TempDir> {
    let in_memory = Path::new("/dev/shm");
    let made = if in_memory.is_dir() {
        tempfile::tempdir_in(in_memory)
    } else {
        tempfile::tempdir()
    };
    Arc::new(made.unwrap())
}

impl Broker {
    pub(crate) fn start(config: LogConfig) -> Self {
        Self::start_in(temporary_directory(), Arc::new(StdFileSystem), config)
    }

    pub(crate) fn start_in(
        directory: Arc<TempDir>,
        fs: Arc<dyn FileSystem>,
        config: LogConfig,
    ) -> Self {
        let manager = Arc::new(open(&[&directory], fs.clone(), &config).unwrap());
        Self {
            directory,
            fs,
            config,
            manager,
        }
    }

    /// The one log that most tests are about.
    pub(crate) fn log(&self) -> SharedLog {
        self.manager
            .get_or_create(&partition(), None, self.config.clone(), NOW_MS)
            .unwrap()
    }

    /// Ends without a word, as by SIGKILL, and starts again.
    pub(crate) fn kill_and_start(self) -> Self {
        let Self {
            directory,
            fs,
            config,
            manager,
        } = self;
        drop(manager);
        Self::start_in(directory, fs, config)
    }

    /// Ends as it should, and starts again.
    pub(crate) fn restart(self) -> Self {
        self.manager.shutdown(7).unwrap();
        self.kill_and_start()
    }

    pub(crate) fn partition_directory(&self) -> PathBuf {
        self.directory.path().join("t-0")
    }

    /// The names of the partition's files, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.partition_directory()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The logs of a broker whose log directories these are.
pub(crate) fn open(
    directories: &[&Arc<TempDir>],
    fs: Arc<dyn FileSystem>,
    config: &LogConfig,
) -> Result<LogManager, log::OpenError> {
    let log_dirs = directories.iter().map(|directory| directory.path());
    let manager = LogManagerConfig {
        log_dirs: log_dirs.map(ToOwned::to_owned).collect(),
        broker_id: 1,
        cluster_id: "cluster".to_owned(),
        recovery_threads_per_data_dir: 2,
        topic_config: &|_| config.clone(),
        progress: &LoadProgress::default(),
    };
    LogManager::open(manager, fs, NOW_MS)
}

pub(crate) fn locked(log: &SharedLog) -> MutexGuard<'_, Log> {
    log.lock().unwrap()
}

/// A batch of `count` records of one value each, stamped with `timestamp` and the milliseconds after it.
pub(crate) fn batch(count: i32, value: &[u8], timestamp: i64) -> Vec<u8> {
    build(
        RecordBatchBuilder::new(Compression::None),
        count,
        value,
        timestamp,
    )
}

/// A batch of an idempotent producer.
pub(crate) fn produced(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Vec<u8> {
    let builder = RecordBatchBuilder::new(Compression::None).producer(producer_id, epoch, sequence);
    build(builder, count, b"value", NOW_MS)
}

pub(crate) fn build(
    mut builder: RecordBatchBuilder,
    count: i32,
    value: &[u8],
    timestamp: i64,
) -> Vec<u8> {
    for index in 0..count {
        builder
            .append(timestamp + i64::from(index), None, Some(value), &[])
            .unwrap();
    }
    builder.build().unwrap().to_vec()
}

/// The bytes that a fetch would send.
pub(crate) fn bytes(data: &FetchData) -> Vec<u8> {
    let Some(range) = &data.range else {
        return Vec::new();
    };
    let mut bytes = vec![0; range.len as usize];
    let count = range.file.read_at(&mut bytes, range.position).unwrap();
    assert_eq!(count, bytes.len());
    bytes
}

/// Every record of the log, as offset, timestamp and value, read as a follower would.
pub(crate) fn records(log: &Log) -> Vec<(i64, i64, Vec<u8>)> {
    let mut records = Vec::new();
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let data = bytes(
            &log.read(offset, 1 << 20, log.log_end_offset(), true)
                .unwrap(),
        );
        let mut next = offset;
        for batch in batches(&data) {
            let Ok(Batch { header, bytes }) = batch else {
                break;
            };
            let batch = Batch { header, bytes };
            batch.verify_crc().unwrap();
            next = batch.header.next_offset();
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                records.push((
                    record.offset,
                    record.timestamp,
                    record.value.unwrap_or_default().to_vec(),
                ));
            }
        }
        assert!(next > offset, "a read at {offset} must bring a batch");
        offset = next;
    }
    records
}

/// The offsets of every record of the log.
pub(crate) fn offsets(log: &Log) -> Vec<i64> {
    records(log)
        .into_iter()
        .map(|(offset, ..)| offset)
        .collect()
}
