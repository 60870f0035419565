//! multi and multiRead: operations behind headers of their own.

use bytestring::ByteString;

use crate::jute::{DecodeError, Reader, Writer};
use crate::op_code::OpCode;
use crate::request::{CreateRequest, CreateTtlRequest, PathVersion, PathWatch, SetDataRequest};

/// One write of a multi.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the op codes of the same names are documented")]
pub enum MultiOp {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersion),
    SetData(SetDataRequest),
    Check(PathVersion),
}

/// One read of a multiRead; it never leaves a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the op codes of the same names are documented")]
pub enum MultiReadOp {
    GetData(ByteString),
    GetChildren(ByteString),
}

/// The op code of the operation that follows; `None` at the end.
pub(crate) fn multi_header(r: &mut Reader) -> Result<Option<i32>, DecodeError> {
    let (code, done, _error) = (r.i32()?, r.bool()?, r.i32()?);
    Ok((!done).then_some(code))
}

pub(crate) fn write_multi_header(w: &mut Writer, code: i32, done: bool, error: i32) {
    w.i32(code);
    w.bool(done);
    w.i32(error);
}

/// Writes operations, each behind its header, and the end.
fn encode_ops<O>(w: &mut Writer, ops: &[O], mut op: impl FnMut(&mut Writer, &O)) {
    for each in ops {
        op(w, each);
    }
    write_multi_header(w, -1, true, -1);
}

/// Reads operations until the header that says done. Each takes at least its nine header bytes, so the frame bounds
/// them.
fn decode_ops<O>(
    r: &mut Reader,
    mut op: impl FnMut(OpCode, &mut Reader) -> Result<Option<O>, DecodeError>,
) -> Result<Vec<O>, DecodeError> {
    let mut ops = Vec::new();
    while let Some(code) = multi_header(r)? {
        let known = OpCode::try_from(code).map_err(DecodeError::NotInMulti)?;
        ops.push(op(known, r)?.ok_or(DecodeError::NotInMulti(code))?);
    }
    Ok(ops)
}

impl MultiOp {
    pub(crate) fn decode_all(r: &mut Reader) -> Result<Vec<MultiOp>, DecodeError> {
        decode_ops(r, |op, r| {
            Ok(Some(match op {
                OpCode::Create => MultiOp::Create(CreateRequest::decode(r)?),
                OpCode::Create2 => MultiOp::Create2(CreateRequest::decode(r)?),
                OpCode::CreateContainer => MultiOp::CreateContainer(CreateRequest::decode(r)?),
                OpCode::CreateTtl => MultiOp::CreateTtl(CreateTtlRequest::decode(r)?),
                OpCode::Delete => MultiOp::Delete(PathVersion::decode(r)?),
                OpCode::SetData => MultiOp::SetData(SetDataRequest::decode(r)?),
                OpCode::Check => MultiOp::Check(PathVersion::decode(r)?),
                _ => return Ok(None),
            }))
        })
    }

    pub(crate) fn encode_all(ops: &[MultiOp], w: &mut Writer) {
        encode_ops(w, ops, |w, op| {
            write_multi_header(w, op.op_code().code(), false, -1);
            match op {
                MultiOp::Create(request)
                | MultiOp::Create2(request)
                | MultiOp::CreateContainer(request) => request.encode(w),
                MultiOp::CreateTtl(request) => request.encode(w),
                MultiOp::Delete(request) | MultiOp::Check(request) => request.encode(w),
                MultiOp::SetData(request) => request.encode(w),
            }
        });
    }

    /// The op code of the write.
    pub fn op_code(&self) -> OpCode {
        match self {
            MultiOp::Create(_) => OpCode::Create,
            MultiOp::Create2(_) => OpCode::Create2,
            MultiOp::CreateContainer(_) => OpCode::CreateContainer,
            MultiOp::CreateTtl(_) => OpCode::CreateTtl,
            MultiOp::Delete(_) => OpCode::Delete,
            MultiOp::SetData(_) => OpCode::SetData,
            MultiOp::Check(_) => OpCode::Check,
        }
    }
}

impl MultiReadOp {
    pub(crate) fn decode_all(r: &mut Reader) -> Result<Vec<MultiReadOp>, DecodeError> {
        decode_ops(r, |op, r| {
            Ok(match op {
                OpCode::GetData => Some(MultiReadOp::GetData(PathWatch::decode(r)?.path)),
                OpCode::GetChildren => Some(MultiReadOp::GetChildren(PathWatch::decode(r)?.path)),
                _ => None,
            })
        })
    }

    pub(crate) fn encode_all(ops: &[MultiReadOp], w: &mut Writer) {
        encode_ops(w, ops, |w, op| {
            let (code, path) = match op {
                MultiReadOp::GetData(path) => (OpCode::GetData, path),
                MultiReadOp::GetChildren(path) => (OpCode::GetChildren, path),
            };
            write_multi_header(w, code.code(), false, -1);
            w.string(path);
            w.bool(false);
        });
    }
}
