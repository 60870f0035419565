//! What a compaction writes: a segment and its indexes under names that end in `.cleaned`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::record_batch::{NO_TIMESTAMP, batches};

use crate::config::LogConfig;
use crate::file_names::{self, CLEANED, LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX};
use crate::file_system::{Attempt, FileSystem, LogFile, StorageError, remove_if_there};
use crate::index::{OffsetIndex, TimeIndex, TimestampOffset};
use crate::transaction_index::{AbortedTransaction, TransactionIndex};

/// A segment at work.
#[derive(Debug)]
pub(crate) struct CleanedSegment {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    base_offset: i64,
    path: PathBuf,
    file: Arc<dyn LogFile>,
    bytes: u64,
    offset_index: OffsetIndex,
    time_index: TimeIndex,
    max_timestamp: TimestampOffset,
    bytes_since_last_index_entry: u64,
    index_interval_bytes: u64,
}

fn cleaned_file(directory: &Path, base_offset: i64, extension: &str) -> PathBuf {
    file_names::segment_file(directory, base_offset, &format!("{extension}{CLEANED}"))
}

/// Removes what a compaction into the segment left.
pub(crate) fn remove_cleaned(
    fs: &dyn FileSystem,
    directory: &Path,
    base_offset: i64,
) -> Result<(), StorageError> {
    for extension in [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX] {
        remove_if_there(fs, &cleaned_file(directory, base_offset, extension))?;
    }
    Ok(())
}

impl CleanedSegment {
    /// Begins an empty one, in the place of what an earlier attempt may have left.
    pub(crate) fn create(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        base_offset: i64,
        config: &LogConfig,
    ) -> Result<Self, StorageError> {
        remove_cleaned(&**fs, directory, base_offset)?;
        let path = cleaned_file(directory, base_offset, LOG);
        let file = fs.create(&path).attempt("create", &path)?;
        let index_path = |extension| cleaned_file(directory, base_offset, extension);
        let max_bytes = config.segment_index_bytes;
        Ok(Self {
            offset_index: OffsetIndex::create(
                fs.clone(),
                index_path(OFFSET_INDEX),
                base_offset,
                max_bytes,
            )?,
            time_index: TimeIndex::create(
                fs.clone(),
                index_path(TIME_INDEX),
                base_offset,
                max_bytes,
            )?,
            fs: fs.clone(),
            directory: directory.to_owned(),
            base_offset,
            path,
            file,
            bytes: 0,
            max_timestamp: TimestampOffset {
                timestamp: NO_TIMESTAMP,
                offset: base_offset,
            },
            bytes_since_last_index_entry: 0,
            index_interval_bytes: u64::from(config.index_interval_bytes),
        })
    }

    /// How many bytes of batches it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends whole batches, which this crate has made or checked.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all_at(bytes, self.bytes)
            .attempt("write to", &self.path)?;
        let mut position = self.bytes;
        for header in batches(bytes).flatten().map(|batch| batch.header) {
            self.max_timestamp.raise(&header);
            if self.bytes_since_last_index_entry > self.index_interval_bytes {
                self.offset_index.append(header.last_offset(), position)?;
                // The last place is for the entry that closes the segment.
                if !self.time_index.is_full() {
                    self.time_index.append(self.max_timestamp)?;
                }
                self.bytes_since_last_index_entry = 0;
            }
            self.bytes_since_last_index_entry += header.size() as u64;
            position += header.size() as u64;
        }
        self.bytes = position;
        Ok(())
    }

    /// Brings all files to their final form and to the disk. `modified_ms` becomes the log file's time, since retention of
    /// records without timestamps counts from there.
    pub(crate) fn finish(
        mut self,
        aborted: &[AbortedTransaction],
        modified_ms: i64,
    ) -> Result<(), StorageError> {
        self.time_index.append(self.max_timestamp)?;
        self.offset_index.trim()?;
        self.time_index.trim()?;
        let path = cleaned_file(&self.directory, self.base_offset, TRANSACTION_INDEX);
        let mut transaction_index = TransactionIndex::new(self.fs.clone(), path);
        for transaction in aborted {
            transaction_index.append(transaction)?;
        }
        let transaction_index = (!aborted.is_empty()).then_some(transaction_index.path());
        let indexes = [self.offset_index.path(), self.time_index.path()];
        for index in indexes.into_iter().chain(transaction_index) {
            let file = self.fs.open(index).attempt("open", index)?;
            file.sync().attempt("sync", index)?;
        }
        self.file
            .set_modified_ms(modified_ms)
            .attempt("set the time of", &self.path)?;
        self.file.sync().attempt("sync", &self.path)
    }
}
