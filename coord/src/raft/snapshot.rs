//! Snapshots on disk: `snapshot.<index of the last entry in it, 16 hex digits> := magic frame(head) { frame(chunk) }`.
//!
//! One is written next to the old ones under another name, made durable, then renamed, so a name with a number is
//! always whole unless the disk has damaged it. Two are kept, and the log behind the older one, so that one damaged
//! snapshot costs nothing. What a leader sends is the file as it stands; it is read whole and made durable before Raft
//! is told of it, for openraft then drops the log before it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use coord_core::State;
use coord_core::snapshot::{self, Loader, SnapshotError};
use openraft::LogIdOptionExt;

use super::disk::{Disk, DiskFile};
use super::payload::{self, PayloadError};
use super::types::{LogId, SnapshotMeta, StoredMembership, log_id};
use super::{files, frames};

const MAGIC: [u8; 8] = *b"GRGSNP02";
const PREFIX: &str = "snapshot";
const UNFINISHED: &str = "snapshot.unfinished";
const RECEIVED: &str = "snapshot.received";
const KEPT: usize = 2;

/// Bytes that are read at once for another member.
const BLOCK_LEN: usize = 256 * 1024;

/// A snapshot on this member's disk, whole and durable, and what it holds if that is to be installed.
#[derive(Debug, Default)]
pub struct SnapshotFile {
    pub(super) path: PathBuf,
    pub(super) received: Option<(u64, Box<State>)>,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The last entry that the state holds.
    pub(super) last: Option<LogId>,
    /// The members at that entry.
    pub(super) membership: StoredMembership,
    /// The ensemble's own number, 0 if it has none yet.
    pub(super) ensemble: u64,
}

impl Head {
    /// As openraft has it.
    pub(super) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{:016x}", self.last.next_index()),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_log_id(self.last, out);
        out.extend(self.ensemble.to_le_bytes());
        put_log_id(*self.membership.log_id(), out);
        payload::encode_membership(self.membership.membership(), out);
    }

    fn decode(mut bytes: Bytes) -> Result<Head, PayloadError> {
        let last = take_log_id(&mut bytes)?;
        let ensemble = bytes.try_get_u64_le()?;
        let since = take_log_id(&mut bytes)?;
        let membership = payload::decode_membership(&mut bytes)?;
        Ok(Head {
            last,
            membership: StoredMembership::new(since, membership),
            ensemble,
        })
    }
}

fn put_log_id(id: Option<LogId>, out: &mut Vec<u8>) {
    out.push(id.is_some().into());
    out.extend(id.map_or(0, |id| id.leader_id.term).to_le_bytes());
    out.extend(id.map_or(0, |id| id.index).to_le_bytes());
}

fn take_log_id(bytes: &mut Bytes) -> Result<Option<LogId>, PayloadError> {
    let there = bytes.try_get_u8()? != 0;
    let id = log_id(bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
    Ok(there.then_some(id))
}

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a checksum does not hold")]
    Checksum,
    #[error(transparent)]
    Head(#[from] PayloadError),
    #[error(transparent)]
    Content(#[from] SnapshotError),
    #[error("it is of another ensemble")]
    Ensemble,
}

/// The snapshots of this member.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    newest: Arc<Mutex<Option<Head>>>,
    /// The length of the one that was written or loaded last, 0 if there is none.
    newest_len: Arc<AtomicU64>,
    /// Held while a file is given its name: one's own and a leader's may be finished at once.
    adopting: Arc<tokio::sync::Mutex<()>>,
}

/// What was found at the start.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) head: Head,
    pub(super) state: State,
}

impl Snapshots {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Snapshots {
        Snapshots {
            disk,
            dir,
            newest: Arc::default(),
            newest_len: Arc::default(),
            adopting: Arc::default(),
        }
    }

    /// The newest that is whole, if there is one; damaged ones are named.
    pub(super) fn load_newest(&self) -> io::Result<Option<Loaded>> {
        let found = files::numbered(&*self.disk, &self.dir, PREFIX)?;
        for (index, path) in found.into_iter().rev() {
            match self.load(&path) {
                Ok(loaded) if loaded.head.last.index() == Some(index) => {
                    *self.newest.lock().unwrap() = Some(loaded.head.clone());
                    return Ok(Some(loaded));
                }
                Ok(_) => tracing::warn!(
                    "{} has the name of another; going back to an older one",
                    path.display()
                ),
                Err(error) => tracing::warn!(
                    "{} is damaged: {error}; going back to an older one",
                    path.display()
                ),
            }
        }
        Ok(None)
    }

    /// Whether there is any, whole or damaged.
    pub(super) fn any(&self) -> io::Result<bool> {
        Ok(!files::numbered(&*self.disk, &self.dir, PREFIX)?.is_empty())
    }

    /// The newest one, for a member that is behind.
    pub(super) fn newest(&self) -> Option<(Head, PathBuf)> {
        let head = self.newest.lock().unwrap().clone()?;
        let path = self.path(head.last?);
        Some((head, path))
    }

    /// The length of the newest, in bytes; 0 if there is none.
    pub(super) fn newest_len(&self) -> u64 {
        self.newest_len.load(Relaxed)
    }

    /// Writes one. What comes back is the entry up to which the log is not needed any more.
    pub(super) async fn write(&self, head: Head, state: &State) -> io::Result<Option<u64>> {
        let written = self.write_whole(head, state).await;
        if written.is_err() {
            self.remove(UNFINISHED);
        }
        written
    }

    async fn write_whole(&self, head: Head, state: &State) -> io::Result<Option<u64>> {
        let unfinished = self.dir.join(UNFINISHED);
        let mut file = self.disk.create(&unfinished)?;
        let mut start = MAGIC.to_vec();
        frames::write(&mut start, |out| head.encode(out));
        file.append(&mut [IoSlice::new(&start)])?;
        snapshot::encode(state, |chunk| {
            let header = frames::header(&[chunk]);
            file.append(&mut [IoSlice::new(&header), IoSlice::new(chunk)])
        })?;
        file.sync().await?;
        self.newest_len.store(file.size()?, Relaxed);
        self.adopt(&unfinished, head).await
    }

    /// A file that takes what a leader sends. The caller sees to it that there is one at a time.
    pub(super) fn receive(&self) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(&self.dir.join(RECEIVED))
    }

    /// Removes what was begun and not finished. It would only take the room that the log needs.
    pub(super) fn remove_unfinished(&self) {
        self.remove(UNFINISHED);
        self.remove(RECEIVED);
    }

    /// What a leader has sent is of no use.
    pub(super) fn remove_received(&self) {
        self.remove(RECEIVED);
    }

    fn remove(&self, name: &str) {
        if let Err(error) = self.disk.remove(&self.dir.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{name} cannot be removed: {error}");
        }
    }

    /// All of it is there: reads it, and makes it durable. `ensemble` is the number of this member's, 0 if it has none yet.
    pub(super) async fn received(
        &self,
        mut file: Box<dyn DiskFile>,
        ensemble: u64,
    ) -> Result<(Head, SnapshotFile), LoadError> {
        let path = self.dir.join(RECEIVED);
        file.sync().await?;
        let Loaded { head, state } = self.load(&path)?;
        if ensemble != 0 && head.ensemble != ensemble {
            return Err(LoadError::Ensemble);
        }
        self.adopt(&path, head.clone()).await?;
        let file = SnapshotFile {
            path: head.last.map(|last| self.path(last)).unwrap_or_default(),
            received: Some((head.ensemble, Box::new(state))),
        };
        Ok((head, file))
    }

    /// Gives a whole file its name, and removes what is not needed any more.
    async fn adopt(&self, path: &Path, head: Head) -> io::Result<Option<u64>> {
        let last = head
            .last
            .ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let _turn = self.adopting.lock().await;
        self.disk.rename(path, &self.path(last))?;
        self.disk.sync_directory(&self.dir).await?;
        {
            let mut newest = self.newest.lock().unwrap();
            if newest.as_ref().is_none_or(|newest| newest.last < head.last) {
                *newest = Some(head);
            }
        }
        let found = files::numbered(&*self.disk, &self.dir, PREFIX)?;
        let Some(oldest_kept) = found.len().checked_sub(KEPT) else {
            return Ok(None);
        };
        for (_, path) in &found[..oldest_kept] {
            self.disk.remove(path)?;
        }
        Ok(Some(found[oldest_kept].0))
    }

    /// Where the snapshot is whose last entry this is.
    pub(super) fn path(&self, last: LogId) -> PathBuf {
        files::numbered_path(&self.dir, PREFIX, last.index)
    }

    fn load(&self, path: &Path) -> Result<Loaded, LoadError> {
        let file = self.disk.open(path)?;
        let mut reader = FrameReader::new(&*file)?;
        let head = Head::decode(reader.next()?.ok_or(LoadError::Checksum)?)?;
        let mut loader = Loader::default();
        while let Some(chunk) = reader.next()? {
            loader.load(chunk)?;
        }
        self.newest_len.store(reader.size, Relaxed);
        Ok(Loaded {
            head,
            state: loader.finish()?,
        })
    }

    /// The file of a snapshot, block by block.
    pub(super) fn blocks(&self, path: &Path) -> io::Result<Blocks> {
        Ok(Blocks {
            file: self.disk.open(path)?,
            position: 0,
        })
    }
}

struct FrameReader<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    size: u64,
}

impl FrameReader<'_> {
    fn new(file: &dyn DiskFile) -> Result<FrameReader<'_>, LoadError> {
        if files::read(file, 0, MAGIC.len())? != MAGIC[..] {
            return Err(LoadError::Checksum);
        }
        Ok(FrameReader {
            file,
            position: MAGIC.len() as u64,
            size: file.size()?,
        })
    }

    /// The next frame, never larger than what is left of the file; `None` at its end.
    fn next(&mut self) -> Result<Option<Bytes>, LoadError> {
        if self.position == self.size {
            return Ok(None);
        }
        let header = files::read(self.file, self.position, frames::HEADER_LEN)?;
        let len = frames::HEADER_LEN + frames::body_len(&header).ok_or(LoadError::Checksum)?;
        if self.size - self.position < len as u64 {
            return Err(LoadError::Checksum);
        }
        let frame = files::read(self.file, self.position, len)?;
        self.position += len as u64;
        frames::read(&frame).map(Some).ok_or(LoadError::Checksum)
    }
}

/// See [`Snapshots::blocks`].
#[derive(Debug)]
pub(super) struct Blocks {
    file: Box<dyn DiskFile>,
    position: u64,
}

impl Blocks {
    /// The next block; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let block = files::read(&*self.file, self.position, BLOCK_LEN)?;
        self.position += block.len() as u64;
        Ok((!block.is_empty()).then_some(block))
    }
}
