//! One piece of a log: a file of record batches, and its two indexes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use kafka_wire::record_batch::{self, BatchHeader, NO_TIMESTAMP};

use crate::batch_scanner::{BatchScanner, Depth, PlacedBatch};
use crate::cleaner::source::ClosedSegment;
use crate::config::LogConfig;
use crate::deletions::Deletions;
use crate::error::LogError;
use crate::file_names::{
    self, LOG, OFFSET_INDEX, PRODUCER_SNAPSHOT, TIME_INDEX, TRANSACTION_INDEX,
};
use crate::file_system::{Attempt, FileSystem, LogFile, StorageError, remove_if_there};
use crate::index::{OffsetIndex, TimeIndex, TimestampOffset};
use crate::producer::ProducerMarker;
use crate::segment_file::SegmentFile;
use crate::transaction_index::TransactionIndex;

/// A control batch holds one small record; in a larger one no marker is looked for.
const MAX_CONTROL_BATCH_BYTES: usize = 4096;

/// A batch within the bytes of one append.
#[derive(Debug, Clone)]
pub(crate) struct AppendedBatch {
    /// Where it begins in those bytes.
    pub(crate) start: usize,
    /// Its header as it will be stored.
    pub(crate) header: BatchHeader,
}

/// What [`LogSegment::verify`] or [`LogSegment::rebuild_indexes`] found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// One after the last offset of the segment.
    pub(crate) next_offset: i64,
    /// What was wrong with the first byte that is not part of an intact batch, if there is one.
    pub(crate) damage: Option<String>,
    /// The leader epoch of the last batch that names one; otherwise the one handed in.
    pub(crate) leader_epoch: i32,
}

fn no_timestamp(base_offset: i64) -> TimestampOffset {
    TimestampOffset {
        timestamp: NO_TIMESTAMP,
        offset: base_offset,
    }
}

/// A segment. Its fields change only where a call that changes its files has succeeded.
#[derive(Debug)]
pub(crate) struct LogSegment {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    base_offset: i64,
    /// No other segment has it.
    identity: Arc<()>,
    file: SegmentFile,
    size: u64,
    /// The file is longer than `size`, as `preallocate` asks.
    preallocated: bool,
    offset_index: OffsetIndex,
    time_index: TimeIndex,
    transaction_index: TransactionIndex,
    bytes_since_last_index_entry: u64,
    /// Unknown until somebody asks, for a segment that was opened.
    max_timestamp: OnceLock<TimestampOffset>,
    first_batch_timestamp: Option<i64>,
    created_ms: i64,
    jitter_ms: i64,
}

impl LogSegment {
    /// Makes a new, empty segment. Whatever files have its name are replaced.
    pub(crate) fn create(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let path = file_names::segment_file(directory, base_offset, LOG);
        // A file of its own, so that after a power cut it is the old one or the new one, and no mixture.
        remove_if_there(&**fs, &path)?;
        // The log file comes last: the indexes alone are no segment, so that one whose files cannot all be opened is none.
        let (offset_index, time_index) = Self::create_indexes(fs, directory, base_offset, config)?;
        let mut file = SegmentFile::create(fs.clone(), path)?;
        if config.preallocate {
            let size = u64::from(config.segment_bytes);
            let preallocated = file.hold()?.set_size(size);
            preallocated.attempt("preallocate", file.path())?;
        }
        let mut segment = Self::assemble(
            fs,
            directory,
            base_offset,
            (file, 0),
            (offset_index, time_index),
            config,
            now_ms,
        );
        segment.preallocated = config.preallocate;
        segment.transaction_index.clear()?;
        Ok(segment)
    }

    /// Opens a segment that is there. True beside it if its indexes must be rebuilt.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<(Self, bool), StorageError> {
        let path = file_names::segment_file(directory, base_offset, LOG);
        let file = SegmentFile::new(fs.clone(), path);
        let size = file.get()?.size();
        let size = size.attempt("read the size of", file.path())?;
        let max_bytes = config.segment_index_bytes;
        let index_path = |extension| file_names::segment_file(directory, base_offset, extension);
        let offset_index = OffsetIndex::open(
            fs.clone(),
            index_path(OFFSET_INDEX),
            base_offset,
            max_bytes,
            size,
        )?;
        let time_index =
            TimeIndex::open(fs.clone(), index_path(TIME_INDEX), base_offset, max_bytes)?;
        let (indexes, damaged) = match (offset_index, time_index) {
            (Some(offset_index), Some(time_index)) => ((offset_index, time_index), false),
            _ => (
                Self::create_indexes(fs, directory, base_offset, config)?,
                true,
            ),
        };
        let mut segment = Self::assemble(
            fs,
            directory,
            base_offset,
            (file, size),
            indexes,
            config,
            now_ms,
        );
        segment.transaction_index.open(base_offset)?;
        Ok((segment, damaged))
    }

    fn create_indexes(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        base_offset: i64,
        config: &LogConfig,
    ) -> Result<(OffsetIndex, TimeIndex), StorageError> {
        let path = |extension| file_names::segment_file(directory, base_offset, extension);
        let max_bytes = config.segment_index_bytes;
        let offset_index =
            OffsetIndex::create(fs.clone(), path(OFFSET_INDEX), base_offset, max_bytes)?;
        let time_index = TimeIndex::create(fs.clone(), path(TIME_INDEX), base_offset, max_bytes)?;
        Ok((offset_index, time_index))
    }

    fn assemble(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        base_offset: i64,
        (file, size): (SegmentFile, u64),
        (offset_index, time_index): (OffsetIndex, TimeIndex),
        config: &LogConfig,
        now_ms: i64,
    ) -> Self {
        let max_jitter_ms = config.segment_jitter_ms.clamp(0, config.segment_ms.max(0)) as u64;
        let jitter_ms = if max_jitter_ms == 0 {
            0
        } else {
            (file_names::random() % max_jitter_ms) as i64
        };
        Self {
            fs: fs.clone(),
            directory: directory.to_owned(),
            base_offset,
            identity: Arc::default(),
            file,
            size,
            preallocated: false,
            offset_index,
            time_index,
            transaction_index: TransactionIndex::new(
                fs.clone(),
                file_names::segment_file(directory, base_offset, TRANSACTION_INDEX),
            ),
            bytes_since_last_index_entry: 0,
            max_timestamp: OnceLock::new(),
            first_batch_timestamp: None,
            created_ms: now_ms,
            jitter_ms,
        }
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Bytes of record batches.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The segment for who reads it without the lock of its log. Nobody appends to it any more.
    pub(crate) fn closed(&self) -> ClosedSegment {
        ClosedSegment {
            base_offset: self.base_offset,
            path: self.file.path().to_owned(),
            identity: self.identity.clone(),
            bytes: self.size,
            offset_index_bytes: self.offset_index.bytes(),
            time_index_bytes: self.time_index.bytes(),
        }
    }

    /// Whether it is the one that `closed` was had of, and not another one of that name.
    pub(crate) fn is(&self, closed: &ClosedSegment) -> bool {
        Arc::ptr_eq(&self.identity, &closed.identity)
    }

    /// The file, to read it.
    pub(crate) fn file(&self) -> Result<Arc<dyn LogFile>, StorageError> {
        self.file.get()
    }

    /// The file, if something was written to it that is not synced.
    pub(crate) fn unsynced_file(&self) -> Option<Arc<dyn LogFile>> {
        self.file.held().cloned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// All that was written to the file is synced, and it will not be appended to.
    pub(crate) fn synced(&mut self) {
        self.file.synced();
    }

    /// The transactions that were aborted here.
    pub(crate) fn transaction_index(&self) -> &TransactionIndex {
        &self.transaction_index
    }

    pub(crate) fn transaction_index_mut(&mut self) -> &mut TransactionIndex {
        &mut self.transaction_index
    }

    /// The marker in a control batch of this segment, if there is one.
    pub(crate) fn marker(&self, batch: &PlacedBatch) -> Result<Option<ProducerMarker>, LogError> {
        marker(&*self.file.get()?, self.file.path(), batch)
    }

    /// No batch that begins before `position` holds this offset or a later one, as far as the index tells.
    pub(crate) fn upper_bound_at(&self, position: u64) -> Result<Option<i64>, LogError> {
        let entry = self.offset_index.first_from(position)?;
        Ok(entry.map(|entry| entry.offset))
    }

    /// The largest timestamp, and the last offset of the batch that holds it; -1 if no record has one.
    pub(crate) fn max_timestamp(&self) -> Result<TimestampOffset, LogError> {
        if let Some(known) = self.max_timestamp.get() {
            return Ok(*known);
        }
        let max = match self.time_index.last()? {
            Some(last) if self.believe(last)?.is_some() => last,
            _ => self.scan_max_timestamp(0)?,
        };
        Ok(*self.max_timestamp.get_or_init(|| max))
    }

    /// When the youngest record was written: the largest timestamp, or where none has one, or none can be read, when the
    /// file was changed last.
    pub(crate) fn youngest_ms(&self) -> Result<i64, LogError> {
        match self.max_timestamp() {
            Ok(TimestampOffset {
                timestamp: timestamp @ 0..,
                ..
            }) => Ok(timestamp),
            Err(error) if !error.is_of_the_content() => Err(error),
            _ => {
                let modified_ms = self.file.get()?.modified_ms();
                Ok(modified_ms.attempt("read the time of", self.file.path())?)
            }
        }
    }

    /// The largest timestamp as far as it is known: what cannot be read any more is no reason not to append.
    fn known_max_timestamp(&self) -> Result<TimestampOffset, LogError> {
        match self.max_timestamp() {
            Err(error) if error.is_of_the_content() => {
                let indexed = self.time_index.last()?;
                Ok(indexed.unwrap_or(no_timestamp(self.base_offset)))
            }
            result => result,
        }
    }

    /// The batch that an entry of the time index stands for, if there is such a one.
    fn believe(&self, entry: TimestampOffset) -> Result<Option<PlacedBatch>, LogError> {
        let batch = self.find(entry.offset)?;
        Ok(batch.filter(|batch| batch.header.max_timestamp == entry.timestamp))
    }

    /// The largest timestamp from `position` on.
    fn scan_max_timestamp(&self, position: u64) -> Result<TimestampOffset, LogError> {
        let mut max = no_timestamp(self.base_offset);
        let mut scanner = self.scan(position, Depth::Headers)?;
        while let Some(batch) = scanner.next()? {
            max.raise(&batch.header);
        }
        Ok(max)
    }

    /// Whether a new segment must begin before `incoming` bytes, up to `last_offset` and stamped up to `max_timestamp`,
    /// are appended.
    pub(crate) fn must_roll(
        &mut self,
        config: &LogConfig,
        incoming: u64,
        last_offset: i64,
        max_timestamp: i64,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let offset_too_far = last_offset.saturating_sub(self.base_offset) > i64::from(i32::MAX);
        if self.size == 0 {
            return Ok(offset_too_far);
        }
        if offset_too_far
            || self.size.saturating_add(incoming) > u64::from(config.segment_bytes)
            || self.offset_index.is_full()
            || self.time_index.is_full()
        {
            return Ok(true);
        }
        // Time is counted in the records' own timestamps where they have any.
        let waited_ms = match self.first_batch_timestamp()? {
            first if first >= 0 => max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.created_ms),
        };
        Ok(waited_ms > config.roll_ms().saturating_sub(self.jitter_ms))
    }

    /// The largest timestamp of the first batch; -1 if it has none, cannot be read, or there is none.
    pub(crate) fn first_batch_timestamp(&mut self) -> Result<i64, LogError> {
        if let Some(known) = self.first_batch_timestamp {
            return Ok(known);
        }
        let first = match self.scan(0, Depth::Headers)?.next() {
            Err(error) if error.is_of_the_content() => None,
            first => first?,
        };
        let timestamp = first.map_or(NO_TIMESTAMP, |batch| batch.header.max_timestamp);
        self.first_batch_timestamp = Some(timestamp);
        Ok(timestamp)
    }

    /// Appends whole batches with one write. After an error the segment answers as before, but must not be written to
    /// again: nobody knows what its file holds beyond its size.
    pub(crate) fn append(
        &mut self,
        bytes: &[u8],
        batches: &[AppendedBatch],
        index_interval_bytes: u32,
    ) -> Result<(), LogError> {
        let mut max_timestamp = self.known_max_timestamp()?;
        let written = self.file.hold()?.write_all_at(bytes, self.size);
        written.attempt("write to", self.file.path())?;
        let mut since_last_entry = self.bytes_since_last_index_entry;
        for AppendedBatch { start, header } in batches {
            let position = self.size + *start as u64;
            self.index_batch(
                position,
                header,
                &mut max_timestamp,
                &mut since_last_entry,
                index_interval_bytes,
            )?;
        }
        if self.size == 0 {
            self.first_batch_timestamp = batches.first().map(|batch| batch.header.max_timestamp);
        }
        self.size += bytes.len() as u64;
        self.max_timestamp = OnceLock::from(max_timestamp);
        self.bytes_since_last_index_entry = since_last_entry;
        Ok(())
    }

    #[inline]
    fn index_batch(
        &mut self,
        position: u64,
        header: &BatchHeader,
        max_timestamp: &mut TimestampOffset,
        since_last_entry: &mut u64,
        index_interval_bytes: u32,
    ) -> Result<(), StorageError> {
        let last_offset = header.last_offset();
        max_timestamp.raise(header);
        if *since_last_entry > u64::from(index_interval_bytes) {
            self.offset_index.append(last_offset, position)?;
            // The last place is for the entry that closes the segment.
            if !self.time_index.is_full() {
                self.time_index.append(*max_timestamp)?;
            }
            *since_last_entry = 0;
        }
        *since_last_entry += header.size() as u64;
        Ok(())
    }

    /// The batches from `position` on.
    pub(crate) fn scan(
        &self,
        position: u64,
        depth: Depth,
    ) -> Result<BatchScanner<'_>, StorageError> {
        let (file, path) = (self.file.get()?, self.file.path());
        Ok(BatchScanner::new(file, path, position, self.size, depth))
    }

    /// The first batch whose last offset is not below `offset`; `None` if the segment ends before it.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<PlacedBatch>, LogError> {
        let indexed = self.offset_index.lookup(offset)?.position;
        if indexed > 0 {
            // An index that lies leads to no batch, or to one beyond the offset; then it is of no use.
            let mut from_index = self.scan(u64::from(indexed), Depth::Headers)?;
            match from_index.next() {
                Ok(Some(batch))
                    if self.base_offset <= batch.header.base_offset
                        && batch.header.base_offset <= offset =>
                {
                    return Self::find_in(batch, from_index, offset);
                }
                Ok(_) | Err(LogError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            let index = self.offset_index.path().display();
            tracing::warn!(%index, "the index is damaged: its entry for offset {offset} leads to no such batch");
        }
        let mut from_start = self.scan(0, Depth::Headers)?;
        match from_start.next()? {
            Some(batch) => Self::find_in(batch, from_start, offset),
            None => Ok(None),
        }
    }

    fn find_in(
        mut batch: PlacedBatch,
        mut rest: BatchScanner<'_>,
        offset: i64,
    ) -> Result<Option<PlacedBatch>, LogError> {
        while batch.header.last_offset() < offset {
            match rest.next()? {
                Some(next) => batch = next,
                None => return Ok(None),
            }
        }
        Ok(Some(batch))
    }

    /// The first place from which a batch with a timestamp of at least `timestamp` can stand.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> Result<Option<PlacedBatch>, LogError> {
        if let Some(entry) = self.time_index.lookup(timestamp)?
            && let Some(batch) = self.believe(entry)?
        {
            return Ok(Some(batch));
        }
        self.scan(0, Depth::Headers)?.next()
    }

    /// One after the last offset, found by walking from the last index entry. A batch that is cut short, or bytes that
    /// are no batch, are an error.
    pub(crate) fn next_offset(&self) -> Result<i64, LogError> {
        let last = self.offset_index.last()?;
        let mut next_offset = self.base_offset;
        let mut scanner = self.scan(
            last.map_or(0, |entry| u64::from(entry.position)),
            Depth::Headers,
        )?;
        while let Some(batch) = scanner.next()? {
            self.check_offsets(&batch, next_offset)?;
            next_offset = batch.header.next_offset();
        }
        Ok(next_offset)
    }

    #[inline]
    fn check_offsets(&self, batch: &PlacedBatch, next_offset: i64) -> Result<(), LogError> {
        let (first, last) = (batch.header.base_offset, batch.header.last_offset());
        let too_far = self.base_offset.saturating_add(i64::from(i32::MAX));
        if first < next_offset || last > too_far {
            let cause =
                format!("offsets {first} to {last} where {next_offset} to {too_far} may come");
            return Err(self.damaged(batch, cause));
        }
        Ok(())
    }

    #[inline]
    fn check_continued(&self, batch: &PlacedBatch, next_offset: i64) -> Result<(), LogError> {
        let first = batch.header.base_offset;
        if first != next_offset {
            let cause = format!("offset {first} where {next_offset} comes next");
            return Err(self.damaged(batch, cause));
        }
        Ok(())
    }

    #[inline]
    fn check_leader_epoch(&self, batch: &PlacedBatch, leader_epoch: i32) -> Result<(), LogError> {
        let found = batch.header.partition_leader_epoch;
        if (0..leader_epoch).contains(&found) {
            let cause = format!("leader epoch {found} after {leader_epoch}");
            return Err(self.damaged(batch, cause));
        }
        Ok(())
    }

    #[cold]
    fn damaged(&self, batch: &PlacedBatch, cause: String) -> LogError {
        LogError::Damaged {
            path: self.file.path().to_owned(),
            position: batch.position,
            cause,
        }
    }

    /// Rebuilds both indexes from the batches of a segment that is taken on trust.
    pub(crate) fn rebuild_indexes(&mut self, config: &LogConfig) -> Result<Recovered, LogError> {
        self.recover(Depth::Headers, config, true, -1, |_| Ok(()))
    }

    /// Rebuilds both indexes of a segment that nobody appends to, and has them on the disk when it returns.
    pub(crate) fn rebuild_closed_indexes(&mut self, config: &LogConfig) -> Result<(), LogError> {
        self.rebuild_indexes(config)?;
        self.close()?;
        Ok(self.sync_indexes()?)
    }

    /// Verifies every byte, cuts the file at the first that is not part of an intact batch, and rebuilds both indexes. An
    /// offset that is missing is damage, unless there may be `gaps`. A batch whose leader epoch is below that of an earlier
    /// one, or below `leader_epoch`, is a remnant of another history; base offset and epoch are not under the checksum.
    pub(crate) fn verify(
        &mut self,
        config: &LogConfig,
        gaps: bool,
        leader_epoch: i32,
        see: impl FnMut(&PlacedBatch) -> Result<(), LogError>,
    ) -> Result<Recovered, LogError> {
        self.recover(Depth::Checksums, config, gaps, leader_epoch, see)
    }

    fn recover(
        &mut self,
        depth: Depth,
        config: &LogConfig,
        gaps: bool,
        mut leader_epoch: i32,
        mut see: impl FnMut(&PlacedBatch) -> Result<(), LogError>,
    ) -> Result<Recovered, LogError> {
        self.offset_index.clear()?;
        self.time_index.clear()?;
        let mut max_timestamp = no_timestamp(self.base_offset);
        let mut since_last_entry = 0;
        let mut next_offset = self.base_offset;
        let mut valid_size = 0;
        let (file, path) = (self.file.get()?, self.file.path().to_owned());
        let mut scanner = BatchScanner::new(file, &path, 0, self.size, depth);
        let damage = loop {
            let mut next = || {
                let Some(batch) = scanner.next()? else {
                    return Ok(None);
                };
                self.check_offsets(&batch, next_offset)?;
                if !gaps {
                    self.check_continued(&batch, next_offset)?;
                }
                self.check_leader_epoch(&batch, leader_epoch)?;
                Ok(Some(batch))
            };
            let batch = match next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break None,
                Err(damage @ LogError::Damaged { .. }) => break Some(damage.to_string()),
                Err(error) => return Err(error),
            };
            let PlacedBatch { position, header } = &batch;
            self.index_batch(
                *position,
                header,
                &mut max_timestamp,
                &mut since_last_entry,
                config.index_interval_bytes,
            )?;
            next_offset = header.next_offset();
            leader_epoch = leader_epoch.max(header.partition_leader_epoch);
            valid_size = batch.end();
            see(&batch)?;
        };
        if depth == Depth::Checksums && valid_size < self.size {
            let cut = self.file.hold()?.set_size(valid_size);
            cut.attempt("cut", &path)?;
            self.size = valid_size;
        }
        self.max_timestamp = OnceLock::from(max_timestamp);
        self.first_batch_timestamp = None;
        self.bytes_since_last_index_entry = since_last_entry;
        Ok(Recovered {
            next_offset,
            damage,
            leader_epoch,
        })
    }

    /// Drops all batches that hold `offset` or come after it. No batch may span it.
    pub(crate) fn truncate_to(&mut self, offset: i64) -> Result<(), LogError> {
        let Some(PlacedBatch { position: size, .. }) = self.find(offset)? else {
            return Ok(());
        };
        self.offset_index.truncate_to(offset)?;
        self.time_index.truncate_to(offset)?;
        self.transaction_index.truncate_to(offset)?;
        let cut = self.file.hold()?.set_size(size);
        cut.attempt("cut", self.file.path())?;
        self.preallocated = false;
        self.size = size;
        self.first_batch_timestamp = self.first_batch_timestamp.filter(|_| size > 0);
        // The largest timestamp may have been in what was cut: of what is left only the indexed part is known.
        let believed = match self.time_index.last()? {
            Some(last) => self.believe(last)?.map(|batch| (last, batch.position)),
            None => None,
        };
        let (indexed, position) = believed.unwrap_or((no_timestamp(self.base_offset), 0));
        let rest = match self.scan_max_timestamp(position) {
            Err(error) if error.is_of_the_content() => indexed,
            rest => rest?,
        };
        let max = if rest.timestamp > indexed.timestamp {
            rest
        } else {
            indexed
        };
        self.max_timestamp = OnceLock::from(max);
        Ok(())
    }

    /// Makes the segment as a closed one is: the largest timestamp in the time index, all files cut to what they hold.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        if self.preallocated {
            let trimmed = self.file.hold()?.set_size(self.size);
            trimmed.attempt("trim", self.file.path())?;
            self.preallocated = false;
        }
        let max_timestamp = self.known_max_timestamp()?;
        self.time_index.append(max_timestamp)?;
        self.offset_index.trim()?;
        self.time_index.trim()?;
        Ok(())
    }

    /// The files that hold what it would take long to find again, in the order in which they should reach the disk.
    pub(crate) fn index_paths(&self) -> [PathBuf; 3] {
        [
            self.offset_index.path().to_owned(),
            self.time_index.path().to_owned(),
            self.transaction_index.path().to_owned(),
        ]
    }

    /// Returns once the indexes of a closed segment are on the disk.
    pub(crate) fn sync_indexes(&self) -> Result<(), StorageError> {
        for path in [self.offset_index.path(), self.time_index.path()] {
            let file = self.fs.open(path).attempt("open", path)?;
            file.sync().attempt("sync", path)?;
        }
        Ok(())
    }

    /// Takes the segment out of use: its files get names that end in `.deleted`, the log file first, and go at `due_ms`. The
    /// producer snapshot of its base offset is the log's, not the segment's.
    pub(crate) fn mark_deleted(
        self,
        deletions: &Deletions,
        due_ms: i64,
    ) -> Result<(), StorageError> {
        for extension in [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX] {
            let path = file_names::segment_file(&self.directory, self.base_offset, extension);
            deletions.rename_file(&*self.fs, &path, due_ms)?;
        }
        Ok(())
    }

    /// Unlinks the segment's files. Who still reads the log file keeps it until they are done.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        remove_segment_files(&*self.fs, &self.directory, self.base_offset)
    }
}

/// The marker in a control batch of a segment's file, if there is one.
pub(crate) fn marker(
    file: &dyn LogFile,
    path: &Path,
    batch: &PlacedBatch,
) -> Result<Option<ProducerMarker>, LogError> {
    let size = batch.header.size();
    if size > MAX_CONTROL_BATCH_BYTES {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let read = file
        .read_at(&mut bytes, batch.position)
        .attempt("read", path)?;
    bytes.truncate(read);
    let whole = record_batch::batches(&bytes).next().and_then(Result::ok);
    Ok(whole.and_then(|whole| ProducerMarker::read(&whole)))
}

/// Unlinks all files of a segment. The log file goes first: without it the others are orphans, which the next start
/// removes.
pub(crate) fn remove_segment_files(
    fs: &dyn FileSystem,
    directory: &Path,
    base_offset: i64,
) -> Result<(), StorageError> {
    for extension in [
        LOG,
        OFFSET_INDEX,
        TIME_INDEX,
        TRANSACTION_INDEX,
        PRODUCER_SNAPSHOT,
    ] {
        remove_if_there(
            fs,
            &file_names::segment_file(directory, base_offset, extension),
        )?;
    }
    Ok(())
}
