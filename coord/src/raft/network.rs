//! What openraft sends to the other members.
//!
//! No error is `Unreachable`: openraft would then wait in a `select!` that a seed does not decide. The waiting is done
//! here instead, and bounded by openraft's own time limit for each call.

use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coord_core::{NodeId, ServerSpec};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{LogIdOptionExt, RaftNetwork, RaftNetworkFactory, Snapshot};

use super::disk::Work;
use super::member::Member;
use super::receive::Frame;
use super::snapshot::Snapshots;
use super::transport::{Request, Response, Stream, StreamKind};
use super::types::{LogId, TypeConfig, Vote};
use super::vote;

/// After a call that failed the next one waits for so long.
const RETRY: Duration = Duration::from_millis(50);

/// A member that takes no block of a snapshot for so long does not get it.
const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// Makes a [`Network`] for each member.
pub(super) struct NetworkFactory {
    pub(super) member: Arc<Member>,
    pub(super) snapshots: Snapshots,
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, to: NodeId, server: &ServerSpec) -> Network {
        Network {
            member: self.member.clone(),
            snapshots: self.snapshots.clone(),
            to,
            server: server.clone(),
            sending: Mutex::default(),
        }
    }
}

/// The way to one member.
pub(super) struct Network {
    member: Arc<Member>,
    snapshots: Snapshots,
    to: NodeId,
    server: ServerSpec,
    /// Never locked: it only makes this shareable, as openraft wants it.
    sending: Mutex<Option<Sending>>,
}

/// Entries on their way. openraft gives up after a heartbeat and asks for them again, but what is large or goes far takes
/// longer, and would never arrive if it began anew each time.
struct Sending {
    vote: Vote,
    previous: Option<LogId>,
    last: LogId,
    call: Work<'static, Result<Response, CallError>>,
}

/// Why a call failed, for openraft's log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

fn failed(error: impl Error) -> NetworkError {
    NetworkError::new(&Failed(error.to_string()))
}

type CallError = RPCError<NodeId, ServerSpec, RaftError<NodeId>>;

impl Network {
    fn call(&self, request: Request) -> Work<'static, Result<Response, CallError>> {
        let (member, to) = (self.member.clone(), self.to);
        let call = member
            .transport
            .call(&self.server, member.envelope(to), request);
        Box::pin(async move {
            match call.await {
                Ok(response) => Ok(response),
                Err(error) => {
                    member.complain(to, &error);
                    tokio::time::sleep(RETRY).await;
                    Err(failed(error).into())
                }
            }
        })
    }

    /// Has the entries of `request` on their way, unless some of them are already.
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>, last: LogId) -> &mut Sending {
        let begun = self
            .sending
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let on_the_way = begun.take().filter(|begun| {
            begun.vote == request.vote
                && begun.previous == request.prev_log_id
                && begun.last <= last
        });
        let sending = on_the_way.unwrap_or_else(|| {
            let (vote, previous) = (request.vote, request.prev_log_id);
            let call = self.call(Request::AppendEntries(request));
            let limit = self.member.settings.election_timeout();
            let call = async move {
                match tokio::time::timeout(limit, call).await {
                    Ok(response) => response,
                    Err(_) => Err(failed(Failed("it takes too long".to_owned())).into()),
                }
            };
            Sending {
                vote,
                previous,
                last,
                call: Box::pin(call),
            }
        });
        let place = self
            .sending
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        place.insert(sending)
    }

    fn other(&self) -> CallError {
        failed(Failed("the answer to something else".to_owned())).into()
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
    ) -> Result<Vote, NetworkError> {
        let envelope = self.member.envelope(self.to);
        let open = self
            .member
            .transport
            .open(&self.server, envelope, StreamKind::Snapshot);
        let stalled = |_| failed(Failed("it takes too long".to_owned()));
        let ended = || failed(Failed("the stream is broken".to_owned()));
        let opened = tokio::time::timeout(SNAPSHOT_STALL, open);
        let mut stream: Stream = opened.await.map_err(stalled)?.map_err(failed)?;
        let mut frame = Frame::Head(vote);
        let mut blocks = self
            .snapshots
            .blocks(&snapshot.snapshot.path)
            .map_err(failed)?;
        loop {
            let last = frame == Frame::End;
            let send = stream.outgoing.send(frame.encode());
            let sent = tokio::time::timeout(SNAPSHOT_STALL, send);
            sent.await.map_err(stalled)?.map_err(|_| ended())?;
            if last {
                break;
            }
            frame = match blocks.next().map_err(failed)? {
                Some(block) => Frame::Block(block),
                None => Frame::End,
            };
        }
        loop {
            let answer = tokio::time::timeout(SNAPSHOT_STALL, stream.incoming.recv());
            let answer: Bytes = answer.await.map_err(stalled)?.ok_or_else(ended)?;
            // An empty one says that the member is still at work on it.
            if !answer.is_empty() {
                return vote::decode(&answer).ok_or_else(ended);
            }
        }
    }
}

impl RaftNetwork<TypeConfig> for Network {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        // openraft takes for committed what is not on this disk yet: see the log's `append`.
        let committed = request.leader_commit.next_index();
        if !self.member.durable.reaches(committed).await {
            return Err(failed(Failed("the log has stopped".to_owned())).into());
        }
        let response = match request.entries.last().map(|entry| entry.log_id) {
            None => {
                let response = self.call(Request::AppendEntries(request)).await;
                // openraft ends what sends to this member at a higher vote, and fails as a whole if it then wants to send
                // it a snapshot, by an answer from before that still waits for openraft's own loop. The loop gets that far
                // meanwhile. While entries are under way it sends nothing else.
                if let Ok(Response::AppendEntries(AppendEntriesResponse::HigherVote(_))) = response
                {
                    tokio::time::sleep(self.member.settings.heartbeat() / 2).await;
                }
                response
            }
            Some(last) => {
                let sending = self.send(request, last);
                let response = (&mut sending.call).await;
                let sent = sending.last;
                *self
                    .sending
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner) = None;
                match response {
                    // They were on their way before the later ones were there.
                    Ok(Response::AppendEntries(AppendEntriesResponse::Success)) if sent < last => {
                        return Ok(AppendEntriesResponse::PartialSuccess(Some(sent)));
                    }
                    response => response,
                }
            }
        };
        match response? {
            Response::AppendEntries(response) => Ok(response),
            _ => Err(self.other()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        match self.call(Request::Vote(request)).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(self.other()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent,
        };
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(error) => {
                tracing::warn!("server {} did not take a snapshot: {error}", self.to);
                tokio::time::sleep(RETRY).await;
                Err(error.into())
            }
        }
    }
}
