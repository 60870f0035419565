//! Message sets of formats 0 and 1: what producers sent before Kafka 0.11, with Produce versions 0 to 2.
//!
//! | from | bytes | field |
//! |---|---|---|
//! | 0 | 8 | offset |
//! | 8 | 4 | size of all that follows |
//! | 12 | 4 | CRC-32 of all that follows |
//! | 16 | 1 | magic, 0 or 1 |
//! | 17 | 1 | attributes: codec in three bits, whose clock in the next |
//! | 18 | 8 | timestamp, in format 1 |
//! | | 4 + n | key, -1 is null |
//! | | 4 + n | value, -1 is null |
//!
//! A compressed set is one message whose value is the set. The offsets in what a producer sends mean nothing: its messages
//! get theirs one after the other.
//!
//! [`to_record_batch`] is pure, takes any bytes, and allocates no more than a few times what its caller allows.

use std::borrow::Cow;

use crate::compression::{Compression, CompressionError};
use crate::record_batch::{
    Attributes, BuildError, NO_TIMESTAMP, RecordBatchBuilder, TimestampType,
};

/// Bytes before those that the size counts.
const BEFORE_SIZE: usize = 12;
/// Bytes of the smallest message after its size: checksum, magic, attributes, two nulls.
const MIN_SIZE: usize = 14;

/// Why bytes are not a message set that a producer may send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageSetError {
    /// A message is cut off, its parts do not fill it, or its checksum is wrong.
    #[error("corrupt message {index}: {cause}")]
    Corrupt {
        /// The message's index in the set.
        index: usize,
        /// What is wrong.
        cause: String,
    },
    /// The messages are right by themselves, but not together.
    #[error("invalid message set: {0}")]
    Invalid(&'static str),
    /// What a compressed message holds does not come out.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// It does not fit a record batch.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message<'a> {
    magic: i8,
    attributes: Attributes,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl Message<'_> {
    /// Zstandard came with format 2 (KIP-110).
    fn codec(&self) -> Result<Compression, MessageSetError> {
        match self.attributes.compression()? {
            Compression::Zstd => Err(MessageSetError::Invalid(
                "zstd, which these formats do not know",
            )),
            codec => Ok(codec),
        }
    }
}

/// Makes one record batch of all messages of a set, as an old producer sends it: compressed with `codec` at `level`, or, if
/// that is `None`, as the set is. No more than `max_size` bytes may come out of it.
///
/// The batch has no producer, and the clock of a set that says that the broker stamped it.
pub fn to_record_batch(
    data: &[u8],
    max_size: usize,
    codec: Option<(Compression, Option<i32>)>,
) -> Result<RecordBatchBuilder, MessageSetError> {
    let mut messages = Messages::new(data);
    let first = messages
        .next()
        .ok_or(MessageSetError::Invalid("no message at all"))??;
    let sent_in = first.codec()?;
    let (codec, level) = codec.unwrap_or((sent_in, None));
    let mut builder = RecordBatchBuilder::new(codec).compression_level(level);
    if first.attributes.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(first.timestamp);
    }
    if sent_in == Compression::None {
        for message in Messages::new(data) {
            append(&mut builder, &message?, first.magic)?;
        }
        return Ok(builder);
    }
    if messages.next().transpose()?.is_some() {
        return Err(MessageSetError::Invalid(
            "more than one message, of which the first is compressed",
        ));
    }
    let compressed = first
        .value
        .ok_or(MessageSetError::Invalid("a compressed message of null"))?;
    let compressed = match (sent_in, first.magic) {
        (Compression::Lz4, 0) => with_right_lz4_checksum(compressed),
        _ => Cow::Borrowed(compressed),
    };
    let inner = sent_in.decompress(&compressed, max_size)?;
    for message in Messages::new(&inner) {
        append(&mut builder, &message?, first.magic)?;
    }
    match builder.count() {
        0 => Err(MessageSetError::Invalid("a compressed message of nothing")),
        _ => Ok(builder),
    }
}

fn append(
    builder: &mut RecordBatchBuilder,
    message: &Message<'_>,
    magic: i8,
) -> Result<(), MessageSetError> {
    if message.magic != magic {
        return Err(MessageSetError::Invalid("messages of two formats"));
    }
    if message.codec()? != Compression::None {
        return Err(MessageSetError::Invalid(
            "a compressed message among others",
        ));
    }
    builder.append(message.timestamp, message.key, message.value, &[])?;
    Ok(())
}

/// The messages that follow each other. After an error there are no more.
struct Messages<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Messages<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            rest: data,
            index: 0,
        }
    }

    fn take_message(&mut self) -> Result<Message<'a>, String> {
        let rest = self.rest;
        let size = rest
            .get(8..BEFORE_SIZE)
            .and_then(<[u8]>::first_chunk)
            .map(|size| i32::from_be_bytes(*size))
            .ok_or("it is cut off")?;
        let size = usize::try_from(size).ok().filter(|size| *size >= MIN_SIZE);
        let size = size.ok_or("it states an impossible size")?;
        let (message, rest) = rest[BEFORE_SIZE..]
            .split_at_checked(size)
            .ok_or("it is cut off")?;
        self.rest = rest;
        let (crc, covered) = message.split_first_chunk().ok_or("it is cut off")?;
        let (stored, computed) = (u32::from_be_bytes(*crc), crc32fast::hash(covered));
        if stored != computed {
            return Err(format!(
                "its CRC-32 is {computed:#010x}, but it states {stored:#010x}"
            ));
        }
        parse(covered).ok_or_else(|| "its parts do not fill it".to_owned())
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, MessageSetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let message = self.take_message();
        Some(message.map_err(|cause| {
            self.rest = &[];
            MessageSetError::Corrupt { index, cause }
        }))
    }
}

/// What the checksum of a message covers.
fn parse(covered: &[u8]) -> Option<Message<'_>> {
    let ([magic, attributes], mut rest) = covered.split_first_chunk()?;
    let timestamp = match magic {
        0 => NO_TIMESTAMP,
        1 => {
            let timestamp;
            (timestamp, rest) = rest.split_first_chunk()?;
            i64::from_be_bytes(*timestamp)
        }
        _ => return None,
    };
    let known = match magic {
        0 => 0b0111,
        _ => 0b1111,
    };
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    rest.is_empty().then_some(Message {
        magic: *magic as i8,
        attributes: Attributes(i16::from(attributes & known)),
        timestamp,
        key,
        value,
    })
}

/// Bytes after their length, where -1 is null.
fn take_nullable<'a>(data: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = data.split_first_chunk()?;
    *data = rest;
    match i32::from_be_bytes(*length) {
        -1 => Some(None),
        length => {
            let bytes;
            (bytes, *data) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some(Some(bytes))
        }
    }
}

/// Clients of format 0 computed the checksum of an LZ4 frame's descriptor over the magic number before it, too, so that no
/// decoder takes it (KAFKA-3160). The right one is put in its place.
fn with_right_lz4_checksum(frame: &[u8]) -> Cow<'_, [u8]> {
    const MAGIC_BYTES: usize = 4;
    const CONTENT_SIZE: u8 = 1 << 3;
    const DICTIONARY_ID: u8 = 1;
    let Some(flags) = frame.get(MAGIC_BYTES) else {
        return Cow::Borrowed(frame);
    };
    let content_size = if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
    let dictionary_id = if flags & DICTIONARY_ID == 0 { 0 } else { 4 };
    let end = MAGIC_BYTES + 2 + content_size + dictionary_id;
    let mut frame = frame.to_vec();
    if let Some((descriptor, [checksum, ..])) = frame.split_at_mut_checked(end) {
        let hash = twox_hash::XxHash32::oneshot(0, &descriptor[MAGIC_BYTES..]);
        *checksum = (hash >> 8) as u8;
    }
    Cow::Owned(frame)
}

#[cfg(test)]
mod tests;
