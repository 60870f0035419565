//! The output takes the place of the input, whatever comes in between.

use std::collections::BTreeMap;

use log::{FileSystem, SharedLog};

use super::*;
use crate::broker::temporary_directory;
use crate::test_file_system::TestFileSystem;

/// A log of four segments that become two, and an active one.
fn fill(log: &mut Log) {
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "2")] {
        append(log, &keyed(&[(key, Some(value)), ("x", Some(value))]));
        if value == "2" {
            roll(log);
        }
    }
    append(log, &keyed(&[("a", Some(&"3".repeat(300)))]));
    roll(log);
    append(log, &keyed(&[("d", Some("1"))]));
    roll(log);
    append(log, &keyed(&[("c", Some("active"))]));
}

fn grouping() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        ..config()
    }
}

/// The last value of each key, and its offset.
fn last_values(log: &Log) -> BTreeMap<String, (i64, Option<String>)> {
    let records = contents(log).into_iter();
    records
        .map(|(offset, _, key, value)| (key.unwrap(), (offset, value)))
        .collect()
}

/// Pseudo-random numbers below the argument.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    }
}

/// The disk breaks after each number of operations; then the process ends, or the power does.
#[test]
fn bug_kafka_6264_12520_a_swap_is_completed_or_undone_wherever_it_ended() {
    for power in [None, Some(1), Some(2)] {
        let mut outcomes = BTreeMap::new();
        for operations in 0.. {
            let fs = TestFileSystem::default();
            let broker = Broker::start_in(temporary_directory(), arc(fs.clone()), grouping());
            let log = broker.log();
            fill(&mut locked(&log));
            let end = locked(&log).log_end_offset();
            locked(&log).flush(NOW_MS).unwrap();
            broker.manager.checkpoint_recovery_points(NOW_MS).unwrap();
            let before = short(&locked(&log));
            let expected = last_values(&locked(&log));

            let cleaner = Cleaner::new(broker.manager.clone());
            let cleaning = cleaner.begin(NOW_MS, &|_| Some(end)).unwrap();
            fs.break_after(operations);
            let done = cleaning.run(&mut buffers(), &mut Unpaced).is_some();
            drop((cleaner, log));
            fs.repair();
            let Broker {
                directory,
                fs: disk,
                config,
                manager,
            } = broker;
            drop(manager);
            if let Some(seed) = power {
                fs.cut_power(random(seed + operations * 8));
            }

            let broker = Broker::start_in(directory, disk, config);
            let log = broker.log();
            let what = format!("after {operations} operations, power cut {power:?}");
            assert_eq!(locked(&log).log_end_offset(), end, "{what}");
            assert_eq!(last_values(&locked(&log)), expected, "{what}");
            let left = short(&locked(&log));
            assert!(left.iter().all(|record| before.contains(record)), "{what}");
            let stray = |name: &String| {
                [".cleaned", ".swap", ".deleted"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix))
            };
            assert_eq!(
                broker.files().iter().find(|name| stray(name)),
                None,
                "{what}"
            );
            *outcomes.entry(left.len()).or_insert(0) += 1;

            let _ = compact_at(&broker, NOW_MS);
            assert_eq!(last_values(&locked(&log)), expected, "{what}");
            assert_eq!(short(&locked(&log)).len(), 8, "{what}");
            if done {
                assert!(operations > 20, "{operations} operations only");
                break;
            }
        }
        assert_eq!(outcomes.len(), 3, "none, one or both groups: {outcomes:?}");
    }
}

/// Does something to the log after so many pieces.
struct Meanwhile<F: FnOnce()> {
    after: i32,
    what: Option<F>,
}

impl<F: FnOnce()> Pace for Meanwhile<F> {
    fn advance(&mut self, _bytes: u64) -> ControlFlow<()> {
        self.after -= 1;
        if self.after < 0
            && let Some(what) = self.what.take()
        {
            what();
        }
        ControlFlow::Continue(())
    }
}

/// Compacts, and does `what` at each possible moment. Whether the compaction came to its end, and the log afterwards.
fn meanwhile(what: impl Fn(&Broker, &SharedLog), check: impl Fn(&Broker, bool)) {
    for after in 0.. {
        let broker = Broker::start(grouping());
        let log = broker.log();
        fill(&mut locked(&log));
        let end = locked(&log).log_end_offset();
        let cleaner = Cleaner::new(broker.manager.clone());
        let cleaning = cleaner.begin(NOW_MS, &|_| Some(end)).unwrap();
        let mut pace = Meanwhile {
            after,
            what: Some(|| what(&broker, &log)),
        };
        let done = cleaning.run(&mut buffers(), &mut pace).is_some();
        let never = pace.what.is_some();
        assert_eq!(cleaner.uncleanable(), [], "that is no error");
        if never {
            assert!(done);
            return;
        }
        check(&broker, done);
        assert!(!broker.files().iter().any(|name| name.ends_with(".cleaned")));
    }
}

#[test]
fn bug_kafka_7278_a_truncation_makes_a_compaction_void() {
    meanwhile(
        |_, log| {
            locked(log).truncate_to(9, NOW_MS).unwrap();
            append(&mut locked(log), &keyed(&[("new", Some("n"))]));
        },
        |broker, done| {
            assert!(!done);
            let log = broker.log();
            let values = last_values(&locked(&log));
            assert_eq!(values["new"].0, 9);
            assert_eq!(locked(&log).log_end_offset(), 10);
            roll(&mut locked(&log));
            compact_at(broker, NOW_MS).unwrap();
            let first = locked(&log).log_start_offset();
            assert_eq!(first, 0);
            assert_eq!(last_values(&locked(&log))["new"].0, 9);
        },
    );
}

#[test]
fn bug_kafka_7322_a_log_that_is_deleted_is_not_written_to_by_a_compaction() {
    meanwhile(
        |broker, _| {
            broker.manager.delete(&partition(), NOW_MS).unwrap();
            // Another one of that name.
            append(&mut locked(&broker.log()), &keyed(&[("new", Some("n"))]));
        },
        |broker, done| {
            assert!(!done);
            assert_eq!(short(&locked(&broker.log())), ["0:new=n"]);
            let checkpoint = broker.directory.path().join("cleaner-offset-checkpoint");
            let checkpoint = std::fs::read_to_string(checkpoint).unwrap_or_default();
            assert!(!checkpoint.contains("t 0"), "{checkpoint}");
        },
    );
}

#[test]
fn bug_kafka_6568_retention_makes_a_compaction_void() {
    meanwhile(
        |_, log| {
            let mut log = locked(log);
            log.raise_log_start_offset(12).unwrap();
            let end = log.log_end_offset();
            assert!(log.delete_old_segments(end, NOW_MS).unwrap() > 0);
        },
        |broker, _| {
            let log = broker.log();
            assert_eq!(locked(&log).log_start_offset(), 12);
            let _ = compact_at(broker, NOW_MS);
            let values = last_values(&locked(&log));
            assert_eq!(values["a"].1, Some("3".repeat(300)));
            assert_eq!(values["c"].1.as_deref(), Some("active"));
            assert!(!values.contains_key("b"), "it was before the start");
        },
    );
}

/// All has been read then, so that no file is missed.
#[test]
fn bug_kafka_6568_retention_makes_a_compaction_void_though_it_has_been_written() {
    let fs = TestFileSystem::default();
    let broker = Broker::start_in(temporary_directory(), arc(fs.clone()), grouping());
    let log = broker.log();
    fill(&mut locked(&log));
    let end = locked(&log).log_end_offset();
    let cleaner = Cleaner::new(broker.manager.clone());
    let cleaning = cleaner.begin(NOW_MS, &|_| Some(end)).unwrap();
    let shared = log.clone();
    fs.on_sync(".log.cleaned", move || {
        let mut log = locked(&shared);
        log.raise_log_start_offset(12).unwrap();
        assert!(log.delete_old_segments(end, NOW_MS).unwrap() > 0);
    });
    assert!(cleaning.run(&mut buffers(), &mut Unpaced).is_none());
    assert_eq!(cleaner.uncleanable(), []);
    let log = locked(&log);
    let values = last_values(&log);
    assert_eq!(values["a"].1, Some("3".repeat(300)));
    let first = format!("{:020}.log", 0);
    assert!(!broker.files().contains(&first), "it is not there again");
}

#[test]
fn a_follower_that_starts_anew_makes_a_compaction_void() {
    meanwhile(
        |_, log| {
            locked(log)
                .truncate_fully_and_start_at(100, NOW_MS)
                .unwrap()
        },
        |broker, done| {
            assert!(!done);
            let log = broker.log();
            assert_eq!(locked(&log).log_start_offset(), 100);
            assert_eq!(locked(&log).log_end_offset(), 100);
        },
    );
}

#[test]
fn a_truncated_log_is_dirty_from_there_on() {
    let broker = Broker::start(config());
    let log = broker.log();
    for _ in 0..4 {
        append(&mut locked(&log), &keyed(&[("a", Some("v"))]));
        roll(&mut locked(&log));
    }
    compact_at(&broker, NOW_MS).unwrap();
    let checkpoint = || {
        let path = broker.directory.path().join("cleaner-offset-checkpoint");
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(checkpoint(), "0\n1\nt 0 7\n");
    locked(&log).truncate_to(6, NOW_MS).unwrap();
    let end = locked(&log).log_end_offset();
    assert_eq!(checkpoint(), format!("0\n1\nt 0 {end}\n"));
    append(&mut locked(&log), &keyed(&[("a", Some("w"))]));
    roll(&mut locked(&log));
    let stats = compact_at(&broker, NOW_MS).unwrap();
    assert_eq!(stats.first_dirty_offset, end);

    broker.manager.delete(&partition(), NOW_MS).unwrap();
    drop(log);
    broker.log();
    assert_eq!(
        checkpoint(),
        "0\n0\n",
        "another log of that name was not compacted"
    );
}

#[test]
fn a_checkpoint_of_rubbish_or_beyond_the_end_is_only_a_loss_of_time() {
    for content in ["rubbish", "0\n1\nt 0 1000\n", "0\n1\nother 0 5\n", ""] {
        let broker = Broker::start(config());
        append(
            &mut locked(&broker.log()),
            &keyed(&[("a", None), ("a", None)]),
        );
        roll(&mut locked(&broker.log()));
        broker.manager.shutdown(1).unwrap();
        let path = broker.directory.path().join("cleaner-offset-checkpoint");
        std::fs::write(path, content).unwrap();
        let broker = broker.kill_and_start();
        let stats = compact_at(&broker, NOW_MS).unwrap();
        assert_eq!((stats.first_dirty_offset, stats.next_dirty_offset), (0, 2));
    }
}

fn arc<T: FileSystem + 'static>(fs: T) -> std::sync::Arc<dyn FileSystem> {
    std::sync::Arc::new(fs)
}
