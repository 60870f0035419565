//! A leader's snapshot, received: written, read back whole and made durable before Raft hears of it.

use std::future::Future;
use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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

/// So often a leader hears that its snapshot is being worked on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

const HEAD: u8 = 0;
const BLOCK: u8 = 1;
const END: u8 = 2;

/// What travels on a snapshot's stream, one tag before each; the answer is this member's vote, behind any number of empty
/// frames.
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
            inner.snapshots.remove_received();
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
    let ensemble = inner.member.outlook.ensemble.load(Relaxed);
    let check = async move {
        let _ = done.send(snapshots.received(file, ensemble).await);
    };
    inner.disk.spawn("snapshot", Box::pin(check))?;
    let checked = at_work(&stream, is_done).await;
    let (head, file) = checked.map_err(|_| ReceiveError::Stopped)??;
    tracing::info!(
        "server {from} sent a snapshot at entry {}",
        head.last.map_or(0, |last| last.index)
    );
    let snapshot = Snapshot {
        meta: head.meta(),
        snapshot: Box::new(file),
    };
    let install = inner.raft.install_full_snapshot(vote, snapshot);
    let installed = at_work(&stream, install).await;
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

/// Does `work`, and lets the leader know all the while that it goes on: a large state takes its time.
async fn at_work<T>(stream: &Stream, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(SIGN_OF_LIFE) => {
                // If it does not read them it has enough of them.
                let _ = stream.outgoing.try_send(Bytes::new());
            }
        }
    }
}

async fn next(stream: &mut Stream) -> Result<Frame, ReceiveError> {
    let frame = tokio::time::timeout(STALL, stream.incoming.recv()).await;
    let frame = frame.ok().flatten().ok_or(ReceiveError::GaveUp)?;
    Frame::decode(frame).ok_or(ReceiveError::Damaged)
}
