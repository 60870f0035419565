//! The transactions that were aborted in a segment: `.txnindex`, for consumers that read committed records only.
//!
//! Big endian, 34 bytes an entry: version 0 (two bytes), producer id (8), first offset (8), offset of the marker (8), last
//! stable offset once the marker was there (8). An entry comes with each abort marker of the segment, so that markers rise;
//! a transaction's first offset may lie in an earlier segment. No file is made before the first entry, and none is kept
//! open: few segments have one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};

use crate::error::LogError;
use crate::file_system::{Attempt, FileSystem, LogFile, StorageError, remove_if_there};

const VERSION: i16 = 0;
const ENTRY_BYTES: usize = 34;
/// So many entries are read at once.
const ENTRIES_PER_READ: usize = 120;

/// A transaction whose records nobody may see who reads committed ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Of its first record.
    pub first_offset: i64,
    /// Of the marker that aborted it.
    pub last_offset: i64,
    /// Where the first transaction began that was still open after it; else the offset after the marker. Whoever reads only
    /// up to here need not look at later entries.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    fn encode(&self) -> Vec<u8> {
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        entry.put_i16(VERSION);
        entry.put_i64(self.producer_id);
        entry.put_i64(self.first_offset);
        entry.put_i64(self.last_offset);
        entry.put_i64(self.last_stable_offset);
        entry
    }

    /// `None` if the bytes are no entry.
    fn decode(mut entry: &[u8]) -> Option<Self> {
        if entry.len() < ENTRY_BYTES || entry.get_i16() != VERSION {
            return None;
        }
        let transaction = Self {
            producer_id: entry.get_i64(),
            first_offset: entry.get_i64(),
            last_offset: entry.get_i64(),
            last_stable_offset: entry.get_i64(),
        };
        let sound = transaction.last_offset < i64::MAX
            && (0..transaction.last_offset).contains(&transaction.first_offset)
            && (0..=transaction.last_offset + 1).contains(&transaction.last_stable_offset);
        sound.then_some(transaction)
    }
}

/// The entries in the bytes of an index; `None` if something else is among them.
pub(crate) fn entries(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    bytes
        .chunks(ENTRY_BYTES)
        .map(AbortedTransaction::decode)
        .collect()
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct TransactionIndex {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    entries: usize,
    damaged: bool,
}

impl TransactionIndex {
    /// An index without entries, whatever the file holds: see [`TransactionIndex::open`] and [`TransactionIndex::clear`].
    pub(crate) fn new(fs: Arc<dyn FileSystem>, path: PathBuf) -> Self {
        Self {
            fs,
            path,
            entries: 0,
            damaged: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks what the file of a segment from `base_offset` on holds.
    pub(crate) fn open(&mut self, base_offset: i64) -> Result<(), StorageError> {
        let sound = self.count(base_offset)?;
        self.damaged = sound.is_none();
        self.entries = sound.unwrap_or(0);
        Ok(())
    }

    /// Whether the file held something else when it was opened: it must be cleared, and filled from the log.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// The number of entries, `None` if there is anything else in the file, or nothing: none is made without an entry.
    fn count(&self, base_offset: i64) -> Result<Option<usize>, StorageError> {
        let Some(file) = self.file()? else {
            return Ok(Some(0));
        };
        let size = file.size().attempt("read the size of", &self.path)? as usize;
        if size == 0 || !size.is_multiple_of(ENTRY_BYTES) {
            return Ok(None);
        }
        let entries = size / ENTRY_BYTES;
        let mut least = base_offset;
        for first in (0..entries).step_by(ENTRIES_PER_READ) {
            let count = ENTRIES_PER_READ.min(entries - first);
            for entry in self.read(&*file, first, count)?.chunks(ENTRY_BYTES) {
                match AbortedTransaction::decode(entry) {
                    Some(entry) if entry.last_offset >= least => least = entry.last_offset + 1,
                    _ => return Ok(None),
                }
            }
        }
        Ok(Some(entries))
    }

    /// Adds a transaction that was aborted after all those that are in the index.
    pub(crate) fn append(&mut self, transaction: &AbortedTransaction) -> Result<(), StorageError> {
        let file = self.fs.create(&self.path).attempt("create", &self.path)?;
        let position = (self.entries * ENTRY_BYTES) as u64;
        file.write_all_at(&transaction.encode(), position)
            .attempt("write to", &self.path)?;
        self.entries += 1;
        Ok(())
    }

    /// Drops the transactions whose markers are at `offset` or after it.
    pub(crate) fn truncate_to(&mut self, offset: i64) -> Result<(), LogError> {
        if self.entries == 0 {
            return Ok(());
        }
        let file = self.file_with_entries()?;
        let kept = self.first_ended_from(&*file, offset)?;
        if kept == 0 {
            self.clear()?;
        } else if kept < self.entries {
            file.set_size((kept * ENTRY_BYTES) as u64)
                .attempt("cut", &self.path)?;
            self.entries = kept;
        }
        Ok(())
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) -> Result<(), StorageError> {
        self.entries = 0;
        self.damaged = false;
        remove_if_there(&*self.fs, &self.path)
    }

    /// Finds the transactions that have a record or their marker at `from` or after it, and began before `to`. True if no
    /// later segment has any more of them. Entries that were lost since the index was opened are [`LogError::Damaged`]: who
    /// reads without them would take aborted records for committed ones.
    pub(crate) fn collect(
        &self,
        from: i64,
        to: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, LogError> {
        if self.entries == 0 {
            return Ok(false);
        }
        let file = self.file_with_entries()?;
        let mut next = self.first_ended_from(&*file, from)?;
        while next < self.entries {
            let count = ENTRIES_PER_READ.min(self.entries - next);
            let bytes = self.read(&*file, next, count)?;
            for index in 0..count {
                let entry = bytes.get(index * ENTRY_BYTES..).unwrap_or_default();
                let entry =
                    AbortedTransaction::decode(entry).ok_or_else(|| self.lost(next + index))?;
                if entry.first_offset < to {
                    found.push(entry);
                }
                if entry.last_stable_offset >= to {
                    return Ok(true);
                }
            }
            next += count;
        }
        Ok(false)
    }

    /// The index of the first entry whose marker is at `offset` or after it.
    fn first_ended_from(&self, file: &dyn LogFile, offset: i64) -> Result<usize, LogError> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = AbortedTransaction::decode(&self.read(file, middle, 1)?)
                .ok_or_else(|| self.lost(middle))?;
            if entry.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The bytes of `count` entries.
    fn read(
        &self,
        file: &dyn LogFile,
        first: usize,
        count: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; count * ENTRY_BYTES];
        let read = file
            .read_at(&mut bytes, (first * ENTRY_BYTES) as u64)
            .attempt("read", &self.path)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The file of an index that had entries when it was opened.
    fn file_with_entries(&self) -> Result<Arc<dyn LogFile>, LogError> {
        self.file()?.ok_or_else(|| self.lost(0))
    }

    fn lost(&self, entry: usize) -> LogError {
        LogError::Damaged {
            path: self.path.clone(),
            position: (entry * ENTRY_BYTES) as u64,
            cause: "the aborted transaction that was noted there is lost".to_owned(),
        }
    }

    /// The file, if there is one.
    fn file(&self) -> Result<Option<Arc<dyn LogFile>>, StorageError> {
        match self.fs.open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => opened.attempt("open", &self.path).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    fn transaction(first_offset: i64, last_offset: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: 7,
            first_offset,
            last_offset,
            last_stable_offset: stable,
        }
    }

    fn index(directory: &Path) -> TransactionIndex {
        let path = directory.join("00000000000000000100.txnindex");
        TransactionIndex::new(Arc::new(StdFileSystem), path)
    }

    fn collected(index: &TransactionIndex, from: i64, to: i64) -> (Vec<i64>, bool) {
        let mut found = Vec::new();
        let complete = index.collect(from, to, &mut found).unwrap();
        (
            found.iter().map(|entry| entry.last_offset).collect(),
            complete,
        )
    }

    #[test]
    fn the_format_is_kafkas() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = index(directory.path());
        assert!(!index.path().exists(), "no file without an entry");
        index.append(&transaction(101, 105, 103)).unwrap();
        let content = std::fs::read(index.path()).unwrap();
        assert_eq!(content.len(), 34);
        assert_eq!(content[..2], [0, 0]);
        assert_eq!(content[2..10], 7i64.to_be_bytes());
        assert_eq!(content[10..18], 101i64.to_be_bytes());
        assert_eq!(content[18..26], 105i64.to_be_bytes());
        assert_eq!(content[26..34], 103i64.to_be_bytes());
    }

    #[test]
    fn those_that_reach_into_a_range_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = index(directory.path());
        // From 100 on one is open until 140.
        index.append(&transaction(105, 110, 100)).unwrap();
        index.append(&transaction(112, 130, 100)).unwrap();
        index.append(&transaction(100, 140, 141)).unwrap();
        index.append(&transaction(150, 160, 161)).unwrap();
        assert_eq!(collected(&index, 100, 120), (vec![110, 130, 140], true));
        assert_eq!(collected(&index, 111, 112), (vec![140], true));
        assert_eq!(collected(&index, 130, 131), (vec![130, 140], true));
        assert_eq!(collected(&index, 141, 150), (vec![], true));
        assert_eq!(collected(&index, 141, 300), (vec![160], false));
        assert_eq!(collected(&index, 161, 300), (vec![], false));

        index.truncate_to(140).unwrap();
        assert_eq!(collected(&index, 100, 300), (vec![110, 130], false));
        assert_eq!(std::fs::read(index.path()).unwrap().len(), 68);
        index.clear().unwrap();
        assert!(!index.path().exists());
        assert_eq!(collected(&index, 0, 300), (vec![], false));
    }

    #[test]
    fn an_index_larger_than_one_read_is_opened_and_searched() {
        let directory = tempfile::tempdir().unwrap();
        let mut written = index(directory.path());
        let count = ENTRIES_PER_READ as i64 * 2 + 7;
        for step in 0..count {
            let first = 100 + step * 2;
            written
                .append(&transaction(first, first + 1, first + 2))
                .unwrap();
        }
        let mut opened = index(directory.path());
        opened.open(100).unwrap();
        assert!(!opened.is_damaged());
        let (found, complete) = collected(&opened, 0, i64::MAX);
        assert_eq!((found.len() as i64, complete), (count, false));
        assert_eq!(collected(&opened, 401, 404), (vec![401, 403], true));
    }

    #[test]
    fn damage_is_found_when_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let mut good = index(directory.path());
        good.append(&transaction(101, 105, 103)).unwrap();
        good.append(&transaction(107, 109, 110)).unwrap();
        let content = std::fs::read(good.path()).unwrap();
        let open = |content: &[u8], base_offset| {
            std::fs::write(good.path(), content).unwrap();
            let mut opened = index(directory.path());
            opened.open(base_offset).unwrap();
            !opened.is_damaged()
        };
        assert!(open(&content, 100));
        assert!(!open(&content, 106), "a marker before the segment");
        for cut in (1..content.len()).filter(|cut| *cut != ENTRY_BYTES) {
            assert!(!open(&content[..cut], 100), "cut at {cut}");
        }
        let twice = [&content[..34], &content[..34]].concat();
        assert!(!open(&twice, 100), "markers that do not rise");
        assert!(!open(&[0; 34], 0), "zeros");
        assert!(!open(&[0xff; 68], 100), "rubbish");
    }
}
