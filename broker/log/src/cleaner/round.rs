//! One compaction of one log: read what is dirty, then write what is left.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use kafka_wire::record_batch::{Batch, EndTransactionMarker, batches};

use super::filter::{Filter, FilterError, LastRecord, RecordCounts, RoundRules};
use super::offset_map::{KEYS_AT_ONCE, KeyHash, OffsetMap};
use super::output::{self, CleanedSegment};
use super::plan::Dirtiness;
use super::source::{ClosedSegment, MIN_BUFFER_BYTES, SegmentReader};
use super::transactions::CleanedTransactions;
use super::{CleanError, Pace};
use crate::batch_scanner::MAX_DECOMPRESSED_BYTES;
use crate::config::LogConfig;
use crate::file_system::FileSystem;
use crate::transaction_index::AbortedTransaction;

/// What one thread needs for its compactions.
#[derive(Debug)]
pub struct CleanerBuffers {
    pub(crate) map: OffsetMap,
    input: Vec<u8>,
    output: Vec<u8>,
    io_buffer_bytes: usize,
}

impl CleanerBuffers {
    /// A thread's share of `log.cleaner.dedupe.buffer.size`, which it fills up to `log.cleaner.io.buffer.load.factor`, and of
    /// `log.cleaner.io.buffer.size`, half of it to read and half to write. Memory is taken when it is first needed.
    pub fn new(dedupe_buffer_bytes: u64, load_factor: f64, io_buffer_bytes: usize) -> Self {
        Self {
            map: OffsetMap::new(dedupe_buffer_bytes, load_factor),
            input: Vec::new(),
            output: Vec::new(),
            io_buffer_bytes: (io_buffer_bytes / 2).max(MIN_BUFFER_BYTES),
        }
    }

    /// The buffer to read with as large as it should be: a large batch may have made it grow.
    fn begin_segment(&mut self) {
        if self.input.len() != self.io_buffer_bytes {
            self.input = vec![0; self.io_buffer_bytes];
            self.output = Vec::with_capacity(self.io_buffer_bytes);
        }
    }
}

/// All that was taken from the log, under its lock, when the round began.
#[derive(Debug)]
pub(crate) struct RoundInput {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) directory: PathBuf,
    pub(crate) config: LogConfig,
    pub(crate) dirtiness: Dirtiness,
    /// All segments below the uncleanable offset, by rising base offset.
    pub(crate) segments: Vec<ClosedSegment>,
    /// Where in the first dirty segment the first dirty batch stands.
    pub(crate) dirty_position: u64,
    /// All aborted transactions that reach into the segments.
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) active_producers: HashMap<i64, LastRecord>,
    /// What the log had counted: a round is void if it has counted on.
    pub(crate) truncations: u64,
}

/// What was read and written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CleaningStats {
    /// The dirty part began here.
    pub first_dirty_offset: i64,
    /// The dirty part begins here now.
    pub next_dirty_offset: i64,
    /// Bytes read to find the last record of each key.
    pub index_bytes_read: u64,
    /// Bytes of the segments that were compacted.
    pub bytes_read: u64,
    /// Bytes that are left of them.
    pub bytes_written: u64,
    /// Records in those segments.
    pub records_read: u64,
    /// Records that are left.
    pub records_written: u64,
    /// Records that had no key, and went.
    pub keyless_records: u64,
    /// How much of the dedupe buffer was in use, from 0 to 1.
    pub buffer_utilization: f64,
}

impl CleaningStats {
    pub(crate) fn count(&mut self, records: RecordCounts) {
        self.records_read += records.read;
        self.records_written += records.kept;
        self.keyless_records += records.keyless;
    }
}

fn go_on(pace: &mut dyn Pace, bytes: usize) -> Result<(), CleanError> {
    match pace.advance(bytes as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CleanError::Stopped),
    }
}

/// Calls `each` with the batches of a piece, all of them intact, and where each stands.
fn for_each_batch(
    segment: &ClosedSegment,
    mut position: u64,
    piece: &[u8],
    mut each: impl FnMut(&Batch<'_>, u64) -> Result<ControlFlow<()>, CleanError>,
) -> Result<ControlFlow<()>, CleanError> {
    for batch in batches(piece) {
        let batch = batch.map_err(|error| segment.damaged(position, error))?;
        // A damaged key would take another's place, and a batch made of damaged records would bear a right checksum.
        batch
            .verify_crc()
            .map_err(|error| segment.damaged(position, error))?;
        if each(&batch, position)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        position += batch.bytes.len() as u64;
    }
    Ok(ControlFlow::Continue(()))
}

impl RoundInput {
    /// Reads the dirty part and notes the last offset of each key, until the map is full. From where on the log is dirty
    /// after the round.
    pub(crate) fn build_map(
        &self,
        buffers: &mut CleanerBuffers,
        stats: &mut CleaningStats,
        pace: &mut dyn Pace,
    ) -> Result<i64, CleanError> {
        let Dirtiness {
            first_dirty_offset,
            uncleanable_offset,
            ..
        } = self.dirtiness;
        stats.first_dirty_offset = first_dirty_offset;
        buffers
            .map
            .begin(uncleanable_offset.saturating_sub(first_dirty_offset).max(0) as u64);
        let mut transactions = CleanedTransactions::new(self.aborted.clone());
        let mut keys = Vec::with_capacity(KEYS_AT_ONCE);
        let first = self
            .segments
            .partition_point(|segment| segment.base_offset <= first_dirty_offset)
            .saturating_sub(1);
        let dirty = self.segments.get(first..).unwrap_or_default();
        for (index, segment) in dirty.iter().enumerate() {
            buffers.begin_segment();
            let from = if index == 0 { self.dirty_position } else { 0 };
            let mut reader = self.read(segment, from)?;
            loop {
                let CleanerBuffers { map, input, .. } = &mut *buffers;
                let position = reader.position();
                let Some(piece) = reader.next_piece(input)? else {
                    break;
                };
                go_on(pace, piece.len())?;
                stats.index_bytes_read += piece.len() as u64;
                let full = for_each_batch(segment, position, piece, |batch, position| {
                    note_keys(batch, map, &mut keys, &mut transactions, first_dirty_offset)
                        .map_err(|error| segment.damaged(position, error).into())
                })?;
                if full.is_break() {
                    return self.end_of_round(buffers, stats);
                }
            }
            // Offsets may be missing at the end of a segment.
            let end = dirty
                .get(index + 1)
                .map_or(uncleanable_offset, |next| next.base_offset);
            buffers.map.raise_latest_offset(end - 1);
        }
        self.end_of_round(buffers, stats)
    }

    fn end_of_round(
        &self,
        buffers: &CleanerBuffers,
        stats: &mut CleaningStats,
    ) -> Result<i64, CleanError> {
        stats.next_dirty_offset = buffers.map.latest_offset() + 1;
        stats.buffer_utilization = buffers.map.utilization();
        if stats.next_dirty_offset <= self.dirtiness.first_dirty_offset {
            return Err(CleanError::MapTooSmall);
        }
        Ok(stats.next_dirty_offset)
    }

    /// A reader from `position` on. A segment that is not there any more went with its log, or by its retention.
    fn read<'a>(
        &self,
        segment: &'a ClosedSegment,
        position: u64,
    ) -> Result<SegmentReader<'a>, CleanError> {
        match SegmentReader::open(&*self.fs, segment, position) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Err(CleanError::Stale),
            opened => Ok(opened?),
        }
    }

    /// The rules by which the round drops records.
    pub(crate) fn rules(&self, now_ms: i64) -> RoundRules {
        RoundRules {
            now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            uncleanable_offset: self.dirtiness.uncleanable_offset,
            active_producers: self.active_producers.clone(),
        }
    }

    /// Writes what is left of adjacent segments into one, under its unfinished name.
    pub(crate) fn rewrite(
        &self,
        group: &[ClosedSegment],
        filter: &mut Filter<'_>,
        (input, output): (&mut Vec<u8>, &mut Vec<u8>),
        stats: &mut CleaningStats,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let mut cleaned =
            CleanedSegment::create(&self.fs, &self.directory, first.base_offset, &self.config)?;
        let mut aborted = Vec::new();
        let mut modified_ms = 0;
        for segment in group {
            let mut reader = self.read(segment, 0)?;
            modified_ms = reader.modified_ms()?;
            loop {
                let position = reader.position();
                let Some(piece) = reader.next_piece(input)? else {
                    break;
                };
                go_on(pace, piece.len())?;
                stats.bytes_read += piece.len() as u64;
                output.clear();
                let _ = for_each_batch(segment, position, piece, |batch, position| {
                    filter
                        .filter(batch, output, &mut aborted)
                        .map_err(|error| segment.damaged(position, error))?;
                    Ok(ControlFlow::Continue(()))
                })?;
                if !output.is_empty() {
                    cleaned.append(output)?;
                    go_on(pace, output.len())?;
                }
            }
        }
        stats.bytes_written += cleaned.bytes();
        cleaned.finish(&aborted, modified_ms)?;
        Ok(())
    }
}

impl RoundInput {
    /// Removes what was written of a group that is not going to be swapped in. Nobody minds if that fails: the next attempt
    /// or the next start will.
    pub(crate) fn discard(&self, group: &[ClosedSegment]) {
        if let Some(first) = group.first() {
            let _ = output::remove_cleaned(&*self.fs, &self.directory, first.base_offset);
        }
    }
}

impl CleanerBuffers {
    /// The map, and the buffers to read and to write with.
    pub(crate) fn parts(&mut self) -> (&OffsetMap, (&mut Vec<u8>, &mut Vec<u8>)) {
        self.begin_segment();
        (&self.map, (&mut self.input, &mut self.output))
    }
}

/// Puts the keys of a batch into the map; a break if it is full.
fn note_keys(
    batch: &Batch<'_>,
    map: &mut OffsetMap,
    keys: &mut Vec<(KeyHash, i64)>,
    transactions: &mut CleanedTransactions,
    first_dirty_offset: i64,
) -> Result<ControlFlow<()>, FilterError> {
    let header = &batch.header;
    if header.attributes.is_control() {
        transactions.on_control(header, EndTransactionMarker::read(batch));
    } else if !transactions.on_records(header) {
        let records = batch.records(MAX_DECOMPRESSED_BYTES)?;
        let mut rest = records.raw();
        loop {
            keys.clear();
            for record in rest.by_ref().take(KEYS_AT_ONCE) {
                let record = record?;
                let offset = header.base_offset + i64::from(record.offset_delta);
                if let Some(key) = record.key
                    && offset >= first_dirty_offset
                {
                    keys.push((map.hash(key), offset));
                }
            }
            map.seek(keys.iter().map(|(hash, _)| *hash));
            for (hash, offset) in keys.iter() {
                if map.put(*hash, *offset).is_err() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if rest.is_at_end() {
                break;
            }
        }
    }
    map.raise_latest_offset(header.last_offset());
    Ok(ControlFlow::Continue(()))
}
