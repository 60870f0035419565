//! The state machine as openraft sees it: it hands what is committed to the node, which has the state, and writes
//! snapshots of it.
//!
//! Everything goes through the node's one queue, so its order says what happened before what. The queue is bounded, and
//! a node that is behind holds back this machine, not the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use coord_core::State;
use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, LogIdOptionExt, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::disk::Disk;
use super::event::RaftEvent;
use super::log::Roller;
use super::membership::members;
use super::payload::{Begin, Content};
use super::recovery::Applied;
use super::snapshot::{Head, SnapshotFile, Snapshots};
use super::types::{Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig};

/// A snapshot is written after so many bytes of log even if they are few transactions.
const SNAPSHOT_LOG_LEN: u64 = 1024 * 1024 * 1024;

/// A snapshot shorter than this is written whenever enough transactions have come. A longer one waits until the log has grown
/// by half as much: however large the tree is, snapshots take no more than twice the disk's time that the log takes, and a
/// start reads half as much again as it would without any log.
const CHEAP_SNAPSHOT_LEN: u64 = 4 * 1024 * 1024;

/// After a snapshot that could not be written the next one waits for so long.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(60);

/// What the rest of this room learns from the machine.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    /// The ensemble's own number, 0 as long as it has none.
    pub(super) ensemble: Arc<AtomicU64>,
    /// The number that the first leader in the log has given it, committed or not; 0 if there is none. It is the ensemble's
    /// own wherever that has one and this log does not contradict it.
    pub(super) begun_in_log: Arc<AtomicU64>,
    /// So many entries from the first were handed to the node.
    pub(super) applied: watch::Sender<u64>,
    /// The leader that began last.
    pub(super) begun: watch::Sender<Option<Begin>>,
    /// A snapshot is due.
    pub(super) snapshot_due: Arc<Notify>,
    /// The log is not needed up to this entry.
    pub(super) unneeded: watch::Sender<Option<u64>>,
}

impl Outlook {
    pub(super) fn new(applied: &Applied, begun_in_log: Arc<AtomicU64>) -> Outlook {
        Outlook {
            begun_in_log,
            ensemble: Arc::new(applied.ensemble.into()),
            applied: watch::Sender::new(applied.last.next_index()),
            begun: watch::Sender::new(None),
            snapshot_due: Arc::default(),
            unneeded: watch::Sender::new(None),
        }
    }
}

/// See the module.
pub(super) struct Machine {
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) applied: Applied,
    pub(super) outlook: Outlook,
    pub(super) snapshots: Snapshots,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) roller: Roller,
    /// Transactions, and bytes of log, since the last snapshot was begun.
    pub(super) since_snapshot: (u64, u64),
    /// After so many transactions a snapshot is due.
    pub(super) snap_count: u64,
}

impl Machine {
    /// The node is gone only when the process ends; what it would have been told does not matter then.
    async fn tell(&self, event: RaftEvent) {
        let _ = self.events.send(event).await;
    }

    async fn take(&mut self, entries: impl Iterator<Item = Entry>) -> Result<usize, StorageError> {
        let mut count = 0;
        let mut txns = Vec::new();
        for entry in entries {
            count += 1;
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.flush(&mut txns).await;
                    self.applied.membership =
                        StoredMembership::new(Some(entry.log_id), membership.clone());
                    self.tell(RaftEvent::Membership(members(membership))).await;
                }
                EntryPayload::Normal(payload) => {
                    let content = payload
                        .content()
                        .map_err(|error| StorageIOError::apply(entry.log_id, &error))?;
                    match content {
                        Content::Begin(begin) => {
                            self.flush(&mut txns).await;
                            self.applied.begin(begin.nonce);
                            self.outlook.ensemble.store(self.applied.ensemble, Relaxed);
                            self.outlook.begun.send_replace(Some(*begin));
                        }
                        Content::Batch(batch) if batch.is_of(entry.log_id) => {
                            txns.extend_from_slice(&batch.txns);
                            self.since_snapshot.0 += batch.txns.len() as u64;
                            self.since_snapshot.1 += payload.bytes().len() as u64;
                        }
                        Content::Batch(_) => {}
                    }
                }
            }
            self.applied.last = Some(entry.log_id);
        }
        self.flush(&mut txns).await;
        self.outlook
            .applied
            .send_replace(self.applied.last.next_index());
        if is_due(
            self.since_snapshot,
            self.snap_count,
            self.snapshots.newest_len(),
        ) {
            self.outlook.snapshot_due.notify_one();
        }
        Ok(count)
    }

    async fn flush(&self, txns: &mut Vec<(coord_core::Zxid, Arc<coord_core::Txn>)>) {
        if !txns.is_empty() {
            self.tell(RaftEvent::Committed(std::mem::take(txns))).await;
        }
    }
}

/// Whether a snapshot is to be written so many transactions and bytes of log after the last one, which takes `newest_len`.
fn is_due((txns, log_len): (u64, u64), snap_count: u64, newest_len: u64) -> bool {
    let is_cheap = newest_len < CHEAP_SNAPSHOT_LEN || log_len >= newest_len / 2;
    txns >= snap_count && is_cheap || log_len >= SNAPSHOT_LOG_LEN
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let count = self.take(entries.into_iter()).await?;
        Ok(vec![(); count])
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.since_snapshot = (0, 0);
        self.roller.roll();
        let (reply, state) = oneshot::channel();
        self.tell(RaftEvent::Snapshot(reply)).await;
        Builder {
            head: self.applied.head(),
            state: Some(state),
            snapshots: self.snapshots.clone(),
            disk: self.disk.clone(),
            unneeded: self.outlook.unneeded.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        // The service receives snapshots by itself: see `receive.rs`.
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let (ensemble, state) = snapshot.received.ok_or_else(|| {
            let error = std::io::Error::other("it was not received by this server");
            StorageIOError::read_snapshot(Some(meta.signature()), &error)
        })?;
        self.applied = Applied {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
            ensemble,
        };
        self.since_snapshot = (0, 0);
        self.outlook.ensemble.store(ensemble, Relaxed);
        self.tell(RaftEvent::Install(state)).await;
        let members = members(meta.last_membership.membership());
        self.tell(RaftEvent::Membership(members)).await;
        self.outlook
            .applied
            .send_replace(self.applied.last.next_index());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(self.snapshots.newest().map(|(head, path)| Snapshot {
            meta: head.meta(),
            snapshot: Box::new(SnapshotFile {
                path,
                received: None,
            }),
        }))
    }
}

/// Writes one snapshot, beside everything else.
pub(super) struct Builder {
    head: Head,
    state: Option<oneshot::Receiver<State>>,
    snapshots: Snapshots,
    disk: Arc<dyn Disk>,
    unneeded: watch::Sender<Option<u64>>,
}

impl Builder {
    async fn build(&mut self, state: oneshot::Receiver<State>) -> std::io::Result<()> {
        let gone = |_| std::io::Error::other("the server ends");
        let state = state.await.map_err(gone)?;
        let (done, is_done) = oneshot::channel();
        let (snapshots, head) = (self.snapshots.clone(), self.head.clone());
        let write = async move {
            let _ = done.send(snapshots.write(head, &state).await);
        };
        self.disk.spawn("snapshot", Box::pin(write))?;
        let unneeded = is_done.await.map_err(gone)??;
        if unneeded.is_some() {
            self.unneeded.send_replace(unneeded);
        }
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let (mut head, mut path) = (Head::default(), PathBuf::new());
        if let (Some(state), Some(last)) = (self.state.take(), self.head.last) {
            match self.build(state).await {
                Ok(()) => (head, path) = (self.head.clone(), self.snapshots.path(last)),
                Err(error) => {
                    tracing::error!(
                        "no snapshot could be written: {error}; the log is kept, and the next one is tried in {} s",
                        SNAPSHOT_RETRY.as_secs()
                    );
                    tokio::time::sleep(SNAPSHOT_RETRY).await;
                }
            }
        }
        // If it could not be written openraft takes nothing for no news. It must not hear of the newest one on the disk
        // instead: that may be a leader's which is not installed yet, and which openraft would then never install.
        Ok(Snapshot {
            meta: head.meta(),
            snapshot: Box::new(SnapshotFile {
                path,
                received: None,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::MemoryDisk;
    use super::super::types::log_id;
    use super::*;

    fn head(index: u64) -> Head {
        Head {
            last: Some(log_id(1, index)),
            ..Head::default()
        }
    }

    #[test]
    fn a_long_snapshot_is_followed_by_the_next_once_the_log_has_grown_by_half_as_much() {
        const LEN: u64 = 2 * CHEAP_SNAPSHOT_LEN;
        assert!(!is_due((9, LEN), 10, 0));
        assert!(is_due((10, 0), 10, CHEAP_SNAPSHOT_LEN - 1));
        assert!(!is_due((10, LEN / 2 - 1), 10, LEN));
        assert!(!is_due((9, LEN / 2), 10, LEN));
        assert!(is_due((10, LEN / 2), 10, LEN));
        assert!(is_due((1, SNAPSHOT_LOG_LEN), 10, u64::MAX));
    }

    #[tokio::test]
    async fn openraft_hears_only_of_what_this_member_has_written_or_installed() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let snapshots = Snapshots::new(disk.clone(), PathBuf::from("/data"));
        let (reply, state) = oneshot::channel();
        let mut builder = Builder {
            head: head(3),
            state: Some(state),
            snapshots: snapshots.clone(),
            disk,
            unneeded: watch::Sender::new(None),
        };
        // A leader's comes meanwhile, and is not installed yet.
        snapshots.write(head(9), &State::default()).await.unwrap();
        assert!(reply.send(State::default()).is_ok());
        let built = builder.build_snapshot().await.unwrap();
        assert_eq!(built.meta, head(3).meta());
        let nothing = builder.build_snapshot().await.unwrap();
        assert_eq!(nothing.meta.last_log_id, None);
    }
}
