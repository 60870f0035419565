//! Reads the protocol's primitive types out of one frame, trusting no length that the frame states.

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use crate::Uuid;

/// Why bytes from the network are not the message that they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends before the field does.
    #[error("the frame ends early: {needed} more bytes are needed, {left} are left")]
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that the frame still holds.
        left: usize,
    },
    /// A length below -1 (which stands for null).
    #[error("invalid length {0}")]
    InvalidLength(i64),
    /// Null where this version does not allow it.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// An array states more elements than the rest of the frame can hold.
    #[error("an array of {count} elements cannot fit in the {left} bytes that are left")]
    ArrayTooLong {
        /// Elements that the array states.
        count: usize,
        /// Bytes that the frame still holds.
        left: usize,
    },
    /// The decoded message would take up far more memory than its frame.
    #[error("the message unfolds to more memory than a frame of its size may use")]
    AllowanceExceeded,
    /// A variable-length integer does not end within its 5 (32 bits) or 10 (64 bits) bytes, or overflows.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// A string is not UTF-8.
    #[error("a string is not valid UTF-8")]
    InvalidUtf8,
    /// A tagged field's value does not fill the size that it states.
    #[error("tagged field {tag} states {size} bytes but takes {taken}")]
    TaggedFieldSize {
        /// The field's tag.
        tag: u32,
        /// The size that the frame states.
        size: usize,
        /// The bytes that its value took.
        taken: usize,
    },
    /// The message has no such version, or we do not serve it.
    #[error("{message} has no version {version} here")]
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// Bytes that a decoded message may take on the heap, per byte of its frame. Lists of topics with names of one letter
/// need as many, other real messages 2 to 5; crafted ones would reach far more, and a frame may have 100 MiB.
const ALLOWANCE_PER_BYTE: usize = 16;
/// Added to the allowance, so that small frames are never in want.
const ALLOWANCE_BASE: usize = 16 * 1024;

/// A cursor over one frame. Strings and byte fields come out as slices of the frame, never as copies; so a name that
/// is kept for long should be copied, lest it keep the whole frame in memory.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    allowance: usize,
}

/// A tagged field whose value comes next.
pub(crate) struct TaggedField {
    pub(crate) tag: u32,
    size: usize,
    left_before: usize,
}

macro_rules! fixed_size {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty = $get:ident;)+) => {
        $(
            $(#[$doc])*
            pub fn $name(&mut self) -> Result<$ty, DecodeError> {
                self.require(size_of::<$ty>())?;
                Ok(self.frame.$get())
            }
        )+
    };
}

impl Reader {
    /// Starts at the first byte of `frame` (or of any part of one).
    pub fn new(frame: Bytes) -> Self {
        let allowance = frame
            .len()
            .saturating_mul(ALLOWANCE_PER_BYTE)
            .saturating_add(ALLOWANCE_BASE);
        Self { frame, allowance }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len()
    }

    /// Everything that was not read yet, as a slice of the frame.
    pub fn into_remaining(self) -> Bytes {
        self.frame
    }

    fixed_size! {
        /// Reads an int8.
        read_i8 -> i8 = get_i8;
        /// Reads a uint8.
        read_u8 -> u8 = get_u8;
        /// Reads an int16.
        read_i16 -> i16 = get_i16;
        /// Reads an int32.
        read_i32 -> i32 = get_i32;
        /// Reads an int64.
        read_i64 -> i64 = get_i64;
    }

    /// Reads a boolean; as in Kafka, any byte but 0 is true.
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.read_u8()? != 0)
    }

    /// Reads an id of 16 bytes.
    pub fn read_uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.require(16)?;
        let mut id = [0; 16];
        self.frame.copy_to_slice(&mut id);
        Ok(Uuid::from_bytes(id))
    }

    /// Reads an unsigned 32-bit integer of 1 to 5 bytes, least significant 7 bits first.
    pub fn read_unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.read_u8()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Reads `length` bytes as a slice of the frame.
    pub fn read_bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.require(length)?;
        Ok(self.frame.split_to(length))
    }

    /// Reads `length` bytes of UTF-8 as a slice of the frame.
    pub fn read_string(&mut self, length: usize) -> Result<ByteString, DecodeError> {
        ByteString::try_from(self.read_bytes(length)?).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// Skips a block of tagged fields that nothing here knows.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.read_unsigned_varint()? {
            let field = self.begin_tagged_field()?;
            self.end_tagged_field(field)?;
        }
        Ok(())
    }

    /// An empty vector with room for `count` elements of at least `min_size` bytes each. This is the only place that
    /// allocates by a number from the frame: what cannot fit, or would unfold too far, is refused before.
    pub(crate) fn vec_for<T>(
        &mut self,
        count: usize,
        min_size: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let left = self.remaining();
        // An element without any bytes still counts as one, so that no count is free.
        if count > left / min_size.max(1) {
            return Err(DecodeError::ArrayTooLong { count, left });
        }
        let needed = count
            .checked_mul(size_of::<T>())
            .ok_or(DecodeError::AllowanceExceeded)?;
        self.allowance = self
            .allowance
            .checked_sub(needed)
            .ok_or(DecodeError::AllowanceExceeded)?;
        Ok(Vec::with_capacity(count))
    }

    pub(crate) fn begin_tagged_field(&mut self) -> Result<TaggedField, DecodeError> {
        let tag = self.read_unsigned_varint()?;
        let size = self.read_unsigned_varint()? as usize;
        self.require(size)?;
        Ok(TaggedField {
            tag,
            size,
            left_before: self.remaining(),
        })
    }

    /// Skips the value if nothing was read of it; else it must have been read to its end.
    pub(crate) fn end_tagged_field(&mut self, field: TaggedField) -> Result<(), DecodeError> {
        let TaggedField {
            tag,
            size,
            left_before,
        } = field;
        match left_before - self.remaining() {
            0 => self.frame.advance(size),
            taken if taken != size => {
                return Err(DecodeError::TaggedFieldSize { tag, size, taken });
            }
            _ => {}
        }
        Ok(())
    }

    fn require(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.remaining();
        if left < needed {
            Err(DecodeError::Truncated { needed, left })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn varints_end_within_five_bytes_and_do_not_overflow() {
        assert_eq!(reader(&[0]).read_unsigned_varint(), Ok(0));
        assert_eq!(reader(&[0xac, 0x02]).read_unsigned_varint(), Ok(300));
        assert_eq!(
            reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).read_unsigned_varint(),
            Ok(u32::MAX)
        );
        for bad in [
            &[0xff, 0xff, 0xff, 0xff, 0x1f][..],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(
                reader(bad).read_unsigned_varint(),
                Err(DecodeError::VarintTooLong)
            );
        }
        assert_eq!(
            reader(&[0x80]).read_unsigned_varint(),
            Err(DecodeError::Truncated { needed: 1, left: 0 })
        );
    }

    #[test]
    fn an_array_longer_than_the_frame_is_refused_before_it_is_allocated() {
        let mut r = reader(&[0; 8]);
        assert_eq!(
            r.vec_for::<i64>(2, 8),
            Err(DecodeError::ArrayTooLong { count: 2, left: 8 })
        );
        assert_eq!(
            r.vec_for::<u8>(9, 0),
            Err(DecodeError::ArrayTooLong { count: 9, left: 8 })
        );
        assert_eq!(
            r.vec_for::<u8>(usize::MAX, 0),
            Err(DecodeError::ArrayTooLong {
                count: usize::MAX,
                left: 8
            })
        );
        assert!(r.vec_for::<i64>(1, 8).is_ok());
    }

    #[test]
    fn the_allowance_of_a_frame_is_spent_once() {
        let mut r = reader(&[0; 8]);
        let element = [0u8; 1024];
        let reservations = std::iter::from_fn(|| r.vec_for::<[u8; 1024]>(8, 1).ok());
        let spent = reservations.take(100).count() * 8 * element.len();
        assert!(spent <= 8 * ALLOWANCE_PER_BYTE + ALLOWANCE_BASE);
        assert_eq!(
            r.vec_for::<[u8; 1024]>(8, 1),
            Err(DecodeError::AllowanceExceeded)
        );
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_known_ones_must_fit() {
        let mut r = reader(&[2, 7, 3, 1, 2, 3, 9, 0, 0xee]);
        r.skip_tagged_fields().unwrap();
        assert_eq!(r.read_u8(), Ok(0xee));

        assert_eq!(
            reader(&[1, 7, 3, 1]).skip_tagged_fields(),
            Err(DecodeError::Truncated { needed: 3, left: 1 })
        );

        let mut r = reader(&[7, 3, 0, 0, 0, 0]);
        let field = r.begin_tagged_field().unwrap();
        r.read_i32().unwrap();
        assert_eq!(
            r.end_tagged_field(field),
            Err(DecodeError::TaggedFieldSize {
                tag: 7,
                size: 3,
                taken: 4
            })
        );
    }
}
