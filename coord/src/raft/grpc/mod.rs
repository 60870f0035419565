//! Raft over gRPC: what the transport and the service are in production. The messages are in `proto/raft.proto`.

mod accept;
mod appends;
mod client;
mod convert;
mod server;
#[cfg(test)]
mod tests;

pub use client::GrpcTransport;
pub use server::serve;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use coord_core::{NodeId, txn};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::transport::{Envelope, Rejected};

/// Frames that wait between a stream and the connection. Each is bounded, and HTTP/2 bounds what is on its way.
const STREAM_LEN: usize = 16;

/// A connection that is idle is tried this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A connection that answers nothing for so long is given up, so that the next one is not held up by the old one's
/// retransmissions once the network is back.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS between members. Both sides show a certificate that the other's trust store vouches for.
#[derive(Debug, Clone)]
pub struct QuorumTls {
    /// For connections to others.
    pub client: Arc<rustls::ClientConfig>,
    /// For connections from others; it has to ask for certificates.
    pub server: Arc<rustls::ServerConfig>,
    /// Whether the certificate of a member that connects has to be for the host in its `server.N`. Without it everybody
    /// with a certificate of the ensemble can pass for any member.
    pub verify_hosts: bool,
}

/// The largest message: entries up to a batch's length, and behind them, as openraft and the log gather, one transaction of
/// any length.
fn message_max_len(batch_max_len: usize) -> usize {
    txn::MAX_LEN + 4 * batch_max_len
}

const ENSEMBLE: &str = "coord-ensemble";
const FROM: &str = "coord-from";
const TO: &str = "coord-to";

fn put_envelope(envelope: Envelope, metadata: &mut MetadataMap) {
    metadata.insert(ENSEMBLE, MetadataValue::from(envelope.ensemble));
    metadata.insert(FROM, MetadataValue::from(envelope.from.0));
    metadata.insert(TO, MetadataValue::from(envelope.to.0));
}

fn take_envelope(metadata: &MetadataMap) -> Result<Envelope, Status> {
    let number = |key| {
        let value = metadata.get(key)?.to_str().ok()?;
        u64::from_str(value).ok()
    };
    let missing = |key| {
        let cause = format!("it has no number {key} in its metadata");
        status(&Rejected::Damaged(cause))
    };
    Ok(Envelope {
        ensemble: number(ENSEMBLE).ok_or_else(|| missing(ENSEMBLE))?,
        from: NodeId(number(FROM).ok_or_else(|| missing(FROM))?),
        to: NodeId(number(TO).ok_or_else(|| missing(TO))?),
    })
}

/// A refusal as gRPC has it. The details say which one it is; they are there only if a member has written them.
fn status(rejected: &Rejected) -> Status {
    let mut details = Vec::new();
    let (kind, node) = match rejected {
        Rejected::WrongNode(node) => (1, node.0),
        Rejected::WrongEnsemble(node) => (2, node.0),
        Rejected::Stranger(node) => (3, node.0),
        Rejected::Busy => (4, 0),
        Rejected::Damaged(_) => (5, 0),
        Rejected::Stopped => (6, 0),
        Rejected::Impostor(node) => (7, node.0),
        Rejected::Removed(node) => (8, node.0),
    };
    details.put_u8(kind);
    details.put_u64(node);
    Status::with_details(
        Code::FailedPrecondition,
        rejected.to_string(),
        details.into(),
    )
}

/// What [`status`] made of a refusal; none if it is an error of the connection.
fn rejected(status: &Status) -> Option<Rejected> {
    let mut details = Bytes::copy_from_slice(status.details());
    if status.code() != Code::FailedPrecondition || details.len() != 9 {
        return None;
    }
    let kind = details.get_u8();
    let node = NodeId(details.get_u64());
    Some(match kind {
        1 => Rejected::WrongNode(node),
        2 => Rejected::WrongEnsemble(node),
        3 => Rejected::Stranger(node),
        4 => Rejected::Busy,
        5 => Rejected::Damaged(status.message().to_owned()),
        6 => Rejected::Stopped,
        7 => Rejected::Impostor(node),
        8 => Rejected::Removed(node),
        _ => return None,
    })
}
