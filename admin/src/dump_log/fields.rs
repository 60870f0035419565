//! The fields of the records that coordinators write, and the JSON that they become.

use bytes::Bytes;
use kafka_wire::{DecodeError, Reader};

/// A cursor over the fields of one key or value.
pub(crate) struct Fields {
    reader: Reader,
    /// Lengths are unsigned varints, one more than what they say (KIP-482).
    flexible: bool,
}

impl Fields {
    /// The version that comes first, and what follows it.
    pub(crate) fn versioned(bytes: &[u8]) -> Result<(i16, Self), DecodeError> {
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
        let version = reader.read_i16()?;
        let flexible = false;
        Ok((version, Self { reader, flexible }))
    }

    pub(crate) fn flexible(mut self, flexible: bool) -> Self {
        self.flexible = flexible;
        self
    }

    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.reader.read_i8()
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.reader.read_i16()
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.reader.read_i32()
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.reader.read_i64()
    }

    /// A length, -1 for null. `short`: of a string.
    fn length(&mut self, short: bool) -> Result<i64, DecodeError> {
        Ok(if self.flexible {
            i64::from(self.reader.read_unsigned_varint()?) - 1
        } else if short {
            i64::from(self.reader.read_i16()?)
        } else {
            i64::from(self.reader.read_i32()?)
        })
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        match usize::try_from(self.length(true)?) {
            Ok(length) => Ok(Some(self.reader.read_string(length)?.to_string())),
            Err(_) => Ok(None),
        }
    }

    /// One that is null, too, where it should not be.
    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match usize::try_from(self.length(false)?) {
            Ok(length) => Ok(Some(self.reader.read_bytes(length)?)),
            Err(_) => Ok(None),
        }
    }

    /// The items of an array; none if it is null. Each takes a byte at least, so that bytes that are there bound it.
    pub(crate) fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let left = self.reader.remaining();
        let count = usize::try_from(self.length(false)?).unwrap_or(0);
        if count > left {
            return Err(DecodeError::ArrayTooLong { count, left });
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// What later versions add to a structure.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        if self.flexible {
            self.reader.skip_tagged_fields()?;
        }
        Ok(())
    }
}

/// A JSON object with its members in their order. The values are JSON already.
pub(crate) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON array.
pub(crate) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

/// A JSON string.
pub(crate) fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON string, or null.
pub(crate) fn nullable(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), text)
}
