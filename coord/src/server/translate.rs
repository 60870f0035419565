//! From the wire's requests to the core's.

use bytes::Bytes;
use bytestring::ByteString;
use coord_core::acl::{Acl, Identity, digest_identities};
use coord_core::reconfig::Reconfig;
use coord_core::request::{CreateMode, NodeType, Read, Request, Write};
use coord_core::watch::WatchKind;
use coord_core::{OpError, Zxid};
use zookeeper_wire::{
    self as wire, AddWatchMode, MultiOp, MultiReadOp, OpCode, PathWatch, Reader, RequestHeader,
    WatcherType,
};

use crate::config::Auth;
use crate::server::sasl::Sasl;

/// The xid and the request of a frame. Bytes that are no request become one that is refused in its turn, so the
/// connection lives; an op code that is not known ends it behind the answer, as in ZooKeeper. Only a frame without a
/// header is an error.
pub(super) fn request(
    frame: Bytes,
    auth: &Auth,
    sasl: &mut Sasl,
) -> Result<(i32, Request), wire::DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let request = match OpCode::try_from(header.op_code) {
        Err(_) => last(OpError::Unimplemented),
        Ok(op) => match wire::Request::decode(op, &mut reader) {
            Err(_) => refused(OpError::Marshalling),
            Ok(wire::Request::Auth {
                scheme,
                credentials,
            }) => authentication(&scheme, credentials.as_deref(), auth),
            // It stands in a multi only.
            Ok(wire::Request::Check(_)) => last(OpError::Unimplemented),
            Ok(wire::Request::Sasl(token)) => sasl.step(token, auth),
            Ok(request) => operation(request).unwrap_or_else(refused),
        },
    };
    Ok((header.xid, request))
}

fn refused(error: OpError) -> Request {
    Request::Refused {
        error,
        close: false,
    }
}

fn last(error: OpError) -> Request {
    Request::Refused { error, close: true }
}

/// Who the client shows to be: nobody by no credentials at all. Its address is known without being shown.
fn authentication(scheme: &str, credentials: Option<&[u8]>, auth: &Auth) -> Request {
    match (scheme, credentials) {
        ("digest", Some(credentials)) if auth.digest_enabled => {
            let super_digest = auth.super_digest.as_deref();
            Request::Authenticated(digest_identities(credentials, super_digest))
        }
        ("ip", _) => Request::Authenticated(Vec::new()),
        _ => last(OpError::AuthFailed),
    }
}

fn operation(request: wire::Request) -> Result<Request, OpError> {
    use wire::Request as R;
    Ok(match request {
        R::Create(request) => Request::Write(create(request, false)?),
        R::Create2(request) => Request::Write(create(request, true)?),
        R::CreateContainer(request) => Request::Write(create_container(request)?),
        R::CreateTtl(request) => Request::Write(create_ttl(request)?),
        R::Delete(request) => Request::Write(delete(request)),
        R::SetData(request) => Request::Write(set_data(request)),
        R::SetAcl(request) => Request::Write(Write::SetAcl {
            path: request.path,
            acl: request.acl.into_iter().map(acl).collect(),
            version: request.version,
        }),
        // Flags that no write has spoil the whole multi, before any of it is looked at.
        R::Multi(ops) => {
            let writes = ops.into_iter().map(multi_op).collect::<Result<_, _>>();
            Request::Multi(writes.map_err(|_| OpError::Marshalling)?)
        }
        R::Reconfig(request) => Request::Reconfig(Reconfig {
            joining: request.joining,
            leaving: request.leaving,
            new_members: request.new_members,
            config_version: request.config_version,
        }),
        R::Sync(path) => Request::Sync { path },
        R::CloseSession => Request::CloseSession,
        R::Exists(PathWatch { path, watch }) => Request::Read(Read::Exists { path, watch }),
        R::GetData(PathWatch { path, watch }) => Request::Read(Read::GetData { path, watch }),
        R::GetChildren(request) => Request::Read(get_children(request, false)),
        R::GetChildren2(request) => Request::Read(get_children(request, true)),
        R::GetAllChildrenNumber(path) => Request::Read(Read::GetAllChildrenNumber { path }),
        R::GetEphemerals { prefix } => Request::Read(Read::GetEphemerals { prefix }),
        R::GetAcl(path) => Request::Read(Read::GetAcl { path }),
        R::MultiRead(ops) => {
            Request::Read(Read::Multi(ops.into_iter().map(multi_read_op).collect()))
        }
        R::WhoAmI => Request::Read(Read::WhoAmI),
        R::Ping => Request::Read(Read::Ping),
        R::SetWatches(watches) => Request::Read(set_watches(watches, Vec::new(), Vec::new())),
        R::SetWatches2(watches) => Request::Read(set_watches(
            watches.one_shot,
            watches.persistent,
            watches.persistent_recursive,
        )),
        R::AddWatch { path, mode } => Request::Read(Read::AddWatch {
            path,
            recursive: mode == AddWatchMode::PersistentRecursive,
        }),
        R::CheckWatches { path, watcher_type } => Request::Read(Read::CheckWatches {
            path,
            kind: watch_kind(watcher_type),
        }),
        R::RemoveWatches { path, watcher_type } => Request::Read(Read::RemoveWatches {
            path,
            kind: watch_kind(watcher_type),
        }),
        // Authentication is between the connection and its client.
        R::Auth { .. } | R::Sasl(_) | R::Check(_) => return Err(OpError::Unimplemented),
    })
}

fn get_children(request: PathWatch, with_stat: bool) -> Read {
    Read::GetChildren {
        path: request.path,
        watch: request.watch,
        with_stat,
    }
}

/// A watch's kind as checkWatches and removeWatches name it; none is any.
fn watch_kind(watcher_type: WatcherType) -> Option<WatchKind> {
    match watcher_type {
        WatcherType::Children => Some(WatchKind::Child),
        WatcherType::Data => Some(WatchKind::Data),
        WatcherType::Persistent => Some(WatchKind::Persistent),
        WatcherType::PersistentRecursive => Some(WatchKind::PersistentRecursive),
        WatcherType::Any => None,
    }
}

fn multi_read_op(op: MultiReadOp) -> Read {
    match op {
        MultiReadOp::GetData(path) => Read::GetData { path, watch: false },
        MultiReadOp::GetChildren(path) => Read::GetChildren {
            path,
            watch: false,
            with_stat: false,
        },
    }
}

fn set_watches(
    watches: wire::SetWatches,
    persistent: Vec<ByteString>,
    persistent_recursive: Vec<ByteString>,
) -> Read {
    Read::SetWatches {
        since: Zxid(watches.relative_zxid),
        data: watches.data,
        exist: watches.exist,
        child: watches.child,
        persistent,
        persistent_recursive,
    }
}

fn multi_op(op: MultiOp) -> Result<Write, OpError> {
    Ok(match op {
        MultiOp::Create(request) => create(request, false)?,
        MultiOp::Create2(request) => create(request, true)?,
        MultiOp::CreateContainer(request) => create_container(request)?,
        MultiOp::CreateTtl(request) => create_ttl(request)?,
        MultiOp::Delete(request) => delete(request),
        MultiOp::SetData(request) => set_data(request),
        MultiOp::Check(request) => check(request),
    })
}

/// create and create2. They make no container, also if the flags say so: for that there is an op code.
fn create(request: wire::CreateRequest, with_stat: bool) -> Result<Write, OpError> {
    let node_type = match request.flags {
        0 | 2 | 4 => NodeType::Persistent,
        1 | 3 => NodeType::Ephemeral,
        // A time to live that is missing.
        5 | 6 => NodeType::Ttl { ttl_ms: -1 },
        _ => return Err(OpError::BadArguments),
    };
    Ok(create_of(node_type, request, with_stat))
}

/// createContainer makes a container whatever the flags say, sequential ones too.
fn create_container(request: wire::CreateRequest) -> Result<Write, OpError> {
    match request.flags {
        0..=4 => Ok(create_of(NodeType::Container, request, true)),
        5 | 6 => create(request, true),
        _ => Err(OpError::BadArguments),
    }
}

fn create_ttl(request: wire::CreateTtlRequest) -> Result<Write, OpError> {
    let ttl_ms = request.ttl_ms;
    match request.create.flags {
        5 | 6 => Ok(create_of(NodeType::Ttl { ttl_ms }, request.create, true)),
        _ => Err(OpError::BadArguments),
    }
}

fn create_of(node_type: NodeType, request: wire::CreateRequest, with_stat: bool) -> Write {
    Write::Create {
        path: request.path,
        data: request.data,
        acl: request.acl.into_iter().map(acl).collect(),
        mode: CreateMode {
            node_type,
            sequential: matches!(request.flags, 2 | 3 | 6),
        },
        with_stat,
    }
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
