//! From what is on disk to the state that clients were told of: the newest whole snapshot, then the log behind it.

use std::path::{Path, PathBuf};

use coord_core::{State, Zxid};

use crate::raft_log::{self, LogEnd, LogError};
use crate::snapshot;

/// Why coord cannot start from its data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("every snapshot is damaged, and {0}")]
    NoSnapshot(LogError),
    #[error("the terms are used up: no zxid is left")]
    NoTermLeft,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Where.
    pub(crate) dir: PathBuf,
    /// The state behind the last entry.
    pub(crate) state: State,
    /// A term that is not used yet.
    pub(crate) term: u32,
    /// Entries behind the snapshot: so much closer is the next one.
    pub(crate) since_snapshot: u64,
    /// Where to go on writing.
    pub(crate) log_end: LogEnd,
}

/// Reads everything back.
pub(crate) fn recover(dir: &Path) -> Result<Recovered, RecoveryError> {
    let start = std::time::Instant::now();
    let (snapshot_index, mut term, mut state) = match snapshot::load_newest(dir)? {
        Some(snapshot) => (snapshot.index, snapshot.term, snapshot.state),
        None => (0, 0, State::default()),
    };
    let apply = |entry: coord_core::LogEntry| {
        term = entry.term;
        state
            .apply(entry.zxid, &entry.txn)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let log_end = match raft_log::read(dir, snapshot_index + 1, apply) {
        Ok(log_end) => log_end,
        Err(error) if snapshot_index == 0 && snapshot::any(dir)? => {
            return Err(RecoveryError::NoSnapshot(error));
        }
        Err(error) => return Err(error.into()),
    };
    if log_end.index == 0 && snapshot::any(dir)? {
        let found = "there is none".to_owned();
        return Err(RecoveryError::NoSnapshot(LogError::Gap {
            needed: 1,
            found,
        }));
    }
    // The log may end before the snapshot if its end was torn; the snapshot has those entries.
    let log_end = if log_end.index < snapshot_index {
        LogEnd {
            index: snapshot_index,
            segment: None,
        }
    } else {
        log_end
    };
    let since_snapshot = log_end.index - snapshot_index;
    tracing::info!(
        "recovered {} nodes and {} sessions at zxid {} from a snapshot at entry {snapshot_index} and {since_snapshot} \
         entries of the log, in {} ms",
        state.tree.len(),
        state.sessions.len(),
        state.last_zxid,
        start.elapsed().as_millis(),
    );
    let term = term
        .checked_add(1)
        .filter(|&term| term < Zxid::MAX_TERM)
        .ok_or(RecoveryError::NoTermLeft)?;
    Ok(Recovered {
        dir: dir.to_owned(),
        state,
        term,
        since_snapshot,
        log_end,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use coord_core::acl;
    use coord_core::txn::{Change, Effect, Txn};
    use coord_core::{LogEntry, SessionId};

    use super::*;
    use crate::raft_log::Command;
    use crate::snapshot::Snapshot;
    use crate::stats::Stats;

    /// Creates `/1`, `/2`, … in entries of their own, with a snapshot and a roll behind each entry named.
    fn populate(dir: &Path, entries: u64, snapshots_at: &[u64]) -> State {
        let mut state = State::default();
        for index in 1..=entries {
            let path = format!("/{index}").into();
            let effect = Effect::Create {
                path,
                data: None,
                acl: acl::open(),
                ephemeral_type: coord_core::EphemeralType::Void,
            };
            let txn = Txn {
                session: SessionId(1),
                time_ms: 0,
                origin: None,
                change: Change::Effects(vec![effect]),
            };
            let zxid = Zxid(Zxid::start_of(1).0 + index as i64);
            state.apply(zxid, &txn).unwrap();
            let log_end = raft_log::read(dir, index, |_| Ok(()));
            let log_end = log_end.unwrap_or(LogEnd {
                index: index - 1,
                segment: None,
            });
            let log = raft_log::start(dir, log_end, Arc::new(Stats::default())).unwrap();
            log.commands
                .send(Command::Append(LogEntry {
                    index,
                    term: 1,
                    zxid,
                    txn: txn.into(),
                }))
                .unwrap();
            if snapshots_at.contains(&index) {
                log.commands.send(Command::Roll).unwrap();
            }
            drop(log.commands);
            log.thread.join().unwrap();
            if snapshots_at.contains(&index) {
                snapshot::save(
                    dir,
                    &Snapshot {
                        index,
                        term: 1,
                        state: state.clone(),
                    },
                )
                .unwrap();
            }
        }
        state
    }

    fn files(dir: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn two_snapshots_and_the_log_behind_the_older_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = populate(dir.path(), 8, &[2, 4, 6]);
        let kept = [
            "log.0000000000000005",
            "log.0000000000000007",
            "snapshot.0000000000000004",
            "snapshot.0000000000000006",
        ];
        assert_eq!(files(dir.path()), kept);
        let recovered = recover(dir.path()).unwrap();
        assert_eq!(recovered.state, state);
        assert_eq!(
            (
                recovered.log_end.index,
                recovered.since_snapshot,
                recovered.term
            ),
            (8, 2, 2)
        );
    }

    #[test]
    fn bug_zookeeper_3056_a_damaged_snapshot_falls_back_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let state = populate(dir.path(), 8, &[2, 4, 6]);
        let newest = dir.path().join("snapshot.0000000000000006");
        let whole = fs::read(&newest).unwrap();
        for len in (0..whole.len()).step_by(7) {
            fs::write(&newest, &whole[..len]).unwrap();
            assert_eq!(recover(dir.path()).unwrap().state, state, "cut at {len}");
        }
    }

    #[test]
    fn bug_zookeeper_2325_it_never_starts_empty() {
        let dir = tempfile::tempdir().unwrap();
        populate(dir.path(), 8, &[2, 4, 6]);
        for name in files(dir.path())
            .into_iter()
            .filter(|name| name.starts_with("snapshot"))
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let error = recover(dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "every snapshot is damaged, and the log does not reach back to entry 1"
            ),
            "{error}"
        );
        for name in files(dir.path())
            .into_iter()
            .filter(|name| name.starts_with("log"))
        {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert!(matches!(
            recover(dir.path()),
            Err(RecoveryError::NoSnapshot(_))
        ));
    }

    #[test]
    fn a_snapshot_without_the_log_behind_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        populate(dir.path(), 4, &[2]);
        fs::remove_file(dir.path().join("log.0000000000000003")).unwrap();
        fs::remove_file(dir.path().join("log.0000000000000001")).unwrap();
        assert!(matches!(
            recover(dir.path()),
            Err(RecoveryError::Log(LogError::Gap { needed: 3, .. }))
        ));
    }

    #[test]
    fn a_log_torn_before_the_snapshot_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = populate(dir.path(), 4, &[4]);
        fs::remove_file(dir.path().join("log.0000000000000005")).unwrap();
        let log = dir.path().join("log.0000000000000001");
        let len = fs::metadata(&log).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(len - 1)
            .unwrap();
        let recovered = recover(dir.path()).unwrap();
        assert_eq!(recovered.state, state);
        assert_eq!(recovered.log_end.index, 4);
    }
}
