//! How fast the log takes records in and gives them out.
//!
//! `append/…` beside `write/…` says what the log costs over the plain system call with the same bytes: checksum, patching,
//! indexes. Both write to files in the system's temporary directory that start anew from time to time, so that neither
//! fills the disk.

mod broker;

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use kafka_wire::record_batch::{set_base_offset, verify_crc};
use kafka_wire::{TopicPartition, Uuid};
use log::{
    FileRange, LoadProgress, Log, LogConfig, LogManager, LogManagerConfig, SharedLog, StdFileSystem,
};
use tempfile::TempDir;

use broker::{NOW_MS, batch, open, open_all};

/// After so many bytes a file or a log starts anew.
const BYTES_AT_MOST: u64 = 512 << 20;
/// Set in the process that only opens the logs of that directory.
const MEASURE_START_OF: &str = "MEASURE_START_OF";

struct Bench {
    _directory: TempDir,
    _manager: LogManager,
    log: SharedLog,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manager = open(directory.path());
        let partition = TopicPartition::new("bench", 0);
        let log = manager
            .get_or_create(&partition, None, LogConfig::default(), NOW_MS)
            .unwrap();
        Self {
            _directory: directory,
            _manager: manager,
            log,
        }
    }
}

fn append(log: &mut Log, batch: &mut [u8]) {
    if log.size() > BYTES_AT_MOST {
        log.truncate_fully_and_start_at(0, NOW_MS).unwrap();
    }
    // As a client sends it, who has not seen where it went.
    set_base_offset(batch, 0);
    log.append_as_leader(batch, 0, NOW_MS).unwrap();
}

fn appends(criterion: &mut Criterion) {
    for size in [1 << 10, 64 << 10] {
        let mut batch = batch(size);
        let mut group = criterion.benchmark_group("append");
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::new("log", size), |bencher| {
            let bench = Bench::new();
            let mut log = bench.log.lock().unwrap();
            bencher.iter(|| append(&mut log, &mut batch));
        });
        group.bench_function(BenchmarkId::new("write", size), |bencher| {
            let mut file = tempfile::tempfile().unwrap();
            let mut written = 0;
            bencher.iter(|| {
                if written > BYTES_AT_MOST {
                    file = tempfile::tempfile().unwrap();
                    written = 0;
                }
                file.write_all(&batch).unwrap();
                written += batch.len() as u64;
            });
        });
        group.bench_function(BenchmarkId::new("checksum", size), |bencher| {
            bencher.iter(|| verify_crc(black_box(&batch)).unwrap());
        });
        group.finish();
    }
}

/// Reads whatever arrives at the other end, and throws it away.
fn drain(stream: UnixStream) {
    let sink = File::options().write(true).open("/dev/null").unwrap();
    std::thread::spawn(move || std::io::copy(&mut &stream, &mut &sink));
}

fn send(range: &FileRange, to: &UnixStream) {
    let mut position = range.position;
    let end = range.position + u64::from(range.len);
    while position < end {
        let count = (end - position) as usize;
        let sent =
            rustix::fs::sendfile(to, range.file.as_fd(), Some(&mut position), count).unwrap();
        assert!(sent > 0);
    }
}

fn reads(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut log = bench.log.lock().unwrap();
    let mut batch = batch(16 << 10);
    while log.size() < 256 << 20 {
        append(&mut log, &mut batch);
    }
    let end = log.log_end_offset();
    let high_watermark = end - 1;
    let mut offset = 0;
    let mut next = move || {
        offset = (offset + 7919) % (end - 20_000);
        offset
    };

    let mut group = criterion.benchmark_group("read");
    group.bench_function("find 1 MiB up to the end", |bencher| {
        bencher.iter(|| log.read(next(), 1 << 20, end, true).unwrap());
    });
    group.bench_function("find 1 MiB up to the high watermark", |bencher| {
        bencher.iter(|| log.read(next(), 1 << 20, high_watermark, true).unwrap());
    });
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("find and send 1 MiB", |bencher| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drain(theirs);
        bencher.iter(|| {
            let data = log.read(next(), 1 << 20, end, true).unwrap();
            send(&data.range.unwrap(), &ours);
        });
    });
    group.finish();
}

fn may_open_files(count: u64) -> bool {
    let limit = rustix::process::Rlimit {
        current: Some(count),
        maximum: Some(count),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).is_ok()
}

/// The memory of this process that is in use, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .map_or(0, |kib| kib.parse().unwrap());
    kib << 10
}

/// Opens the logs of a directory that was shut down, and tells what memory each takes.
fn measure_start(directory: &Path) {
    let before = resident_bytes();
    let manager = open(directory);
    let taken = resident_bytes() - before;
    let partitions = manager.all().len() as u64;
    println!(
        "start/{partitions} clean partitions: {} bytes resident for each",
        taken / partitions
    );
    manager.shutdown(1).unwrap();
}

/// Opens ten thousand partitions that were shut down, each with a little in it.
fn starts(criterion: &mut Criterion) {
    const PARTITIONS: i32 = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let config = LogManagerConfig {
            log_dirs: vec![directory.path().to_owned()],
            broker_id: 1,
            cluster_id: "bench".to_owned(),
            recovery_threads_per_data_dir: 2,
            topic_config: &|_| LogConfig::default(),
            progress: &LoadProgress::default(),
        };
        LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap()
    };
    if !may_open_files(20_000) {
        eprintln!("start: left out, for it needs 20,000 open files");
        return;
    }
    let manager = open();
    let mut batch = batch(1 << 10);
    for partition in 0..PARTITIONS {
        let partition = TopicPartition::new("bench", partition);
        let log = manager
            .get_or_create(&partition, None, LogConfig::default(), NOW_MS)
            .unwrap();
        log.lock()
            .unwrap()
            .append_as_leader(&mut batch, 0, NOW_MS)
            .unwrap();
    }
    manager.shutdown(1).unwrap();
    drop(manager);
    // In a process of its own, whose allocator has nothing left over.
    let itself = std::env::current_exe().unwrap();
    let mut opening = Command::new(itself);
    opening.env(MEASURE_START_OF, directory.path());
    assert!(opening.status().unwrap().success());
    let mut group = criterion.benchmark_group("start");
    group.sample_size(10);
    group.bench_function("open 10,000 clean partitions", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let before = Instant::now();
                let manager = open();
                total += before.elapsed();
                assert_eq!(manager.all().len(), PARTITIONS as usize);
                manager.shutdown(1).unwrap();
            }
            total
        });
    });
    group.finish();
}

/// Makes three thousand partitions, as a new topic has them, with one log directory and with two to choose from, and lets
/// each have another leader.
fn creations(criterion: &mut Criterion) {
    const PARTITIONS: i32 = 3_000;
    if !may_open_files(20_000) {
        eprintln!("create: left out, for it needs 20,000 open files");
        return;
    }
    let mut group = criterion.benchmark_group("create");
    group.sample_size(10);
    let mut time = |name: &str, directories: usize, leader_epoch: i32| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let log_dirs: Vec<TempDir> = (0..directories)
                        .map(|_| tempfile::tempdir().unwrap())
                        .collect();
                    let manager = open_all(log_dirs.iter().map(|dir| dir.path().into()).collect());
                    for epoch in 0..=leader_epoch {
                        let before = Instant::now();
                        for partition in 0..PARTITIONS {
                            let partition = TopicPartition::new("new", partition);
                            let id = Some(Uuid::from_bytes([7; 16]));
                            let config = LogConfig::default();
                            let log = manager.get_or_create(&partition, id, config, NOW_MS);
                            let log = log.unwrap();
                            log.lock().unwrap().assign_epoch(epoch, 0).unwrap();
                        }
                        if epoch == leader_epoch {
                            total += before.elapsed();
                        }
                    }
                }
                total
            });
        });
    };
    time("3,000 partitions", 1, 0);
    time("3,000 partitions in two directories", 2, 0);
    time("3,000 other leaders", 1, 1);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = appends, reads, creations, starts
}

fn main() {
    if let Some(directory) = std::env::var_os(MEASURE_START_OF) {
        return measure_start(Path::new(&directory));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
