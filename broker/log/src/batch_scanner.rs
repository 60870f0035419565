//! Walks over the record batches of a segment file without reading more of it than it must.

use std::path::Path;

use kafka_wire::record_batch::{self, BatchHeader};

use crate::error::LogError;
use crate::file_system::{Attempt, LogFile, StorageError};

/// Enough to see several small batches, or one large one's header, with one read.
const HEADERS_WINDOW_BYTES: usize = 4096;
/// Large enough that reading is as fast as the disk.
const VERIFY_WINDOW_BYTES: usize = 1 << 20;

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
    file: &'a dyn LogFile,
    path: &'a Path,
    position: u64,
    end: u64,
    depth: Depth,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> BatchScanner<'a> {
    pub(crate) fn new(
        file: &'a dyn LogFile,
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
            window_start: 0,
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
        let header = self.bytes(remaining.min(record_batch::BATCH_HEADER_SIZE as u64) as usize)?;
        let header = BatchHeader::parse(header).map_err(|error| damaged(error.to_string()))?;
        let size = header.size();
        if size as u64 > remaining {
            return Err(damaged(format!(
                "{size} bytes announced, {remaining} there"
            )));
        }
        if self.depth == Depth::Checksums {
            record_batch::verify_crc(self.bytes(size)?)
                .map_err(|error| damaged(error.to_string()))?;
        }
        self.position += size as u64;
        Ok(Some(PlacedBatch { position, header }))
    }

    /// The next `count` bytes, which lie before the end.
    fn bytes(&mut self, count: usize) -> Result<&[u8], StorageError> {
        let skipped = (self.position - self.window_start) as usize;
        let in_window = self
            .window
            .len()
            .checked_sub(skipped)
            .is_some_and(|left| left >= count);
        if !in_window {
            let window = match self.depth {
                Depth::Headers => HEADERS_WINDOW_BYTES,
                Depth::Checksums => VERIFY_WINDOW_BYTES,
            };
            let remaining = self.end - self.position;
            self.window
                .resize(remaining.min(window.max(count) as u64) as usize, 0);
            self.window_start = self.position;
            let read = self
                .file
                .read_at(&mut self.window, self.position)
                .attempt("read", self.path)?;
            if read < count {
                let cause = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(cause).attempt("read", self.path);
            }
            self.window.truncate(read);
            return Ok(&self.window[..count]);
        }
        Ok(&self.window[skipped..skipped + count])
    }
}
