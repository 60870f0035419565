//! A leader's snapshot, received: written, read back whole and made durable before Raft hears of it.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use coord_core::NodeId;
use openraft::Snapshot;
use tokio::sync::oneshot;

use super::contact::Leader;
use super::service::Inner;
use super::transport::{Rejected, Stream};
use super::types::Vote;
use super::vote;

/// A leader that sends no block for so long has given up.
const STALL: Duration = Duration::from_secs(30);

const HEAD: u8 = 0;
const BLOCK: u8 = 1;
const END: u8 = 2;

/// What travels on a snapshot's stream, one tag before each; the answer is this member's vote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The leader's vote: it leads still.
    Head(Vote),
    /// A block of the file.
    Block(Bytes),
    /// That was all of it.
    End,
}

impl Frame {
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Frame::Head(vote) => {
                let mut out = vec![HEAD];
                vote::encode(vote, &mut out);
                out.into()
            }
            Frame::Block(block) => [&[BLOCK][..], block].concat().into(),
            Frame::End => Bytes::from_static(&[END]),
        }
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Frame> {
        match bytes.try_get_u8().ok()? {
            HEAD => vote::decode(&bytes).map(Frame::Head),
            BLOCK => Some(Frame::Block(bytes)),
            END if bytes.is_empty() => Some(Frame::End),
            _ => None,
        }
    }
}

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error("the leader sends something else")]
    Damaged,
    #[error("the leader gave up")]
    GaveUp,
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    #[error("it is damaged: {0}")]
    Load(#[from] super::snapshot::LoadError),
    #[error("the server ends")]
    Stopped,
}

pub(super) fn accept(inner: &Arc<Inner>, from: NodeId, stream: Stream) -> Result<(), Rejected> {
    let turn = inner.receiving.clone().try_lock_owned();
    let turn = turn.map_err(|_| Rejected::Busy)?;
    let inner = inner.clone();
    super::runtime::spawn(async move {
        let _turn = turn;
        if let Err(error) = receive(&inner, from, stream).await {
            tracing::warn!("the snapshot of server {from} is not taken: {error}");
        }
    });
    Ok(())
}

async fn receive(inner: &Inner, from: NodeId, mut stream: Stream) -> Result<(), ReceiveError> {
    let Frame::Head(vote) = next(&mut stream).await? else {
        return Err(ReceiveError::Damaged);
    };
    let leader = Leader {
        node: from,
        term: vote.leader_id.term,
    };
    let mut file = inner.snapshots.receive()?;
    loop {
        match next(&mut stream).await? {
            Frame::Block(block) => file.append(&mut [IoSlice::new(&block)])?,
            Frame::End => break,
            Frame::Head(_) => return Err(ReceiveError::Damaged),
        }
    }
    let (done, is_done) = oneshot::channel();
    let snapshots = inner.snapshots.clone();
    let check = async move {
        let _ = done.send(snapshots.received(file).await);
    };
    inner.disk.spawn("snapshot", Box::pin(check))?;
    let (head, file) = is_done.await.map_err(|_| ReceiveError::Stopped)??;
    tracing::info!(
        "server {from} sent a snapshot at entry {}",
        head.last.map_or(0, |last| last.index)
    );
    let snapshot = Snapshot {
        meta: head.meta(),
        snapshot: Box::new(file),
    };
    let installed = inner.raft.install_full_snapshot(vote, snapshot).await;
    let installed = installed.map_err(|_| ReceiveError::Stopped)?;
    if installed.vote == vote {
        inner.member.contact.heard(leader);
    }
    let mut answer = Vec::new();
    vote::encode(&installed.vote, &mut answer);
    // A leader that is gone by now will find out from the log.
    let _ = stream.outgoing.send(answer.into()).await;
    Ok(())
}

async fn next(stream: &mut Stream) -> Result<Frame, ReceiveError> {
    let frame = tokio::time::timeout(STALL, stream.incoming.recv()).await;
    let frame = frame.ok().flatten().ok_or(ReceiveError::GaveUp)?;
    Frame::decode(frame).ok_or(ReceiveError::Damaged)
}
