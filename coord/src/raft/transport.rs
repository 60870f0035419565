//! The narrow door to the other members.
//!
//! Two things travel: calls, which are answered once, and streams of frames, which keep their order or break. tonic
//! carries them in production (`grpc.rs`), a simulator's virtual network in its tests. What arrives goes to a
//! [`Service`](super::Service).

use std::fmt::Debug;

use bytes::Bytes;
use coord_core::{NodeId, ServerSpec};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use tokio::sync::mpsc;

use super::disk::Work;
use super::types::{LogId, TypeConfig};

/// Who speaks to whom. The receiver refuses what is not for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The ensemble's own number, 0 as long as the sender does not know it. Members of two ensembles never mix.
    pub ensemble: u64,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
}

/// A call.
#[derive(Debug, Clone)]
pub enum Request {
    /// A leader's entries, or just a sign of life.
    AppendEntries(AppendEntriesRequest<TypeConfig>),
    /// A candidate's request for a vote.
    Vote(VoteRequest<NodeId>),
    /// How a member is, before there is a leader. A candidate asks a majority before it asks for votes, so that one that
    /// was cut off does not unseat the leader when it comes back; and a member without an ensemble asks whether there is
    /// one.
    Status {
        /// The asker's last entry.
        last_log_id: Option<LogId>,
    },
}

/// The answer to a call of the same name.
#[derive(Debug)]
pub enum Response {
    /// Whether the entries are on the member's disk.
    AppendEntries(AppendEntriesResponse<NodeId>),
    /// Whether the member gave its vote.
    Vote(VoteResponse<NodeId>),
    /// How the member is.
    Status(StatusResponse),
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusResponse {
    /// Whether it belongs to an ensemble: it has a log.
    pub founded: bool,
    /// Whether it would vote for the asker: it hears no leader, is not ahead, and supports no other candidate.
    pub supports: bool,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Requests to a leader, and its answers.
    Forward,
    /// A leader's snapshot, and one frame that answers it.
    Snapshot,
}

/// One end of a stream. Dropping `outgoing` ends it for the other side once it has read all; `incoming` ends when the
/// other side has dropped its end, or when the connection is broken.
#[derive(Debug)]
pub struct Stream {
    /// Frames to the other side.
    pub outgoing: mpsc::Sender<Bytes>,
    /// Frames from the other side.
    pub incoming: mpsc::Receiver<Bytes>,
}

/// Why something did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody is there: the connection was refused or has been broken by the other side.
    #[error("nobody is there: {0}")]
    Broken(String),
    /// The other side does not want it.
    #[error("{0}")]
    Rejected(#[from] Rejected),
}

/// Why a member does not want what it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is for another.
    #[error("this is server {0}: the addresses in server.N are mixed up")]
    WrongNode(NodeId),
    /// It comes from members of another ensemble.
    #[error("server {0} belongs to another ensemble")]
    WrongEnsemble(NodeId),
    /// It comes from a server that this one, which belongs to no ensemble yet, has no `server.N` for.
    #[error("server {0} is none of those in server.N here")]
    Stranger(NodeId),
    /// It comes from a server that the ensemble does without.
    #[error("server {0} was removed from the ensemble")]
    Removed(NodeId),
    /// Its certificate is not for the host of the server that it says it is.
    #[error("the certificate is not for the host of server {0}")]
    Impostor(NodeId),
    /// The same is still being worked on.
    #[error("the request before is still being worked on")]
    Busy,
    /// It makes no sense.
    #[error("the message is damaged: {0}")]
    Damaged(String),
    /// The member ends.
    #[error("the server is shutting down")]
    Stopped,
}

/// How members reach each other. Dropping what a call or an opening returns gives it up.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Asks `to`, which is at `server`.
    fn call(
        &self,
        server: &ServerSpec,
        envelope: Envelope,
        request: Request,
    ) -> Work<'static, Result<Response, TransportError>>;

    /// Opens a stream; it returns once the other side has taken it.
    fn open(
        &self,
        server: &ServerSpec,
        envelope: Envelope,
        kind: StreamKind,
    ) -> Work<'static, Result<Stream, TransportError>>;
}
