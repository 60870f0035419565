//! How each type of a schema's field looks on the wire, in the classic and in the compact ("flexible", KIP-482) form.

use bytestring::ByteString;

use crate::{DecodeError, EncodeError, Reader, Records, Uuid, Writer};

/// What a field's bytes depend on besides its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// The message's version.
    pub(crate) version: i16,
    /// Compact lengths and tagged fields.
    pub(crate) flexible: bool,
    /// Whether the field may be null in this version.
    pub(crate) nullable: bool,
}

/// A type that a schema's field may have.
pub(crate) trait Wire: Sized {
    /// The fewest bytes that any value takes, which bounds the elements that an array can have.
    fn min_size(form: Form) -> usize;
    fn decode(r: &mut Reader, form: Form) -> Result<Self, DecodeError>;
    fn encode(&self, w: &mut Writer, form: Form);
}

/// A type whose length field can also say null.
pub(crate) trait Nullable: Wire {
    /// The length (bytes or elements) that comes next; `None` is null.
    fn decode_length(r: &mut Reader, form: Form) -> Result<Option<usize>, DecodeError>;
    fn decode_content(r: &mut Reader, form: Form, length: usize) -> Result<Self, DecodeError>;
    fn encode_null(w: &mut Writer, form: Form);
}

macro_rules! fixed_size {
    ($($ty:ty, $read:ident, $write:ident;)+) => {
        $(
            impl Wire for $ty {
                fn min_size(_: Form) -> usize {
                    size_of::<$ty>()
                }

                fn decode(r: &mut Reader, _: Form) -> Result<Self, DecodeError> {
                    r.$read()
                }

                fn encode(&self, w: &mut Writer, _: Form) {
                    w.$write(*self);
                }
            }
        )+
    };
}

fixed_size! {
    bool, read_bool, write_bool;
    i8, read_i8, write_i8;
    i16, read_i16, write_i16;
    i32, read_i32, write_i32;
    i64, read_i64, write_i64;
    Uuid, read_uuid, write_uuid;
}

fn length_or_null(length: i64) -> Result<Option<usize>, DecodeError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::InvalidLength(length)),
    }
}

fn decode_compact_length(r: &mut Reader) -> Result<Option<usize>, DecodeError> {
    length_or_null(i64::from(r.read_unsigned_varint()?) - 1)
}

fn decode_i32_length(r: &mut Reader, form: Form) -> Result<Option<usize>, DecodeError> {
    if form.flexible {
        decode_compact_length(r)
    } else {
        length_or_null(r.read_i32()?.into())
    }
}

fn encode_i32_length(w: &mut Writer, form: Form, length: usize) {
    if form.flexible {
        w.write_length_compact(length);
    } else {
        w.write_length_i32(length);
    }
}

fn encode_i32_null(w: &mut Writer, form: Form) {
    if form.flexible {
        w.write_unsigned_varint(0);
    } else {
        w.write_i32(-1);
    }
}

fn decode_required<T: Nullable>(r: &mut Reader, form: Form) -> Result<T, DecodeError> {
    let length = T::decode_length(r, form)?.ok_or(DecodeError::UnexpectedNull)?;
    T::decode_content(r, form, length)
}

impl Wire for ByteString {
    fn min_size(form: Form) -> usize {
        if form.flexible { 1 } else { 2 }
    }

    fn decode(r: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        decode_required(r, form)
    }

    fn encode(&self, w: &mut Writer, form: Form) {
        if form.flexible {
            w.write_length_compact(self.len());
        } else {
            w.write_length_i16(self.len());
        }
        w.write_bytes(self.as_bytes());
    }
}

impl Nullable for ByteString {
    fn decode_length(r: &mut Reader, form: Form) -> Result<Option<usize>, DecodeError> {
        if form.flexible {
            decode_compact_length(r)
        } else {
            length_or_null(r.read_i16()?.into())
        }
    }

    fn decode_content(r: &mut Reader, _: Form, length: usize) -> Result<Self, DecodeError> {
        r.read_string(length)
    }

    fn encode_null(w: &mut Writer, form: Form) {
        if form.flexible {
            w.write_unsigned_varint(0);
        } else {
            w.write_i16(-1);
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn min_size(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }

    fn decode(r: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        decode_required(r, form)
    }

    fn encode(&self, w: &mut Writer, form: Form) {
        encode_i32_length(w, form, self.len());
        for element in self {
            element.encode(w, form);
        }
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn decode_length(r: &mut Reader, form: Form) -> Result<Option<usize>, DecodeError> {
        decode_i32_length(r, form)
    }

    fn decode_content(r: &mut Reader, form: Form, length: usize) -> Result<Self, DecodeError> {
        let mut elements = r.vec_for(length, T::min_size(form))?;
        for _ in 0..length {
            elements.push(T::decode(r, form)?);
        }
        Ok(elements)
    }

    fn encode_null(w: &mut Writer, form: Form) {
        encode_i32_null(w, form);
    }
}

impl<T: Nullable> Wire for Option<T> {
    fn min_size(form: Form) -> usize {
        T::min_size(form)
    }

    fn decode(r: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        match T::decode_length(r, form)? {
            Some(length) => T::decode_content(r, form, length).map(Some),
            None if form.nullable => Ok(None),
            None => Err(DecodeError::UnexpectedNull),
        }
    }

    fn encode(&self, w: &mut Writer, form: Form) {
        match self {
            Some(value) => value.encode(w, form),
            None if form.nullable => T::encode_null(w, form),
            None => w.fail(EncodeError::UnexpectedNull {
                version: form.version,
            }),
        }
    }
}

/// The bytes of a records field are record batches, whose own checks come later ([`crate::record_batch`]).
impl Wire for Records {
    fn min_size(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }

    fn decode(r: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        match decode_i32_length(r, form)? {
            Some(length) => r.read_bytes(length).map(Records::Inline),
            None => Ok(Records::Null),
        }
    }

    fn encode(&self, w: &mut Writer, form: Form) {
        match self {
            Records::Null => encode_i32_null(w, form),
            Records::Inline(bytes) => {
                encode_i32_length(w, form, bytes.len());
                w.write_bytes(bytes);
            }
            Records::Deferred { len } => {
                encode_i32_length(w, form, *len as usize);
                w.write_gap(*len);
            }
        }
    }
}
