use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use coord_core::txn::{Change, Effect, Txn};
use coord_core::{NodeId, SessionId, Zxid};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, RaftLogReader};
use proptest::prelude::*;

use super::reader::Log;
use super::store::{Found, LogStore};
use super::{LogError, MAGIC, read};
use crate::raft::payload::{Batch, Content, Payload};
use crate::raft::settings::Fatal;
use crate::raft::tests::MemoryDisk;
use crate::raft::types::{Entry, LogId, Vote, log_id};
use crate::raft::{files, vote};

const FIRST: &str = "log.0000000000000000";

fn dir() -> &'static Path {
    Path::new("/data")
}

fn entry_of(term: u32, index: u64, len: usize) -> Entry {
    let effect = Effect::SetData {
        path: "/a".into(),
        data: Some(Bytes::from(vec![7; len])),
        version: 1,
    };
    let txn = Txn {
        session: SessionId(1),
        time_ms: 2,
        change: Change::Effects(vec![effect]),
        origin: None,
    };
    let txns = vec![(Zxid(index as i64 + 1), Arc::new(txn))];
    let payload = Payload::new(Content::Batch(Batch { term, txns }));
    Entry {
        log_id: log_id(term.into(), index),
        payload: EntryPayload::Normal(payload),
    }
}

fn entry(index: u64) -> Entry {
    entry_of(3, index, index as usize % 5)
}

fn all(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(entry).collect()
}

/// The log with the entries behind `after`.
async fn found(disk: &MemoryDisk, after: Option<LogId>) -> Result<(Log, Vec<Entry>), LogError> {
    let mut entries = Vec::new();
    let log = read(disk, dir(), after, |entry, _| {
        entries.push(entry);
        Ok(())
    });
    Ok((log.await?, entries))
}

async fn open(disk: &MemoryDisk) -> LogStore {
    open_behind(disk, None, Fatal::new(|_| {})).await
}

async fn open_behind(disk: &MemoryDisk, snapshot: Option<LogId>, fatal: Fatal) -> LogStore {
    let (log, entries) = found(disk, snapshot).await.unwrap();
    let newest = if log.follows { entries } else { Vec::new() };
    let vote = vote::load(disk, dir()).unwrap();
    let found = Found {
        disk: Arc::new(disk.clone()),
        dir: dir().to_owned(),
        lock: Box::new(()),
        log,
        newest,
        snapshot,
        vote,
    };
    LogStore::start(found, fatal).await.unwrap()
}

/// Each group with an fsync of its own, and a segment of its own if asked for.
async fn append(disk: &MemoryDisk, groups: &[std::ops::Range<u64>], roll: bool) {
    let mut log = open(disk).await;
    for (at, group) in groups.iter().enumerate() {
        if roll && at > 0 {
            log.roller().roll();
        }
        log.blocking_append(all(group.clone())).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_written_is_read_back_from_any_entry_on() {
    let disk = MemoryDisk::default();
    append(&disk, &[0..3, 3..4, 4..8], true).await;
    assert_eq!(disk.names().len(), 3);
    for needed in 0..9u64 {
        let after = needed.checked_sub(1).map(|index| log_id(3, index));
        let (log, entries) = found(&disk, after).await.unwrap();
        assert_eq!(entries, all(needed..8));
        assert_eq!(log.next(), 8);
        assert!(log.follows);
        let mut store = open_behind(&disk, after, Fatal::new(|_| {})).await;
        assert_eq!(store.try_get_log_entries(0..8).await.unwrap(), all(0..8));
    }
}

/// Z2325, and the promise that a torn end costs nothing that was acknowledged.
#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_every_whole_entry_and_goes_on() {
    let whole = MemoryDisk::default();
    append(&whole, &[0..2, 2..4], false).await;
    let bytes = whole.bytes(FIRST);
    let mut longest = 0;
    for len in 0..=bytes.len() {
        let disk = MemoryDisk::default();
        disk.put(FIRST, &bytes[..len]);
        let (log, entries) = found(&disk, None).await.unwrap();
        let kept = entries.len() as u64;
        assert_eq!(entries, all(0..kept));
        assert_eq!(log.next(), kept);
        assert!(kept >= longest);
        longest = kept;
        append(&disk, std::slice::from_ref(&(kept..kept + 2)), false).await;
        assert_eq!(found(&disk, None).await.unwrap().1, all(0..kept + 2));
    }
    assert_eq!(longest, 4);
}

#[tokio::test]
async fn damage_to_what_was_acknowledged_is_refused_and_named() {
    let first_group = MemoryDisk::default();
    append(&first_group, std::slice::from_ref(&(0..2)), false).await;
    let first_group_len = first_group.bytes(FIRST).len();
    let whole = MemoryDisk::default();
    append(&whole, &[0..2, 2..4], false).await;
    let bytes = whole.bytes(FIRST);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let disk = MemoryDisk::default();
        disk.put(FIRST, &damaged);
        let read = found(&disk, None).await;
        if at < first_group_len {
            // The later group says that these were on disk.
            let error = read.unwrap_err();
            assert!(
                matches!(error, LogError::Damaged { .. } | LogError::Format { .. }),
                "byte {at}: {error}"
            );
            assert!(error.to_string().contains(FIRST), "{error}");
            assert_eq!(disk.bytes(FIRST), damaged, "nothing is touched");
        } else {
            // Nothing proves that the last group was acknowledged: a power cut may tear it like this.
            assert!((2..4).contains(&read.unwrap().0.next()), "byte {at}");
        }
    }
}

#[tokio::test]
async fn damage_before_the_last_segment_is_refused() {
    let disk = MemoryDisk::default();
    append(&disk, &[0..2, 2..4], true).await;
    disk.damage(FIRST, |bytes| bytes.truncate(bytes.len() - 1));
    let error = found(&disk, None).await.unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    let (_, entries) = found(&disk, Some(log_id(3, 1))).await.unwrap();
    assert_eq!(entries, all(2..4), "a snapshot makes it unneeded");
}

#[tokio::test]
async fn a_missing_segment_is_a_gap_and_purged_ones_are_not_needed() {
    let disk = MemoryDisk::default();
    append(&disk, &[0..2, 2..4, 4..6], true).await;
    let mut store = open(&disk).await;
    store.purge(log_id(3, 2)).await.unwrap();
    assert_eq!(
        disk.names(),
        ["log.0000000000000002", "log.0000000000000004"]
    );
    let error = found(&disk, None).await.unwrap_err();
    assert!(matches!(error, LogError::Gap { needed: 0, .. }), "{error}");
    let (log, entries) = found(&disk, Some(log_id(3, 3))).await.unwrap();
    assert_eq!(entries, all(4..6));
    assert_eq!(log.before, Some(log_id(3, 1)), "as far as the files reach");
    store.purge(log_id(3, 5)).await.unwrap();
    assert_eq!(disk.names(), ["log.0000000000000004"], "the last one stays");
    let disk = MemoryDisk::default();
    append(&disk, &[0..2, 2..4, 4..6], true).await;
    disk.put("log.0000000000000009", &disk.bytes("log.0000000000000004"));
    let error = found(&disk, None).await.unwrap_err();
    assert!(matches!(error, LogError::Gap { needed: 6, .. }), "{error}");
}

#[tokio::test]
async fn a_log_of_another_version_is_refused_by_its_name() {
    let disk = MemoryDisk::default();
    disk.put("log.0000000000000001", b"GRGLOG01 and so on");
    let error = found(&disk, None).await.unwrap_err().to_string();
    assert!(error.contains("has the format GRGLOG01"), "{error}");
}

#[tokio::test]
async fn what_conflicts_is_cut_off_for_good() {
    for first_new in 0..8 {
        let disk = MemoryDisk::default();
        append(&disk, &[0..3, 3..4, 4..8], true).await;
        let mut store = open(&disk).await;
        store.truncate(log_id(3, first_new)).await.unwrap();
        let state = store.get_log_state().await.unwrap();
        assert_eq!(
            state.last_log_id.map_or(0, |last| last.index + 1),
            first_new
        );
        let kept = store.try_get_log_entries(0..8).await.unwrap();
        assert_eq!(kept, all(0..first_new));
        // A crash now, and the old ones do not come back.
        let crashed = disk.after_crash(1000);
        assert_eq!(found(&crashed, None).await.unwrap().1, all(0..first_new));
        let mut store = open(&crashed).await;
        store
            .blocking_append([entry_of(4, first_new, 3), entry_of(4, first_new + 1, 0)])
            .await
            .unwrap();
        let (log, entries) = found(&crashed, None).await.unwrap();
        assert_eq!(log.last, Some(log_id(4, first_new + 1)));
        assert_eq!(entries[..first_new as usize], all(0..first_new));
        assert_eq!(store.try_get_log_entries(..).await.unwrap(), entries);
    }
}

#[tokio::test]
async fn a_snapshot_that_is_ahead_of_the_log_takes_its_place() {
    // A purge behind the end, as openraft does it when it installs a snapshot.
    let disk = MemoryDisk::default();
    append(&disk, &[0..3, 3..6], true).await;
    let mut store = open(&disk).await;
    store.purge(log_id(5, 20)).await.unwrap();
    assert_eq!(disk.names(), ["log.0000000000000015"]);
    store.blocking_append([entry_of(5, 21, 1)]).await.unwrap();
    let (log, entries) = found(&disk, Some(log_id(5, 20))).await.unwrap();
    assert!(log.follows);
    assert_eq!(log.before, Some(log_id(5, 20)));
    assert_eq!(entries, [entry_of(5, 21, 1)]);
    // A crash before that: the log ends before the snapshot, or contradicts it.
    for snapshot in [log_id(5, 20), log_id(4, 4), log_id(4, 5), log_id(4, 2)] {
        let disk = MemoryDisk::default();
        append(&disk, &[0..3, 3..6], true).await;
        let mut store = open_behind(&disk, Some(snapshot), Fatal::new(|_| {})).await;
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(snapshot));
        assert_eq!(state.last_purged_log_id, Some(snapshot));
        let next = entry_of(5, snapshot.index + 1, 1);
        store.blocking_append([next.clone()]).await.unwrap();
        assert_eq!(disk.names().len(), 1, "{:?}", disk.names());
        let (log, entries) = found(&disk, Some(snapshot)).await.unwrap();
        assert!(log.follows);
        assert_eq!(entries, [next]);
    }
}

#[tokio::test]
async fn older_entries_are_read_from_the_disk_by_their_position() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk).await;
    for index in 0..600 {
        let entry = entry_of(3, index, 20_000);
        store.blocking_append([entry]).await.unwrap();
        if index == 100 {
            store.roller().roll();
        }
    }
    let mut reader = store.get_log_reader().await;
    for start in [0, 1, 99, 100, 101, 102, 300, 399, 599] {
        let entries = reader.try_get_log_entries(start..start + 1).await.unwrap();
        assert_eq!(entries, [entry_of(3, start, 20_000)]);
        let limited = reader.limited_get_log_entries(start, 600).await.unwrap();
        assert!((1..60).contains(&limited.len()), "{}", limited.len());
        assert_eq!(limited[0].log_id.index, start);
        assert!(
            limited
                .windows(2)
                .all(|two| two[0].log_id.index + 1 == two[1].log_id.index)
        );
    }
    // Across the boundary of what is in memory.
    let entries = reader.try_get_log_entries(90..600).await.unwrap();
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, (90..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn bug_zookeeper_3701_a_log_that_cannot_be_written_ends_the_process() {
    let disk = MemoryDisk::default();
    let ended = Arc::new(AtomicUsize::new(0));
    let fatal = {
        let ended = ended.clone();
        Fatal::new(move |reason| {
            assert!(
                reason.contains("the log in /data cannot be written"),
                "{reason}"
            );
            ended.fetch_add(1, Relaxed);
        })
    };
    let mut store = open_behind(&disk, None, fatal).await;
    store.blocking_append(all(0..2)).await.unwrap();
    disk.leave_room(40);
    store.blocking_append(all(2..4)).await.unwrap_err();
    assert_eq!(ended.load(Relaxed), 1);
    // Nothing is written behind a write that failed.
    store.blocking_append(all(4..5)).await.unwrap_err();
    assert_eq!(found(&disk, None).await.unwrap().1, all(0..2));
}

#[tokio::test]
async fn a_vote_is_on_disk_before_anybody_hears_of_it() {
    let mut disk = MemoryDisk::default();
    let mut store = open(&disk).await;
    for term in 1..5 {
        let vote = Vote::new(term, NodeId(2));
        store.save_vote(&vote).await.unwrap();
        disk = disk.after_crash(0);
        assert_eq!(vote::load(&disk, dir()).unwrap(), Some(vote));
        store = open(&disk).await;
        assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    }
}

#[tokio::test]
async fn how_far_the_log_is_committed_rides_along() {
    let disk = MemoryDisk::default();
    let mut store = open(&disk).await;
    store.blocking_append(all(0..3)).await.unwrap();
    store.save_committed(Some(log_id(3, 1))).await.unwrap();
    store.blocking_append(all(3..4)).await.unwrap();
    store.save_committed(Some(log_id(3, 3))).await.unwrap();
    assert_eq!(found(&disk, None).await.unwrap().0.committed, 2);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(0u8), 0..30u8, any::<u8>()], 0..200)) {
        let disk = MemoryDisk::default();
        let header = super::record::SegmentHeader { before: None, anew: true }.encode();
        let name = files::numbered_path(Path::new(""), super::PREFIX, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for start in [&MAGIC[..], &header] {
            disk.put(name.to_str().unwrap(), &[start, &bytes].concat());
            let _ = runtime.block_on(found(&disk, None));
        }
    }
}
