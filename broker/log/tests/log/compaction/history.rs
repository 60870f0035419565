//! Random lives of a compacted log: whatever is written, rolled, aborted, restarted and compacted at whatever time, the last
//! value of each key is there, nothing above the dirty bound changes, and who reads along never sees a key go back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Records of these keys; a value is the record's place in the whole of what was written.
    Write {
        keys: Vec<(u8, bool)>,
        producer: Option<u8>,
        codec: u8,
    },
    /// Ends the producer's transaction, if it has one.
    End {
        producer: u8,
        committed: bool,
    },
    Roll,
    /// Time passes.
    Wait {
        ms: i64,
    },
    /// With so many slots in the map.
    Compact {
        slots: u64,
    },
    Restart {
        clean: bool,
    },
    /// A consumer reads some batches on.
    Read {
        batches: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec((0..6u8, prop::bool::weighted(0.2)), 1..5);
    prop_oneof![
        8 => (keys, prop::option::weighted(0.5, 0..3u8), 0..5u8)
            .prop_map(|(keys, producer, codec)| Step::Write { keys, producer, codec }),
        4 => (0..3u8, any::<bool>()).prop_map(|(producer, committed)| Step::End { producer, committed }),
        4 => Just(Step::Roll),
        2 => (0..1500i64).prop_map(|ms| Step::Wait { ms }),
        5 => prop_oneof![Just(1000u64), 6..12u64].prop_map(|slots| Step::Compact { slots }),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
        3 => (1..5usize).prop_map(|batches| Step::Read { batches }),
    ]
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    offset: i64,
    timestamp: i64,
    key: String,
    value: Option<String>,
    producer: Option<u8>,
    aborted: bool,
}

struct Life {
    broker: Option<Broker>,
    now_ms: i64,
    written: Vec<Written>,
    sequences: BTreeMap<u8, i32>,
    /// Where each open transaction began.
    open: BTreeMap<u8, i64>,
    /// What a reader of committed records that began at the start has seen of each key, and where it goes on.
    seen: BTreeMap<String, (i64, Option<String>)>,
    position: i64,
    /// The longest since a tombstone could have been dropped while the reader was behind it.
    began_ms: i64,
}

impl Life {
    fn new() -> Self {
        let config = LogConfig {
            segment_bytes: 600,
            min_compaction_lag_ms: 300,
            ..config()
        };
        Self {
            broker: Some(Broker::start(config)),
            now_ms: NOW_MS,
            written: Vec::new(),
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            seen: BTreeMap::new(),
            position: 0,
            began_ms: NOW_MS,
        }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn end(&self) -> i64 {
        locked(&self.broker().log()).log_end_offset()
    }

    /// All transactions before it have ended.
    fn stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end())
    }

    fn append(&self, batch: &[u8]) {
        let log = self.broker().log();
        append(&mut locked(&log), batch);
        let end = locked(&log).log_end_offset();
        locked(&log).high_watermark_advanced(end);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write {
                keys,
                producer,
                codec,
            } => {
                let mut builder = RecordBatchBuilder::new(Compression::ALL[usize::from(*codec)]);
                if let Some(producer) = producer {
                    let sequence = self.sequences.entry(*producer).or_default();
                    builder = builder
                        .producer(i64::from(*producer), 0, *sequence)
                        .transactional();
                    *sequence += keys.len() as i32;
                }
                let first = self.end();
                for (index, (key, tombstone)) in keys.iter().enumerate() {
                    let offset = first + index as i64;
                    let record = Written {
                        offset,
                        // Some of a batch are younger than those after them.
                        timestamp: self.now_ms - i64::from(*key),
                        key: key.to_string(),
                        value: (!tombstone).then(|| format!("value {offset}")),
                        producer: *producer,
                        aborted: false,
                    };
                    let value = record.value.as_deref().map(str::as_bytes);
                    builder
                        .append(record.timestamp, Some(record.key.as_bytes()), value, &[])
                        .unwrap();
                    self.written.push(record);
                }
                if let Some(producer) = producer {
                    self.open.entry(*producer).or_insert(first);
                }
                self.append(&builder.build().unwrap());
            }
            Step::End {
                producer,
                committed,
            } => {
                let Some(first) = self.open.remove(producer) else {
                    return;
                };
                if !committed {
                    for record in &mut self.written {
                        record.aborted |=
                            record.producer == Some(*producer) && record.offset >= first;
                    }
                }
                self.append(&marker(i64::from(*producer), 0, *committed));
            }
            Step::Roll => {
                let offset = self.end();
                roll(&mut locked(&self.broker().log()));
                self.written.push(Written {
                    offset,
                    timestamp: NOW_MS,
                    key: "roll".to_owned(),
                    value: Some("x".to_owned()),
                    producer: None,
                    aborted: false,
                });
            }
            Step::Wait { ms } => self.now_ms += ms,
            Step::Compact { slots } => self.compact(*slots),
            Step::Restart { clean } => {
                let broker = self.broker.take().unwrap();
                self.broker = Some(match clean {
                    true => broker.restart(),
                    false => broker.kill_and_start(),
                });
                let log = self.broker().log();
                let end = locked(&log).log_end_offset();
                locked(&log).high_watermark_advanced(end);
            }
            Step::Read { batches } => self.read_on(*batches),
        }
    }

    fn compact(&mut self, slots: u64) {
        let log = self.broker().log();
        let before = batches_from(&locked(&log), 0);
        let end = self.end();
        let cleaner = Cleaner::new(self.broker().manager.clone());
        let Some(cleaning) = cleaner.begin(self.now_ms, &|_| Some(end)) else {
            return;
        };
        let mut buffers = CleanerBuffers::new(slots * 24, 0.9, 300);
        let stats = cleaning.run(&mut buffers, &mut Unpaced);
        assert_eq!(cleaner.uncleanable(), []);
        let stats = stats.unwrap();
        assert!(stats.next_dirty_offset > stats.first_dirty_offset);
        assert!(stats.next_dirty_offset <= self.stable());
        let bound = stats.next_dirty_offset;
        let after = batches_from(&locked(&log), 0);
        // Where the round ended, in the midst of a segment, aborted batches and markers may go a little further.
        let above = |batches: &[(BatchHeader, Vec<u8>)], first: i64| {
            let above = batches
                .iter()
                .filter(|(header, _)| header.base_offset >= first);
            above.map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
        };
        let untouched = self.first_untouched(bound);
        assert_eq!(above(&before, untouched), above(&after, untouched));
        assert_eq!(self.end(), end);
        self.check_values();
        // Up to the bound each key is there once, and no batch but the producers' last is empty for nothing.
        let mut keys = BTreeSet::new();
        for record in contents(&locked(&log)) {
            if record.0 < bound {
                assert!(keys.insert(record.2.clone()), "{record:?} once more");
            }
        }
    }

    /// The base offset of the segment that begins at or above the bound.
    fn first_untouched(&self, bound: i64) -> i64 {
        let bases = self.broker().files().into_iter().filter_map(|name| {
            let base = name.strip_suffix(".log")?;
            base.parse::<i64>().ok()
        });
        bases
            .filter(|base| *base >= bound)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// What is there was written, at that place and at that time; and of each key the last committed value is there, unless
    /// it is a tombstone that has had its time.
    fn check_values(&self) {
        let log = self.broker().log();
        let all = contents(&locked(&log));
        let by_offset: BTreeMap<i64, &Written> = self
            .written
            .iter()
            .map(|record| (record.offset, record))
            .collect();
        for (offset, timestamp, key, value) in &all {
            let record = by_offset[offset];
            assert_eq!(
                (Some(&record.key), &record.value, record.timestamp),
                (key.as_ref(), value, *timestamp)
            );
        }
        let there: BTreeSet<i64> = all.iter().map(|record| record.0).collect();
        let mut last = BTreeMap::new();
        for record in self.written.iter().filter(|record| !record.aborted) {
            if record.offset < self.stable() {
                last.insert(&record.key, record);
            }
        }
        for record in last.values().filter(|record| record.value.is_some()) {
            assert!(there.contains(&record.offset), "{record:?} is lost");
        }
        // A key that ended with a tombstone does not come back.
        for (key, record) in &last {
            let newest = all.iter().rfind(|there| {
                there.0 < self.stable()
                    && there.2.as_ref() == Some(key)
                    && !by_offset[&there.0].aborted
            });
            if let Some(newest) = newest {
                assert_eq!(
                    newest.0, record.offset,
                    "{record:?} was replaced by an older one"
                );
            }
        }
    }

    /// A consumer of committed records goes on.
    fn read_on(&mut self, count: usize) {
        let stable = self.stable();
        let log = self.broker().log();
        let log = locked(&log);
        let aborted = log.aborted_transactions(self.position, stable).unwrap();
        for (header, bytes) in batches_from(&log, self.position).into_iter().take(count) {
            if header.last_offset() >= stable {
                return;
            }
            self.position = header.next_offset();
            let is_aborted = header.attributes.is_transactional()
                && aborted.iter().any(|transaction| {
                    transaction.producer_id == header.producer_id
                        && (transaction.first_offset..transaction.last_offset)
                            .contains(&header.base_offset)
                });
            if is_aborted || header.attributes.is_control() {
                continue;
            }
            let batch = Batch {
                header,
                bytes: &bytes,
            };
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let key = text(record.key.unwrap());
                let written = self.written.iter().find(|w| w.offset == record.offset);
                assert!(!written.unwrap().aborted, "{record:?} was aborted");
                let before = self
                    .seen
                    .insert(key, (record.offset, record.value.map(text)));
                assert!(before.is_none_or(|before| before.0 < record.offset));
            }
        }
    }

    /// At the end of the log a consumer that kept up with delete.retention.ms has the last value of each key.
    fn check_reader(&mut self) {
        self.read_on(usize::MAX);
        let in_time = self.now_ms - self.began_ms < 1000;
        let mut last: BTreeMap<&String, &Written> = BTreeMap::new();
        for record in self.written.iter().filter(|record| !record.aborted) {
            if record.offset < self.position {
                last.insert(&record.key, record);
            }
        }
        for (key, record) in last {
            match self.seen.get(key) {
                Some((offset, _)) if *offset == record.offset => {}
                seen => assert!(
                    record.value.is_none() && !in_time,
                    "{record:?} was written last, and {seen:?} seen"
                ),
            }
        }
    }
}

#[test]
fn compaction_keeps_the_last_value_of_each_key_in_any_life() {
    // Each failure names its seed and the shortest life that shows it.
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(100);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let lives = prop::collection::vec(step(), 1..60);
    let result = runner.run(&lives, |steps| {
        let mut life = Life::new();
        for step in &steps {
            life.take(step);
        }
        life.check_values();
        life.check_reader();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
