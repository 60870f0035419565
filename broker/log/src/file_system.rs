//! The narrow door to the disk.
//!
//! Everything that the storage engine does to a file goes through [`FileSystem`] and [`LogFile`], so that a test can put
//! an implementation underneath that tears writes, forgets what was not synced, or runs full. The real one is
//! [`StdFileSystem`]. A [`LogFile`] is backed by a descriptor, because `sendfile(2)` and `mmap(2)` need one.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, FlockOperation};

/// What stands in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name without its directory. Names that are not UTF-8 are nobody's of ours and are left out of a listing.
    pub name: String,
    /// Whether it is itself a directory.
    pub is_directory: bool,
}

/// An open file. Positions and lengths are in bytes.
pub trait LogFile: AsFd + Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `position`. After an error the file may hold any part of them.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// The length of the file.
    fn size(&self) -> io::Result<u64>;
    /// When its content was changed last, in milliseconds since 1970.
    fn modified_ms(&self) -> io::Result<i64>;
    /// Says that its content was changed last at `modified_ms`.
    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()>;
    /// Cuts the file or extends it with a hole.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Gives disk blocks to a range that lies within the file, so that a later write through a mapping cannot fail.
    fn allocate(&self, position: u64, size: u64) -> io::Result<()>;
    /// Returns once the content is on the disk. After an error nobody knows what is: it must not be tried again.
    fn sync(&self) -> io::Result<()>;
    /// Returns once all that anybody wrote to the file system that holds this file is on the disk, names included. An
    /// error tells of any write to it that failed since this file was opened.
    fn sync_file_system(&self) -> io::Result<()>;
    /// Maps the first `size` bytes, shared and writable. The file must not be cut below that while the map lives.
    fn map(&self, size: usize) -> io::Result<MmapMut>;
    /// Takes the file for this process until it is closed; false if another holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// The size of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What is free for this process, in bytes.
    pub usable_bytes: u64,
}

/// The directories of a disk.
pub trait FileSystem: Debug + Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Opens a file for reading and writing, made empty if it is not there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Renames a file or a directory, replacing a file of that name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Unlinks a directory and all that it holds.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents where they are missing.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Returns once the names in a directory are on the disk.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// How large the volume is that holds a directory.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// The file system of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct StdFileSystem;

impl FileSystem for StdFileSystem {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(StdFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(StdFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirectoryEntry {
                    name,
                    is_directory: entry.file_type()?.is_dir(),
                });
            }
        }
        Ok(entries)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let volume = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Space {
            total_bytes: bytes(volume.f_blocks),
            usable_bytes: bytes(volume.f_bavail),
        })
    }
}

#[derive(Debug)]
struct StdFile(File);

impl AsFd for StdFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl LogFile for StdFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .0
                .read_at(&mut buffer[filled..], position + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let modified = self.0.metadata()?.modified()?;
        let since_1970 = modified.duration_since(UNIX_EPOCH);
        Ok(since_1970.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        }))
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let since_1970 = Duration::from_millis(u64::try_from(modified_ms).unwrap_or_default());
        self.0.set_modified(UNIX_EPOCH + since_1970)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn allocate(&self, position: u64, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), position, size) {
            // A file system that cannot allocate ahead gives the blocks to written zeros.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.0.write_all_at(&vec![0; size as usize], position)
            }
            result => Ok(result?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }

    fn map(&self, size: usize) -> io::Result<MmapMut> {
        // SAFETY: a mapping is unsound only where somebody else changes the file underneath. Index files are ours alone
        // (the log directory is locked), an index is dropped before its file is cut, and its blocks are allocated
        // before they are written.
        unsafe { memmap2::MmapOptions::new().len(size).map_mut(&self.0) }
    }

    fn try_lock(&self) -> io::Result<bool> {
        // Both kinds: flock(2) also tells two openers in one process apart, the record lock is what Apache Kafka takes.
        let taken =
            rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive).and_then(|()| {
                rustix::fs::fcntl_lock(&self.0, FlockOperation::NonBlockingLockExclusive)
            });
        match taken {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A disk that would not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StorageError {
    /// What was attempted, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// Names the file and the deed in an error of the file system.
pub(crate) trait Attempt<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

/// What was found where a small file should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// No file.
    Missing,
    /// A file that does not say what it should; the reason, in words.
    Rubbish(String),
    /// A good file.
    Intact(T),
}

impl<T> Found<T> {
    /// What a file says, of what it holds.
    pub(crate) fn and_then<U>(self, parse: impl FnOnce(T) -> Result<U, String>) -> Found<U> {
        match self {
            Self::Missing => Found::Missing,
            Self::Rubbish(reason) => Found::Rubbish(reason),
            Self::Intact(content) => parse(content).map_or_else(Found::Rubbish, Found::Intact),
        }
    }
}

/// Reads a whole small file. One larger than `limit` bytes is rubbish: nothing that this crate reads whole is as large as
/// a log.
pub(crate) fn read_small(
    fs: &dyn FileSystem,
    path: &Path,
    limit: u64,
) -> Result<Found<Vec<u8>>, StorageError> {
    let file = match fs.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        opened => opened.attempt("open", path)?,
    };
    let size = file.size().attempt("read the size of", path)?;
    if size > limit {
        return Ok(Found::Rubbish(format!(
            "{size} bytes where at most {limit} are expected"
        )));
    }
    let mut content = vec![0; size as usize];
    let count = file.read_at(&mut content, 0).attempt("read", path)?;
    content.truncate(count);
    Ok(Found::Intact(content))
}

/// Whether [`write_replacing`] waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives a power cut once the call returns: file synced before the rename, directory after it.
    Synced,
    /// Survives the end of the process; after a power cut the file may be the old one, the new one, or empty.
    Buffered,
}

/// Replaces a small file as a whole: written beside it as `.tmp`, then renamed over it.
pub(crate) fn write_replacing(
    fs: &dyn FileSystem,
    path: &Path,
    content: &[u8],
    durability: Durability,
) -> Result<(), StorageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let file = fs.create(&temporary).attempt("create", &temporary)?;
    file.set_size(0).attempt("empty", &temporary)?;
    file.write_all_at(content, 0).attempt("write", &temporary)?;
    if durability == Durability::Synced {
        file.sync().attempt("sync", &temporary)?;
    }
    fs.rename(&temporary, path).attempt("replace", path)?;
    if durability == Durability::Synced
        && let Some(parent) = path.parent()
    {
        fs.sync_directory(parent).attempt("sync", parent)?;
    }
    Ok(())
}

/// Unlinks a file that may already be gone.
pub(crate) fn remove_if_there(fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
    match fs.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.attempt("remove", path),
    }
}
