//! How fast a log that was not shut down is opened, beside the speed of reading and checksumming the same files.
//!
//! Both read the same bytes in the same chunks, in turns: from the page cache, and from the disk. `RECOVERY_GIB` is the
//! size of the log (1 by default), and `TMPDIR` where it is written; it is removed at the end.

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
            checksum ^= crc32c::crc32c(&chunk[..count]);
        }
    }
    checksum
}

/// The least of the times that something took: what others on the machine do only ever adds to it.
fn fastest(times: &[Duration]) -> f64 {
    times.iter().min().map_or(0.0, Duration::as_secs_f64)
}

fn main() {
    let gib: u64 = std::env::var("RECOVERY_GIB").map_or(1, |text| text.parse().unwrap());
    let bytes = gib << 30;
    println!("a log of {gib} GiB, the fastest of {ROUNDS} rounds; GB/s");
    println!(
        "{:>10} {:>6} {:>14} {:>9} {:>6}",
        "batches", "pages", "read+checksum", "recovery", "ratio"
    );
    for batch_size in [64 << 10, 16 << 10, 1 << 10] {
        let directory = tempfile::tempdir().unwrap();
        let segments = write(directory.path(), bytes, batch_size);
        for cold in [false, true] {
            let timed = |work: &dyn Fn()| {
                if cold {
                    forget_pages(&segments);
                }
                let before = Instant::now();
                work();
                before.elapsed()
            };
            let (mut plain, mut recovery) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                plain.push(timed(&|| {
                    read_and_checksum(&segments);
                }));
                recovery.push(timed(&|| drop(open(directory.path()))));
            }
            let speed = |times: &[Duration]| bytes as f64 / fastest(times) / 1e9;
            let (plain, recovery) = (speed(&plain), speed(&recovery));
            let pages = if cold { "cold" } else { "warm" };
            let ratio = recovery / plain;
            println!("{batch_size:>10} {pages:>6} {plain:>14.2} {recovery:>9.2} {ratio:>6.2}");
        }
    }
}
