//! A broker is killed, its files are damaged while it is down, and it starts again: it says what it mended, a line for each
//! thing, and serves every record that is intact.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Host, Node, await_some, await_true};

const BROKER: Node = Node::Broker(1);
const TOPIC: &str = "orders";
const LIMIT: Duration = Duration::from_secs(60);
/// Larger than any file of its kind may be.
const HUGE_BYTES: u64 = 1 << 30;

/// What becomes of a small file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Emptied,
    Removed,
    Rubbish,
    Huge,
}

const DAMAGES: [Damage; 4] = [
    Damage::Emptied,
    Damage::Removed,
    Damage::Rubbish,
    Damage::Huge,
];

impl Damage {
    fn inflict(self, path: &Path) -> Result<()> {
        match self {
            Self::Emptied => fs::write(path, ""),
            Self::Removed => fs::remove_file(path),
            Self::Rubbish => fs::write(path, [0xa5; 97]),
            Self::Huge => OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(HUGE_BYTES)),
        }
        .with_context(|| format!("{self:?}: {}", path.display()))
    }
}

/// One thing of a partition that is damaged: each has a partition of its own.
struct Case {
    /// Which file, of those of the partition, sorted by name.
    file: fn(&Path) -> Option<PathBuf>,
    damage: fn(Damage, &Path) -> Result<()>,
    /// What the broker says of it; nothing where a file is made again at every start like this one, or where it cannot
    /// know that there was one.
    said: fn(Damage) -> Option<&'static str>,
    /// How many of the last batches are lost.
    lost_batches: usize,
}

fn newest_log(partition: &Path) -> Option<PathBuf> {
    files(partition, "log").pop()
}

fn first(partition: &Path, extension: &str) -> Option<PathBuf> {
    files(partition, extension).into_iter().next()
}

fn files(partition: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(partition).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn change_log(path: &Path, change: fn(&mut Vec<u8>)) -> Result<()> {
    let mut content = fs::read(path)?;
    change(&mut content);
    Ok(fs::write(path, content)?)
}

fn unless_removed(damage: Damage, said: &'static str) -> Option<&'static str> {
    (damage != Damage::Removed).then_some(said)
}

const CASES: [Case; 10] = [
    Case {
        file: newest_log,
        damage: |_, path| change_log(path, |content| content.truncate(content.len() - 7)),
        said: |_| Some("bytes cut off"),
        lost_batches: 1,
    },
    Case {
        file: newest_log,
        damage: |_, path| {
            change_log(path, |content| {
                let at = content.len() - 10;
                content[at] ^= 4;
            })
        },
        said: |_| Some("bytes cut off"),
        lost_batches: 1,
    },
    Case {
        file: newest_log,
        damage: |_, path| change_log(path, |content| content.resize(content.len() + 5000, 0)),
        said: |_| Some("bytes cut off"),
        lost_batches: 0,
    },
    Case {
        file: |partition| first(partition, "index"),
        damage: Damage::inflict,
        said: |damage| (damage != Damage::Emptied).then_some("indexes of 1 segments rebuilt"),
        lost_batches: 0,
    },
    Case {
        file: |partition| first(partition, "timeindex"),
        damage: Damage::inflict,
        said: |damage| (damage != Damage::Emptied).then_some("indexes of 1 segments rebuilt"),
        lost_batches: 0,
    },
    Case {
        // There is none without transactions: one appears.
        file: |partition| Some(first(partition, "log")?.with_extension("txnindex")),
        damage: |damage, path| {
            fs::write(path, "")?;
            damage.inflict(path)
        },
        said: |damage| {
            matches!(damage, Damage::Rubbish | Damage::Huge).then_some("transaction index")
        },
        lost_batches: 0,
    },
    Case {
        file: |partition| files(partition, "snapshot").pop(),
        damage: Damage::inflict,
        said: |damage| unless_removed(damage, "producer snapshot is damaged"),
        lost_batches: 0,
    },
    Case {
        file: |partition| Some(partition.join("leader-epoch-checkpoint")),
        damage: Damage::inflict,
        said: |_| Some("leader epochs found again"),
        lost_batches: 0,
    },
    Case {
        file: |partition| Some(partition.join("partition.metadata")),
        damage: Damage::inflict,
        said: |damage| unless_removed(damage, "partition.metadata held"),
        lost_batches: 0,
    },
    Case {
        // The oldest index, far below the recovery point, lies without being odd in itself.
        file: |partition| first(partition, "index"),
        damage: |_, path| change_log(path, |content| content.reverse()),
        said: |_| None,
        lost_batches: 0,
    },
];

const CHECKPOINTS: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
];

const RECORDS_PER_BATCH: usize = 3;

type Contents = BTreeMap<i64, String>;

/// Appends so much that the partition has several segments.
fn produce(cluster: &Cluster, partition: i32) -> Result<()> {
    let mut client = cluster.client(BROKER)?;
    for batch in 0..12 {
        let values: Vec<String> = (0..RECORDS_PER_BATCH)
            .map(|record| format!("{partition} {batch} {record} {}", "x".repeat(100)))
            .collect();
        client.produce(TOPIC, partition, &values)?;
    }
    Ok(())
}

fn read(cluster: &Cluster, partition: i32) -> Result<Contents> {
    let what = format!("{TOPIC}-{partition} to be read");
    await_some(&what, LIMIT, || {
        cluster.client(BROKER)?.read_all(TOPIC, partition).map(Some)
    })
}

fn partitions() -> impl Iterator<Item = (i32, &'static Case)> {
    (0..).zip(&CASES)
}

/// Kills the broker, has its files damaged, and starts it. What it logs from then on.
fn damaged_while_down(
    cluster: &mut Cluster,
    damage: impl FnOnce(&Path) -> Result<()>,
) -> Result<String> {
    cluster.kill(BROKER)?;
    damage(&cluster.data_dir(BROKER))?;
    let logged = cluster.host().log(BROKER).len();
    cluster.start(BROKER)?;
    for (partition, _) in partitions() {
        cluster.await_leader(TOPIC, partition)?;
    }
    Ok(cluster.host().log(BROKER).split_off(logged))
}

fn ensure_said_once(log: &str, thing: &str, what: &str) -> Result<()> {
    let lines = log.lines();
    let count = lines
        .filter(|line| line.contains(thing) && line.contains(what))
        .count();
    ensure!(count == 1, "{count} lines say of {thing}: {what}");
    Ok(())
}

/// Waits until the closed segments of all partitions are on the disk, and the recovery points say so.
fn await_recovery_points(data: &Path) -> Result<()> {
    let recovery_points = data.join("recovery-point-offset-checkpoint");
    await_true("recovery points to be written", LIMIT, || {
        let text = fs::read_to_string(&recovery_points)?;
        Ok(partitions().all(|(partition, _)| {
            let active = newest_log(&data.join(format!("{TOPIC}-{partition}")));
            let name = active.as_deref().and_then(Path::file_stem);
            let base: i64 = name.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(-1);
            text.lines()
                .any(|line| line == format!("{TOPIC} {partition} {base}"))
        }))
    })
}

fn damaged_partitions(cluster: &mut Cluster, damage: Damage) -> Result<()> {
    let mut before = Vec::new();
    for (partition, _) in partitions() {
        produce(cluster, partition)?;
        before.push(read(cluster, partition)?);
    }
    await_recovery_points(&cluster.data_dir(BROKER))?;
    let log = damaged_while_down(cluster, |data| {
        for (partition, case) in partitions() {
            let directory = data.join(format!("{TOPIC}-{partition}"));
            let file = (case.file)(&directory).context("no such file")?;
            (case.damage)(damage, &file)?;
        }
        Ok(())
    })?;
    for ((partition, case), before) in partitions().zip(before) {
        let kept = before.len() - RECORDS_PER_BATCH * case.lost_batches;
        let intact: Contents = before.into_iter().take(kept).collect();
        let after = read(cluster, partition)?;
        ensure!(after == intact, "{TOPIC}-{partition} holds other records");
        if let Some(what) = (case.said)(damage) {
            ensure_said_once(&log, &format!("{TOPIC}-{partition}"), what)?;
        }
    }
    Ok(())
}

fn damaged_checkpoints(cluster: &mut Cluster, damage: Damage) -> Result<()> {
    let mut before = Vec::new();
    for (partition, _) in partitions() {
        before.push(read(cluster, partition)?);
    }
    let log = damaged_while_down(cluster, |data| {
        for name in CHECKPOINTS {
            let path = data.join(name);
            // Nothing is written where there is nothing to say.
            OpenOptions::new().create(true).append(true).open(&path)?;
            damage.inflict(&path)?;
        }
        Ok(())
    })?;
    for ((partition, _), before) in partitions().zip(before) {
        let after = read(cluster, partition)?;
        ensure!(after == before, "{TOPIC}-{partition} holds other records");
    }
    for name in CHECKPOINTS {
        if damage != Damage::Removed {
            ensure_said_once(&log, name, "is not used")?;
        }
    }
    Ok(())
}

#[test]
fn a_killed_broker_mends_what_was_damaged_meanwhile() -> Result<()> {
    let mut cluster = Cluster::builder()
        .brokers(1)
        .set("log.flush.offset.checkpoint.interval.ms", 200)
        .set("log.index.interval.bytes", 100)
        .start()?;
    let segments = [("segment.bytes", "1500")];
    cluster.create_topic(TOPIC, CASES.len() as i32, 1, &segments)?;
    for damage in DAMAGES {
        damaged_partitions(&mut cluster, damage).with_context(|| format!("{damage:?}"))?;
        damaged_checkpoints(&mut cluster, damage).with_context(|| format!("{damage:?}"))?;
    }
    // Whose directory it is cannot be found again: that is the operator's to say.
    cluster.kill(BROKER)?;
    Damage::Rubbish.inflict(&cluster.data_dir(BROKER).join("meta.properties"))?;
    ensure!(cluster.start(BROKER).is_err(), "it started as somebody");
    let log = cluster.host().log(BROKER);
    let last = log.lines().last().unwrap_or_default();
    ensure!(last.contains("put right whose directory it is"), "{last}");
    Ok(())
}
