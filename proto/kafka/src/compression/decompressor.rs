//! Decompression piece by piece, so that memory is bounded by the codec and not by what the data say.

use std::io::Read;

use super::snappy::{self, Blocks};
use super::{Compression, CompressionError};

enum Decoder<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(Blocks<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

/// Gives out what compressed data hold.
pub(crate) struct Decompressor<'a> {
    codec: Compression,
    decoder: Decoder<'a>,
    max_size: usize,
    /// Bytes that may still come out.
    left: usize,
}

impl<'a> Decompressor<'a> {
    /// At most `max_size` bytes may come out.
    pub(crate) fn new(
        codec: Compression,
        data: &'a [u8],
        max_size: usize,
    ) -> Result<Self, CompressionError> {
        let decoder = match codec {
            Compression::None => Decoder::Plain(data),
            Compression::Gzip => {
                Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(data)))
            }
            Compression::Snappy => Decoder::Snappy(Blocks::new(data)?),
            Compression::Lz4 => Decoder::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(data))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(data);
                Decoder::Zstd(Box::new(decoder.map_err(|error| codec.corrupt(error))?))
            }
        };
        Ok(Self {
            codec,
            decoder,
            max_size,
            left: max_size,
        })
    }

    /// Puts the next bytes into `buffer`; how many, 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CompressionError> {
        let codec = self.codec;
        // One byte more than allowed tells "too large" from "just fits".
        let limit = buffer.len().min(self.left.saturating_add(1));
        let buffer = &mut buffer[..limit];
        let read = match &mut self.decoder {
            Decoder::Plain(data) => data.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Lz4(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Snappy(blocks) => match blocks.next(limit, self.left) {
                Ok(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                Err(snappy::Error::TooLarge) => return Err(codec.too_large(self.max_size)),
                Err(snappy::Error::Corrupt(error)) => return Err(error),
            },
        };
        let read = read.map_err(|error| codec.corrupt(error))?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or_else(|| codec.too_large(self.max_size))?;
        Ok(read)
    }
}
