//! Frames from a member's node to its leader's node, and the answers: both keep their order, or the stream breaks and
//! the node is told.
//!
//! The stream is opened as soon as a leader is heard, even if there is nothing to send. So a leader whose process ends is
//! noticed at once: the operating system breaks its streams, and nobody listens any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coord_core::NodeId;
use tokio::sync::{Notify, mpsc, watch};

use super::contact::Leader;
use super::event::RaftEvent;
use super::member::{Member, ServerMetrics};
use super::service::Inner;
use super::transport::{Rejected, Stream, StreamKind, TransportError};

/// So many bytes may wait for the way to the leader; one frame alone may be longer.
const QUEUE_LEN: usize = 32 * 1024 * 1024;

/// So many answers may wait for a member that is slow to read them.
const ANSWERS_MAX: usize = 1024;

/// A stream that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_millis(50);

/// The node's end of the way to the leader.
#[derive(Debug, Clone)]
pub(super) struct ToLeader {
    queue: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    overflow: Arc<Notify>,
}

impl ToLeader {
    /// Sends `frame` behind those before it. If too much waits already, all that waits is lost, and the node is told.
    pub(super) fn send(&self, frame: Bytes) {
        let len = frame.len();
        let waiting = self.waiting.fetch_add(len, Relaxed);
        // The forwarder is gone when the process ends.
        let _ = self.queue.send(frame);
        if waiting > QUEUE_LEN {
            self.overflow.notify_one();
        }
    }
}

/// The task that keeps the stream to the leader.
pub(super) struct Forwarder {
    pub(super) member: Arc<Member>,
    pub(super) events: mpsc::Sender<RaftEvent>,
    pub(super) server: watch::Receiver<ServerMetrics>,
    /// Told when the leader's process has ended.
    pub(super) leader_ended: Arc<Notify>,
    queue: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    overflow: Arc<Notify>,
    leader: watch::Receiver<Option<Leader>>,
}

/// Why a stream is not served any more.
enum Broken {
    /// The leader is another now, or none.
    OtherLeader,
    /// More waits than may.
    Overflow,
    /// The other side ended it, or the connection broke.
    Ended,
}

impl Forwarder {
    pub(super) fn new(
        member: Arc<Member>,
        events: mpsc::Sender<RaftEvent>,
        server: watch::Receiver<ServerMetrics>,
        leader_ended: Arc<Notify>,
    ) -> (ToLeader, Forwarder) {
        let (sender, queue) = mpsc::unbounded_channel();
        let to_leader = ToLeader {
            queue: sender,
            waiting: Arc::default(),
            overflow: Arc::default(),
        };
        let forwarder = Forwarder {
            leader: member.contact.watch(),
            member,
            events,
            server,
            leader_ended,
            queue,
            waiting: to_leader.waiting.clone(),
            overflow: to_leader.overflow.clone(),
        };
        (to_leader, forwarder)
    }

    /// Until openraft has ended or the node is gone.
    pub(super) async fn run(mut self) {
        while self.server.has_changed().is_ok() {
            let Some(leader) = *self.leader.borrow_and_update() else {
                if !self.idle().await {
                    return;
                }
                continue;
            };
            let mut stream = self.open(leader).await;
            if stream.is_err() {
                // It has just been heard, so it lives, even if it cannot be reached yet.
                tokio::time::sleep(RETRY).await;
                continue;
            }
            while let Ok(open) = stream {
                let broken = self.serve(open).await;
                if matches!(broken, Broken::Ended) {
                    self.member.contact.lost(leader);
                    stream = self.open(leader).await;
                    if let Err(TransportError::Broken(_)) = stream {
                        tracing::info!(
                            "the connection to server {}, the leader, is broken",
                            leader.node
                        );
                        self.leader_ended.notify_one();
                    }
                } else {
                    stream = Err(TransportError::Rejected(Rejected::Stopped));
                }
                self.discard();
                if self.events.send(RaftEvent::ForwardLost).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Without a leader nothing can be sent. False once the node is gone.
    async fn idle(&mut self) -> bool {
        tokio::select! {
            biased;
            changed = self.leader.changed() => changed.is_ok(),
            frame = self.queue.recv() => {
                let Some(frame) = frame else { return false };
                self.waiting.fetch_sub(frame.len(), Relaxed);
                self.discard();
                self.events.send(RaftEvent::ForwardLost).await.is_ok()
            }
        }
    }

    fn discard(&mut self) {
        while let Ok(frame) = self.queue.try_recv() {
            self.waiting.fetch_sub(frame.len(), Relaxed);
        }
    }

    async fn open(&self, leader: Leader) -> Result<Stream, TransportError> {
        let membership = self.server.borrow().membership_config.clone();
        let gone = || TransportError::Rejected(Rejected::Stranger(leader.node));
        let server = membership.membership().get_node(&leader.node);
        let server = server.ok_or_else(gone)?;
        let envelope = self.member.envelope(leader.node);
        let open = self
            .member
            .transport
            .open(server, envelope, StreamKind::Forward);
        // One that takes longer is found dead by the election timeout.
        let limit = self.member.settings.election_timeout();
        tokio::time::timeout(limit, open)
            .await
            .unwrap_or(Err(TransportError::Rejected(Rejected::Busy)))
    }

    async fn serve(&mut self, mut stream: Stream) -> Broken {
        let mut next: Option<Bytes> = None;
        let broken = loop {
            tokio::select! {
                biased;
                _ = self.leader.changed() => break Broken::OtherLeader,
                () = self.overflow.notified() => break Broken::Overflow,
                answer = stream.incoming.recv() => {
                    let Some(answer) = answer else { break Broken::Ended };
                    if self.events.send(RaftEvent::Answered(answer)).await.is_err() {
                        break Broken::OtherLeader;
                    }
                }
                place = stream.outgoing.reserve(), if next.is_some() => {
                    let (Ok(place), Some(frame)) = (place, next.take()) else { break Broken::Ended };
                    self.waiting.fetch_sub(frame.len(), Relaxed);
                    place.send(frame);
                }
                frame = self.queue.recv(), if next.is_none() => match frame {
                    Some(frame) => next = Some(frame),
                    None => break Broken::OtherLeader,
                },
            }
        };
        self.waiting
            .fetch_sub(next.map_or(0, |frame| frame.len()), Relaxed);
        broken
    }
}

/// The leader's ends of the streams that the others forward on, the newest of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<BTreeMap<NodeId, mpsc::Sender<Bytes>>>>);

impl Answers {
    /// Sends `frame` to `to`. A member that does not read what it is answered loses its stream.
    pub(super) fn send(&self, to: NodeId, frame: Bytes) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(&to)
            && stream.try_send(frame).is_err()
        {
            streams.remove(&to);
        }
    }

    /// The members that have a stream to this one.
    pub(super) fn connected(&self) -> BTreeSet<NodeId> {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.keys().copied().collect()
    }

    fn insert(&self, from: NodeId, stream: mpsc::Sender<Bytes>) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(from, stream);
    }

    /// Drops the stream of `from`, if it is still this one.
    fn remove(&self, from: NodeId, stream: &mpsc::WeakSender<Bytes>) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = streams.get(&from);
        if let (Some(newest), Some(stream)) = (newest, stream.upgrade())
            && newest.same_channel(&stream)
        {
            streams.remove(&from);
        }
    }
}

/// A term that this member leads in, and whether its node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leading {
    pub(super) term: u64,
    pub(super) begun: bool,
}

/// Serves a stream that `from` forwards on.
pub(super) fn accept(inner: &Arc<Inner>, from: NodeId, stream: Stream) -> Result<(), Rejected> {
    let mut leading = inner.leading.subscribe();
    let Some(Leading { term, begun }) = *leading.borrow_and_update() else {
        return Err(Rejected::Busy);
    };
    let inner = inner.clone();
    super::runtime::spawn(async move {
        if begun || until_begun(term, &mut leading).await {
            serve(&inner, from, stream, term, leading).await;
        }
    });
    Ok(())
}

/// What is forwarded waits until the node leads. False if it does not come to that.
async fn until_begun(term: u64, leading: &mut watch::Receiver<Option<Leading>>) -> bool {
    while leading.changed().await.is_ok() {
        match *leading.borrow_and_update() {
            Some(now) if now.term == term && now.begun => return true,
            Some(now) if now.term == term => {}
            _ => break,
        }
    }
    false
}

/// Until the member or this one ends it, or this one does not lead in `term` any more.
async fn serve(
    inner: &Inner,
    from: NodeId,
    mut stream: Stream,
    term: u64,
    mut leading: watch::Receiver<Option<Leading>>,
) {
    // Answers go through a queue of this room, so that the node never waits for a slow member.
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    let this = answers.downgrade();
    inner.answers.insert(from, answers);
    let mut next: Option<Bytes> = None;
    loop {
        tokio::select! {
            biased;
            changed = leading.changed() => {
                let now = leading.borrow_and_update().map(|leading| leading.term);
                if changed.is_err() || now != Some(term) {
                    break;
                }
            }
            place = stream.outgoing.reserve(), if next.is_some() => {
                let (Ok(place), Some(answer)) = (place, next.take()) else { break };
                place.send(answer);
            }
            answer = answered.recv(), if next.is_none() => match answer {
                Some(answer) => next = Some(answer),
                None => break,
            },
            frame = stream.incoming.recv() => {
                let Some(frame) = frame else { break };
                let forwarded = RaftEvent::Forwarded { from, frame };
                if inner.events.send(forwarded).await.is_err() {
                    break;
                }
            }
        }
    }
    inner.answers.remove(from, &this);
}
