//! Walks over the record batches of a segment file without reading more of it than it must.

use std::path::Path;
use std::sync::Arc;

use bytes::Buf;
use crc_fast::{CrcAlgorithm, Digest};
use kafka_wire::record_batch::{BATCH_HEADER_SIZE, BatchError, BatchHeader};

use crate::error::{LogError, UnsupportedFormat};
use crate::file_system::{Attempt, LogFile, StorageError};

/// Enough to see several small batches, or one large one's header, with one read.
const HEADERS_WINDOW_BYTES: usize = 4096;
/// Large enough that reading is as fast as the disk, and small enough that what was read is still in the processor's cache
/// when it is checked.
const VERIFY_WINDOW_BYTES: usize = 256 << 10;

/// The checksum covers a batch from its attributes on.
const CRC_COVERS_FROM: u64 = 21;

/// A message of format 0 or 1: the bytes before those that its size counts, those up to its magic, and the least that the
/// size can be. Its checksum, a CRC-32, covers it from the magic on.
const MESSAGE_BEFORE_SIZE: u64 = 12;
const MESSAGE_MAGIC_AT: u64 = 16;
const MESSAGE_MIN_SIZE: i32 = 14;

/// What the records of one batch may decompress to. No more is accepted from a producer, whatever `max.message.bytes` is, so
/// that all who read the log later can; a batch that yields more is damage, or meant to do harm.
pub const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

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
    // Inlined, with what it calls for each batch, so that a header is read where it is used: one that is handed on is
    // written field by field and read in larger pieces at once, for which the processor waits longer than for all else
    // that a small batch costs.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<PlacedBatch>, LogError> {
        let position = self.position;
        let remaining = self.end.saturating_sub(position);
        if remaining == 0 {
            return Ok(None);
        }
        let header_size = remaining.min(BATCH_HEADER_SIZE as u64) as usize;
        let header = match BatchHeader::parse(self.bytes(position, header_size)?) {
            Ok(header) => header,
            Err(error) => return Err(self.no_batch(error)?),
        };
        let size = header.size() as u64;
        if size > remaining {
            return Err(self.damaged(format!("{size} bytes announced, {remaining} there")));
        }
        if self.depth == Depth::Checksums {
            let mut computed = Digest::new(CrcAlgorithm::Crc32Iscsi);
            self.pieces(position + CRC_COVERS_FROM, position + size, |piece| {
                computed.update(piece);
            })?;
            let (stored, computed) = (header.crc, computed.finalize() as u32);
            if stored != computed {
                return Err(self.damaged(BatchError::Crc { stored, computed }.to_string()));
            }
        }
        self.position += size;
        Ok(Some(PlacedBatch { position, header }))
    }

    /// What is wrong with the bytes at the position.
    #[cold]
    fn damaged(&self, cause: String) -> LogError {
        LogError::Damaged {
            path: self.path.to_owned(),
            position: self.position,
            cause,
        }
    }

    /// What stands at the position, where no header of a batch does.
    #[cold]
    fn no_batch(&mut self, error: BatchError) -> Result<LogError, StorageError> {
        let position = self.position;
        match error {
            BatchError::UnsupportedMagic(magic @ 0..=1) if self.is_message(position)? => {
                let path = self.path.to_owned();
                Ok(UnsupportedFormat {
                    path,
                    position,
                    magic,
                }
                .into())
            }
            error => Ok(self.damaged(error.to_string())),
        }
    }

    /// Whether there is a whole message of format 0 or 1, and not just a byte that says so.
    fn is_message(&mut self, position: u64) -> Result<bool, StorageError> {
        let mut head = self.bytes(position, MESSAGE_MAGIC_AT as usize)?;
        let (_offset, size, stored) = (head.get_i64(), head.get_i32(), head.get_u32());
        let end = position + MESSAGE_BEFORE_SIZE + u64::from(size.max(0).unsigned_abs());
        if size < MESSAGE_MIN_SIZE || end > self.end {
            return Ok(false);
        }
        let mut computed = crc32fast::Hasher::new();
        self.pieces(position + MESSAGE_MAGIC_AT, end, |piece| {
            computed.update(piece)
        })?;
        Ok(computed.finalize() == stored)
    }

    /// Shows the bytes from `position` to `end`: piece by piece, for a size may be as wrong as what it is the size of.
    #[inline]
    fn pieces(
        &mut self,
        mut position: u64,
        end: u64,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), StorageError> {
        let most = self.window_bytes();
        while position < end {
            let count = (end - position).min(most as u64);
            see(self.bytes(position, count as usize)?);
            position += count;
        }
        Ok(())
    }

    /// How much is read at once.
    fn window_bytes(&self) -> usize {
        match self.depth {
            Depth::Headers => HEADERS_WINDOW_BYTES,
            Depth::Checksums => VERIFY_WINDOW_BYTES,
        }
    }

    /// `count` bytes from `position` on, which lie before the end and not before those that were asked for last.
    #[inline]
    fn bytes(&mut self, position: u64, count: usize) -> Result<&[u8], StorageError> {
        let skipped = (position - self.window_start).min(self.filled as u64) as usize;
        if self.filled - skipped >= count {
            return Ok(&self.window[skipped..skipped + count]);
        }
        self.read_from(position, skipped, count)?;
        Ok(&self.window[..count])
    }

    /// Moves the window on to `position`, which lies `skipped` bytes into it, and reads at least `count` bytes into it.
    #[cold]
    fn read_from(
        &mut self,
        position: u64,
        skipped: usize,
        count: usize,
    ) -> Result<(), StorageError> {
        let target = self.window_bytes();
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
        Ok(())
    }
}
