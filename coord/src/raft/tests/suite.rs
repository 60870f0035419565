//! openraft's own tests of a storage, on ours: all but `get_initial_state_membership_from_log_and_sm`, which leaves an entry out
//! of the log, as no log ever has it.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;

use coord_core::State;
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader, Snapshot};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::raft::RaftEvent;
use crate::raft::disk::{Disk, StdDisk};
use crate::raft::log::{Found, LogStore, read};
use crate::raft::machine::{Builder, Machine, Outlook};
use crate::raft::recovery::Applied;
use crate::raft::settings::Fatal;
use crate::raft::snapshot::{SnapshotFile, Snapshots};
use crate::raft::types::{
    Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig, Vote, log_id,
};

/// Our state machine, but that a snapshot is installed as the file that another member has: it is received first.
struct Receiving(Machine);

impl RaftStateMachine<TypeConfig> for Receiving {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        self.0.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.0.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let mut blocks = self.0.snapshots.blocks(&snapshot.path).unwrap();
        let mut file = self.0.snapshots.receive().unwrap();
        while let Some(block) = blocks.next().unwrap() {
            file.append(&mut [std::io::IoSlice::new(&block)]).unwrap();
        }
        let (head, received) = self.0.snapshots.received(file, 0).await.unwrap();
        assert_eq!(head.meta(), *meta);
        self.0.install_snapshot(meta, Box::new(received)).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.0.get_current_snapshot().await
    }
}

/// Our log, but that it may begin with another entry than the first: as if it had been purged before.
struct Beginning(LogStore);

impl RaftLogReader<TypeConfig> for Beginning {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypeConfig> for Beginning {
    type LogReader = <LogStore as RaftLogStorage<TypeConfig>>::LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.read_vote().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let before = entries[0].log_id.index.checked_sub(1);
        if let (None, Some(before)) = (self.0.get_log_state().await?.last_log_id, before) {
            self.0.purge(log_id(0, before)).await?;
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.purge(log_id).await
    }
}

struct Storages;

impl StoreBuilder<TypeConfig, Beginning, Receiving, TempDir> for Storages {
    async fn build(&self) -> Result<(TempDir, Beginning, Receiving), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().to_owned();
        let disk: Arc<dyn Disk> = Arc::new(StdDisk);
        let found = Found {
            log: read(&*disk, &path, None, |_, _| Ok(())).await.unwrap(),
            lock: disk.lock(&path).unwrap(),
            disk: disk.clone(),
            dir: path.clone(),
            newest: Vec::new(),
            snapshot: None,
            vote: None,
        };
        let store = LogStore::start(found, Fatal::default()).await.unwrap();
        let (events, mut inbox) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(event) = inbox.recv().await {
                if let RaftEvent::Snapshot(reply) = event {
                    let _ = reply.send(State::default());
                }
            }
        });
        let machine = Machine {
            events,
            applied: Applied::default(),
            outlook: Outlook::new(&Applied::default(), Arc::default()),
            snapshots: Snapshots::new(disk.clone(), path),
            disk,
            roller: store.roller(),
            since_snapshot: (0, 0),
            snap_count: 1000,
        };
        Ok((dir, Beginning(store), Receiving(machine)))
    }
}

type Ours = Suite<TypeConfig, Beginning, Receiving, Storages, TempDir>;

macro_rules! openraft_finds_nothing_wrong_with {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let (_dir, log, machine) = Storages.build().await.unwrap();
            Ours::$name(log, machine).await.unwrap();
        }
    )*};
}

openraft_finds_nothing_wrong_with! {
    last_membership_in_log_initial
    last_membership_in_log
    last_membership_in_log_multi_step
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    get_initial_state_last_log_lt_sm
    get_initial_state_log_ids
    get_initial_state_re_apply_committed
    save_vote
    get_log_entries
    limited_get_log_entries
    try_get_log_entry
    initial_logs
    get_log_state
    get_log_id
    last_id_in_log
    last_applied_state
    purge_logs_upto_0
    purge_logs_upto_5
    purge_logs_upto_20
    delete_logs_since_11
    delete_logs_since_0
    append_to_log
    snapshot_meta
    apply_single
    apply_multiple
}

#[tokio::test]
async fn transfer_snapshot() {
    Ours::transfer_snapshot(&Storages).await.unwrap();
}
