//! Random lives of a log beside a plain model of it: whatever is appended, truncated, killed and cut off from power, the
//! log holds what the model says it must, and nothing that it never held.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{RecordBatchBuilder, set_base_offset, set_partition_leader_epoch};
use log::{LogConfig, SharedLog};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::broker::{
    Broker, NOW_MS, build, bytes, locked, partition, records, temporary_directory,
};
use crate::test_file_system::TestFileSystem;

#[derive(Debug, Clone)]
enum Step {
    /// So many records of so many bytes, as a leader or as a follower, from an idempotent producer or from another.
    Append {
        count: i32,
        size: usize,
        follower: bool,
        codec: Compression,
        idempotent: bool,
    },
    NewLeader,
    /// To this part in a hundred of what there is.
    Truncate {
        percent: i64,
    },
    StartAnew {
        ahead: i64,
    },
    Flush,
    Checkpoint,
    Restart,
    Kill,
    /// The seed decides what is left.
    CutPower {
        clean: bool,
        seed: u64,
    },
}

fn append() -> impl Strategy<Value = Step> {
    // The other codecs are the crash tests': their buffers are large beside these batches.
    let codec = prop_oneof![
        8 => Just(Compression::None),
        1 => Just(Compression::Snappy),
    ];
    let who = (any::<bool>(), prop::bool::weighted(0.3));
    (1..4i32, 1..120usize, codec, who).prop_map(|(count, size, codec, (follower, idempotent))| {
        Step::Append {
            count,
            size,
            follower,
            codec,
            idempotent,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => append(),
        2 => Just(Step::NewLeader),
        2 => (0..=100i64).prop_map(|percent| Step::Truncate { percent }),
        1 => (0..30i64).prop_map(|ahead| Step::StartAnew { ahead }),
        1 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        2 => (prop::bool::weighted(0.2), any::<u64>()).prop_map(|(clean, seed)| Step::CutPower { clean, seed }),
    ]
}

/// A record: its leader epoch, its timestamp, its value.
type Record = (i32, i64, Vec<u8>);

/// What a log should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct History {
    start: i64,
    records: Vec<Record>,
    /// How the batches lie in it: the offset after each.
    batch_ends: Vec<i64>,
}

impl History {
    fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    /// Keeps the batches that end at or before `offset`.
    fn truncate(&mut self, offset: i64) {
        self.batch_ends.retain(|end| *end <= offset);
        let end = self.batch_ends.last().copied().unwrap_or(self.start);
        self.records.truncate((end - self.start) as usize);
    }

    fn begins_with(&self, other: &History) -> bool {
        self.start == other.start && self.records.starts_with(&other.records)
    }
}

struct Life {
    broker: Option<Broker>,
    fs: TestFileSystem,
    shared: Option<SharedLog>,
    now: History,
    /// What the log held before it was truncated, which a power cut may bring back.
    past: Vec<History>,
    /// What lies before it must survive a power cut.
    synced: i64,
    epoch: i32,
    stamp: i64,
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        segment_index_bytes: 120,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

impl Life {
    fn new() -> Self {
        let fs = TestFileSystem::default();
        let broker = Broker::start_in(temporary_directory(), Arc::new(fs.clone()), config());
        let shared = Some(broker.log());
        let (now, past) = (History::default(), Vec::new());
        Self {
            broker: Some(broker),
            fs,
            shared,
            now,
            past,
            synced: 0,
            epoch: 0,
            stamp: NOW_MS,
        }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn log(&self) -> std::sync::MutexGuard<'_, log::Log> {
        locked(self.shared.as_ref().unwrap())
    }

    /// Ends the broker and starts another on the same disk.
    fn start_again(&mut self, clean: bool, between: impl FnOnce(&TestFileSystem)) {
        if clean {
            self.broker().manager.shutdown(1).unwrap();
            self.synced = self.now.end();
        }
        self.shared = None;
        let Broker {
            directory,
            fs,
            config,
            manager,
        } = self.broker.take().unwrap();
        drop(manager);
        between(&self.fs);
        let broker = Broker::start_in(directory, fs, config);
        self.shared = broker
            .manager
            .get(&partition())
            .or_else(|| Some(broker.log()));
        self.broker = Some(broker);
    }

    /// What the log holds, read back.
    fn read(&self) -> History {
        let log = self.log();
        let mut read = History {
            start: log.log_start_offset(),
            ..History::default()
        };
        for (offset, timestamp, value) in records(&log) {
            assert_eq!(offset, read.end(), "offsets follow each other");
            read.records.push((
                log.epoch_of(offset).expect("every record has an epoch"),
                timestamp,
                value,
            ));
        }
        assert_eq!(log.log_end_offset(), read.end());
        read
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append {
                count,
                size,
                follower,
                codec,
                idempotent,
            } => {
                let value = vec![self.stamp as u8; size];
                let mut builder = RecordBatchBuilder::new(codec);
                if idempotent {
                    // Each has a producer of its own, whose sequence begins at 0.
                    builder = builder.producer(self.stamp, 0, 0);
                }
                let mut sent = build(builder, count, &value, self.stamp);
                if follower {
                    set_base_offset(&mut sent, self.now.end());
                    set_partition_leader_epoch(&mut sent, self.epoch);
                    self.log().append_as_follower(&sent, NOW_MS).unwrap();
                } else {
                    self.log()
                        .append_as_leader(&mut sent, self.epoch, NOW_MS)
                        .unwrap();
                }
                for index in 0..count {
                    self.now.records.push((
                        self.epoch,
                        self.stamp + i64::from(index),
                        value.clone(),
                    ));
                }
                self.now.batch_ends.push(self.now.end());
                self.stamp += 10;
            }
            Step::NewLeader => {
                self.epoch += 1;
                let end = self.log().log_end_offset();
                self.log().assign_epoch(self.epoch, end).unwrap();
            }
            Step::Truncate { percent } => {
                let offset = self.now.start + self.now.records.len() as i64 * percent / 100;
                self.past.push(self.now.clone());
                self.log().truncate_to(offset, NOW_MS).unwrap();
                self.now.truncate(offset);
                self.synced = self.synced.min(self.now.end());
                self.epoch += 1;
            }
            Step::StartAnew { ahead } => {
                let offset = self.now.end() + ahead;
                self.past.push(self.now.clone());
                self.log()
                    .truncate_fully_and_start_at(offset, NOW_MS)
                    .unwrap();
                self.now = History {
                    start: offset,
                    ..History::default()
                };
                self.synced = offset;
                self.epoch += 1;
            }
            Step::Flush => {
                self.log().flush(NOW_MS).unwrap();
                self.synced = self.now.end();
            }
            Step::Checkpoint => {
                self.broker()
                    .manager
                    .checkpoint_recovery_points(NOW_MS)
                    .unwrap();
                let recovery_point = self.log().recovery_point();
                self.synced = self.synced.max(recovery_point);
            }
            Step::Restart => self.start_again(true, |_| ()),
            Step::Kill => self.start_again(false, |_| ()),
            Step::CutPower { clean, seed } => {
                self.start_again(clean, |fs| {
                    let mut state = seed | 1;
                    fs.cut_power(|below| {
                        // xorshift64
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        (state >> 11) as usize % below
                    });
                });
                let left = self.read();
                let known = |history: &History| history.begins_with(&left);
                assert!(
                    left.end() >= self.synced,
                    "what was synced is there: {} to {}",
                    left.start,
                    left.end()
                );
                assert!(
                    known(&self.now) || self.past.iter().any(known),
                    "never held: {left:?}"
                );
                let synced = (self.synced - self.now.start).max(0) as usize;
                assert_eq!(left.records[..synced], self.now.records[..synced]);
                self.past.push(self.now.clone());
                let ends = [&self.now]
                    .into_iter()
                    .chain(&self.past)
                    .find(|history| known(history))
                    .unwrap();
                self.now = History {
                    batch_ends: ends.batch_ends.clone(),
                    ..left
                };
                let end = self.now.end();
                self.now.batch_ends.retain(|batch_end| *batch_end <= end);
                self.epoch += 1;
            }
        }
    }

    fn check(&self) {
        let read = self.read();
        assert_eq!(
            (read.start, &read.records),
            (self.now.start, &self.now.records)
        );
        let log = self.log();
        for offset in log.log_start_offset()..log.log_end_offset() {
            let data = bytes(&log.read(offset, 1, log.log_end_offset(), true).unwrap());
            let header = kafka_wire::record_batch::BatchHeader::parse(&data).unwrap();
            assert!((header.base_offset..=header.last_offset()).contains(&offset));
        }
        // Timestamps rise, so that each is found at its own offset.
        for (index, (_, timestamp, _)) in self.now.records.iter().enumerate() {
            let found = log
                .offset_for_timestamp(*timestamp)
                .unwrap()
                .map(|found| found.offset);
            assert_eq!(found, Some(self.now.start + index as i64));
        }
        let max = log.max_timestamp_offset().unwrap().map(|max| max.timestamp);
        assert_eq!(max, self.now.records.last().map(|record| record.1));
    }
}

/// Lives `cases` of them. A failure names the shortest life that shows it.
fn live(seed: u64, cases: u32) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    let mut runner = TestRunner::new_with_rng(config, random);
    let lives = prop::collection::vec(step(), 1..40);
    let result = runner.run(&lives, |steps| {
        let mut life = Life::new();
        for step in &steps {
            life.take(step);
            life.check();
        }
        Ok(())
    });
    result.map_err(|error| error.to_string())
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
}

/// Ten thousand lives, on as many threads as there are cores. `PROPTEST_CASES` is another number, `LOG_MODEL_SEED` lives
/// those of a failure again.
#[test]
fn a_log_is_what_its_model_is() {
    let cases: u32 = from_environment("PROPTEST_CASES").unwrap_or(10_000);
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u32;
    let seeds: Vec<u64> = match from_environment("LOG_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => {
            let random = RandomState::new().build_hasher().finish();
            (0..threads)
                .map(|thread| random.wrapping_add(u64::from(thread)))
                .collect()
        }
    };
    std::thread::scope(|scope| {
        let lives = |seed: u64| (seed, live(seed, cases.div_ceil(threads)));
        let running: Vec<_> = seeds
            .into_iter()
            .map(|seed| scope.spawn(move || lives(seed)))
            .collect();
        for thread in running {
            let (seed, result) = thread.join().expect("proptest catches what a life throws");
            if let Err(error) = result {
                panic!("LOG_MODEL_SEED={seed}: {error}");
            }
        }
    });
}

#[test]
fn high_watermarks_survive_a_power_cut() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(temporary_directory(), Arc::new(fs.clone()), config());
    broker.log();
    broker
        .manager
        .checkpoint_high_watermarks(&[(broker.log(), 7)])
        .unwrap();
    let Broker {
        directory,
        fs: disk,
        config,
        manager,
    } = broker;
    drop(manager);
    fs.cut_power(|_| 0);
    let broker = Broker::start_in(directory, disk, config);
    assert_eq!(
        broker.manager.high_watermarks(),
        BTreeMap::from([(partition(), 7)])
    );
}
