//! The Java library's framing: a header of 16 bytes, then blocks of bare snappy after their length.

use std::io;

use super::{Compression, CompressionError};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Version 1, readable by version 1.
const VERSIONS: &[u8; 8] = &[0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of data in each block that we write.
const BLOCK_SIZE: usize = 32 * 1024;
/// No snappy data get larger than by this factor: a copy of 3 bytes yields 64 at most.
const MAX_RATIO: usize = 22;

pub(super) fn compress(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = Vec::with_capacity(16 + data.len() / 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(VERSIONS);
    for block in data.chunks(BLOCK_SIZE) {
        let compressed = encoder.compress_vec(block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

/// Decompresses block by block.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    /// How much of the block was read.
    taken: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, CompressionError> {
        let (framed, rest) = match data.strip_prefix(MAGIC) {
            None => (false, data),
            Some(after) => {
                let blocks = after.get(VERSIONS.len()..);
                (
                    true,
                    blocks.ok_or_else(|| corrupt("the header is cut off"))?,
                )
            }
        };
        Ok(Self {
            rest,
            framed,
            block: Vec::new(),
            taken: 0,
        })
    }

    /// The next bytes, at most `limit` of them, none at the end. A block that holds more than `left` is an error.
    pub(super) fn next(&mut self, limit: usize, left: usize) -> Result<&[u8], Error> {
        while self.taken == self.block.len() && !self.rest.is_empty() {
            let block = self.take_block()?;
            self.taken = 0;
            self.decompress(block, left)?;
        }
        let from = self.taken;
        self.taken = self.block.len().min(from.saturating_add(limit));
        Ok(&self.block[from..self.taken])
    }

    fn take_block(&mut self) -> Result<&'a [u8], CompressionError> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, after) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| corrupt("a block's length is cut off"))?;
        let (block, after) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| corrupt("a block is cut off"))?;
        self.rest = after;
        Ok(block)
    }

    fn decompress(&mut self, block: &[u8], left: usize) -> Result<(), Error> {
        let length = snap::raw::decompress_len(block).map_err(corrupt)?;
        if length > left {
            return Err(Error::TooLarge);
        }
        if length > block.len().saturating_mul(MAX_RATIO) {
            return Err(corrupt("a block states more bytes than it can hold").into());
        }
        self.block.resize(length, 0);
        snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(corrupt)?;
        Ok(())
    }
}

/// Why there is no next block.
pub(super) enum Error {
    /// It holds more than is left.
    TooLarge,
    /// It is none.
    Corrupt(CompressionError),
}

impl From<CompressionError> for Error {
    fn from(error: CompressionError) -> Self {
        Self::Corrupt(error)
    }
}

fn corrupt(cause: impl std::fmt::Display) -> CompressionError {
    Compression::Snappy.corrupt(cause)
}
