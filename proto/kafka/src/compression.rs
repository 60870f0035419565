//! The codecs of record batches. What comes out is bounded by the caller, whatever the compressed bytes promise.

mod decompressor;
mod snappy;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

pub(crate) use decompressor::Decompressor;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in the framing of the Java library (xerial), which Java clients need; bare snappy is read too.
    Snappy = 2,
    /// LZ4 frames of independent blocks.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

/// Why bytes were not compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The batch names a codec that does not exist.
    #[error("there is no compression codec {0}")]
    UnknownCodec(u8),
    /// No codec has this name.
    #[error("there is no compression codec '{0}': none, gzip, snappy, lz4 and zstd are known")]
    UnknownName(String),
    /// More bytes would come out than the caller allows.
    #[error("{codec} data decompress to more than the {max_size} bytes that are allowed")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The caller's bound.
        max_size: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("corrupt {codec} data: {cause}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What the codec says.
        cause: String,
    },
    /// The codec failed to write.
    #[error("cannot compress with {codec}: {cause}")]
    Failed {
        /// The codec.
        codec: Compression,
        /// What the codec says.
        cause: String,
    },
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec of a number in a batch's attributes.
    pub fn from_id(id: u8) -> Result<Self, CompressionError> {
        Self::ALL
            .get(usize::from(id))
            .copied()
            .ok_or(CompressionError::UnknownCodec(id))
    }

    /// The codec's number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec's name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Compresses all of `data`, at the codec's default level.
    pub fn compress(self, data: &[u8]) -> Result<Vec<u8>, CompressionError> {
        self.compress_at(None, data)
    }

    /// Compresses all of `data` at a level of the codec's own scale: 1 to 9 with gzip, -131072 to 22 with zstd, where what
    /// lies beyond is taken for the nearest. Snappy has no levels, and lz4 is written at its fastest whatever the level.
    pub fn compress_at(self, level: Option<i32>, data: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let compressed = match self {
            Compression::None => Ok(data.to_vec()),
            Compression::Gzip => gzip(data, level),
            Compression::Snappy => snappy::compress(data),
            Compression::Lz4 => lz4(data),
            Compression::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                zstd::bulk::compress(data, level.clamp(-131_072, 22))
            }
        };
        compressed.map_err(|error| CompressionError::Failed {
            codec: self,
            cause: error.to_string(),
        })
    }

    /// Decompresses all of `data`, or fails as soon as more than `max_size` bytes come out.
    ///
    /// Besides the output, a decoder may take a buffer of its own: at most 8 MiB (lz4), 22 times a block's own size
    /// (snappy), or 128 MiB of which it touches what it uses (zstd at the highest levels).
    pub fn decompress(self, data: &[u8], max_size: usize) -> Result<Vec<u8>, CompressionError> {
        /// Bytes by which the output grows at least: little, for nothing may come out.
        const STEP: usize = 512;
        if self == Compression::None {
            return match data.len() > max_size {
                true => Err(self.too_large(max_size)),
                false => Ok(data.to_vec()),
            };
        }
        let mut decompressor = Decompressor::new(self, data, max_size)?;
        let mut out = Vec::new();
        let mut filled = 0;
        loop {
            if filled == out.len() {
                out.resize(filled + filled.max(STEP), 0);
            }
            match decompressor.read(&mut out[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        out.truncate(filled);
        Ok(out)
    }

    fn too_large(self, max_size: usize) -> CompressionError {
        CompressionError::TooLarge {
            codec: self,
            max_size,
        }
    }

    fn corrupt(self, cause: impl fmt::Display) -> CompressionError {
        CompressionError::Corrupt {
            codec: self,
            cause: cause.to_string(),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let codec = Self::ALL.into_iter().find(|codec| codec.name() == name);
        codec.ok_or_else(|| CompressionError::UnknownName(name.chars().take(32).collect()))
    }
}

fn gzip(data: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = level.map_or_else(flate2::Compression::default, |level| {
        flate2::Compression::new(level.clamp(1, 9) as u32)
    });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(data)?;
    encoder.finish()
}

fn lz4(data: &[u8]) -> io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    // Java clients read independent blocks only.
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(data)?;
    encoder.finish().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Compression; 4] = [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn names_and_numbers_are_kafkas() {
        for (id, codec) in Compression::ALL.into_iter().enumerate() {
            assert_eq!(Compression::from_id(id as u8), Ok(codec));
            assert_eq!(codec.name().parse(), Ok(codec));
        }
        assert_eq!(
            Compression::from_id(5),
            Err(CompressionError::UnknownCodec(5))
        );
        assert!("GZIP".parse::<Compression>().is_err());
    }

    #[test]
    fn the_bound_is_exact() {
        let data = vec![7; 100_000];
        for codec in Compression::ALL {
            let compressed = codec.compress(&data).unwrap();
            assert_eq!(
                codec.decompress(&compressed, data.len()).as_ref(),
                Ok(&data),
                "{codec}"
            );
            let max_size = data.len() - 1;
            assert_eq!(
                codec.decompress(&compressed, max_size),
                Err(CompressionError::TooLarge { codec, max_size })
            );
        }
    }

    #[test]
    fn a_level_changes_the_size_and_not_the_data() {
        let data: Vec<u8> = (0..40_000u32)
            .flat_map(|i| {
                (i.wrapping_mul(2_654_435_761) >> 24)
                    .to_string()
                    .into_bytes()
            })
            .collect();
        for codec in [Compression::Gzip, Compression::Zstd] {
            let [low, high] = [1, 9].map(|level| codec.compress_at(Some(level), &data).unwrap());
            assert!(
                low.len() > high.len(),
                "{codec}: {} {}",
                low.len(),
                high.len()
            );
            assert_eq!(codec.decompress(&low, data.len()).as_ref(), Ok(&data));
            let beyond = codec.compress_at(Some(i32::MIN), &data).unwrap();
            assert_eq!(codec.decompress(&beyond, data.len()).as_ref(), Ok(&data));
        }
    }

    /// CVE-2023-34455 and its kin: a few bytes that promise, or yield, very many.
    #[test]
    fn bombs_are_cut_short() {
        let bomb = vec![0; 8 << 20];
        for codec in CODECS {
            let compressed = codec.compress(&bomb).unwrap();
            let max_size = 1 << 20;
            assert_eq!(
                codec.decompress(&compressed, max_size),
                Err(CompressionError::TooLarge { codec, max_size })
            );
        }
    }

    #[test]
    fn snappy_is_read_bare_and_framed() {
        let data = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbb".repeat(2000);
        let bare = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(
            Compression::Snappy.decompress(&bare, data.len()).as_ref(),
            Ok(&data)
        );
        let framed = Compression::Snappy.compress(&data).unwrap();
        assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
        assert_eq!(
            Compression::Snappy.decompress(&framed, data.len()),
            Ok(data)
        );
    }

    #[test]
    fn concatenated_gzip_members_are_one_stream() {
        let twice = [gzip(b"one", None).unwrap(), gzip(b"two", None).unwrap()].concat();
        assert_eq!(
            Compression::Gzip.decompress(&twice, 100).unwrap(),
            b"onetwo"
        );
    }

    #[test]
    fn what_is_cut_off_is_corrupt() {
        let data: Vec<u8> = (0..10_000u32)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        for codec in CODECS {
            let compressed = codec.compress(&data).unwrap();
            let result = codec.decompress(&compressed[..compressed.len() - 9], data.len());
            assert!(
                matches!(result, Err(CompressionError::Corrupt { .. })),
                "{codec}: {result:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn anything_comes_back(data in prop::collection::vec(any::<u8>(), 0..3000), repeat in 1..20usize) {
            let data = data.repeat(repeat);
            for codec in Compression::ALL {
                let compressed = codec.compress(&data).unwrap();
                prop_assert_eq!(codec.decompress(&compressed, data.len()), Ok(data.clone()));
            }
        }

        #[test]
        fn random_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300), flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)) {
            for codec in CODECS {
                let _ = codec.decompress(&data, 1 << 16);
                let mut damaged = codec.compress(&data).unwrap();
                for (at, with) in &flips {
                    let at = at.index(damaged.len());
                    damaged[at] ^= with;
                }
                if let Ok(out) = codec.decompress(&damaged, 1 << 16) {
                    prop_assert!(out.len() <= 1 << 16);
                }
            }
        }
    }
}
