//! The tutorial `004_…`'s experiment with `cleanup.policy=compact`, command by command: 2,000 keyed lines, sent twice, with
//! segments of 10 KiB and the cleaner looking every 100 ms in the place of 15 seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, LIMIT, Node, await_true};
use rdkafka::consumer::Consumer;

use crate::reading::{Read, consumer, read_all};

const TOPIC: &str = "compact-test-topic";
const PARTITIONS: i32 = 3;
const LINES: usize = 2_000;
const SEGMENT_BYTES: u64 = 10_240;
const BROKER: Node = Node::Broker(1);

/// The tutorial's topic, on one broker.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::builder()
        .brokers(1)
        .set("log.cleaner.backoff.ms", 100)
        .set("log.initial.task.delay.ms", 200)
        .set("log.retention.check.interval.ms", 200)
        .start()?;
    let partitions = PARTITIONS.to_string();
    let args = ["--create", "--topic", TOPIC, "--partitions", &partitions];
    let created = cluster.admin("topics", &args, b"")?.success()?;
    assert_eq!(created, format!("Created topic {TOPIC}.\n"));
    for config in [
        "retention.bytes=10240",
        "cleanup.policy=compact",
        // What the tutorial leaves as it is, and what would take it hours.
        "segment.bytes=10240,file.delete.delay.ms=100,min.cleanable.dirty.ratio=0.01",
    ] {
        let args = [
            "--entity-type",
            "topics",
            "--entity-name",
            TOPIC,
            "--alter",
            "--add-config",
            config,
        ];
        let altered = cluster.admin("configs", &args, b"")?.success()?;
        assert_eq!(
            altered,
            format!("Completed updating config for topic {TOPIC}.\n")
        );
    }
    Ok(cluster)
}

/// The line of one round for one key.
fn line(round: usize, key: usize) -> String {
    format!("{key}:test message send {key}, round {round}")
}

fn send(cluster: &Cluster, round: usize) -> Result<()> {
    let lines: String = (1..=LINES).map(|key| line(round, key) + "\n").collect();
    let args = [
        "--topic",
        TOPIC,
        "--property",
        "key.separator=:",
        "--property",
        "parse.key=true",
    ];
    cluster
        .admin("console-producer", &args, lines.as_bytes())?
        .success()?;
    Ok(())
}

/// The names and sizes of a partition's files.
fn files(cluster: &Cluster, partition: i32) -> Result<BTreeMap<String, u64>> {
    let dir = cluster
        .data_dir(BROKER)
        .join(format!("{TOPIC}-{partition}"));
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
        let entry = entry?;
        // A file may go between the listing and the look at it.
        if let Ok(metadata) = entry.metadata() {
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| anyhow::anyhow!("{name:?} is no text"))?;
            files.insert(name, metadata.len());
        }
    }
    Ok(files)
}

fn base_offsets(files: &BTreeMap<String, u64>) -> Vec<i64> {
    let logs = files.keys().filter_map(|name| name.strip_suffix(".log"));
    logs.filter_map(|base| base.parse().ok()).collect()
}

/// Waits until all but the active segments are compacted, and what they replaced is gone. The base offsets of the active
/// segments, by partition.
fn await_compacted(cluster: &Cluster, above: i64) -> Result<Vec<i64>> {
    let mut active = Vec::new();
    let checkpoint = cluster.data_dir(BROKER).join("cleaner-offset-checkpoint");
    await_true("the compaction of all partitions", LIMIT, || {
        active.clear();
        let mut expected = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let files = files(cluster, partition)?;
            let passing = [".deleted", ".cleaned", ".swap"];
            if files
                .keys()
                .any(|name| passing.iter().any(|suffix| name.ends_with(suffix)))
            {
                return Ok(false);
            }
            let last = base_offsets(&files).last().copied().context("a segment")?;
            expected.insert(format!("{TOPIC} {partition} {last}"));
            active.push(last);
        }
        let Ok(text) = fs::read_to_string(&checkpoint) else {
            return Ok(false);
        };
        let mut written = text.lines();
        Ok(written.next() == Some("0")
            && written.next() == Some(&PARTITIONS.to_string())
            && written.map(str::to_owned).collect::<BTreeSet<_>>() == expected
            && active.iter().all(|base| *base > above))
    })?;
    Ok(active)
}

/// A partition's directory holds segments of at most 10 KiB, each with its indexes, and nothing that is not of one.
fn check_files(cluster: &Cluster, partition: i32) -> Result<()> {
    let files = files(cluster, partition)?;
    let bases = base_offsets(&files);
    assert_eq!(bases.first(), Some(&0), "the first segment keeps its name");
    let mut expected = BTreeSet::from([
        "leader-epoch-checkpoint".to_owned(),
        "partition.metadata".to_owned(),
    ]);
    for base in bases {
        for kind in ["log", "index", "timeindex"] {
            expected.insert(format!("{base:020}.{kind}"));
        }
        if base > 0 {
            expected.insert(format!("{base:020}.snapshot"));
        }
        let size = files[&format!("{base:020}.log")];
        ensure!(size <= SEGMENT_BYTES, "segment {base} has {size} bytes");
    }
    assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), expected);
    Ok(())
}

/// What there must be after the second round, when all below the active segments is compacted: the second line of each
/// key, where it was appended, and the first of those whose second is not below the active segment.
fn expected_of(first: &BTreeMap<i64, String>, active: i64) -> Result<BTreeMap<i64, String>> {
    let count = first.len() as i64;
    let mut expected = BTreeMap::new();
    for (offset, value) in first {
        let key = value.split([' ', ',']).nth(3).context("a key")?.parse()?;
        let second = line(2, key);
        let second = second.split_once(':').context("a value")?.1;
        expected.insert(count + offset, second.to_owned());
        if count + offset >= active {
            expected.insert(*offset, value.clone());
        }
    }
    Ok(expected)
}

fn check_second_round(cluster: &Cluster, first: &Read, active: &[i64]) -> Result<()> {
    let bootstrap = cluster.bootstrap()?;
    let read = read_all(&bootstrap, TOPIC, PARTITIONS)?;
    for ((partition, before), active) in first.partitions().zip(active) {
        let expected = expected_of(before, *active)?;
        ensure!(
            expected.len() < 2 * before.len(),
            "nothing is below {active}"
        );
        assert_eq!(*read.partition(partition), expected);
        let bounds = consumer(&bootstrap)?.fetch_watermarks(TOPIC, partition, LIMIT)?;
        assert_eq!(bounds, (0, 2 * before.len() as i64));
    }
    Ok(())
}

#[test]
fn compaction_leaves_the_last_line_of_each_key() -> Result<()> {
    let mut cluster = cluster()?;
    send(&cluster, 1)?;
    await_compacted(&cluster, 0)?;
    // Each key came once: nothing goes, and retention.bytes is not looked at.
    let first = read_all(&cluster.bootstrap()?, TOPIC, PARTITIONS)?;
    assert_eq!(first.count(), LINES);
    for (partition, records) in first.partitions() {
        assert!(
            records.keys().copied().eq(0..records.len() as i64),
            "offsets without a gap"
        );
        check_files(&cluster, partition)?;
    }

    send(&cluster, 2)?;
    let longest = first.partitions().map(|(_, records)| records.len()).max();
    let active = await_compacted(&cluster, longest.unwrap_or_default() as i64)?;
    for partition in 0..PARTITIONS {
        check_files(&cluster, partition)?;
    }
    check_second_round(&cluster, &first, &active)?;
    check_consumed(&cluster, &first, &active)?;

    // And what recovery makes of the files is the same.
    cluster.kill(BROKER)?;
    cluster.start(BROKER)?;
    for partition in 0..PARTITIONS {
        cluster.await_leader(TOPIC, partition)?;
    }
    check_second_round(&cluster, &first, &active)
}

/// The console consumer prints each key with its last line behind any older one.
fn check_consumed(cluster: &Cluster, first: &Read, active: &[i64]) -> Result<()> {
    let mut count = 0;
    for ((_, before), active) in first.partitions().zip(active) {
        count += expected_of(before, *active)?.len();
    }
    let max = count.to_string();
    let args = [
        "--topic",
        TOPIC,
        "--from-beginning",
        "--property",
        "print.key=true",
        "--property",
        "key.separator=:",
        "--max-messages",
        &max,
        "--timeout-ms",
        "30000",
    ];
    let printed = cluster.admin("console-consumer", &args, b"")?.success()?;
    assert_eq!(printed.lines().count(), count);
    let last: BTreeMap<&str, &str> = printed
        .lines()
        .filter_map(|line| Some((line.split_once(':')?.0, line)))
        .collect();
    for key in 1..=LINES {
        let found = last.get(key.to_string().as_str());
        assert_eq!(found.copied(), Some(line(2, key).as_str()));
    }
    Ok(())
}

/// As the tutorial says of `compact`: what has no key can not be compacted, and is not taken.
#[test]
fn a_line_without_a_key_is_refused() -> Result<()> {
    let cluster = cluster()?;
    let args = ["--topic", TOPIC];
    let refused = cluster.admin("console-producer", &args, b"no key\n")?;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    ensure!(refused.stderr.contains("INVALID_RECORD"), "{refused:?}");
    assert_eq!(
        read_all(&cluster.bootstrap()?, TOPIC, PARTITIONS)?.count(),
        0
    );
    Ok(())
}
