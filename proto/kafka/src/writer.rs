//! Writes the protocol's primitive types, leaving gaps where a server sends a range of a file instead of bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Uuid;

/// Why a message cannot be written in the version asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A request's field holds something that the version cannot say, and leaving it out would change its meaning
    /// (a field that is not "ignorable" in Kafka's schemas).
    #[error("{field} cannot be expressed in version {version}")]
    UnsupportedField {
        /// `Struct::field`.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null in a field that cannot be null in this version.
    #[error("null cannot be expressed in version {version}")]
    UnexpectedNull {
        /// The version asked for.
        version: i16,
    },
    /// A string, byte field, array or the whole frame is longer than its length field can say.
    #[error("{length} is more than a length field of this kind can say")]
    TooLong {
        /// Bytes, or elements of an array.
        length: usize,
    },
    /// The records of this message are in a file, where plain bytes are asked for.
    #[error("deferred records cannot be written in line")]
    Deferred,
}

/// A growing frame. The first error is kept and told by [`Writer::finish`], so that encoding needs no error handling
/// at every field.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    gaps: Vec<Gap>,
    error: Option<EncodeError>,
}

/// `length` bytes that are not in the buffer, but follow its first `position` bytes.
#[derive(Debug, Clone, Copy)]
struct Gap {
    position: usize,
    length: u32,
}

impl Writer {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the frame so far, including those left to gaps.
    pub fn len(&self) -> usize {
        self.buffer.len()
            + self
                .gaps
                .iter()
                .map(|gap| gap.length as usize)
                .sum::<usize>()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame in pieces: with `n` gaps there are `n + 1` pieces, and gap `i` (in the order in which they were
    /// left) belongs between piece `i` and piece `i + 1`. The last piece may be empty.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut pieces = Vec::with_capacity(self.gaps.len() + 1);
        let mut done = 0;
        for gap in &self.gaps {
            pieces.push(self.buffer.split_to(gap.position - done).freeze());
            done = gap.position;
        }
        pieces.push(self.buffer.freeze());
        Ok(pieces)
    }

    /// The frame as one piece.
    pub fn finish_contiguous(self) -> Result<Bytes, EncodeError> {
        match self.error {
            Some(error) => Err(error),
            None if !self.gaps.is_empty() => Err(EncodeError::Deferred),
            None => Ok(self.buffer.freeze()),
        }
    }

    /// Writes an int8.
    pub fn write_i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Writes an int16.
    pub fn write_i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Writes an int32.
    pub fn write_i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Writes an int64.
    pub fn write_i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Writes a boolean as one byte.
    pub fn write_bool(&mut self, value: bool) {
        self.buffer.put_u8(u8::from(value));
    }

    /// Writes an id of 16 bytes.
    pub fn write_uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// Writes bytes as they are, without a length.
    pub fn write_bytes(&mut self, value: &[u8]) {
        self.buffer.put_slice(value);
    }

    /// Writes an unsigned 32-bit integer in 1 to 5 bytes, least significant 7 bits first.
    pub fn write_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Leaves `length` bytes to whoever sends the frame.
    pub fn write_gap(&mut self, length: u32) {
        self.gaps.push(Gap {
            position: self.buffer.len(),
            length,
        });
    }

    /// Keeps the error for [`Writer::finish`], unless there is one already.
    pub(crate) fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// Writes a length as an int16, for classic strings.
    pub(crate) fn write_length_i16(&mut self, length: usize) {
        match i16::try_from(length) {
            Ok(length) => self.write_i16(length),
            Err(_) => self.fail(EncodeError::TooLong { length }),
        }
    }

    /// Writes a length as an int32, for classic arrays and bytes.
    pub(crate) fn write_length_i32(&mut self, length: usize) {
        match i32::try_from(length) {
            Ok(length) => self.write_i32(length),
            Err(_) => self.fail(EncodeError::TooLong { length }),
        }
    }

    /// Writes a length plus one as a varint, for all compact types; null is 0.
    pub(crate) fn write_length_compact(&mut self, length: usize) {
        match i32::try_from(length) {
            Ok(length) => self.write_unsigned_varint(length as u32 + 1),
            Err(_) => self.fail(EncodeError::TooLong { length }),
        }
    }

    /// Writes a tagged field: tag, size, and the value that `encode` writes.
    pub(crate) fn write_tagged_field(&mut self, tag: u32, encode: impl FnOnce(&mut Self)) {
        self.write_unsigned_varint(tag);
        let value_start = self.buffer.len();
        encode(self);
        let value_end = self.buffer.len();
        // The size goes before the value but is known after it: write it behind, then turn the two around.
        self.write_unsigned_varint((value_end - value_start) as u32);
        let size_length = self.buffer.len() - value_end;
        self.buffer[value_start..].rotate_right(size_length);
    }

    /// Fills the four bytes at the start with the length of all that follows them, gaps included.
    pub(crate) fn fill_frame_size(&mut self) {
        let length = self.len() - 4;
        match i32::try_from(length) {
            Ok(length) => self.buffer[..4].copy_from_slice(&length.to_be_bytes()),
            Err(_) => self.fail(EncodeError::TooLong { length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_cut_the_frame_into_pieces() {
        let mut w = Writer::new();
        w.write_i8(1);
        w.write_gap(100);
        w.write_i8(2);
        w.write_i8(3);
        w.write_gap(0);
        assert_eq!(w.len(), 103);
        let pieces = w.finish().unwrap();
        assert_eq!(pieces, [&[1][..], &[2, 3], &[]]);
    }

    #[test]
    fn a_frame_with_gaps_is_not_contiguous() {
        let mut w = Writer::new();
        w.write_gap(1);
        assert_eq!(w.finish_contiguous(), Err(EncodeError::Deferred));
    }

    #[test]
    fn the_first_error_is_told_at_the_end() {
        let mut w = Writer::new();
        w.write_length_i16(40_000);
        w.fail(EncodeError::Deferred);
        assert_eq!(w.finish(), Err(EncodeError::TooLong { length: 40_000 }));
    }

    #[test]
    fn a_tagged_field_states_its_size_before_its_value() {
        let mut w = Writer::new();
        w.write_tagged_field(3, |w| w.write_bytes(&[7; 200]));
        let bytes = w.finish_contiguous().unwrap();
        assert_eq!(bytes[..4], [3, 0xc8, 0x01, 7]);
        assert_eq!(bytes.len(), 203);
    }
}
