use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coord_core::txn::{Change, Effect, Txn};
use coord_core::{LogEntry, SessionId, Zxid};
use proptest::prelude::*;

use super::{Command, LogEnd, LogError, purge, read, segment_path, start};
use crate::stats::Stats;

fn entry(index: u64) -> LogEntry {
    let effect = Effect::SetData {
        path: "/a".into(),
        data: Some(Bytes::from(vec![7; index as usize % 5])),
        version: 1,
    };
    let txn = Txn {
        session: SessionId(1),
        time_ms: 2,
        origin: None,
        change: Change::Effects(vec![effect]),
    };
    LogEntry {
        index,
        term: 3,
        zxid: Zxid(index as i64),
        txn: txn.into(),
    }
}

/// Appends each group under its own fsync; a roll goes before each group but the first if asked for.
fn append(dir: &Path, groups: &[&[u64]], roll: bool) {
    for (at, group) in groups.iter().enumerate() {
        let end = read(dir, 1, |_| Ok(())).unwrap();
        let log = start(dir, end, Arc::new(Stats::default())).unwrap();
        if roll && at > 0 {
            log.commands.send(Command::Roll).unwrap();
        }
        for &index in *group {
            log.commands.send(Command::Append(entry(index))).unwrap();
        }
        drop(log.commands);
        log.thread.join().unwrap();
        assert_eq!(Some(&*log.durable.borrow()), group.last());
    }
}

fn entries(dir: &Path, needed: u64) -> Result<(Vec<LogEntry>, LogEnd), LogError> {
    let mut entries = Vec::new();
    let end = read(dir, needed, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok((entries, end))
}

#[test]
fn what_was_written_is_read_back_from_any_entry_on() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[&[1, 2, 3], &[4], &[5, 6, 7, 8]], true);
    for needed in 1..10 {
        let (read, end) = entries(dir.path(), needed).unwrap();
        assert_eq!(read, (needed..9).map(entry).collect::<Vec<_>>());
        assert_eq!(end.index, 8);
    }
}

/// Z2325, and the promise that a torn end costs nothing that was acknowledged: cut at every byte.
#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_entry_and_goes_on() {
    let whole = tempfile::tempdir().unwrap();
    append(whole.path(), &[&[1, 2], &[3, 4]], false);
    let name = segment_path(Path::new(""), 1);
    let bytes = fs::read(whole.path().join(&name)).unwrap();
    let mut longest = 0;
    for len in 0..=bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(&name), &bytes[..len]).unwrap();
        let (read, end) = entries(dir.path(), 1).unwrap();
        let kept = read.len() as u64;
        assert_eq!(read, (1..=kept).map(entry).collect::<Vec<_>>());
        assert_eq!(end.index, kept);
        assert!(kept >= longest);
        longest = kept;
        // An fsync or two each, so not at every byte.
        if len % 16 == 0 {
            append(dir.path(), &[&[kept + 1, kept + 2]], false);
            assert_eq!(entries(dir.path(), 1).unwrap().1.index, kept + 2);
        }
    }
    assert_eq!(longest, 4);
}

#[test]
fn damage_to_what_was_acknowledged_is_refused_and_named() {
    let whole = tempfile::tempdir().unwrap();
    append(whole.path(), &[&[1, 2], &[3, 4]], false);
    let name = segment_path(Path::new(""), 1);
    let bytes = fs::read(whole.path().join(&name)).unwrap();
    let first_group = tempfile::tempdir().unwrap();
    append(first_group.path(), &[&[1, 2]], false);
    let first_group_len = fs::read(first_group.path().join(&name)).unwrap().len();
    for at in 0..bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(dir.path().join(&name), &damaged).unwrap();
        let read = entries(dir.path(), 1);
        if at < first_group_len {
            // The later group says that these were on disk.
            let error = read.unwrap_err();
            assert!(
                matches!(error, LogError::Damaged { .. }),
                "byte {at}: {error}"
            );
            assert!(
                error.to_string().contains("log.0000000000000001"),
                "{error}"
            );
            assert_eq!(
                fs::read(dir.path().join(&name)).unwrap(),
                damaged,
                "nothing is touched"
            );
        } else {
            // Nothing proves that the last group was acknowledged: a power cut may tear it like this.
            assert!((2..4).contains(&read.unwrap().1.index), "byte {at}");
        }
    }
}

#[test]
fn damage_before_the_last_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[&[1, 2], &[3, 4]], true);
    let first = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&first).unwrap();
    bytes.pop();
    fs::write(&first, bytes).unwrap();
    assert!(matches!(
        entries(dir.path(), 1),
        Err(LogError::Damaged { .. })
    ));
    assert_eq!(
        entries(dir.path(), 3).unwrap().0.len(),
        2,
        "a snapshot makes it unneeded"
    );
}

#[test]
fn a_missing_segment_is_a_gap_and_purged_ones_are_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[&[1, 2], &[3, 4], &[5, 6]], true);
    purge(dir.path(), 3).unwrap();
    assert!(matches!(
        entries(dir.path(), 1),
        Err(LogError::Gap { needed: 1, .. })
    ));
    assert_eq!(entries(dir.path(), 4).unwrap().0.len(), 3);
    purge(dir.path(), 100).unwrap();
    assert_eq!(
        entries(dir.path(), 5).unwrap().0.len(),
        2,
        "the last segment always stays"
    );
    fs::remove_file(segment_path(dir.path(), 5)).unwrap();
    assert!(matches!(
        entries(dir.path(), 5),
        Err(LogError::Gap { needed: 5, .. })
    ));
    assert_eq!(
        entries(dir.path(), 1).unwrap().1.index,
        0,
        "no log at all is a new one"
    );
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(0u8), 0..30u8, any::<u8>()], 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 1), [&super::MAGIC[..], &bytes].concat()).unwrap();
        let _ = entries(dir.path(), 1);
    }
}
