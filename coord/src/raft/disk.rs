//! The narrow door to the disk.
//!
//! Everything that this room does to a file goes through [`Disk`] and [`DiskFile`], so that a test can put one underneath
//! that tears writes, forgets what was not synced, stalls or runs full. The real one is [`StdDisk`].
//!
//! Only what waits for the disk itself is a future: a sync. The real disk blocks in it, so whatever syncs runs where it
//! may block, as [`Disk::spawn`] starts it.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;

use rustix::fs::{FlockOperation, flock};

/// Work that is boxed, so that a [`Disk`] can be an object.
pub type Work<'a, T = ()> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An open file. Positions and lengths are in bytes.
pub trait DiskFile: Debug + Send + Sync {
    /// The length of the file.
    fn size(&self) -> io::Result<u64>;
    /// Reads up to `buffer.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `slices`, one behind the other, at the end of the file. After an error the file may hold any part.
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
    /// Returns once the content is on the disk. After an error nobody knows what is: it must not be tried again.
    fn sync(&mut self) -> Work<'_, io::Result<()>>;
}

/// The files of a disk.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens an existing file for reading and appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a file, or empties the one that is there, for reading and appending.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing one of that name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in any order; those that are not UTF-8 are nobody's of ours.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents where they are missing.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;
    /// Returns once the names in a directory are on the disk: files that were created, renamed or removed.
    fn sync_directory<'a>(&'a self, directory: &'a Path) -> Work<'a, io::Result<()>>;
    /// Takes a directory for this process until what comes back is dropped.
    fn lock(&self, directory: &Path) -> Result<Box<dyn Send + Sync>, LockError>;
    /// Starts `work` where it may block: the real disk gives it a thread of that name, a simulated one a task.
    fn spawn(&self, name: &str, work: Work<'static>) -> io::Result<()>;
}

/// Why the data directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("dataDir {dir} is in use by process {pid}: stop it, or name another directory")]
    InUse {
        /// The directory.
        dir: String,
        /// The process that has it.
        pid: String,
    },
    /// It is not there, not ours or no directory.
    #[error("dataDir {dir} cannot be used: {cause}")]
    Io {
        /// The directory.
        dir: String,
        /// What the operating system says.
        cause: io::Error,
    },
}

/// The file system of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct StdDisk;

impl Disk for StdDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        Ok(Box::new(StdFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        file.set_len(0)?;
        Ok(Box::new(StdFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)
    }

    fn sync_directory<'a>(&'a self, directory: &'a Path) -> Work<'a, io::Result<()>> {
        Box::pin(async move { File::open(directory)?.sync_all() })
    }

    fn lock(&self, directory: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        let io = |cause| LockError::Io {
            dir: directory.display().to_string(),
            cause,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(".lock"))
            .map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(LockError::InUse {
                dir: directory.display().to_string(),
                pid: pid.trim().to_owned(),
            });
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Box::new(file))
    }

    fn spawn(&self, name: &str, work: Work<'static>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(())
    }
}

#[derive(Debug)]
struct StdFile(File);

impl DiskFile for StdFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

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

    fn append(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            match self.0.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&mut self) -> Work<'_, io::Result<()>> {
        Box::pin(async { self.0.sync_data() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let held = StdDisk.lock(dir.path()).unwrap();
        let error = StdDisk
            .lock(dir.path())
            .err()
            .expect("it is held")
            .to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        StdDisk.lock(dir.path()).unwrap();
    }

    #[test]
    fn what_is_appended_in_slices_is_read_back_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = StdDisk.create(&path).unwrap();
        let many = vec![b'x'; 3 * 1024];
        let mut slices: Vec<IoSlice> = many
            .iter()
            .map(std::slice::from_ref)
            .map(IoSlice::new)
            .collect();
        // More slices than one system call takes.
        file.append(&mut slices).unwrap();
        file.truncate(2000).unwrap();
        file.append(&mut [IoSlice::new(b"end")]).unwrap();
        let file = StdDisk.open(&path).unwrap();
        let mut buffer = vec![0; 4000];
        assert_eq!(file.read_at(&mut buffer, 1999).unwrap(), 4);
        assert_eq!(&buffer[..4], b"xend");
        assert_eq!(file.size().unwrap(), 2003);
    }
}
