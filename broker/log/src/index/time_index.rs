//! From a time to an offset: `.timeindex`, twelve bytes an entry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::record_batch::BatchHeader;

use super::{Entry, IndexFile, read_u32};
use crate::file_system::{FileSystem, StorageError};

/// The largest timestamp up to some point of a segment, and the offset that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Milliseconds since 1970; -1 if no record has a timestamp.
    pub timestamp: i64,
    /// The last offset of the batch that holds it.
    pub offset: i64,
}

impl TimestampOffset {
    /// Takes over a batch's timestamp if it is larger.
    pub(crate) fn raise(&mut self, header: &BatchHeader) {
        if header.max_timestamp > self.timestamp {
            *self = Self {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            };
        }
    }
}

/// As on disk: the timestamp, eight bytes, and the offset relative to the segment's base offset, four.
#[derive(Debug, Clone, Copy)]
struct RelativeEntry {
    timestamp: i64,
    relative_offset: u32,
}

impl RelativeEntry {
    fn absolute(self, base_offset: i64) -> TimestampOffset {
        TimestampOffset {
            timestamp: self.timestamp,
            offset: base_offset.saturating_add(i64::from(self.relative_offset)),
        }
    }
}

impl Entry for RelativeEntry {
    const SIZE: usize = 12;

    fn read(bytes: &[u8]) -> Self {
        let timestamp = bytes
            .get(..8)
            .and_then(|eight| eight.try_into().ok())
            .map_or(0, i64::from_be_bytes);
        Self {
            timestamp,
            relative_offset: read_u32(bytes, 8),
        }
    }

    fn write(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn follows(self, previous: Self) -> bool {
        self.timestamp > previous.timestamp && self.relative_offset >= previous.relative_offset
    }
}

/// The entries in the bytes of the index of the segment at `base_offset`.
pub(crate) fn time_entries(
    base_offset: i64,
    bytes: &[u8],
) -> impl Iterator<Item = TimestampOffset> {
    let entries = bytes.chunks_exact(RelativeEntry::SIZE);
    entries.map(move |entry| RelativeEntry::read(entry).absolute(base_offset))
}

/// The time index of one segment.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    base_offset: i64,
    file: IndexFile<RelativeEntry>,
}

impl TimeIndex {
    /// Makes an empty index for a new active segment.
    pub(crate) fn create(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        base_offset: i64,
        max_bytes: u32,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            base_offset,
            file: IndexFile::create(fs, path, max_bytes)?,
        })
    }

    /// Opens the index of a segment; `None` if it must be rebuilt.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        base_offset: i64,
        max_bytes: u32,
    ) -> Result<Option<Self>, StorageError> {
        // Zeros are what a lost write leaves; where they are true, building the index again costs little.
        let plausible =
            |last: RelativeEntry| last.timestamp > 0 && last.relative_offset <= i32::MAX as u32;
        let file = IndexFile::open(fs, path, max_bytes, plausible)?;
        Ok(file.map(|file| Self { base_offset, file }))
    }

    fn absolute(&self, entry: RelativeEntry) -> TimestampOffset {
        entry.absolute(self.base_offset)
    }

    /// The last entry below `timestamp`: up to its offset every timestamp is.
    pub(crate) fn lookup(&self, timestamp: i64) -> Result<Option<TimestampOffset>, StorageError> {
        let later = self
            .file
            .partition_point(|entry| entry.timestamp < timestamp)?;
        let entry = later
            .checked_sub(1)
            .map_or(Ok(None), |index| self.file.get(index))?;
        Ok(entry.map(|entry| self.absolute(entry)))
    }

    /// The last entry: of a closed segment, its largest timestamp.
    pub(crate) fn last(&self) -> Result<Option<TimestampOffset>, StorageError> {
        Ok(self.file.last()?.map(|entry| self.absolute(entry)))
    }

    /// Adds that no timestamp up to `entry.offset` is above `entry.timestamp`. One that does not rise, or does not fit, is
    /// left out.
    pub(crate) fn append(&mut self, entry: TimestampOffset) -> Result<(), StorageError> {
        let relative_offset = entry
            .offset
            .checked_sub(self.base_offset)
            .and_then(|delta| i32::try_from(delta).ok());
        let Some(relative_offset) = relative_offset.filter(|delta| *delta >= 0) else {
            return Ok(());
        };
        if entry.timestamp < 0 || self.file.is_full() {
            return Ok(());
        }
        let entry = RelativeEntry {
            timestamp: entry.timestamp,
            relative_offset: relative_offset as u32,
        };
        if self.file.last()?.is_none_or(|last| entry.follows(last)) {
            self.file.push(entry)?;
        }
        Ok(())
    }

    /// The bytes of its entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.entry_bytes()
    }

    /// Only the entry that closes the segment still fits, so the segment must be rolled.
    pub(crate) fn is_full(&self) -> bool {
        self.file.count + 1 >= self.file.capacity
    }

    /// Drops the entries for `offset` and what follows it.
    pub(crate) fn truncate_to(&mut self, offset: i64) -> Result<(), StorageError> {
        let kept = self
            .file
            .partition_point(|entry| self.absolute(entry).offset < offset)?;
        self.file.truncate(kept)
    }

    /// Drops all entries.
    pub(crate) fn clear(&mut self) -> Result<(), StorageError> {
        self.file.clear()
    }

    /// Cuts the file to its entries.
    pub(crate) fn trim(&mut self) -> Result<(), StorageError> {
        self.file.trim()
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    const BASE: i64 = 1000;

    fn entry(timestamp: i64, delta: i64) -> TimestampOffset {
        TimestampOffset {
            timestamp,
            offset: BASE + delta,
        }
    }

    #[test]
    fn finds_where_a_timestamp_may_begin() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("timeindex");
        let mut index =
            TimeIndex::create(Arc::new(StdFileSystem), path.clone(), BASE, 4096).unwrap();
        for (timestamp, delta) in [(100, 5), (100, 7), (90, 9), (200, 9), (300, 20), (-1, 30)] {
            index.append(entry(timestamp, delta)).unwrap();
        }
        assert_eq!(
            [50, 100, 101, 200, 201, 300, 301].map(|timestamp| index
                .lookup(timestamp)
                .unwrap()
                .map_or(0, |entry| entry.offset - BASE)),
            [0, 0, 5, 5, 9, 9, 20]
        );
        index.trim().unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            36,
            "timestamps that do not grow are left out"
        );
        let mut index = TimeIndex::open(Arc::new(StdFileSystem), path, BASE, 4096)
            .unwrap()
            .expect("intact");
        assert_eq!(index.last().unwrap(), Some(entry(300, 20)));
        index.truncate_to(BASE + 20).unwrap();
        assert_eq!(index.last().unwrap(), Some(entry(200, 9)));
    }

    #[test]
    fn one_place_is_kept_for_the_closing_entry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("timeindex");
        let mut index = TimeIndex::create(Arc::new(StdFileSystem), path, BASE, 36).unwrap();
        index.append(entry(1, 1)).unwrap();
        assert!(!index.is_full());
        index.append(entry(2, 2)).unwrap();
        assert!(index.is_full());
        index.append(entry(3, 3)).unwrap();
        assert_eq!(index.last().unwrap(), Some(entry(3, 3)));
    }

    #[test]
    fn rubbish_is_to_be_rebuilt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("timeindex");
        for content in [&[1; 11][..], &[0xff; 24], &[7; 13]] {
            std::fs::write(&path, content).unwrap();
            assert!(
                TimeIndex::open(Arc::new(StdFileSystem), path.clone(), BASE, 4096)
                    .unwrap()
                    .is_none()
            );
        }
    }
}
