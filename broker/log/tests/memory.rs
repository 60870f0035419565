//! What a client's batch costs whoever looks for a timestamp in it: no more memory than the batch itself, whatever it
//! decompresses to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use kafka_wire::TopicPartition;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{RecordBatchBuilder, RecordHeader};
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

fn with_log(work: impl FnOnce(&mut Log)) {
    let directory = tempfile::tempdir().unwrap();
    let config = LogManagerConfig {
        log_dirs: vec![directory.path().to_owned()],
        broker_id: 1,
        cluster_id: "cluster".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &LoadProgress::default(),
    };
    let manager = LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap();
    let partition = TopicPartition::new("t", 0);
    let log = manager.get_or_create(&partition, None, LogConfig::default(), NOW_MS);
    work(&mut log.unwrap().lock().unwrap());
}

#[test]
fn a_timestamp_is_found_in_constant_memory() {
    const MOST: usize = 1 << 20;
    let header = RecordHeader {
        key: b"",
        value: None,
    };
    let headers = vec![header; 2_000_000];
    with_log(|log| {
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
