//! What the two indexes of a segment share: a file of fixed-size entries, rising, read through a mapping.
//!
//! The index of the active segment is preallocated as a hole of `segment.index.bytes` and cut to its entries when the
//! segment is closed or the log is shut down. An index is mapped when somebody first looks something up or adds to it, so
//! that ten thousand segments that nobody reads cost no mapping.
//!
//! An index only ever saves time. One that is missing is rebuilt, and one whose entries do not rise is not used: the
//! log then scans, and finds the same.

mod offset_index;
mod time_index;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::MmapMut;
pub use offset_index::OffsetPosition;
pub(crate) use offset_index::{OffsetIndex, offset_entries};
pub use time_index::TimestampOffset;
pub(crate) use time_index::{TimeIndex, time_entries};

use crate::file_system::{Attempt, FileSystem, StorageError};

/// Disk blocks are given to a preallocated index in steps of this.
const ALLOCATION_BYTES: u64 = 4096;

/// What an index of either kind stores.
trait Entry: Copy {
    /// Its size on disk, in bytes.
    const SIZE: usize;
    /// Reads it from exactly `SIZE` bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Writes it to exactly `SIZE` bytes.
    fn write(self, bytes: &mut [u8]);
    /// Whether `self` may stand right after `previous`.
    fn follows(self, previous: Self) -> bool;
}

/// A file of entries. `E` says what they are.
#[derive(Debug)]
struct IndexFile<E> {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    /// How many entries the file holds.
    count: usize,
    /// How many fit.
    capacity: usize,
    /// The file is as long as `capacity` says, not cut to its entries.
    preallocated: bool,
    /// So many bytes of the file certainly have disk blocks.
    allocated: u64,
    map: OnceLock<MmapMut>,
    /// Found to be unusable when it was mapped.
    damaged: AtomicBool,
    entries: std::marker::PhantomData<fn() -> E>,
}

impl<E: Entry> IndexFile<E> {
    fn new(fs: Arc<dyn FileSystem>, path: PathBuf, max_bytes: u32) -> Self {
        Self {
            fs,
            path,
            count: 0,
            capacity: (max_bytes as usize / E::SIZE).max(1),
            preallocated: false,
            allocated: 0,
            map: OnceLock::new(),
            damaged: AtomicBool::new(false),
            entries: std::marker::PhantomData,
        }
    }

    /// Makes an empty index, preallocated.
    fn create(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        max_bytes: u32,
    ) -> Result<Self, StorageError> {
        let mut index = Self::new(fs, path, max_bytes);
        let file = index
            .fs
            .create(&index.path)
            .attempt("create", &index.path)?;
        file.set_size(0).attempt("empty", &index.path)?;
        file.set_size((index.capacity * E::SIZE) as u64)
            .attempt("preallocate", &index.path)?;
        index.preallocated = true;
        Ok(index)
    }

    /// Opens an index that was cut to its entries. Looks at the last entry only; `Ok(None)` if the file is missing or
    /// cannot be what it should, in which case it must be rebuilt.
    fn open(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        max_bytes: u32,
        plausible: impl FnOnce(E) -> bool,
    ) -> Result<Option<Self>, StorageError> {
        let mut index = Self::new(fs, path, max_bytes);
        let file = match index.fs.open(&index.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.attempt("open", &index.path)?,
        };
        let size = file.size().attempt("read the size of", &index.path)?;
        if !size.is_multiple_of(E::SIZE as u64) {
            return Ok(None);
        }
        index.count = (size / E::SIZE as u64) as usize;
        if index.count > 0 {
            let mut bytes = [0; 16];
            let last = &mut bytes[..E::SIZE];
            let read = file
                .read_at(last, size - E::SIZE as u64)
                .attempt("read", &index.path)?;
            if read < E::SIZE || !plausible(E::read(last)) {
                return Ok(None);
            }
        }
        Ok(Some(index))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn is_full(&self) -> bool {
        self.count >= self.capacity
    }

    /// How many bytes the entries take.
    fn entry_bytes(&self) -> u64 {
        (self.count * E::SIZE) as u64
    }

    /// The bytes of all usable entries.
    fn bytes(&self) -> Result<&[u8], StorageError> {
        if self.count == 0 || self.damaged.load(Ordering::Relaxed) {
            return Ok(&[]);
        }
        if let Some(map) = self.map.get() {
            return Ok(&map[..self.count * E::SIZE]);
        }
        let map = self.map_file(self.count * E::SIZE)?;
        let rising = map
            .chunks_exact(E::SIZE)
            .zip(map.chunks_exact(E::SIZE).skip(1))
            .all(|(previous, entry)| E::read(entry).follows(E::read(previous)));
        if !rising {
            tracing::warn!(index = %self.path.display(), "the index is damaged and is not used: its entries do not rise");
            self.damaged.store(true, Ordering::Relaxed);
            return Ok(&[]);
        }
        Ok(&self.map.get_or_init(|| map)[..self.count * E::SIZE])
    }

    fn map_file(&self, size: usize) -> Result<MmapMut, StorageError> {
        let file = self.fs.open(&self.path).attempt("open", &self.path)?;
        // A file that somebody cut meanwhile must not be touched through a mapping.
        if file.size().attempt("read the size of", &self.path)? < size as u64 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
                .attempt("map", &self.path);
        }
        file.map(size).attempt("map", &self.path)
    }

    fn get(&self, index: usize) -> Result<Option<E>, StorageError> {
        let bytes = self.bytes()?;
        Ok(bytes.chunks_exact(E::SIZE).nth(index).map(E::read))
    }

    fn last(&self) -> Result<Option<E>, StorageError> {
        self.count
            .checked_sub(1)
            .map_or(Ok(None), |index| self.get(index))
    }

    /// How many entries at the front satisfy `predicate`, which must hold for a prefix.
    fn partition_point(&self, predicate: impl Fn(E) -> bool) -> Result<usize, StorageError> {
        let bytes = self.bytes()?;
        let (mut low, mut high) = (0, bytes.len() / E::SIZE);
        while low < high {
            let middle = low + (high - low) / 2;
            if predicate(E::read(&bytes[middle * E::SIZE..(middle + 1) * E::SIZE])) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Adds an entry. The caller has checked that it rises and that the index is not full.
    fn push(&mut self, entry: E) -> Result<(), StorageError> {
        if self.damaged.load(Ordering::Relaxed) {
            self.clear()?;
        }
        if !self.preallocated {
            self.preallocate()?;
        }
        if self.map.get().is_none() {
            let map = self.map_file(self.capacity * E::SIZE)?;
            self.map = OnceLock::from(map);
        }
        let start = self.count * E::SIZE;
        self.allocate_to((start + E::SIZE) as u64)?;
        if let Some(slot) = self
            .map
            .get_mut()
            .and_then(|map| map.get_mut(start..start + E::SIZE))
        {
            entry.write(slot);
            self.count += 1;
        }
        Ok(())
    }

    /// A full disk must show as an error of a call: met through the mapping, it would be a signal that ends the process.
    fn allocate_to(&mut self, end: u64) -> Result<(), StorageError> {
        if end <= self.allocated {
            return Ok(());
        }
        let size = (self.capacity * E::SIZE) as u64;
        let start = self.allocated;
        let end = end.next_multiple_of(ALLOCATION_BYTES).min(size);
        let file = self.fs.open(&self.path).attempt("open", &self.path)?;
        file.allocate(start, end - start)
            .attempt("allocate", &self.path)?;
        self.allocated = end;
        Ok(())
    }

    /// Extends the file by a hole to its full size.
    fn preallocate(&mut self) -> Result<(), StorageError> {
        self.map = OnceLock::new();
        let file = self.fs.create(&self.path).attempt("create", &self.path)?;
        file.set_size((self.capacity * E::SIZE) as u64)
            .attempt("preallocate", &self.path)?;
        self.allocated = (self.count * E::SIZE) as u64;
        self.preallocated = true;
        Ok(())
    }

    /// Keeps the first `count` entries.
    fn truncate(&mut self, count: usize) -> Result<(), StorageError> {
        if count >= self.count {
            return Ok(());
        }
        self.count = count;
        if !self.preallocated {
            // Cut to its entries it was, and must stay.
            self.preallocated = true;
            self.trim()?;
        }
        Ok(())
    }

    /// Forgets all entries, and whatever else the file held.
    fn clear(&mut self) -> Result<(), StorageError> {
        self.map = OnceLock::new();
        let file = self.fs.create(&self.path).attempt("create", &self.path)?;
        file.set_size(0).attempt("empty", &self.path)?;
        self.count = 0;
        self.preallocated = false;
        self.allocated = 0;
        self.damaged = AtomicBool::new(false);
        Ok(())
    }

    /// Cuts the file to its entries.
    fn trim(&mut self) -> Result<(), StorageError> {
        if self.preallocated {
            self.map = OnceLock::new();
            let file = self.fs.open(&self.path).attempt("open", &self.path)?;
            file.set_size((self.count * E::SIZE) as u64)
                .attempt("trim", &self.path)?;
            self.preallocated = false;
        }
        Ok(())
    }
}

/// A four-byte big-endian number at `start`; the caller's slice is an entry, which is long enough.
fn read_u32(bytes: &[u8], start: usize) -> u32 {
    bytes
        .get(start..start + 4)
        .and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}
