//! From an offset to a place in the segment: `.index`, eight bytes an entry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Entry, IndexFile, read_u32};
use crate::file_system::{FileSystem, StorageError};

/// A batch that ends with `offset`, or lies after it, begins at or after `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetPosition {
    /// The last offset of the batch at `position`.
    pub offset: i64,
    /// Bytes from the start of the segment file.
    pub position: u32,
}

/// As on disk: the offset relative to the segment's base offset, and the position, four bytes each.
#[derive(Debug, Clone, Copy)]
struct RelativeEntry {
    relative_offset: u32,
    position: u32,
}

impl RelativeEntry {
    fn absolute(self, base_offset: i64) -> OffsetPosition {
        OffsetPosition {
            offset: base_offset.saturating_add(i64::from(self.relative_offset)),
            position: self.position,
        }
    }
}

impl Entry for RelativeEntry {
    const SIZE: usize = 8;

    fn read(bytes: &[u8]) -> Self {
        Self {
            relative_offset: read_u32(bytes, 0),
            position: read_u32(bytes, 4),
        }
    }

    fn write(self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..].copy_from_slice(&self.position.to_be_bytes());
    }

    fn follows(self, previous: Self) -> bool {
        self.relative_offset > previous.relative_offset && self.position > previous.position
    }
}

/// The entries in the bytes of the index of the segment at `base_offset`.
pub(crate) fn offset_entries(
    base_offset: i64,
    bytes: &[u8],
) -> impl Iterator<Item = OffsetPosition> {
    let entries = bytes.chunks_exact(RelativeEntry::SIZE);
    entries.map(move |entry| RelativeEntry::read(entry).absolute(base_offset))
}

/// The offset index of one segment.
#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base_offset: i64,
    file: IndexFile<RelativeEntry>,
}

impl OffsetIndex {
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

    /// Opens the index of a segment of `log_size` bytes; `None` if it must be rebuilt.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        base_offset: i64,
        max_bytes: u32,
        log_size: u64,
    ) -> Result<Option<Self>, StorageError> {
        // The first entry comes after the first batch, so no true position is zero.
        let plausible = |last: RelativeEntry| {
            last.position > 0
                && u64::from(last.position) < log_size
                && last.relative_offset <= i32::MAX as u32
        };
        let file = IndexFile::open(fs, path, max_bytes, plausible)?;
        Ok(file.map(|file| Self { base_offset, file }))
    }

    fn absolute(&self, entry: RelativeEntry) -> OffsetPosition {
        entry.absolute(self.base_offset)
    }

    /// The last entry whose offset is not above `offset`; the start of the segment if there is none.
    pub(crate) fn lookup(&self, offset: i64) -> Result<OffsetPosition, StorageError> {
        let later = self
            .file
            .partition_point(|entry| self.absolute(entry).offset <= offset)?;
        let entry = later
            .checked_sub(1)
            .map_or(Ok(None), |index| self.file.get(index))?;
        Ok(entry.map_or(
            OffsetPosition {
                offset: self.base_offset,
                position: 0,
            },
            |entry| self.absolute(entry),
        ))
    }

    /// The first entry whose batch begins at `position` or after it.
    pub(crate) fn first_from(&self, position: u64) -> Result<Option<OffsetPosition>, StorageError> {
        let first = self
            .file
            .partition_point(|entry| u64::from(entry.position) < position)?;
        Ok(self.file.get(first)?.map(|entry| self.absolute(entry)))
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Result<Option<OffsetPosition>, StorageError> {
        Ok(self.file.last()?.map(|entry| self.absolute(entry)))
    }

    /// Adds that the batch at `position` ends with `offset`. One that does not rise, or does not fit, is left out: a
    /// sparser index is as right.
    pub(crate) fn append(&mut self, offset: i64, position: u64) -> Result<(), StorageError> {
        let relative_offset = offset
            .checked_sub(self.base_offset)
            .and_then(|delta| i32::try_from(delta).ok());
        let (Some(relative_offset), Ok(position)) = (relative_offset, i32::try_from(position))
        else {
            return Ok(());
        };
        if relative_offset < 0 || self.file.is_full() {
            return Ok(());
        }
        let entry = RelativeEntry {
            relative_offset: relative_offset as u32,
            position: position as u32,
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

    /// No further entry fits, so the segment must be rolled.
    pub(crate) fn is_full(&self) -> bool {
        self.file.is_full()
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

    fn fs() -> Arc<dyn FileSystem> {
        Arc::new(StdFileSystem)
    }

    fn filled(path: PathBuf, max_bytes: u32) -> OffsetIndex {
        let mut index = OffsetIndex::create(fs(), path, BASE, max_bytes).unwrap();
        for step in 1..=4 {
            index.append(BASE + step * 10, step as u64 * 100).unwrap();
        }
        index
    }

    #[test]
    fn finds_the_last_entry_not_above_an_offset() {
        let directory = tempfile::tempdir().unwrap();
        let index = filled(directory.path().join("index"), 4096);
        let at = |offset| index.lookup(offset).unwrap();
        assert_eq!(
            at(BASE),
            OffsetPosition {
                offset: BASE,
                position: 0
            }
        );
        assert_eq!(
            at(BASE + 9),
            OffsetPosition {
                offset: BASE,
                position: 0
            }
        );
        assert_eq!(
            at(BASE + 10),
            OffsetPosition {
                offset: BASE + 10,
                position: 100
            }
        );
        assert_eq!(
            at(BASE + 39),
            OffsetPosition {
                offset: BASE + 30,
                position: 300
            }
        );
        assert_eq!(
            at(i64::MAX),
            OffsetPosition {
                offset: BASE + 40,
                position: 400
            }
        );
    }

    #[test]
    fn is_preallocated_then_trimmed_and_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let mut index = filled(path.clone(), 4099);
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            4096,
            "rounded down to whole entries"
        );
        index.trim().unwrap();
        let expected: Vec<u8> = [10, 100, 20, 200, 30, 300, 40, 400]
            .iter()
            .flat_map(|number: &u32| number.to_be_bytes())
            .collect();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        let mut index = OffsetIndex::open(fs(), path, BASE, 4096, 1000)
            .unwrap()
            .expect("intact");
        assert_eq!(
            index.last().unwrap(),
            Some(OffsetPosition {
                offset: BASE + 40,
                position: 400
            })
        );
        index.append(BASE + 50, 500).unwrap();
        assert_eq!(index.lookup(BASE + 50).unwrap().position, 500);
        assert_eq!(index.lookup(BASE + 45).unwrap().position, 400);
    }

    #[test]
    fn bug_kafka_6492_an_index_truncated_to_nothing_takes_entries_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let mut index = filled(path.clone(), 4096);
        index.trim().unwrap();
        index.truncate_to(BASE).unwrap();
        assert_eq!(index.last().unwrap(), None);
        index.append(BASE + 7, 70).unwrap();
        assert_eq!(
            index.lookup(BASE + 8).unwrap(),
            OffsetPosition {
                offset: BASE + 7,
                position: 70
            }
        );
        index.trim().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8);
    }

    #[test]
    fn a_full_index_says_so_and_takes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = filled(directory.path().join("index"), 32);
        assert!(index.is_full());
        index.append(BASE + 50, 500).unwrap();
        assert_eq!(index.last().unwrap().unwrap().position, 400);
    }

    #[test]
    fn what_does_not_rise_or_fit_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = filled(directory.path().join("index"), 4096);
        for (offset, position) in [
            (BASE + 40, 500),
            (BASE + 50, 400),
            (BASE - 1, 500),
            (BASE + (1 << 31), 500),
            (BASE + 50, 1 << 31),
        ] {
            index.append(offset, position).unwrap();
            assert_eq!(
                index.last().unwrap().unwrap().position,
                400,
                "{offset} {position}"
            );
        }
    }

    #[test]
    fn rubbish_is_to_be_rebuilt_or_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let open = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            OffsetIndex::open(fs(), path.clone(), BASE, 4096, 1000).unwrap()
        };
        assert!(open(&[1; 7]).is_none(), "no whole entries");
        assert!(open(&[0; 16]).is_none(), "zeros");
        assert!(open(&[0xff; 16]).is_none(), "beyond the segment");
        let mut good_end = [0xaa; 24];
        good_end[16..].copy_from_slice(&[0, 0, 0, 40, 0, 0, 1, 0]);
        let index = open(&good_end).expect("only the last entry is looked at");
        assert_eq!(
            index.lookup(BASE + 40).unwrap().position,
            0,
            "but the others do not rise"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            OffsetIndex::open(fs(), path.clone(), BASE, 4096, 1000)
                .unwrap()
                .is_none(),
            "missing"
        );
    }
}
