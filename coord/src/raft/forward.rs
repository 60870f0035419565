//! Frames from a member's node to its leader's node, and the answers: both keep their order, or the stream breaks and
//! the node is told.
//!
//! The stream is opened as soon as a leader is heard, even if there is nothing to send. So a leader whose process ends is
//! noticed at once: the operating system breaks its streams, and nobody listens any more. A leader that no majority answers
//! ends its streams too: only a member whose stream is open follows. And so a member learns that it was removed, for the
//! log that says so does not reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coord_core::NodeId;
use tokio::sync::{Notify, mpsc, watch};

use super::contact::Leader;
use super::event::RaftEvent;
use super::member::{Member, ServerMetrics};
use super::membership::is_removed;
use super::service::Inner;
use super::transport::{Rejected, Stream, StreamKind, TransportError};

/// So many bytes may wait for the way to the leader; one frame alone may be longer.
const QUEUE_LEN: usize = 32 * 1024 * 1024;

/// So many answers may wait for a member that is slow to read them.
const ANSWERS_MAX: usize = 1024;

/// A stream that could not be opened is tried again after this time.
const RETRY: Duration = Duration::from_millis(50);

/// What this member knows of its way to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// There is none.
    None,
    /// The stream is open.
    Open(Leader),
    /// The leader that it led to last does not take what comes from here: this member was removed.
    Removed,
}

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
    way: watch::Sender<Way>,
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
            way: watch::Sender::new(Way::None),
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

    /// Where the stream leads to.
    pub(super) fn way(&self) -> watch::Receiver<Way> {
        self.way.subscribe()
    }

    /// Until openraft has ended or the node is gone.
    pub(super) async fn run(mut self) {
        // The leader whose stream has just ended.
        let mut ended = None;
        while self.server.has_changed().is_ok() {
            let leader = *self.leader.borrow_and_update();
            let Some(leader) = leader.or(ended) else {
                if !self.idle().await {
                    return;
                }
                continue;
            };
            let opened = self.open(leader).await;
            // What was forwarded before there was a way has been told to be lost, or is now.
            if self.discard() && self.events.send(RaftEvent::ForwardLost).await.is_err() {
                return;
            }
            match opened {
                Ok(stream) => {
                    self.way.send_replace(Way::Open(leader));
                    let broken = self.serve(leader, stream).await;
                    self.way.send_replace(Way::None);
                    ended = matches!(broken, Broken::Ended).then_some(leader);
                    if ended.is_some() {
                        self.member.contact.lost(leader);
                    }
                    self.discard();
                    // Before anything that another leader may answer.
                    if self.events.send(RaftEvent::ForwardLost).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if let TransportError::Rejected(Rejected::Removed(_)) = error {
                        self.way.send_replace(Way::Removed);
                    }
                    let ended = ended.take() == Some(leader);
                    if ended && matches!(error, TransportError::Broken(_)) {
                        tracing::info!(
                            "the connection to server {}, the leader, is broken",
                            leader.node
                        );
                        self.leader_ended.notify_one();
                    } else {
                        // It has just been heard, so it lives, even if it cannot be reached yet.
                        tokio::time::sleep(RETRY).await;
                    }
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

    /// Drops what waits. Whether there was anything.
    fn discard(&mut self) -> bool {
        let mut any = false;
        while let Ok(frame) = self.queue.try_recv() {
            self.waiting.fetch_sub(frame.len(), Relaxed);
            any = true;
        }
        any
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

    async fn serve(&mut self, leader: Leader, mut stream: Stream) -> Broken {
        let mut next: Option<Bytes> = None;
        let broken = loop {
            tokio::select! {
                biased;
                // One that was lost with its stream is heard again.
                changed = self.leader.changed() => {
                    if changed.is_err() || *self.leader.borrow_and_update() != Some(leader) {
                        break Broken::OtherLeader;
                    }
                }
                // It may have been told while there was no stream, of what is gone by now.
                () = self.overflow.notified() => if self.waiting.load(Relaxed) > QUEUE_LEN {
                    break Broken::Overflow;
                },
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

/// Whether this member leads, and hears what is forwarded to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leading {
    /// Counts its beginnings and ends: a stream is served in one of them only, for in between the node drops what comes.
    pub(super) stint: u64,
    /// The term that it leads in; none if it does not lead, or no majority answers it.
    pub(super) term: Option<u32>,
    /// Whether its node knows.
    pub(super) begun: bool,
}

/// Serves a stream that `from` forwards on.
pub(super) fn accept(inner: &Arc<Inner>, from: NodeId, stream: Stream) -> Result<(), Rejected> {
    let mut leading = inner.leading.subscribe();
    let Leading { stint, term, .. } = *leading.borrow();
    if term.is_none() {
        return Err(Rejected::Busy);
    }
    if has_removed(inner, from) {
        return Err(Rejected::Removed(from));
    }
    let inner = inner.clone();
    super::runtime::spawn(async move {
        if until_begun(stint, &mut leading).await {
            serve(&inner, from, stream, stint, leading).await;
        }
    });
    Ok(())
}

/// What is forwarded waits until the node leads. False if it does not come to that.
async fn until_begun(stint: u64, leading: &mut watch::Receiver<Leading>) -> bool {
    let known = leading.wait_for(|now| now.stint != stint || now.begun);
    known.await.is_ok_and(|now| now.stint == stint)
}

fn has_removed(inner: &Inner, member: NodeId) -> bool {
    let metrics = inner.server.borrow();
    is_removed(metrics.membership_config.membership(), member)
}

/// Returns when `member` was removed. Who becomes an observer leaves for a moment, and comes back.
async fn until_removed(inner: &Inner, member: NodeId) {
    let mut server = inner.server.clone();
    let removed =
        |metrics: &ServerMetrics| is_removed(metrics.membership_config.membership(), member);
    while server.wait_for(removed).await.is_ok() {
        tokio::time::sleep(2 * inner.member.settings.heartbeat()).await;
        if has_removed(inner, member) {
            return;
        }
    }
}

/// Until the member or this one ends it, or it was removed, or this one ceases to lead.
async fn serve(
    inner: &Inner,
    from: NodeId,
    mut stream: Stream,
    stint: u64,
    mut leading: watch::Receiver<Leading>,
) {
    // Answers go through a queue of this room, so that the node never waits for a slow member.
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    let this = answers.downgrade();
    inner.answers.insert(from, answers);
    let mut next: Option<Bytes> = None;
    let mut removed = pin!(until_removed(inner, from));
    loop {
        tokio::select! {
            biased;
            () = &mut removed => break,
            changed = leading.changed() => {
                if changed.is_err() || leading.borrow_and_update().stint != stint {
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
