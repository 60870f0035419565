//! What a start makes of what it finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coord_core::{NodeId, State, Zxid};
use openraft::EntryPayload;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use super::{MemoryDisk, open_session};
use crate::raft::disk::Disk;
use crate::raft::log::{LogError, LogStore};
use crate::raft::payload::{Batch, Begin, Content, Payload};
use crate::raft::recovery::{Applied, Recovered, RecoveryError, Storage};
use crate::raft::types::{Entry, Vote, log_id};
use crate::raft::{Fatal, Settings, recover};

fn settings() -> Settings {
    Settings {
        node: NodeId(1),
        servers: Default::default(),
        data_dir: PathBuf::from("/data"),
        zookeeper_dirs: vec![PathBuf::from("/own"), PathBuf::from("/data")],
        tick_time_ms: 2000,
        sync_limit: 5,
        init_limit: 10,
        snap_count: 100,
        batch_max_len: 1000,
        quorum_grace: Duration::from_secs(1),
        seed: 1,
        fatal: Fatal::new(|_| {}),
    }
}

async fn start(disk: &MemoryDisk) -> Result<Recovered, RecoveryError> {
    recover(&settings(), Arc::new(disk.clone())).await
}

async fn log_of(storage: Storage) -> LogStore {
    LogStore::start(storage.found, Fatal::new(|_| {}))
        .await
        .unwrap()
}

fn entry(index: u64) -> Entry {
    let content = match index {
        1 => Content::Begin(Begin {
            term: 1,
            node: NodeId(1),
            nonce: 77,
        }),
        // Decided in a term that is over: nobody applies it.
        3 => Content::Batch(Batch {
            term: 9,
            txns: vec![(Zxid(1), open_session(999))],
        }),
        _ => Content::Batch(Batch {
            term: 1,
            txns: vec![(Zxid(index as i64), open_session(index as i64))],
        }),
    };
    Entry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(Payload::new(content)),
    }
}

/// The state behind the entries up to `last`.
fn state_at(last: u64) -> State {
    let mut state = State::default();
    for index in (0..=last).filter(|index| ![1, 3].contains(index)) {
        // The first entry has zxid 0, which no transaction has.
        if index > 0 {
            state
                .apply(Zxid(index as i64), &open_session(index as i64))
                .unwrap();
        }
    }
    state
}

/// Entries up to `last`, all known to be committed but the last, with a snapshot and a new segment behind each named.
async fn populate(last: u64, snapshots_at: &[u64]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let Recovered { storage, .. } = start(&disk).await.unwrap();
    let snapshots = storage.snapshots.clone();
    let mut log = log_of(storage).await;
    log.save_vote(&Vote::new_committed(1, NodeId(1)))
        .await
        .unwrap();
    for index in 0..=last {
        let committed = index.checked_sub(1).map(|index| log_id(1, index));
        log.save_committed(committed).await.unwrap();
        let blank = Entry {
            log_id: log_id(1, 0),
            payload: EntryPayload::Blank,
        };
        let entry = if index == 0 { blank } else { entry(index) };
        log.blocking_append([entry]).await.unwrap();
        if snapshots_at.contains(&index) {
            log.roller().roll();
            let applied = Applied {
                last: Some(log_id(1, index)),
                ensemble: 77,
                ..Applied::default()
            };
            let unneeded = snapshots
                .write(applied.head(), &state_at(index))
                .await
                .unwrap();
            if let Some(unneeded) = unneeded {
                log.purge(log_id(1, unneeded)).await.unwrap();
            }
        }
    }
    // Rolls are not waited for, so this is: what comes next in the queue is done.
    log.save_vote(&Vote::new_committed(1, NodeId(1)))
        .await
        .unwrap();
    disk
}

fn names(disk: &MemoryDisk, prefix: &str) -> Vec<String> {
    let mut names = disk.names();
    names.retain(|name| name.starts_with(prefix));
    names
}

#[tokio::test]
async fn two_snapshots_and_the_log_behind_the_older_are_kept() {
    let disk = populate(8, &[2, 4, 6]).await;
    let kept = [
        "log.0000000000000005",
        "log.0000000000000007",
        "snapshot.0000000000000004",
        "snapshot.0000000000000006",
        "vote",
    ];
    assert_eq!(disk.names(), kept);
    let Recovered { state, storage } = start(&disk).await.unwrap();
    assert_eq!(state, state_at(7), "as far as it was committed for certain");
    assert_eq!(storage.applied.last, Some(log_id(1, 7)));
    assert_eq!(storage.applied.ensemble, 77);
    assert_eq!(storage.found.newest, [entry(8)]);
    assert_eq!(storage.found.log.next(), 9);
}

#[tokio::test]
async fn bug_zookeeper_3056_a_damaged_snapshot_falls_back_to_the_one_before() {
    let disk = populate(8, &[2, 4, 6]).await;
    let whole = disk.bytes("snapshot.0000000000000006");
    for len in (0..whole.len()).step_by(7) {
        disk.put("snapshot.0000000000000006", &whole[..len]);
        assert_eq!(
            start(&disk).await.unwrap().state,
            state_at(7),
            "cut at {len}"
        );
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        disk.put("snapshot.0000000000000006", &damaged);
        assert_eq!(start(&disk).await.unwrap().state, state_at(7), "byte {at}");
    }
}

#[tokio::test]
async fn bug_zookeeper_2325_it_never_starts_empty() {
    let disk = populate(8, &[2, 4, 6]).await;
    for name in names(&disk, "snapshot") {
        disk.put(&name, b"");
    }
    let error = start(&disk).await.err().unwrap().to_string();
    assert!(
        error.starts_with("every snapshot is damaged, and the log does not reach back to entry 0"),
        "{error}"
    );
    for name in names(&disk, "log") {
        disk.remove_name(&name);
    }
    assert!(matches!(
        start(&disk).await,
        Err(RecoveryError::NoSnapshot(_))
    ));
}

#[tokio::test]
async fn a_snapshot_without_the_log_behind_it_is_refused() {
    let disk = populate(4, &[2]).await;
    for name in names(&disk, "log") {
        disk.remove_name(&name);
    }
    assert!(matches!(
        start(&disk).await,
        Err(RecoveryError::Log(LogError::Gap { needed: 3, .. }))
    ));
}

#[tokio::test]
async fn a_log_torn_before_the_snapshot_loses_nothing() {
    let disk = populate(4, &[4]).await;
    disk.remove_name("log.0000000000000005");
    disk.damage("log.0000000000000000", |bytes| {
        bytes.truncate(bytes.len() - 1)
    });
    let Recovered { state, storage } = start(&disk).await.unwrap();
    assert_eq!(state, state_at(4));
    let mut log = log_of(storage).await;
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(1, 4)));
    assert_eq!(names(&disk, "log"), ["log.0000000000000005"]);
}

/// Z2307: what a member has promised is never older than what it has taken.
#[tokio::test]
async fn bug_zookeeper_2307_a_log_without_its_vote_is_refused() {
    let disk = populate(3, &[]).await;
    disk.remove_name("vote");
    let error = start(&disk).await.err().unwrap().to_string();
    assert!(
        error.contains("the log has entries of term 1, but the vote is of term 0"),
        "{error}"
    );
    let other = populate(1, &[]).await;
    disk.put("vote", &other.bytes("vote"));
    start(&disk).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_is_not_finished_leaves_its_room_to_the_log() {
    let disk = populate(4, &[2]).await;
    for name in ["snapshot.unfinished", "snapshot.received"] {
        disk.put(name, &[7; 1000]);
    }
    let Recovered { storage, .. } = start(&disk).await.unwrap();
    let kept = ["snapshot.0000000000000002"];
    assert_eq!(names(&disk, "snapshot"), kept);
    disk.leave_room(20);
    let applied = Applied {
        last: Some(log_id(1, 4)),
        ..Applied::default()
    };
    let written = storage.snapshots.write(applied.head(), &state_at(4)).await;
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(names(&disk, "snapshot"), kept);
}

#[tokio::test]
async fn data_of_apache_zookeeper_is_refused_where_there_is_none_of_ours() {
    for file in ["/own/version-2/snapshot.0", "/data/version-2/log.100000001"] {
        let beside = |disk: MemoryDisk| {
            disk.create(Path::new(file)).unwrap();
            disk
        };
        let error = start(&beside(MemoryDisk::default())).await.err().unwrap();
        let dir = Path::new(file).parent().unwrap().display().to_string();
        assert!(error.to_string().starts_with(&dir), "{error}");
        assert!(
            matches!(error, RecoveryError::OfZooKeeper { .. }),
            "{error}"
        );
        // What we have written ourselves is served, whoever was here before.
        let recovered = start(&beside(populate(5, &[]).await)).await.unwrap();
        assert_eq!(recovered.state, state_at(4));
    }
    let harmless = MemoryDisk::default();
    harmless
        .create(Path::new("/data/version-2/currentEpoch"))
        .unwrap();
    start(&harmless).await.unwrap();
}
