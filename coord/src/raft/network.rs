//! What openraft sends to the other members.
//!
//! No error is `Unreachable`: openraft would then wait in a `select!` that a seed does not decide. The waiting is done
//! here instead, and bounded by openraft's own time limit for each call.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
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
use openraft::{RaftNetwork, RaftNetworkFactory, Snapshot};

use super::member::Member;
use super::receive::Frame;
use super::snapshot::Snapshots;
use super::transport::{Request, Response, Stream, StreamKind};
use super::types::{TypeConfig, Vote};
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
        }
    }
}

/// The way to one member.
pub(super) struct Network {
    member: Arc<Member>,
    snapshots: Snapshots,
    to: NodeId,
    server: ServerSpec,
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
    async fn call(&self, request: Request) -> Result<Response, CallError> {
        let envelope = self.member.envelope(self.to);
        let call = self.member.transport.call(&self.server, envelope, request);
        match call.await {
            Ok(response) => Ok(response),
            Err(error) => {
                self.member.complain(self.to, &error);
                tokio::time::sleep(RETRY).await;
                Err(failed(error).into())
            }
        }
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
        let answer = tokio::time::timeout(SNAPSHOT_STALL, stream.incoming.recv());
        let answer: Bytes = answer.await.map_err(stalled)?.ok_or_else(ended)?;
        vote::decode(&answer).ok_or_else(ended)
    }
}

impl RaftNetwork<TypeConfig> for Network {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        match self.call(Request::AppendEntries(request)).await? {
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
