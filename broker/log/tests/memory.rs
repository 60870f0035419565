//! What the log holds in memory: little for a partition that nobody reads or writes, and for who looks for a timestamp in
//! a client's batch no more than that batch, whatever it decompresses to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{RecordBatchBuilder, RecordHeader};
use kafka_wire::{TopicPartition, Uuid};
use log::{LoadProgress, Log, LogConfig, LogManager, LogManagerConfig, StdFileSystem};

/// Counts what the current thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only numbers are kept besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size());
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW_MS: i64 = 1_700_000_000_000;

fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

fn open(directory: &Path) -> LogManager {
    let config = LogManagerConfig {
        log_dirs: vec![directory.to_owned()],
        broker_id: 1,
        cluster_id: "cluster".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &LoadProgress::default(),
    };
    LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap()
}

fn with_log(manager: &LogManager, partition: i32, work: impl FnOnce(&mut Log)) {
    let partition = TopicPartition::new("t", partition);
    let topic_id = Some(Uuid::from_bytes([7; 16]));
    let log = manager.get_or_create(&partition, topic_id, LogConfig::default(), NOW_MS);
    work(&mut log.unwrap().lock().unwrap());
}

/// Ten thousand of them should not take more than forty megabytes; what the allocator adds is left room for.
#[test]
fn a_partition_that_is_open_takes_less_than_3_kib() {
    const PARTITIONS: i32 = 200;
    const MOST: usize = 3 << 10;
    let directory = tempfile::tempdir().unwrap();
    let manager = open(directory.path());
    for partition in 0..PARTITIONS {
        with_log(&manager, partition, |log| {
            let mut batch = RecordBatchBuilder::new(Compression::None).producer(9, 0, 0);
            batch.append(NOW_MS, None, Some(&[b'x'; 100]), &[]).unwrap();
            let mut batch = batch.build().unwrap().to_vec();
            log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
        });
    }
    manager.shutdown(1).unwrap();
    drop(manager);
    let before = HELD.get();
    let manager = open(directory.path());
    let each = (HELD.get() - before) / PARTITIONS as usize;
    assert_eq!(manager.all().len(), PARTITIONS as usize);
    println!("{each} bytes for an open partition");
    assert!(each < MOST, "{each} bytes for an open partition");
}

#[test]
fn a_timestamp_is_found_in_constant_memory() {
    const MOST: usize = 1 << 20;
    let header = RecordHeader {
        key: b"",
        value: None,
    };
    let headers = vec![header; 2_000_000];
    let directory = tempfile::tempdir().unwrap();
    with_log(&open(directory.path()), 0, |log| {
        for codec in [Compression::Gzip, Compression::Zstd] {
            let mut of_headers = RecordBatchBuilder::new(codec);
            of_headers.append(NOW_MS, None, None, &headers).unwrap();
            let mut of_records = RecordBatchBuilder::new(codec);
            for step in 0..400_000 {
                let timestamp = NOW_MS + step % 7;
                of_records.append(timestamp, None, None, &[]).unwrap();
            }
            for builder in [of_headers, of_records] {
                let mut batch = builder.build().unwrap().to_vec();
                log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
            }
        }
        let (found, peak) = peak_of(|| log.offset_for_timestamp(NOW_MS + 6));
        assert_eq!(found.unwrap().unwrap().offset, 7);
        assert!(peak < MOST, "{peak} bytes for a timestamp");
        let (found, peak) = peak_of(|| log.max_timestamp_offset());
        assert_eq!(found.unwrap().unwrap().offset, 7);
        assert!(peak < MOST, "{peak} bytes for the largest timestamp");
    });
}
