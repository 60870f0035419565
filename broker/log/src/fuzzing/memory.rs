//! A disk in memory on which every file holds the same bytes until it is written to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::MmapMut;

use crate::file_system::{DirectoryEntry, FileSystem, LogFile, Space};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(super) struct MemoryFileSystem {
    everywhere: Vec<u8>,
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

impl MemoryFileSystem {
    pub(super) fn of(everywhere: &[u8]) -> Self {
        Self {
            everywhere: everywhere.to_vec(),
            files: Mutex::default(),
        }
    }

    fn file(&self, path: &Path) -> Arc<MemoryFile> {
        let mut files = locked(&self.files);
        let file = files.entry(path.to_owned()).or_insert_with(|| {
            Arc::new(MemoryFile {
                content: Mutex::new(self.everywhere.clone()),
            })
        });
        file.clone()
    }
}

impl FileSystem for MemoryFileSystem {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.file(path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from);
        let mut files = locked(&self.files);
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirectoryEntry>> {
        Ok(Vec::new())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug)]
struct MemoryFile {
    content: Mutex<Vec<u8>>,
}

/// Nobody reads from it: what is in memory has no descriptor of its own.
impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        static NULL: OnceLock<File> = OnceLock::new();
        let open = || File::open("/dev/null").expect("every system has /dev/null");
        NULL.get_or_init(open).as_fd()
    }
}

impl LogFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let content = locked(&self.content);
        let start = content.len().min(position as usize);
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut content = locked(&self.content);
        let (start, end) = (position as usize, position as usize + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(locked(&self.content).len() as u64)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }

    fn set_modified_ms(&self, _: i64) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        locked(&self.content).resize(size as usize, 0);
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, size: usize) -> io::Result<MmapMut> {
        let mut map = MmapMut::map_anon(size.max(1))?;
        let content = locked(&self.content);
        let count = size.min(content.len());
        map[..count].copy_from_slice(&content[..count]);
        Ok(map)
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
