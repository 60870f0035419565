//! A disk in memory that forgets what was not synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::raft::disk::{Disk, DiskFile, LockError, Work};

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// It was cut or emptied since it was synced.
    cut: bool,
}

type Names = BTreeMap<PathBuf, Arc<Mutex<Inode>>>;

/// See the module. A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub(in crate::raft) struct MemoryDisk {
    names: Arc<Mutex<Names>>,
    synced_names: Arc<Mutex<Names>>,
    stall: Arc<Mutex<Duration>>,
    room: Arc<Mutex<Option<usize>>>,
    killed: Arc<std::sync::atomic::AtomicBool>,
}

impl MemoryDisk {
    /// What is there after a power cut: all that was synced, and `torn` bytes more of each file. The old one fails from
    /// now on.
    pub(in crate::raft) fn after_crash(&self, torn: usize) -> MemoryDisk {
        self.killed
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let survive = |inode: &Arc<Mutex<Inode>>| {
            let inode = inode.lock().unwrap();
            let mut bytes = inode.synced.clone();
            if inode.bytes.starts_with(&bytes) {
                let end = inode.bytes.len().min(bytes.len() + torn);
                bytes.extend_from_slice(&inode.bytes[bytes.len()..end]);
            }
            let synced = bytes.clone();
            Arc::new(Mutex::new(Inode {
                bytes,
                synced,
                cut: false,
            }))
        };
        let names: Names = self
            .synced_names
            .lock()
            .unwrap()
            .iter()
            .map(|(path, inode)| (path.clone(), survive(inode)))
            .collect();
        MemoryDisk {
            names: Arc::new(Mutex::new(names.clone())),
            synced_names: Arc::new(Mutex::new(names)),
            ..MemoryDisk::default()
        }
    }

    /// So many bytes more can be written.
    pub(in crate::raft) fn leave_room(&self, room: usize) {
        *self.room.lock().unwrap() = Some(room);
    }

    /// From now on a sync takes so long.
    pub(in crate::raft) fn stall(&self, time: Duration) {
        *self.stall.lock().unwrap() = time;
    }

    pub(in crate::raft) fn names(&self) -> Vec<String> {
        let names = self.names.lock().unwrap();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        names.keys().map(name).collect()
    }

    /// The bytes of a file.
    pub(in crate::raft) fn bytes(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.damage(name, |content| bytes = content.clone());
        bytes
    }

    /// A file with these bytes.
    pub(in crate::raft) fn put(&self, name: &str, bytes: &[u8]) {
        let inode = Inode {
            bytes: bytes.to_vec(),
            synced: bytes.to_vec(),
            cut: false,
        };
        let path = Path::new("/data").join(name);
        let inode = Arc::new(Mutex::new(inode));
        self.names.lock().unwrap().insert(path, inode);
    }

    /// Takes a file away.
    pub(in crate::raft) fn remove_name(&self, name: &str) {
        let path = Path::new("/data").join(name);
        self.names.lock().unwrap().remove(&path);
    }

    /// Changes the bytes of a file.
    pub(in crate::raft) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let names = self.names.lock().unwrap();
        let (_, inode) = names
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .expect("it is there");
        change(&mut inode.lock().unwrap().bytes);
    }

    fn alive(&self) -> io::Result<()> {
        if self.killed.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::other("the power is cut"));
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        let names = self.names.lock().unwrap();
        let inode = names.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(Box::new(MemoryFile {
            inode,
            disk: self.clone(),
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.alive()?;
        let mut names = self.names.lock().unwrap();
        let inode = names.entry(path.to_owned()).or_default().clone();
        {
            let mut inode = inode.lock().unwrap();
            inode.bytes.clear();
            inode.cut = true;
        }
        Ok(Box::new(MemoryFile {
            inode,
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        let mut names = self.names.lock().unwrap();
        let inode = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let removed = self.names.lock().unwrap().remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        let names = self.names.lock().unwrap();
        let here = names.keys().filter(|path| path.parent() == Some(directory));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(here.map(name).collect())
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory<'a>(&'a self, _: &'a Path) -> Work<'a, io::Result<()>> {
        Box::pin(async {
            self.alive()?;
            let names = self.names.lock().unwrap().clone();
            *self.synced_names.lock().unwrap() = names;
            Ok(())
        })
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        Ok(Box::new(()))
    }

    fn spawn(&self, _: &str, work: Work<'static>) -> io::Result<()> {
        tokio::spawn(work);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    inode: Arc<Mutex<Inode>>,
    disk: MemoryDisk,
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.alive()?;
        let inode = self.inode.lock().unwrap();
        let rest = inode.bytes.get(position as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.disk.alive()?;
        let mut inode = self.inode.lock().unwrap();
        let mut room = self.disk.room.lock().unwrap();
        for slice in slices {
            let len = room.unwrap_or(usize::MAX).min(slice.len());
            inode.bytes.extend_from_slice(&slice[..len]);
            *room = room.map(|room| room - len);
            if len < slice.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.disk.alive()?;
        let mut inode = self.inode.lock().unwrap();
        inode.bytes.truncate(size as usize);
        inode.cut = true;
        Ok(())
    }

    fn sync(&mut self) -> Work<'_, io::Result<()>> {
        Box::pin(async {
            let stall = *self.disk.stall.lock().unwrap();
            if !stall.is_zero() {
                tokio::time::sleep(stall).await;
            }
            self.disk.alive()?;
            let mut inode = self.inode.lock().unwrap();
            let Inode { bytes, synced, cut } = &mut *inode;
            if std::mem::take(cut) {
                synced.clear();
            }
            synced.extend_from_slice(&bytes[synced.len()..]);
            Ok(())
        })
    }
}
