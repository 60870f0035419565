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
