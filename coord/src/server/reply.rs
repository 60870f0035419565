//! From the core's answers to the wire's frames.

use coord_core::acl::Identity;
use coord_core::request::{Response, WriteKind};
use coord_core::tree::Stat;
use coord_core::watch::WatchEventType;
use coord_core::{OpError, Zxid};
use zookeeper_wire::{
    self as wire, ClientInfo, ErrorCode, OpCode, ReplyHeader, WatcherEvent, Writer, xid,
};

/// Writes the frame of an answer.
pub(super) fn write(w: &mut Writer, xid: i32, zxid: Zxid, result: &Result<Response, OpError>) {
    let error = match result {
        Ok(_) => ErrorCode::Ok,
        Err(error) => code(*error),
    };
    w.frame(|w| {
        ReplyHeader {
            xid,
            zxid: zxid.0,
            error,
        }
        .encode(w);
        if let Ok(response) = result {
            wire_response(response).encode(w);
        }
    });
}

/// Writes the frame of a watch event.
pub(super) fn write_event(w: &mut Writer, zxid: Zxid, event: WatchEventType, path: &str) {
    let event_type = match event {
        WatchEventType::NodeCreated => wire::WatchEventType::NodeCreated,
        WatchEventType::NodeDeleted => wire::WatchEventType::NodeDeleted,
        WatchEventType::NodeDataChanged => wire::WatchEventType::NodeDataChanged,
        WatchEventType::NodeChildrenChanged => wire::WatchEventType::NodeChildrenChanged,
    };
    w.frame(|w| {
        ReplyHeader {
            xid: xid::EVENT,
            zxid: zxid.0,
            error: ErrorCode::Ok,
        }
        .encode(w);
        WatcherEvent { event_type, path }.encode(w);
    });
}

fn wire_response(response: &Response) -> wire::Response<&str, &[u8]> {
    match response {
        Response::Empty => wire::Response::Empty,
        Response::Path(path) => wire::Response::Path(path),
        Response::PathStat(path, of) => wire::Response::PathStat(path, stat(of)),
        Response::Stat(of) => wire::Response::Stat(stat(of)),
        Response::Data(data, of) => wire::Response::Data(data.as_deref(), stat(of)),
        Response::Children(names) => wire::Response::Paths(names.iter().collect()),
        Response::Children2(names, of) => {
            wire::Response::Children2(names.iter().collect(), stat(of))
        }
        Response::Acl(acl, of) => {
            let entry = |entry: &coord_core::acl::Acl| wire::Acl {
                perms: entry.perms,
                scheme: entry.identity.scheme.clone(),
                id: entry.identity.id.clone(),
            };
            wire::Response::Acl(acl.iter().map(entry).collect(), stat(of))
        }
        Response::Count(count) => wire::Response::Count(*count as i32),
        Response::Identities(identities) => {
            let info = |identity: &Identity| ClientInfo {
                scheme: identity.scheme.clone(),
                user: identity.id.clone(),
            };
            wire::Response::Identities(identities.iter().map(info).collect())
        }
        Response::Token(token) => wire::Response::Token(token.as_deref()),
        Response::Watching => wire::Response::Error(ErrorCode::Ok),
        Response::MultiRead(results) => {
            let outcomes = results.iter().map(|result| match result {
                Ok(response) => Ok((read_op_code(response), wire_response(response))),
                Err(error) => Err(code(*error)),
            });
            wire::Response::Multi(outcomes.collect())
        }
        Response::Multi(results) => {
            let outcomes = results.iter();
            let outcomes = outcomes.map(|(kind, done)| Ok((op_code(*kind), wire_response(done))));
            wire::Response::Multi(outcomes.collect())
        }
        Response::MultiFailed(errors) => {
            let outcome = |error: &Option<OpError>| Err(error.map_or(ErrorCode::Ok, code));
            wire::Response::Multi(errors.iter().map(outcome).collect())
        }
    }
}

fn op_code(kind: WriteKind) -> OpCode {
    match kind {
        WriteKind::Create => OpCode::Create,
        WriteKind::Create2 => OpCode::Create2,
        WriteKind::Delete => OpCode::Delete,
        WriteKind::SetData => OpCode::SetData,
        WriteKind::SetAcl => OpCode::SetAcl,
        WriteKind::Check => OpCode::Check,
    }
}

/// The read of a multiRead that is answered so.
fn read_op_code(response: &Response) -> OpCode {
    match response {
        Response::Children(_) => OpCode::GetChildren,
        _ => OpCode::GetData,
    }
}

fn code(error: OpError) -> ErrorCode {
    match error {
        OpError::NoNode => ErrorCode::NoNode,
        OpError::NoAuth => ErrorCode::NoAuth,
        OpError::BadVersion => ErrorCode::BadVersion,
        OpError::NoChildrenForEphemerals => ErrorCode::NoChildrenForEphemerals,
        OpError::NodeExists => ErrorCode::NodeExists,
        OpError::NotEmpty => ErrorCode::NotEmpty,
        OpError::SessionExpired => ErrorCode::SessionExpired,
        OpError::SessionMoved => ErrorCode::SessionMoved,
        OpError::NotReadOnly => ErrorCode::NotReadOnly,
        OpError::InvalidAcl => ErrorCode::InvalidAcl,
        OpError::BadArguments => ErrorCode::BadArguments,
        OpError::Unimplemented => ErrorCode::Unimplemented,
        OpError::Marshalling => ErrorCode::MarshallingError,
        OpError::AuthFailed => ErrorCode::AuthFailed,
        OpError::RuntimeInconsistency => ErrorCode::RuntimeInconsistency,
        OpError::SaslRequired => ErrorCode::SessionClosedRequireSaslAuth,
        OpError::NoWatcher => ErrorCode::NoWatcher,
        OpError::QuotaExceeded => ErrorCode::QuotaExceeded,
        OpError::ReconfigDisabled => ErrorCode::ReconfigDisabled,
        OpError::ReconfigInProgress => ErrorCode::ReconfigInProgress,
        OpError::NewConfigNoQuorum => ErrorCode::NewConfigNoQuorum,
    }
}

fn stat(stat: &Stat) -> wire::Stat {
    wire::Stat {
        czxid: stat.czxid.0,
        mzxid: stat.mzxid.0,
        ctime: stat.ctime_ms,
        mtime: stat.mtime_ms,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner.0,
        data_length: stat.data_len,
        num_children: stat.children,
        pzxid: stat.pzxid.0,
    }
}
