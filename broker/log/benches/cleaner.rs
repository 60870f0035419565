//! How fast a log is compacted, on one core: bytes of the log that is read, over the time that a core worked for the whole
//! round, in the system too. What else the machine does, and waiting for its disk, is not counted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_wire::TopicPartition;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::RecordBatchBuilder;
use log::{
    Cleaner, CleanerBuffers, LoadProgress, LogConfig, LogManager, LogManagerConfig, Pace,
    StdFileSystem,
};
use tempfile::TempDir;

const NOW_MS: i64 = 1_700_000_000_000;
const LOG_BYTES: u64 = 256 << 20;

struct Unpaced;

impl Pace for Unpaced {
    fn advance(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// How long a core has worked for this thread.
fn worked() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = schedstat.split(' ').next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

fn random(state: &mut u64) -> u64 {
    // xorshift64
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

/// A log of records with one of `keys` keys of 16 bytes and a value of 100, in batches of 16 KiB.
fn dirty_log(keys: u64, codec: Compression) -> (TempDir, Arc<LogManager>, i64) {
    let directory = tempfile::tempdir().unwrap();
    let log_config = LogConfig {
        compact: true,
        segment_bytes: 64 << 20,
        ..LogConfig::default()
    };
    let config = LogManagerConfig {
        log_dirs: vec![directory.path().to_owned()],
        broker_id: 1,
        cluster_id: "bench".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| log_config.clone(),
        progress: &LoadProgress::default(),
    };
    let manager = LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap();
    let partition = TopicPartition::new("bench", 0);
    let shared = manager
        .get_or_create(&partition, None, log_config.clone(), NOW_MS)
        .unwrap();
    let mut log = shared.lock().unwrap();
    let mut state = 1 | keys;
    while log.size() < LOG_BYTES {
        let mut builder = RecordBatchBuilder::new(codec);
        while builder.uncompressed_size() < 16 << 10 {
            let key = format!("{:016x}", random(&mut state) % keys);
            builder
                .append(NOW_MS, Some(key.as_bytes()), Some(&[b'v'; 100]), &[])
                .unwrap();
        }
        let mut batch = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
    }
    let end = log.log_end_offset();
    drop(log);
    (directory, Arc::new(manager), end)
}

fn cleaning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clean");
    group.sample_size(10);
    for (name, keys, codec) in [
        ("few keys", 1_000, Compression::None),
        ("half the keys twice", 2_000_000, Compression::None),
        ("nothing goes", 1 << 40, Compression::None),
        ("half the keys twice, lz4", 2_000_000, Compression::Lz4),
    ] {
        let mut buffers = CleanerBuffers::new(128 << 20, 0.9, 512 << 10);
        group.throughput(Throughput::Bytes(LOG_BYTES));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut taken = Duration::ZERO;
                for _ in 0..count {
                    let (_directory, manager, end) = dirty_log(keys, codec);
                    let cleaner = Cleaner::new(manager);
                    let began = worked();
                    let cleaning = cleaner.begin(NOW_MS, &|_| Some(end)).unwrap();
                    let stats = cleaning.run(&mut buffers, &mut Unpaced).unwrap();
                    // As if all of the log had been read, and not all but its active segment.
                    taken += (worked() - began).mul_f64(LOG_BYTES as f64 / stats.bytes_read as f64);
                }
                taken
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cleaning);
criterion_main!(benches);
