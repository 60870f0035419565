//! The bytes of transactions and snapshots: little-endian integers, and strings and buffers behind a `u32` length.
//! Coord's own format, independent of the client protocol.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use crate::acl::{Acl, AclList, Identity};

/// Why bytes from disk, or from another member, are no record, although their checksum may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The record ends inside a field.
    #[error("the record ends inside a field")]
    Truncated,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A tag that no version of this program has written.
    #[error("unknown tag {0}")]
    UnknownTag(u8),
    /// Bytes behind the record's end.
    #[error("{0} bytes behind the record's end")]
    Trailing(usize),
}

pub(crate) struct Decoder {
    bytes: Bytes,
}

impl Decoder {
    pub(crate) fn new(bytes: Bytes) -> Decoder {
        Decoder { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn need(&self, len: usize) -> Result<(), CodecError> {
        if self.bytes.len() < len {
            Err(CodecError::Truncated)
        } else {
            Ok(())
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    pub(crate) fn bool(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(CodecError::UnknownTag(tag)),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.need(4)?;
        Ok(self.bytes.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.need(8)?;
        Ok(self.bytes.get_u64_le())
    }

    pub(crate) fn i32(&mut self) -> Result<i32, CodecError> {
        self.need(4)?;
        Ok(self.bytes.get_i32_le())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, CodecError> {
        self.need(8)?;
        Ok(self.bytes.get_i64_le())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.need(N)?;
        let mut array = [0; N];
        self.bytes.copy_to_slice(&mut array);
        Ok(array)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let len = self.u32()? as usize;
        self.need(len)?;
        Ok(self.bytes.split_to(len))
    }

    pub(crate) fn string(&mut self) -> Result<ByteString, CodecError> {
        ByteString::try_from(self.bytes()?).map_err(|_| CodecError::NotUtf8)
    }

    /// A count of items that take at least one byte each, so the bytes left bound it.
    pub(crate) fn count(&mut self) -> Result<usize, CodecError> {
        let count = self.u32()? as usize;
        self.need(count)?;
        Ok(count)
    }

    pub(crate) fn end(self) -> Result<(), CodecError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(CodecError::Trailing(left)),
        }
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub(crate) fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend(value.to_le_bytes());
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_le_bytes());
}

/// Data that may be absent: a tag, then the buffer.
pub(crate) fn put_data(out: &mut Vec<u8>, data: Option<&Bytes>) {
    out.push(data.is_some().into());
    if let Some(data) = data {
        put_bytes(out, data);
    }
}

pub(crate) fn data(d: &mut Decoder) -> Result<Option<Bytes>, CodecError> {
    match d.u8()? {
        0 => Ok(None),
        1 => d.bytes().map(Some),
        tag => Err(CodecError::UnknownTag(tag)),
    }
}

pub(crate) fn put_acl(out: &mut Vec<u8>, acl: &[Acl]) {
    put_count(out, acl.len());
    for entry in acl {
        put_i32(out, entry.perms);
        put_bytes(out, entry.identity.scheme.as_bytes());
        put_bytes(out, entry.identity.id.as_bytes());
    }
}

pub(crate) fn acl(d: &mut Decoder) -> Result<Arc<AclList>, CodecError> {
    let count = d.count()?;
    let entry = |d: &mut Decoder| {
        Ok(Acl {
            perms: d.i32()?,
            identity: Identity {
                scheme: d.string()?,
                id: d.string()?,
            },
        })
    };
    let entries: Vec<Acl> = (0..count).map(|_| entry(d)).collect::<Result<_, _>>()?;
    Ok(Arc::new(AclList::new(&entries)))
}
