//! The tutorial `004_…`'s experiments with `retention.ms`, `retention.bytes` and `segment.ms`, with a look at retention
//! every 200 ms in the place of five minutes.

use std::fs;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, LIMIT, await_true};

const TOPIC: &str = "segment-test-topic";
const LINES: usize = 2_000;
const KEPT_BYTES: u64 = 10_240;

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::builder()
        .brokers(1)
        .set("log.initial.task.delay.ms", 200)
        .set("log.retention.check.interval.ms", 200)
        .set("log.segment.delete.delay.ms", 200)
        .start()?;
    cluster.create_topic(TOPIC, 1, 1, &[])?;
    Ok(cluster)
}

fn alter(cluster: &Cluster, what: &[&str]) -> Result<()> {
    let args = [
        &["--entity-type", "topics", "--entity-name", TOPIC, "--alter"],
        what,
    ]
    .concat();
    cluster.admin("configs", &args, b"")?.success()?;
    Ok(())
}

fn send(cluster: &Cluster, lines: usize) -> Result<()> {
    let input = "test message send test-i\n".repeat(lines);
    cluster
        .admin("console-producer", &["--topic", TOPIC], input.as_bytes())?
        .success()?;
    Ok(())
}

/// The files of the partition, sorted.
fn files(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    let leader = cluster.await_leader(TOPIC, 0)?;
    let dir = cluster.data_dir(leader).join(format!("{TOPIC}-0"));
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
        let entry = entry?;
        // A file may go between the listing and the look at it.
        if let Ok(metadata) = entry.metadata() {
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| anyhow::anyhow!("{name:?} is no text"))?;
            files.push((name, metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

fn names(files: &[(String, u64)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

/// The base offsets and sizes of the segments.
fn segments(cluster: &Cluster) -> Result<Vec<(i64, u64)>> {
    let files = files(cluster)?;
    let logs = files.iter().filter_map(|(name, size)| {
        let base = name.strip_suffix(".log")?.parse().ok()?;
        Some((base, *size))
    });
    Ok(logs.collect())
}

#[test]
fn retention_ms_of_zero_leaves_an_empty_segment() -> Result<()> {
    let cluster = cluster()?;
    send(&cluster, LINES)?;
    alter(&cluster, &["--add-config", "retention.ms=0"])?;
    let base = format!("{LINES:020}");
    let expected = [
        format!("{base}.index"),
        format!("{base}.log"),
        format!("{base}.snapshot"),
        format!("{base}.timeindex"),
        "leader-epoch-checkpoint".to_owned(),
        "partition.metadata".to_owned(),
    ];
    await_true("only an empty segment is left", LIMIT, || {
        Ok(names(&files(&cluster)?) == expected)
    })?;
    assert_eq!(segments(&cluster)?, [(LINES as i64, 0)]);
    // And it is written to again.
    alter(&cluster, &["--delete-config", "retention.ms"])?;
    send(&cluster, 1)?;
    let left = segments(&cluster)?;
    ensure!(
        matches!(left[..], [(base, size)] if base == LINES as i64 && size > 0),
        "{left:?}"
    );
    Ok(())
}

#[test]
fn retention_bytes_leaves_the_newest_segments() -> Result<()> {
    let cluster = cluster()?;
    alter(&cluster, &["--add-config", "segment.bytes=10240"])?;
    send(&cluster, LINES)?;
    let before = segments(&cluster)?;
    ensure!(before.len() > 3, "{before:?}");
    alter(&cluster, &["--add-config", "retention.bytes=10240"])?;
    // The oldest go as long as the rest is at least so large.
    let mut excess = before.iter().map(|(_, size)| size).sum::<u64>() - KEPT_BYTES;
    let mut kept = &before[..];
    while let Some(((_, size), rest)) = kept.split_first()
        && *size <= excess
    {
        excess -= size;
        kept = rest;
    }
    await_true("the oldest segments are gone", LIMIT, || {
        let files = files(&cluster)?;
        let gone = !names(&files).iter().any(|name| name.ends_with(".deleted"));
        Ok(gone && segments(&cluster)? == kept)
    })
}

#[test]
fn segment_ms_rolls_at_the_next_record_and_not_before() -> Result<()> {
    let cluster = cluster()?;
    alter(&cluster, &["--add-config", "segment.ms=1000"])?;
    send(&cluster, 1)?;
    await_true(
        "a record that comes later has a segment of its own",
        LIMIT,
        || {
            send(&cluster, 1)?;
            Ok(segments(&cluster)?.len() > 1)
        },
    )?;
    let segments = segments(&cluster)?;
    assert_eq!(segments[0].0, 0);
    ensure!(segments.iter().all(|(_, size)| *size > 0), "{segments:?}");
    Ok(())
}
