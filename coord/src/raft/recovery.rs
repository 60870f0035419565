//! From what is on disk to the state that clients were told of: the newest whole snapshot, then the log behind it, as
//! far as it was committed for certain. What comes behind that is the leader's to decide.

use std::io::ErrorKind;
use std::sync::Arc;

use coord_core::{NodeId, ServerSpec, State};
use openraft::EntryPayload;
use tokio::time::Instant;

use super::disk::{Disk, LockError};
use super::log::{self, Found, LogError};
use super::payload::Content;
use super::settings::Settings;
use super::snapshot::{Head, Loaded, Snapshots};
use super::types::{Entry, LogId, StoredMembership};
use super::vote::{self, VoteError};

/// Why coord cannot start from its data.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The directory cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk does not give something.
    #[error("{path}: {cause}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The log is not usable.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log would have to reach back to its beginning, and does not.
    #[error("every snapshot is damaged, and {0}")]
    NoSnapshot(LogError),
    /// A server by itself is given the data of an ensemble, or of a server with another number.
    #[error(
        "{dir} holds the data of the ensemble of servers {voters}: list them as server.N, with {node} in the file myid, or \
         name another dataDir"
    )]
    OfAnEnsemble {
        /// The directory.
        dir: String,
        /// Who votes in it, by number.
        voters: String,
        /// This server's number.
        node: NodeId,
    },
    /// A member of an ensemble is given the data of a server by itself.
    #[error(
        "{dir} holds the data of a server by itself, number {number}: the others of the ensemble do not have it; start the \
         ensemble with an empty dataDir, or this server without the lines server.N and with {number} in the file myid"
    )]
    OfAServerByItself {
        /// The directory.
        dir: String,
        /// Its number.
        number: NodeId,
    },
    /// Nothing of ours is there, but Apache ZooKeeper's files are, whose znodes clients would miss.
    #[error(
        "{dir} holds the data of Apache ZooKeeper, which is not read here: start with another, empty dataDir, and copy the \
         znodes over from the running ZooKeeper, as scripts/copy-znodes.py does"
    )]
    OfZooKeeper {
        /// The directory.
        dir: String,
    },
    /// The vote is not usable.
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// The vote is older than the log, and so not the one that was given last.
    #[error(
        "{dir}: the log has entries of term {log}, but the vote is of term {vote}; restore the file vote, for without it \
         this server could vote twice in one term"
    )]
    OldVote {
        /// The directory.
        dir: String,
        /// The term of the last entry.
        log: u64,
        /// The term of the vote, 0 if there is none.
        vote: u64,
    },
}

/// What was found.
pub struct Recovered {
    /// The state as far as it was committed for certain.
    pub state: State,
    /// All else, for [`RaftHandle::start`](super::RaftHandle::start).
    pub storage: Storage,
}

/// A data directory that is locked and read.
pub struct Storage {
    pub(super) found: Found,
    pub(super) snapshots: Snapshots,
    pub(super) applied: Applied,
}

/// What the state machine knows beside the state.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    /// The last entry that the state holds.
    pub(super) last: Option<LogId>,
    /// The members as of that entry.
    pub(super) membership: StoredMembership,
    /// The ensemble's own number, 0 as long as it has none.
    pub(super) ensemble: u64,
}

impl Applied {
    pub(super) fn head(&self) -> Head {
        Head {
            last: self.last,
            membership: self.membership.clone(),
            ensemble: self.ensemble,
        }
    }
}

/// Reads everything back.
pub async fn recover(settings: &Settings, disk: Arc<dyn Disk>) -> Result<Recovered, RecoveryError> {
    let start = Instant::now();
    let dir = settings.data_dir.clone();
    let io = |cause| RecoveryError::Io {
        path: dir.display().to_string(),
        cause,
    };
    disk.create_directory(&dir).map_err(io)?;
    let lock = disk.lock(&dir)?;
    let snapshots = Snapshots::new(disk.clone(), dir.clone());
    snapshots.remove_unfinished();
    let (mut applied, mut state) = match snapshots.load_newest().map_err(io)? {
        Some(Loaded { head, state }) => {
            let applied = Applied {
                last: head.last,
                membership: head.membership,
                ensemble: head.ensemble,
            };
            (applied, state)
        }
        None => (Applied::default(), State::default()),
    };
    let snapshot = applied.last;
    let damaged = snapshot.is_none() && snapshots.any().map_err(io)?;
    let mut replay = Replay {
        state: &mut state,
        applied: &mut applied,
        newest: Vec::new(),
    };
    let log = log::read(&*disk, &dir, snapshot, |entry, committed| {
        replay.take(entry, committed)
    });
    let log = match log.await {
        Err(error) if damaged => return Err(RecoveryError::NoSnapshot(error)),
        log => log?,
    };
    let newest = replay.newest;
    check_members(settings, &applied, &newest)?;
    if log.last.is_none() && damaged {
        let found = "there is none".to_owned();
        return Err(RecoveryError::NoSnapshot(LogError::Gap {
            needed: 0,
            found,
        }));
    }
    if log.last.is_none() && snapshot.is_none() {
        check_founding(settings, &*disk)?;
    }
    let mut vote = vote::load(&*disk, &dir)?;
    if let Some(vote) = &mut vote
        && vote.leader_id.voted_for == Some(settings.node)
    {
        // It would lead on in its term. But its last entries may be lost, and others of the same term in their place
        // would pass for them: a restart is always an election.
        vote.committed = false;
    }
    let log_term = log.last.map_or(0, |last| last.leader_id.term);
    let vote_term = vote.map_or(0, |vote| vote.leader_id.term);
    if vote_term < log_term && log.follows {
        return Err(RecoveryError::OldVote {
            dir: dir.display().to_string(),
            log: log_term,
            vote: vote_term,
        });
    }
    tracing::info!(
        "recovered {} nodes and {} sessions at zxid {} from {} and {} entries of the log, in {} ms",
        state.tree.len(),
        state.sessions.len(),
        state.last_zxid,
        match snapshot {
            Some(snapshot) => format!("a snapshot at entry {}", snapshot.index),
            None => "no snapshot".to_owned(),
        },
        applied.last.map_or(0, |last| last.index) - snapshot.map_or(0, |last| last.index),
        start.elapsed().as_millis(),
    );
    Ok(Recovered {
        state,
        storage: Storage {
            found: Found {
                disk,
                dir,
                lock,
                log,
                newest,
                snapshot,
                vote,
            },
            snapshots,
            applied,
        },
    })
}

/// Refuses data of which this server, as it is configured, would wait for ever for a leader.
fn check_members(
    settings: &Settings,
    applied: &Applied,
    newest: &[Entry],
) -> Result<(), RecoveryError> {
    let changed = newest.iter().rev().find_map(|entry| match &entry.payload {
        EntryPayload::Membership(membership) => Some(membership),
        _ => None,
    });
    let members = changed.unwrap_or(applied.membership.membership());
    let voters: Vec<NodeId> = members.voter_ids().collect();
    let dir = settings.data_dir.display().to_string();
    let by_itself = match voters[..] {
        [number] => members
            .get_node(&number)
            .is_some_and(|server| *server == ServerSpec::default())
            .then_some(number),
        _ => None,
    };
    match by_itself {
        Some(number) if !settings.servers.is_empty() || number != settings.node => {
            Err(RecoveryError::OfAServerByItself { dir, number })
        }
        None if settings.servers.is_empty() && !voters.is_empty() && voters != [settings.node] => {
            let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
            Err(RecoveryError::OfAnEnsemble {
                dir,
                voters: voters.join(", "),
                node: settings.node,
            })
        }
        _ => Ok(()),
    }
}

/// Refuses to begin with an empty tree where ZooKeeper has left one that is not.
fn check_founding(settings: &Settings, disk: &dyn Disk) -> Result<(), RecoveryError> {
    for dir in &settings.zookeeper_dirs {
        let dir = dir.join("version-2");
        let names = match disk.list(&dir) {
            Err(cause)
                if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            names => names.map_err(|cause| RecoveryError::Io {
                path: dir.display().to_string(),
                cause,
            })?,
        };
        let is_data = |name: &String| name.starts_with("snapshot.") || name.starts_with("log.");
        if names.iter().any(is_data) {
            let dir = dir.display().to_string();
            return Err(RecoveryError::OfZooKeeper { dir });
        }
    }
    Ok(())
}

struct Replay<'a> {
    state: &'a mut State,
    applied: &'a mut Applied,
    newest: Vec<Entry>,
}

impl Replay<'_> {
    /// Keeps `entry` until a later one tells that it was committed.
    fn take(&mut self, entry: Entry, committed: u64) -> Result<(), String> {
        self.newest.push(entry);
        let known = self
            .newest
            .partition_point(|entry| entry.log_id.index < committed);
        for entry in self.newest.drain(..known) {
            apply(&entry, self.state, self.applied)?;
        }
        Ok(())
    }
}

fn apply(entry: &Entry, state: &mut State, applied: &mut Applied) -> Result<(), String> {
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Membership(membership) => {
            applied.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
        }
        EntryPayload::Normal(payload) => {
            match payload.content().map_err(|error| error.to_string())? {
                Content::Begin(begin) => applied.begin(begin.nonce),
                Content::Batch(batch) if batch.is_of(entry.log_id) => {
                    for (zxid, txn) in &batch.txns {
                        state.apply(*zxid, txn).map_err(|error| error.to_string())?;
                    }
                }
                Content::Batch(_) => {}
            }
        }
    }
    applied.last = Some(entry.log_id);
    Ok(())
}

impl Applied {
    /// A leader began: the first one ever gives the ensemble its number.
    pub(super) fn begin(&mut self, nonce: u64) {
        if self.ensemble == 0 {
            self.ensemble = nonce;
        }
    }
}
