//! How fast a log that was not shut down is opened, beside the speed of reading and checksumming the same files.
//!
//! Both read the same bytes in the same chunks, in turns: from the page cache, and from the disk. The one checksums each
//! batch, the other each chunk, which is a little faster where batches are small. Beside the time that passed stands the
//! processor's, which others on the machine hardly change. `RECOVERY_GIB` is the size of the log (1 by default), and
//! `TMPDIR` where it is written; it is removed at the end.

mod broker;

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kafka_wire::TopicPartition;
use kafka_wire::record_batch::set_base_offset;
use log::LogConfig;

use broker::{NOW_MS, batch, open};

const CHUNK_BYTES: usize = 256 << 10;
const ROUNDS: usize = 5;

/// Writes a log of one partition and leaves it as a killed broker would. Its segment files.
fn write(directory: &Path, bytes: u64, batch_size: usize) -> Vec<PathBuf> {
    let manager = open(directory);
    let partition = TopicPartition::new("bench", 0);
    let config = LogConfig::default();
    let log = manager
        .get_or_create(&partition, None, config, NOW_MS)
        .unwrap();
    let mut log = log.lock().unwrap();
    let mut batch = batch(batch_size);
    while log.size() < bytes {
        // The log put its own there.
        set_base_offset(&mut batch, 0);
        log.append_as_leader(&mut batch, 0, NOW_MS).unwrap();
    }
    let entries = std::fs::read_dir(log.directory()).unwrap();
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    for segment in &segments {
        File::open(segment).unwrap().sync_all().unwrap();
    }
    segments
}

fn forget_pages(segments: &[PathBuf]) {
    for segment in segments {
        let file = File::open(segment).unwrap();
        let whole = None::<NonZeroU64>;
        rustix::fs::fadvise(&file, 0, whole, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn read_and_checksum(segments: &[PathBuf]) -> u32 {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut checksum = 0;
    for segment in segments {
        let mut file = File::open(segment).unwrap();
        loop {
            let count = file.read(&mut chunk).unwrap();
            if count == 0 {
                break;
            }
            checksum ^= crc_fast::crc32_iscsi(&chunk[..count]);
        }
    }
    checksum
}

/// The time that this thread has spent on a processor.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = statistics.split(' ').next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

/// The least that something took, in seconds: what others on the machine do only ever adds to it.
#[derive(Debug, Clone, Copy)]
struct Fastest {
    elapsed: f64,
    processor: f64,
}

impl Fastest {
    const NONE: Self = Self {
        elapsed: f64::INFINITY,
        processor: f64::INFINITY,
    };

    /// Does it once more.
    fn of(self, work: impl FnOnce()) -> Self {
        let (before, processor_before) = (Instant::now(), processor_time());
        work();
        let processor = processor_time() - processor_before;
        Self {
            elapsed: self.elapsed.min(before.elapsed().as_secs_f64()),
            processor: self.processor.min(processor.as_secs_f64()),
        }
    }
}

fn main() {
    let gib: u64 = std::env::var("RECOVERY_GIB").map_or(1, |text| text.parse().unwrap());
    let bytes = gib << 30;
    println!(
        "a log of {gib} GiB, the fastest of {ROUNDS} rounds; GB/s of time and of processor time"
    );
    println!(
        "{:>10} {:>6} {:>20} {:>20} {:>14}",
        "batches", "pages", "read+checksum", "recovery", "ratio"
    );
    for batch_size in [64 << 10, 16 << 10, 1 << 10] {
        let directory = tempfile::tempdir().unwrap();
        let segments = write(directory.path(), bytes, batch_size);
        for cold in [false, true] {
            let (mut plain, mut recovery) = (Fastest::NONE, Fastest::NONE);
            for _ in 0..ROUNDS {
                if cold {
                    forget_pages(&segments);
                }
                plain = plain.of(|| {
                    std::hint::black_box(read_and_checksum(&segments));
                });
                if cold {
                    forget_pages(&segments);
                }
                recovery = recovery.of(|| drop(open(directory.path())));
            }
            let speed = |seconds: f64| bytes as f64 / seconds / 1e9;
            let pages = if cold { "cold" } else { "warm" };
            println!(
                "{batch_size:>10} {pages:>6} {:>10.2} {:>9.2} {:>10.2} {:>9.2} {:>7.2} {:>6.2}",
                speed(plain.elapsed),
                speed(plain.processor),
                speed(recovery.elapsed),
                speed(recovery.processor),
                plain.elapsed / recovery.elapsed,
                plain.processor / recovery.processor,
            );
        }
    }
}
