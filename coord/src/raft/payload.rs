//! What an entry says, as it is decided and as bytes. The bytes are the same in the log and on the wire.
//!
//! ```text
//! payload    := BLANK | MEMBERSHIP membership | BEGIN begin | BATCH batch
//! membership := configs:u32 { voters:u32 { node:u64 } } servers:u32 { node:u64 server }
//! server     := host quorum_port:u16 election_port:u16 role:u8 client:u8 [ host port:u16 ]
//! begin      := term:u32 node:u64 nonce:u64
//! batch      := term:u32 txns:u32 { len:u32 (zxid txn) }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Buf, Bytes, TryGetError};
use coord_core::server_spec::HostPort;
use coord_core::{CodecError, NodeId, ServerRole, ServerSpec, Txn, Zxid, txn};
use openraft::EntryPayload;
use tokio::sync::OwnedSemaphorePermit;

use super::types::{Entry, LogId, Membership, TypeConfig};

const BLANK: u8 = 0;
const MEMBERSHIP: u8 = 1;
const BEGIN: u8 = 2;
const BATCH: u8 = 3;

/// What coord itself says in an entry. A clone shares it with its original: the log, the state machine and each
/// replication stream hold the same one, and it is encoded once, by whoever needs the bytes first.
#[derive(Clone)]
pub struct Payload(Arc<Shared>);

struct Shared {
    content: OnceLock<Content>,
    bytes: OnceLock<Bytes>,
    /// The log takes it, and gives it back once the entry is on this member's disk, or will never be.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What a payload says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A leader begins its term.
    Begin(Begin),
    /// Transactions that were decided together.
    Batch(Batch),
}

/// The first word of a leader in its term: once it is applied there, its state holds all that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The term.
    pub term: u32,
    /// The leader.
    pub node: NodeId,
    /// Drawn at random, once by each leader that begins. It tells a leader's word from that of its former life in the
    /// same term, and the first one ever applied names the ensemble.
    pub nonce: u64,
}

/// Transactions that were decided together, in the order of their zxids.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The term of the leader that decided them. Proposed too late, they come into the log under another term, and
    /// everybody skips them.
    pub term: u32,
    /// The transactions.
    pub txns: Vec<(Zxid, Arc<Txn>)>,
}

impl Batch {
    /// Whether the leader that decided it also led when it came into the log. If not, it was decided on a state that may
    /// never have been, and nobody applies it.
    pub fn is_of(&self, log_id: LogId) -> bool {
        log_id.leader_id.term == u64::from(self.term)
    }
}

/// Why bytes are no payload, although their checksum may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It ends inside a field.
    #[error("the entry ends inside a field")]
    Truncated,
    /// A kind that no version of this program has written.
    #[error("the entry has the unknown kind {0}")]
    UnknownKind(u8),
    /// A member that is none.
    #[error("the entry names a member with {0}")]
    Member(&'static str),
    /// Bytes behind its end.
    #[error("the entry has {0} bytes behind its end")]
    Trailing(usize),
    /// A transaction that is none.
    #[error(transparent)]
    Txn(#[from] CodecError),
}

impl From<TryGetError> for PayloadError {
    fn from(_: TryGetError) -> PayloadError {
        PayloadError::Truncated
    }
}

impl Payload {
    /// A payload that is not encoded yet.
    pub fn new(content: Content) -> Payload {
        Payload::with(content.into(), OnceLock::new(), None)
    }

    /// A batch with its bytes, whose proposer waits for its permit to come back.
    pub(super) fn proposed(batch: Batch, bytes: Bytes, permit: OwnedSemaphorePermit) -> Payload {
        Payload::with(Content::Batch(batch).into(), bytes.into(), Some(permit))
    }

    fn encoded(bytes: Bytes) -> Payload {
        Payload::with(OnceLock::new(), bytes.into(), None)
    }

    fn with(
        content: OnceLock<Content>,
        bytes: OnceLock<Bytes>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Payload {
        Payload(Arc::new(Shared {
            content,
            bytes,
            permit: Mutex::new(permit),
        }))
    }

    /// What its proposer waits for, if this member has proposed it and its log has not taken it yet.
    pub(super) fn take_permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut permit = self.0.permit.lock().unwrap_or_else(PoisonError::into_inner);
        permit.take()
    }

    /// What it says. Bytes from another member or the disk are decoded here, once, so a wrong one is found here.
    pub fn content(&self) -> Result<&Content, PayloadError> {
        if let Some(content) = self.0.content.get() {
            return Ok(content);
        }
        let content = decode_content(self.bytes())?;
        Ok(self.0.content.get_or_init(|| content))
    }

    /// Its bytes.
    pub fn bytes(&self) -> Bytes {
        let encode = || match self.0.content.get() {
            Some(content) => encode_content(content).into(),
            // It has one of the two from its beginning.
            None => Bytes::new(),
        };
        self.0.bytes.get_or_init(encode).clone()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.content.get() {
            Some(content) => content.fmt(f),
            None => write!(f, "{} bytes", self.bytes().len()),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.bytes() == other.bytes()
    }
}

/// The bytes of an entry but for its place, as the log and the wire have them.
pub(super) fn encode(entry: &Entry) -> Bytes {
    match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(payload) => payload.bytes(),
        EntryPayload::Membership(membership) => {
            let mut out = vec![MEMBERSHIP];
            encode_membership(membership, &mut out);
            out.into()
        }
    }
}

/// The entry at `log_id` that [`encode`] gave `bytes` for. Transactions stay as they are until somebody asks for them.
pub(super) fn decode(log_id: LogId, bytes: Bytes) -> Result<Entry, PayloadError> {
    let mut rest = bytes.clone();
    let payload = match rest.try_get_u8()? {
        BLANK => {
            end(&rest)?;
            EntryPayload::Blank
        }
        MEMBERSHIP => {
            let membership = decode_membership(&mut rest)?;
            end(&rest)?;
            EntryPayload::Membership(membership)
        }
        BEGIN | BATCH => EntryPayload::Normal(Payload::encoded(bytes)),
        kind => return Err(PayloadError::UnknownKind(kind)),
    };
    Ok(openraft::Entry::<TypeConfig> { log_id, payload })
}

fn encode_content(content: &Content) -> Vec<u8> {
    let mut out = Vec::new();
    match content {
        Content::Begin(begin) => {
            out.push(BEGIN);
            out.extend(begin.term.to_le_bytes());
            out.extend(begin.node.0.to_le_bytes());
            out.extend(begin.nonce.to_le_bytes());
        }
        Content::Batch(batch) => {
            let mut encoder = BatchEncoder::new(batch.term);
            for (zxid, txn) in &batch.txns {
                encoder.add(*zxid, txn);
            }
            return encoder.finish();
        }
    }
    out
}

/// Encodes a batch as it is gathered, so that its length is known all along.
pub(super) struct BatchEncoder {
    out: Vec<u8>,
    count: u32,
}

impl BatchEncoder {
    const COUNT_AT: usize = 5;

    pub(super) fn new(term: u32) -> BatchEncoder {
        let mut out = vec![BATCH];
        out.extend(term.to_le_bytes());
        out.extend([0; 4]);
        BatchEncoder { out, count: 0 }
    }

    pub(super) fn add(&mut self, zxid: Zxid, txn: &Txn) {
        let start = self.out.len();
        self.out.extend([0; 4]);
        txn::encode(zxid, txn, &mut self.out);
        let len = (self.out.len() - start - 4) as u32;
        self.out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// How long the payload is so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out[Self::COUNT_AT..Self::COUNT_AT + 4].copy_from_slice(&self.count.to_le_bytes());
        self.out
    }
}

fn decode_content(mut bytes: Bytes) -> Result<Content, PayloadError> {
    let content = match bytes.try_get_u8()? {
        BEGIN => Content::Begin(Begin {
            term: bytes.try_get_u32_le()?,
            node: NodeId(bytes.try_get_u64_le()?),
            nonce: bytes.try_get_u64_le()?,
        }),
        BATCH => {
            let term = bytes.try_get_u32_le()?;
            // A transaction takes more than its length, so the bytes that are left bound their count.
            let count = count(&mut bytes, 4)?;
            let mut txns = Vec::with_capacity(count);
            for _ in 0..count {
                // A copy, or one small znode would hold on to the whole message that it came in.
                let txn = Bytes::copy_from_slice(&take(&mut bytes)?);
                let (zxid, txn) = txn::decode(txn)?;
                txns.push((zxid, Arc::new(txn)));
            }
            Content::Batch(Batch { term, txns })
        }
        kind => return Err(PayloadError::UnknownKind(kind)),
    };
    end(&bytes)?;
    Ok(content)
}

/// Also what a snapshot says of the membership.
pub(super) fn encode_membership(membership: &Membership, out: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    put_count(out, configs.len());
    for voters in configs {
        put_count(out, voters.len());
        for node in voters {
            out.extend(node.0.to_le_bytes());
        }
    }
    put_count(out, membership.nodes().count());
    for (node, server) in membership.nodes() {
        out.extend(node.0.to_le_bytes());
        put_host(out, &server.host);
        out.extend(server.quorum_port.to_le_bytes());
        out.extend(server.election_port.to_le_bytes());
        out.push((server.role == ServerRole::Observer).into());
        out.push(server.client.is_some().into());
        if let Some(client) = &server.client {
            put_host(out, &client.host);
            out.extend(client.port.to_le_bytes());
        }
    }
}

/// What [`encode_membership`] wrote.
pub(super) fn decode_membership(bytes: &mut Bytes) -> Result<Membership, PayloadError> {
    let configs = (0..count(bytes, 4)?)
        .map(|_| {
            (0..count(bytes, 8)?)
                .map(|_| Ok(NodeId(bytes.try_get_u64_le()?)))
                .collect::<Result<BTreeSet<_>, PayloadError>>()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let servers = (0..count(bytes, 8)?)
        .map(|_| Ok((NodeId(bytes.try_get_u64_le()?), decode_server(bytes)?)))
        .collect::<Result<BTreeMap<_, _>, PayloadError>>()?;
    Ok(Membership::new(configs, servers))
}

fn decode_server(bytes: &mut Bytes) -> Result<ServerSpec, PayloadError> {
    Ok(ServerSpec {
        host: take_host(bytes)?,
        quorum_port: bytes.try_get_u16_le()?,
        election_port: bytes.try_get_u16_le()?,
        role: match bytes.try_get_u8()? {
            0 => ServerRole::Participant,
            1 => ServerRole::Observer,
            _ => return Err(PayloadError::Member("an unknown role")),
        },
        client: match bytes.try_get_u8()? {
            0 => None,
            1 => Some(HostPort {
                host: take_host(bytes)?,
                port: bytes.try_get_u16_le()?,
            }),
            _ => return Err(PayloadError::Member("an unknown client address")),
        },
    })
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u32).to_le_bytes());
}

/// A count of items of at least `item_len` bytes each, so that no more are made room for than can be there.
fn count(bytes: &mut Bytes, item_len: usize) -> Result<usize, PayloadError> {
    let count = bytes.try_get_u32_le()? as usize;
    if bytes.remaining() / item_len < count {
        return Err(PayloadError::Truncated);
    }
    Ok(count)
}

fn take(bytes: &mut Bytes) -> Result<Bytes, PayloadError> {
    let len = bytes.try_get_u32_le()? as usize;
    if bytes.remaining() < len {
        return Err(PayloadError::Truncated);
    }
    Ok(bytes.split_to(len))
}

fn put_host(out: &mut Vec<u8>, host: &str) {
    put_count(out, host.len());
    out.extend(host.as_bytes());
}

fn take_host(bytes: &mut Bytes) -> Result<String, PayloadError> {
    String::from_utf8(take(bytes)?.into())
        .map_err(|_| PayloadError::Member("a host that is not UTF-8"))
}

fn end(bytes: &Bytes) -> Result<(), PayloadError> {
    match bytes.remaining() {
        0 => Ok(()),
        left => Err(PayloadError::Trailing(left)),
    }
}
