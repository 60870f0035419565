//! The tutorial `004_…`'s experiment with `segment.bytes=10240` and 2,000 lines from a file, command by command.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Node};

use crate::reading::read_all;

const TOPIC: &str = "segment-test-topic";
const LINES: usize = 2_000;
const SEGMENT_BYTES: u64 = 10_240;

/// The line of `kafka-configs --all --describe` for one key.
fn config_line(cluster: &Cluster, topic: &str, key: &str) -> Result<String> {
    let printed = cluster
        .admin(
            "configs",
            &[
                "--entity-type",
                "topics",
                "--entity-name",
                topic,
                "--all",
                "--describe",
            ],
            b"",
        )?
        .success()?;
    ensure!(
        printed.starts_with(&format!("All configs for topic {topic} are:\n")),
        "{printed}"
    );
    let found = printed
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{key}=")));
    found
        .map(str::to_owned)
        .with_context(|| format!("no {key} in {printed}"))
}

fn alter(cluster: &Cluster, what: &[&str]) -> Result<()> {
    let args = [
        &["--entity-type", "topics", "--entity-name", TOPIC, "--alter"],
        what,
    ]
    .concat();
    let printed = cluster.admin("configs", &args, b"")?.success()?;
    assert_eq!(
        printed,
        format!("Completed updating config for topic {TOPIC}.\n")
    );
    Ok(())
}

#[test]
fn rolling_by_size_keeps_every_line() -> Result<()> {
    // The tutorial's server.properties names log.segment.bytes, as its output shows.
    let cluster = Cluster::builder()
        .set("log.segment.bytes", 1_073_741_824)
        .start()?;
    let created = cluster.admin(
        "topics",
        &["--create", "--topic", TOPIC, "--partitions", "3"],
        b"",
    )?;
    assert_eq!(created.success()?, format!("Created topic {TOPIC}.\n"));
    alter(&cluster, &["--add-config", "segment.bytes=10240"])?;
    assert_eq!(
        config_line(&cluster, TOPIC, "segment.bytes")?,
        "  segment.bytes=10240 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=10240, \
         STATIC_BROKER_CONFIG:log.segment.bytes=1073741824, DEFAULT_CONFIG:log.segment.bytes=1073741824}"
    );

    let message_log = "test message send test-i\n".repeat(LINES);
    cluster
        .admin(
            "console-producer",
            &["--topic", TOPIC],
            message_log.as_bytes(),
        )?
        .success()?;

    let read = read_all(&cluster.bootstrap()?, TOPIC, 3)?;
    assert_eq!(read.count(), LINES);
    for (partition, records) in read.partitions() {
        assert!(
            records
                .values()
                .all(|line| line == "test message send test-i")
        );
        assert!(
            records.keys().copied().eq(0..records.len() as i64),
            "offsets without a gap"
        );
        check_segments(&cluster, partition, records.len() as i64)?;
    }

    // And back, as the tutorial goes on.
    alter(&cluster, &["--delete-config", "segment.bytes"])?;
    assert_eq!(
        config_line(&cluster, TOPIC, "segment.bytes")?,
        "  segment.bytes=1073741824 sensitive=false synonyms={STATIC_BROKER_CONFIG:log.segment.bytes=1073741824, \
         DEFAULT_CONFIG:log.segment.bytes=1073741824}"
    );
    alter(&cluster, &["--add-config", "segment.ms=60000"])?;
    assert_eq!(
        config_line(&cluster, TOPIC, "segment.ms")?,
        "  segment.ms=60000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.ms=60000}"
    );
    cluster
        .admin(
            "console-producer",
            &["--topic", TOPIC],
            message_log.as_bytes(),
        )?
        .success()?;
    assert_eq!(
        read_all(&cluster.bootstrap()?, TOPIC, 3)?.count(),
        2 * LINES
    );

    // The console consumer prints the lines as they were sent.
    let max = (2 * LINES).to_string();
    let args = [
        "--topic",
        TOPIC,
        "--from-beginning",
        "--max-messages",
        &max,
        "--timeout-ms",
        "30000",
    ];
    let consumed = cluster.admin("console-consumer", &args, b"")?;
    assert!(
        consumed
            .stderr
            .contains(&format!("Processed a total of {max} messages")),
        "{}",
        consumed.stderr
    );
    assert_eq!(consumed.success()?, message_log.repeat(2));
    Ok(())
}

/// A partition's segments: named by base offset, none larger than the limit, one beginning where another ends.
fn check_segments(cluster: &Cluster, partition: i32, end: i64) -> Result<()> {
    let leader = cluster.await_leader(TOPIC, partition)?;
    let dir = cluster
        .data_dir(leader)
        .join(format!("{TOPIC}-{partition}"));
    let mut bases: Vec<i64> = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let size = fs::metadata(&path)?.len();
            ensure!(size <= SEGMENT_BYTES, "{} has {size} bytes", path.display());
            let name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .context("a name")?;
            ensure!(name.len() == 20, "{}", path.display());
            bases.push(name.parse()?);
            for index in ["index", "timeindex"] {
                ensure!(
                    path.with_extension(index).is_file(),
                    "{} has no {index}",
                    path.display()
                );
            }
        }
    }
    bases.sort_unstable();
    ensure!(bases.first() == Some(&0), "{bases:?}");
    // 25 bytes to a line and a few more for each record make several segments out of any real share of the lines.
    ensure!(
        end < 1_000 || bases.len() > 1,
        "{end} records in the segments {bases:?}"
    );
    for (base, next) in bases.iter().zip(bases.iter().skip(1).chain([&end])) {
        let found = end_of_segment(&dir.join(format!("{base:020}.log")), *base)?;
        ensure!(
            found == *next,
            "segment {base} ends at {found}, and the next begins at {next}"
        );
    }
    Ok(())
}

/// The offset after a segment's last, by the batches' headers; its base offset where nothing was written to it, as to a
/// partition that the producer did not choose.
fn end_of_segment(path: &Path, base_offset: i64) -> Result<i64> {
    let bytes = fs::read(path)?;
    let mut position = 0;
    let mut next_offset = base_offset;
    while let Some(header) = bytes.get(position..position + 61) {
        let base = i64::from_be_bytes(header[0..8].try_into()?);
        let length = i32::from_be_bytes(header[8..12].try_into()?);
        let last_delta = i32::from_be_bytes(header[23..27].try_into()?);
        ensure!(
            base == next_offset,
            "a gap before {base} in {}",
            path.display()
        );
        next_offset = base + i64::from(last_delta) + 1;
        position += 12 + usize::try_from(length)?;
    }
    ensure!(
        position == bytes.len(),
        "{} ends within a batch",
        path.display()
    );
    Ok(next_offset)
}

/// Lines of `kafka-configs --all --describe` where nothing is set: the forms that tools parse.
#[test]
fn untouched_configs_are_described_as_kafka_does() -> Result<()> {
    let cluster = Cluster::builder().brokers(1).start()?;
    cluster.create_topic("plain", 1, 1, &[])?;
    for (key, line) in [
        (
            "cleanup.policy",
            "cleanup.policy=delete sensitive=false synonyms={DEFAULT_CONFIG:log.cleanup.policy=delete}",
        ),
        (
            "index.interval.bytes",
            "index.interval.bytes=4096 sensitive=false synonyms={DEFAULT_CONFIG:log.index.interval.bytes=4096}",
        ),
        (
            "retention.bytes",
            "retention.bytes=-1 sensitive=false synonyms={DEFAULT_CONFIG:log.retention.bytes=-1}",
        ),
        (
            "retention.ms",
            "retention.ms=604800000 sensitive=false synonyms={}",
        ),
        (
            "segment.ms",
            "segment.ms=604800000 sensitive=false synonyms={}",
        ),
        (
            "flush.ms",
            "flush.ms=9223372036854775807 sensitive=false synonyms={}",
        ),
        (
            "segment.bytes",
            "segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}",
        ),
        (
            "min.insync.replicas",
            "min.insync.replicas=1 sensitive=false synonyms={DEFAULT_CONFIG:min.insync.replicas=1}",
        ),
    ] {
        assert_eq!(config_line(&cluster, "plain", key)?, format!("  {line}"));
    }

    let args = [
        "--entity-type",
        "brokers",
        "--entity-name",
        "1",
        "--all",
        "--describe",
    ];
    let printed = cluster.admin("configs", &args, b"")?.success()?;
    let hours =
        "log.retention.hours=168 sensitive=false synonyms={DEFAULT_CONFIG:log.retention.hours=168}";
    assert!(
        printed.lines().any(|line| line.trim() == hours),
        "{printed}"
    );
    assert!(cluster.data_dir(Node::Broker(1)).join("plain-0").is_dir());
    Ok(())
}
