//! A [`State`] as bytes: a sequence of chunks, each some whole records, so that neither writing nor reading ever holds
//! a second copy of the state. The shell frames each chunk with a length and a checksum.
//!
//! ```text
//! header  := 0 version:u8 last_zxid last_session sessions:u32 nodes:u32     first
//! session := 1 id password timeout_ms claim                               version 1 has no claim
//! node    := 2 path data acl zxids times versions owner
//! end     := 3                                                             last: a cut snapshot has none
//! ```

use bytes::Bytes;

use crate::codec::{self, CodecError, Decoder};
use crate::ephemeral_type::EphemeralType;
use crate::session::Session;
use crate::state::State;
use crate::tree::{Tree, Znode};
use crate::zxid::{SessionId, Zxid};

const HEADER: u8 = 0;
const SESSION: u8 = 1;
const NODE: u8 = 2;
const END: u8 = 3;

const VERSION: u8 = 2;

/// The format of former versions, whose sessions have no claim.
const VERSION_WITHOUT_CLAIMS: u8 = 1;

/// A chunk is handed out once it is at least this long; a single znode may make it longer.
const CHUNK_LEN: usize = 256 * 1024;

/// Why chunks are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Bytes that are no records.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It does not begin with a header.
    #[error("it does not begin with a header")]
    NoHeader,
    /// A format that this program does not know.
    #[error("it has format {0}, this program knows {VERSION}")]
    Version(u8),
    /// It ends before its end record.
    #[error("it is cut off")]
    CutOff,
    /// It goes on behind its end record.
    #[error("it goes on behind its end")]
    BehindEnd,
    /// It has another count of sessions or znodes than it says.
    #[error("it has {found} sessions and nodes, its header says {expected}")]
    Count {
        /// What the header says.
        expected: u64,
        /// What it holds.
        found: u64,
    },
    /// A znode whose parent it lacks.
    #[error("it lacks the parent of {0}")]
    Orphan(String),
}

/// Hands `state` to `sink`, chunk by chunk.
pub fn encode<E>(state: &State, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut chunk = Vec::with_capacity(CHUNK_LEN + 4096);
    chunk.extend([HEADER, VERSION]);
    codec::put_i64(&mut chunk, state.last_zxid.0);
    codec::put_i64(&mut chunk, state.last_session.0);
    codec::put_count(&mut chunk, state.sessions.len());
    codec::put_count(&mut chunk, state.tree.len());
    let mut flush = |chunk: &mut Vec<u8>, at_least: usize| {
        if chunk.len() >= at_least {
            sink(chunk)?;
            chunk.clear();
        }
        Ok(())
    };
    for (id, session) in &state.sessions {
        chunk.push(SESSION);
        codec::put_i64(&mut chunk, id.0);
        chunk.extend(session.password);
        chunk.extend(session.timeout_ms.to_le_bytes());
        codec::put_i64(&mut chunk, session.claim.0);
        flush(&mut chunk, CHUNK_LEN)?;
    }
    for (path, node) in state.tree.iter() {
        chunk.push(NODE);
        codec::put_bytes(&mut chunk, path.as_bytes());
        encode_node(node, &mut chunk);
        flush(&mut chunk, CHUNK_LEN)?;
    }
    chunk.push(END);
    flush(&mut chunk, 0)
}

fn encode_node(node: &Znode, out: &mut Vec<u8>) {
    codec::put_data(out, node.data.as_ref());
    codec::put_acl(out, &node.acl);
    for long in [
        node.czxid.0,
        node.mzxid.0,
        node.pzxid.0,
        node.ctime_ms,
        node.mtime_ms,
        node.ephemeral_type.owner(),
    ] {
        codec::put_i64(out, long);
    }
    for int in [node.version, node.aversion, node.child_creates] {
        codec::put_i32(out, int);
    }
}

/// Takes the chunks of a snapshot, in order.
#[derive(Debug)]
pub struct Loader {
    state: State,
    has_claims: bool,
    expected: Option<u64>,
    found: u64,
    ended: bool,
}

impl Default for Loader {
    fn default() -> Loader {
        let state = State {
            tree: Tree::empty(),
            ..State::default()
        };
        Loader {
            state,
            has_claims: true,
            expected: None,
            found: 0,
            ended: false,
        }
    }
}

impl Loader {
    /// Takes the next chunk.
    pub fn load(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        let mut d = Decoder::new(chunk);
        while !d.is_empty() {
            if self.ended {
                return Err(SnapshotError::BehindEnd);
            }
            match (d.u8()?, self.expected) {
                (HEADER, None) => {
                    self.has_claims = match d.u8()? {
                        VERSION => true,
                        VERSION_WITHOUT_CLAIMS => false,
                        version => return Err(SnapshotError::Version(version)),
                    };
                    self.state.last_zxid = Zxid(d.i64()?);
                    self.state.last_session = SessionId(d.i64()?);
                    self.expected = Some(u64::from(d.u32()?) + u64::from(d.u32()?));
                }
                (_, None) => return Err(SnapshotError::NoHeader),
                (SESSION, _) => {
                    let id = SessionId(d.i64()?);
                    let session = Session {
                        password: d.array()?,
                        timeout_ms: d.u32()?,
                        claim: match self.has_claims {
                            true => Zxid(d.i64()?),
                            false => Zxid(0),
                        },
                    };
                    self.state.sessions.insert(id, session);
                    self.found += 1;
                }
                (NODE, _) => {
                    let path = d.string()?;
                    let node = decode_node(&mut d)?;
                    self.state.tree.restore((&*path).into(), node);
                    self.found += 1;
                }
                (END, _) => self.ended = true,
                (tag, _) => return Err(CodecError::UnknownTag(tag).into()),
            }
        }
        Ok(())
    }

    /// The state, if the snapshot was whole.
    pub fn finish(mut self) -> Result<State, SnapshotError> {
        let expected = match self.expected {
            Some(expected) if self.ended => expected,
            _ => return Err(SnapshotError::CutOff),
        };
        if expected != self.found {
            return Err(SnapshotError::Count {
                expected,
                found: self.found,
            });
        }
        match self.state.tree.link_children() {
            Some(orphan) => Err(SnapshotError::Orphan(orphan.to_string())),
            None => Ok(self.state),
        }
    }
}

fn decode_node(d: &mut Decoder) -> Result<Znode, CodecError> {
    let data = codec::data(d)?;
    let acl = codec::acl(d)?;
    Ok(Znode {
        data,
        acl,
        czxid: Zxid(d.i64()?),
        mzxid: Zxid(d.i64()?),
        pzxid: Zxid(d.i64()?),
        ctime_ms: d.i64()?,
        mtime_ms: d.i64()?,
        ephemeral_type: EphemeralType::of(d.i64()?),
        version: d.i32()?,
        aversion: d.i32()?,
        child_creates: d.i32()?,
        children: Default::default(),
    })
}
