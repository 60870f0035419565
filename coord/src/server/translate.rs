//! From the wire's requests to the core's.

use bytes::Bytes;
use coord_core::acl::{Acl, Identity};
use coord_core::request::{CreateMode, Read, Request, Write};
use coord_core::{OpError, Zxid};
use zookeeper_wire::{self as wire, MultiOp, OpCode, Reader, RequestHeader};

/// The xid and the request of a frame. Bytes that are no request, and op codes that are not known, become a request
/// that is refused in its turn, so the connection lives; only a frame without a header is an error.
pub(super) fn request(frame: Bytes) -> Result<(i32, Request), wire::DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let request = match OpCode::try_from(header.op_code) {
        Err(_) => Request::Refused(OpError::Unimplemented),
        Ok(op) => match wire::Request::decode(op, &mut reader) {
            Err(_) => Request::Refused(OpError::Marshalling),
            Ok(request) => operation(request).unwrap_or_else(Request::Refused),
        },
    };
    Ok((header.xid, request))
}

fn operation(request: wire::Request) -> Result<Request, OpError> {
    use wire::Request as R;
    Ok(match request {
        R::Create(request) => Request::Write(create(request, false)?),
        R::Create2(request) => Request::Write(create(request, true)?),
        R::Delete(request) => Request::Write(delete(request)),
        R::SetData(request) => Request::Write(set_data(request)),
        R::SetAcl(request) => Request::Write(Write::SetAcl {
            path: request.path,
            acl: request.acl.into_iter().map(acl).collect(),
            version: request.version,
        }),
        R::Check(request) => Request::Write(check(request)),
        R::Multi(ops) => Request::Multi(ops.into_iter().map(multi_op).collect::<Result<_, _>>()?),
        R::Exists(request) => Request::Read(Read::Exists {
            path: request.path,
            watch: request.watch,
        }),
        R::GetData(request) => Request::Read(Read::GetData {
            path: request.path,
            watch: request.watch,
        }),
        R::GetChildren(request) => Request::Read(Read::GetChildren {
            path: request.path,
            watch: request.watch,
            with_stat: false,
        }),
        R::GetChildren2(request) => Request::Read(Read::GetChildren {
            path: request.path,
            watch: request.watch,
            with_stat: true,
        }),
        R::GetAcl(path) => Request::Read(Read::GetAcl { path }),
        R::SetWatches(request) => Request::Read(Read::SetWatches {
            since: Zxid(request.relative_zxid),
            data: request.data,
            exist: request.exist,
            child: request.child,
        }),
        R::Ping => Request::Read(Read::Ping),
        R::Sync(path) => Request::Sync { path },
        R::Auth { .. } => return Err(OpError::AuthFailed),
        R::CloseSession => Request::CloseSession,
        R::CreateContainer(_)
        | R::CreateTtl(_)
        | R::GetAllChildrenNumber(_)
        | R::GetEphemerals { .. }
        | R::MultiRead(_)
        | R::Reconfig(_)
        | R::Sasl(_)
        | R::WhoAmI
        | R::SetWatches2(_)
        | R::AddWatch { .. }
        | R::CheckWatches { .. }
        | R::RemoveWatches { .. } => return Err(OpError::Unimplemented),
    })
}

fn multi_op(op: MultiOp) -> Result<Write, OpError> {
    Ok(match op {
        MultiOp::Create(request) => create(request, false)?,
        MultiOp::Create2(request) => create(request, true)?,
        MultiOp::Delete(request) => delete(request),
        MultiOp::SetData(request) => set_data(request),
        MultiOp::Check(request) => check(request),
        MultiOp::CreateContainer(_) | MultiOp::CreateTtl(_) => return Err(OpError::Unimplemented),
    })
}

fn create(request: wire::CreateRequest, with_stat: bool) -> Result<Write, OpError> {
    let mode = match request.flags {
        flags @ 0..=3 => CreateMode {
            ephemeral: flags & 1 != 0,
            sequential: flags & 2 != 0,
        },
        // Containers and nodes with a time to live.
        4..=6 => return Err(OpError::Unimplemented),
        _ => return Err(OpError::BadArguments),
    };
    let acl = request.acl.into_iter().map(acl).collect();
    Ok(Write::Create {
        path: request.path,
        data: request.data,
        acl,
        mode,
        with_stat,
    })
}

fn delete(request: wire::PathVersion) -> Write {
    Write::Delete {
        path: request.path,
        version: request.version,
    }
}

fn check(request: wire::PathVersion) -> Write {
    Write::Check {
        path: request.path,
        version: request.version,
    }
}

fn set_data(request: wire::SetDataRequest) -> Write {
    Write::SetData {
        path: request.path,
        data: request.data,
        version: request.version,
    }
}

fn acl(acl: wire::Acl) -> Acl {
    Acl {
        perms: acl.perms,
        identity: Identity {
            scheme: acl.scheme,
            id: acl.id,
        },
    }
}
