//! Log directories that have failed.
//!
//! The first error of a disk takes the log directory offline: what was written before is in doubt, and nobody tries again
//! (KAFKA-10778). From then on nothing of that directory is touched until the broker starts anew. All that the storage
//! engine does in a directory goes through its [`GuardedFileSystem`], so that no error is missed, whoever meets it.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::MmapMut;
use rustix::io::Errno;

use crate::file_system::{DirectoryEntry, FileSystem, LogFile, Space};

/// A log directory that is out of use until the broker starts anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is offline: {reason}", path.display())]
pub struct OfflineDirectory {
    /// The directory, as `log.dirs` names it.
    pub path: PathBuf,
    /// What failed in it, in words.
    pub reason: String,
}

type Listener = Box<dyn Fn(&OfflineDirectory) + Send>;

#[derive(Default)]
struct State {
    directories: Vec<OfflineDirectory>,
    listener: Option<Listener>,
}

/// The directories of a broker that are offline, and who hears of each.
#[derive(Default)]
pub(crate) struct OfflineDirectories(Mutex<State>);

impl Debug for OfflineDirectories {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OfflineDirectories")
            .field(&self.state().directories)
            .finish()
    }
}

impl OfflineDirectories {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<OfflineDirectory> {
        self.state().directories.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().directories.is_empty()
    }

    /// Tells of those that are offline already, and of each that follows.
    pub(crate) fn listen(&self, listener: Listener) {
        let mut state = self.state();
        state.directories.iter().for_each(&listener);
        state.listener = Some(listener);
    }

    /// Takes a directory offline.
    pub(crate) fn add(&self, directory: OfflineDirectory) {
        let OfflineDirectory { path, reason } = &directory;
        tracing::error!(directory = %path.display(), reason, "the log directory is offline until the broker starts anew");
        let mut state = self.state();
        if let Some(listener) = &state.listener {
            listener(&directory);
        }
        state.directories.push(directory);
    }
}

/// Whether the process, or the system, may open no more files. That says nothing of any disk, and passes.
pub(crate) fn too_many_open_files(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Whether one directory works.
#[derive(Debug)]
pub(crate) struct DirectoryHealth {
    path: PathBuf,
    failure: OnceLock<OfflineDirectory>,
    offline: Arc<OfflineDirectories>,
}

impl DirectoryHealth {
    pub(crate) fn new(path: PathBuf, offline: Arc<OfflineDirectories>) -> Arc<Self> {
        Arc::new(Self {
            path,
            failure: OnceLock::new(),
            offline,
        })
    }

    /// Why the directory is offline; `None` while it works.
    pub(crate) fn failure(&self) -> Option<&OfflineDirectory> {
        self.failure.get()
    }

    /// Takes the directory offline, unless it is.
    pub(crate) fn fail(&self, reason: impl FnOnce() -> String) {
        let mut is_first = false;
        let failure = self.failure.get_or_init(|| {
            is_first = true;
            OfflineDirectory {
                path: self.path.clone(),
                reason: reason(),
            }
        });
        if is_first {
            self.offline.add(failure.clone());
        }
    }

    /// Does something in the directory, if it works. An error takes it offline; not that nothing is found, nor that more is
    /// found than was removed: these say what the directory holds, not that it fails; nor that too many files are open.
    fn attempt<T>(&self, action: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some(failure) = self.failure() {
            return Err(io::Error::other(failure.clone()));
        }
        let result = work();
        if let Err(error) = &result
            && !too_many_open_files(error)
            && !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            )
        {
            self.fail(|| format!("cannot {action} in it: {error}"));
        }
        result
    }
}

/// The file system as one log directory sees it.
#[derive(Debug)]
pub(crate) struct GuardedFileSystem {
    pub(crate) inner: Arc<dyn FileSystem>,
    pub(crate) health: Arc<DirectoryHealth>,
}

impl GuardedFileSystem {
    fn guard(&self, file: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(GuardedFile {
            inner: file,
            health: self.health.clone(),
        })
    }
}

impl FileSystem for GuardedFileSystem {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let opened = self.health.attempt("open a file", || self.inner.open(path));
        opened.map(|file| self.guard(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let created = self
            .health
            .attempt("create a file", || self.inner.create(path));
        created.map(|file| self.guard(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.health
            .attempt("rename", || self.inner.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.health
            .attempt("remove a file", || self.inner.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.health
            .attempt("remove a directory", || self.inner.remove_directory(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.health
            .attempt("create a directory", || self.inner.create_directory(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.health
            .attempt("list a directory", || self.inner.list(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.health
            .attempt("sync a directory", || self.inner.sync_directory(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.health
            .attempt("read the size of the volume", || self.inner.space(path))
    }
}

#[derive(Debug)]
struct GuardedFile {
    inner: Arc<dyn LogFile>,
    health: Arc<DirectoryHealth>,
}

impl AsFd for GuardedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl LogFile for GuardedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.health
            .attempt("read", || self.inner.read_at(buffer, position))
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.health
            .attempt("write", || self.inner.write_all_at(bytes, position))
    }

    fn size(&self) -> io::Result<u64> {
        self.health
            .attempt("read the size of a file", || self.inner.size())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.health
            .attempt("read the time of a file", || self.inner.modified_ms())
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        self.health.attempt("set the time of a file", || {
            self.inner.set_modified_ms(modified_ms)
        })
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.health
            .attempt("set the size of a file", || self.inner.set_size(size))
    }

    fn allocate(&self, position: u64, size: u64) -> io::Result<()> {
        self.health
            .attempt("allocate", || self.inner.allocate(position, size))
    }

    fn sync(&self) -> io::Result<()> {
        self.health.attempt("sync", || self.inner.sync())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.health
            .attempt("sync", || self.inner.sync_file_system())
    }

    fn map(&self, size: usize) -> io::Result<MmapMut> {
        self.health.attempt("map a file", || self.inner.map(size))
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.health.attempt("lock", || self.inner.try_lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_no_failure_of_the_disk() {
        let health = DirectoryHealth::new(PathBuf::from("d"), Arc::default());
        for (errno, fails) in [
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::IO, true),
        ] {
            let result = health.attempt("open a file", || Err::<(), _>(errno.into()));
            assert!(result.is_err());
            assert_eq!(health.failure().is_some(), fails, "{errno}");
        }
    }
}
