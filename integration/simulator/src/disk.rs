//! A disk that keeps what was synced, and of the rest what chance leaves of it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coord::raft::{Disk, DiskFile, LockError, Work};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;
use crate::lifeline::Lifeline;

/// What a disk loses or keeps as one.
const SECTOR: usize = 512;

/// A node's disk, as one of its processes has it. The disk itself outlives them.
#[derive(Debug, Clone)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    life: Lifeline,
}

#[derive(Debug)]
struct Platter {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    /// The names that a crash leaves for certain.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What became of names since they were synced, in order.
    renamed: Vec<Naming>,
    next_file: u64,
    dice: Dice,
    /// How long a sync takes, in milliseconds: from, below.
    sync_ms: (u64, u64),
    /// Until when every sync waits.
    stalled: Option<Instant>,
    /// Bytes that may still be written.
    free: Option<usize>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// The shortest that it was since it was synced.
    shortest: usize,
}

#[derive(Debug, Clone)]
enum Naming {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

fn follow(names: &mut BTreeMap<PathBuf, u64>, naming: &Naming) {
    match naming {
        Naming::Made(path, file) => {
            names.insert(path.clone(), *file);
        }
        Naming::Renamed(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Naming::Removed(path) => {
            names.remove(path);
        }
    }
}

impl Platter {
    fn name(&mut self, naming: Naming) {
        follow(&mut self.names, &naming);
        self.renamed.push(naming);
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.files.entry(file).or_default()
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Content {
    /// What a crash leaves of it.
    fn crash(&mut self, dice: &Dice) {
        let kept = match dice.within(0..8) {
            0..2 => self.durable.clone(),
            2..4 => self.now.clone(),
            4..6 => {
                let from = self.shortest.min(self.durable.len());
                let end = dice.within(from as u64..self.now.len() as u64 + 1) as usize;
                self.now[..end].to_vec()
            }
            // The length is there and some of the sectors are not.
            _ => {
                let from = self.shortest.min(self.durable.len());
                let mut kept = self.now.clone();
                let mut at = from;
                while at < kept.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(kept.len());
                    if dice.chance(40) {
                        kept[at..end].fill(0);
                    }
                    at = end;
                }
                kept
            }
        };
        *self = Content {
            shortest: kept.len(),
            durable: kept.clone(),
            now: kept,
        };
    }

    fn is_synced(&self) -> bool {
        self.now.len() == self.durable.len() && self.shortest == self.now.len()
    }
}

impl SimDisk {
    /// An empty one.
    pub fn new(dice: Dice) -> SimDisk {
        let platter = Platter {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renamed: Vec::new(),
            next_file: 1,
            dice,
            sync_ms: (0, 3),
            stalled: None,
            free: None,
        };
        SimDisk {
            platter: Arc::new(Mutex::new(platter)),
            life: Lifeline::default(),
        }
    }

    /// The same disk for another process, until that ends.
    pub fn for_process(&self, life: Lifeline) -> SimDisk {
        SimDisk {
            platter: self.platter.clone(),
            life,
        }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a process may change, as long as it lives.
    fn changing(&self) -> io::Result<MutexGuard<'_, Platter>> {
        match self.life.is_over() {
            false => Ok(self.platter()),
            true => Err(io::Error::other("the process has ended")),
        }
    }

    /// The power goes: what was not synced is lost, whole, in part or not at all; files and names each on their own.
    pub fn crash(&self) {
        let mut platter = self.platter();
        let Platter {
            files,
            names,
            durable_names,
            renamed,
            dice,
            ..
        } = &mut *platter;
        // Names are lost from some point in time on, as a journal loses them.
        let kept = dice.within(0..renamed.len() as u64 + 1) as usize;
        for naming in &renamed[..kept] {
            follow(durable_names, naming);
        }
        renamed.clear();
        names.clone_from(durable_names);
        files.retain(|file, _| names.values().any(|named| named == file));
        for content in files.values_mut().filter(|content| !content.is_synced()) {
            content.crash(dice);
        }
    }

    /// How long a sync takes from now on, in milliseconds.
    pub fn set_sync_ms(&self, from: u64, below: u64) {
        self.platter().sync_ms = (from, below);
    }

    /// No sync ends before this much time has gone by.
    pub fn stall(&self, time: Duration) {
        self.platter().stalled = Some(Instant::now() + time);
    }

    /// How many bytes may still be written; `None` for any number.
    pub fn set_free(&self, free: Option<usize>) {
        self.platter().free = free;
    }

    async fn wait(&self) {
        let (took, stalled) = {
            let platter = self.platter();
            let (from, below) = platter.sync_ms;
            let took = platter.dice.within(from..below);
            (took, platter.stalled)
        };
        if let Some(until) = stalled {
            sleep_until(until).await;
        }
        if took > 0 {
            sleep(Duration::from_millis(took)).await;
        }
        self.life.hold_if_over().await;
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.platter().find(path)?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            file,
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.changing()?;
        let file = match platter.find(path) {
            Ok(file) => {
                let content = platter.content(file);
                content.now.clear();
                content.shortest = 0;
                file
            }
            Err(_) => {
                let file = platter.next_file;
                platter.next_file += 1;
                platter.content(file);
                platter.name(Naming::Made(path.to_owned(), file));
                file
            }
        };
        Ok(Box::new(SimFile {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.changing()?;
        platter.find(from)?;
        platter.name(Naming::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.changing()?;
        platter.find(path)?;
        platter.name(Naming::Removed(path.to_owned()));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let platter = self.platter();
        let here = platter
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory));
        let names = here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let mut names: Vec<String> = names.collect();
        // No order is promised, so none may be relied on.
        platter.dice.shuffle(&mut names);
        Ok(names)
    }

    fn create_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory<'a>(&'a self, directory: &'a Path) -> Work<'a, io::Result<()>> {
        Box::pin(async move {
            self.wait().await;
            let mut platter = self.platter();
            let Platter {
                durable_names,
                renamed,
                ..
            } = &mut *platter;
            renamed.retain(|naming| {
                let (Naming::Made(path, _) | Naming::Renamed(_, path) | Naming::Removed(path)) =
                    naming;
                let here = path.parent() == Some(directory);
                if here {
                    follow(durable_names, naming);
                }
                !here
            });
            Ok(())
        })
    }

    fn lock(&self, _directory: &Path) -> Result<Box<dyn Send + Sync>, LockError> {
        Ok(Box::new(()))
    }

    fn spawn(&self, _name: &str, work: Work<'static>) -> io::Result<()> {
        tokio::task::spawn_local(work);
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.platter().content(self.file).now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut platter = self.disk.platter();
        let content = &platter.content(self.file).now;
        let from = content.len().min(position as usize);
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut platter = self.disk.changing()?;
        for slice in slices {
            let fits = platter
                .free
                .map_or(slice.len(), |free| free.min(slice.len()));
            if let Some(free) = &mut platter.free {
                *free -= fits;
            }
            platter.content(self.file).now.extend(&slice[..fits]);
            if fits < slice.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let mut platter = self.disk.changing()?;
        let content = platter.content(self.file);
        content.now.resize(size as usize, 0);
        content.shortest = content.shortest.min(size as usize);
        Ok(())
    }

    fn sync(&mut self) -> Work<'_, io::Result<()>> {
        Box::pin(async {
            self.disk.wait().await;
            let mut platter = self.disk.platter();
            let content = platter.content(self.file);
            // Appending is all that changes what is synced already, so only the end has to be copied.
            content.durable.truncate(content.shortest);
            let end = content.durable.len();
            content.durable.extend_from_slice(&content.now[end..]);
            content.shortest = content.now.len();
            Ok(())
        })
    }
}
