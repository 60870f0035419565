//! Walks over the record batches of a segment file without reading more of it than it must.

use std::path::Path;
use std::sync::Arc;

use kafka_wire::record_batch::{BATCH_HEADER_SIZE, BatchError, BatchHeader};

use crate::error::LogError;
use crate::file_system::{Attempt, LogFile, StorageError};

/// Enough to see several small batches, or one large one's header, with one read.
const HEADERS_WINDOW_BYTES: usize = 4096;
/// Large enough that reading is as fast as the disk, and small enough that what was read is still in the processor's cache
/// when it is checked.
const VERIFY_WINDOW_BYTES: usize = 256 << 10;

/// The checksum covers a batch from its attributes on.
const CRC_COVERS_FROM: u64 = 21;

/// What the records of one batch may decompress to. A batch that yields more is damage, or meant to do harm.
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// How closely the batches are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The headers only.
    Headers,
    /// Every byte, against the checksum.
    Checksums,
}

/// A batch and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct PlacedBatch {
    /// Bytes from the start of the file.
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl PlacedBatch {
    /// Where the next batch begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// The walk, from one position of a file to another.
pub(crate) struct BatchScanner<'a> {
    file: Arc<dyn LogFile>,
    path: &'a Path,
    position: u64,
    end: u64,
    depth: Depth,
    /// A piece of the file, of which the first `filled` bytes were read.
    window: Vec<u8>,
    window_start: u64,
    filled: usize,
}

impl<'a> BatchScanner<'a> {
    pub(crate) fn new(
        file: Arc<dyn LogFile>,
        path: &'a Path,
        start: u64,
        end: u64,
        depth: Depth,
    ) -> Self {
        Self {
            file,
            path,
            position: start,
            end,
            depth,
            window: Vec::new(),
            window_start: start,
            filled: 0,
        }
    }

    /// The next batch, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<PlacedBatch>, LogError> {
        let position = self.position;
        let remaining = self.end.saturating_sub(position);
        if remaining == 0 {
            return Ok(None);
        }
        let path = self.path;
        let damaged = |cause: String| LogError::Damaged {
            path: path.to_owned(),
            position,
            cause,
        };
        let header_size = remaining.min(BATCH_HEADER_SIZE as u64) as usize;
        let header = self.bytes(position, header_size)?;
        let header = BatchHeader::parse(header).map_err(|error| damaged(error.to_string()))?;
        let size = header.size();
        if size as u64 > remaining {
            return Err(damaged(format!(
                "{size} bytes announced, {remaining} there"
            )));
        }
        if self.depth == Depth::Checksums {
            let computed = self.checksum(position, size as u64)?;
            let stored = header.crc;
            if stored != computed {
                return Err(damaged(BatchError::Crc { stored, computed }.to_string()));
            }
        }
        self.position += size as u64;
        Ok(Some(PlacedBatch { position, header }))
    }

    /// The checksum of a batch of `size` bytes, as it is computed from them; of a large one piece by piece, for its size may
    /// be as wrong as the rest of it.
    fn checksum(&mut self, batch: u64, size: u64) -> Result<u32, StorageError> {
        let (mut position, end) = (batch + CRC_COVERS_FROM, batch + size);
        let mut crc = 0;
        while position < end {
            let count = (end - position).min(VERIFY_WINDOW_BYTES as u64);
            crc = crc32c::crc32c_append(crc, self.bytes(position, count as usize)?);
            position += count;
        }
        Ok(crc)
    }

    /// `count` bytes from `position` on, which lie before the end and not before those that were asked for last.
    fn bytes(&mut self, position: u64, count: usize) -> Result<&[u8], StorageError> {
        let skipped = (position - self.window_start).min(self.filled as u64) as usize;
        if self.filled - skipped >= count {
            return Ok(&self.window[skipped..skipped + count]);
        }
        let target = match self.depth {
            Depth::Headers => HEADERS_WINDOW_BYTES,
            Depth::Checksums => VERIFY_WINDOW_BYTES,
        };
        // What is left of the window is kept: the file is read in large pieces, and no byte of it twice.
        let kept = self.filled - skipped;
        self.window.copy_within(skipped..self.filled, 0);
        let wanted = (self.end - position).min(target as u64) as usize;
        if self.window.len() < wanted {
            self.window.resize(wanted, 0);
        }
        (self.window_start, self.filled) = (position, kept);
        let read = self
            .file
            .read_at(&mut self.window[kept..wanted], position + kept as u64)
            .attempt("read", self.path)?;
        self.filled += read;
        if self.filled < count {
            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(cut).attempt("read", self.path);
        }
        Ok(&self.window[..count])
    }
}
