//! Jute, ZooKeeper's serialization: big-endian integers, and strings, buffers and vectors behind an `i32` length in
//! which −1 means null.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("the frame ends inside a field: {needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that the frame still holds.
        left: usize,
    },
    /// A length below −1.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A boolean byte that is neither 0 nor 1.
    #[error("{0} is no boolean")]
    NotBool(u8),
    /// No path where there has to be one.
    #[error("a path is null")]
    NoPath,
    /// An op code inside a multi or multiRead that cannot be there.
    #[error("op code {0} cannot be part of a multi")]
    NotInMulti(i32),
    /// A number that stands for nothing in its field: an error code, the mode of a watch.
    #[error("{0} is not known in its field")]
    Unknown(i32),
}

/// Reads jute fields from one frame; strings and buffers are slices of it.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
}

impl Reader {
    /// Reads from the start of `frame`.
    pub fn new(frame: Bytes) -> Reader {
        Reader { frame }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len()
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.frame.len();
        if left < needed {
            Err(DecodeError::Truncated { needed, left })
        } else {
            Ok(())
        }
    }

    /// An `int`.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.frame.get_i32())
    }

    /// A `long`.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.frame.get_i64())
    }

    /// A `boolean`.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.need(1)?;
        match self.frame.get_u8() {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::NotBool(other)),
        }
    }

    /// A length: `None` for null.
    fn len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength(len)),
        }
    }

    /// A `buffer`, which may be null.
    pub fn buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.len()? else {
            return Ok(None);
        };
        self.need(len)?;
        Ok(Some(self.frame.split_to(len)))
    }

    /// A `ustring`; null reads as the empty string, which is how clients write one.
    pub fn string(&mut self) -> Result<ByteString, DecodeError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    /// A `ustring` whose absence means something of its own.
    pub fn nullable_string(&mut self) -> Result<Option<ByteString>, DecodeError> {
        let bytes = self.buffer()?;
        bytes
            .map(|bytes| ByteString::try_from(bytes).map_err(|_| DecodeError::NotUtf8))
            .transpose()
    }

    /// A `ustring` that is the path of a znode; null is none.
    pub fn path(&mut self) -> Result<ByteString, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::NoPath)
    }

    /// A `vector` whose items take at least `min_item_len` bytes each; null reads as empty. The count is checked
    /// against the bytes left before the vector is allocated.
    pub fn vec<T>(
        &mut self,
        min_item_len: usize,
        mut item: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.len()?.unwrap_or(0);
        self.need(count.saturating_mul(min_item_len))?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A `vector` of `ustring`.
    pub fn strings(&mut self) -> Result<Vec<ByteString>, DecodeError> {
        self.vec(4, Reader::string)
    }
}

/// Appends jute fields, and frames around them, to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Writes one frame: the length prefix, then what `body` writes.
    pub fn frame(&mut self, body: impl FnOnce(&mut Writer)) {
        let start = self.bytes.len();
        self.i32(0);
        body(self);
        let len = (self.bytes.len() - start - 4) as i32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes out what was written; the writer starts anew and keeps its spare capacity.
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    /// An `int`.
    pub fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    /// A `long`.
    pub fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    /// A `boolean`.
    pub fn bool(&mut self, value: bool) {
        self.bytes.put_u8(value.into());
    }

    /// A `buffer`; `None` is null.
    pub fn buffer(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.i32(-1),
            Some(value) => {
                self.i32(value.len() as i32);
                self.bytes.put_slice(value);
            }
        }
    }

    /// A `ustring`.
    pub fn string(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    /// A `ustring`; `None` is null.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        self.buffer(value.map(str::as_bytes));
    }

    /// A `vector` of `ustring`.
    pub fn strings<S: AsRef<str>>(&mut self, values: &[S]) {
        self.vec(values.iter(), |w, value| w.string(value.as_ref()));
    }

    /// A `vector` of what `item` writes.
    pub fn vec<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut item: impl FnMut(&mut Writer, T),
    ) {
        self.i32(items.len() as i32);
        for value in items {
            item(self, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_larger_than_the_frame_is_refused_before_allocation() {
        let mut reader = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0]));
        let error = reader.strings().unwrap_err();
        assert_eq!(
            error,
            DecodeError::Truncated {
                needed: 0x7fff_ffff * 4,
                left: 2
            }
        );
    }

    #[test]
    fn null_and_negative_lengths() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff; 4]));
        assert_eq!(reader.buffer(), Ok(None));
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(reader.buffer(), Err(DecodeError::NegativeLength(-2)));
        let mut reader = Reader::new(Bytes::from_static(&[0xff; 4]));
        assert_eq!(reader.string(), Ok(ByteString::new()));
    }

    #[test]
    fn a_frame_is_prefixed_with_its_length() {
        let mut writer = Writer::new();
        writer.frame(|w| w.string("ab"));
        assert_eq!(writer.take().as_ref(), [0, 0, 0, 6, 0, 0, 0, 2, b'a', b'b']);
        assert!(writer.is_empty());
    }
}
