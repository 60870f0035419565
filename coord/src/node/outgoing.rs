//! What is on its way to one client, and the bounds of it.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use bytestring::ByteString;
use coord_core::request::Response;
use coord_core::watch::WatchEventType;
use coord_core::{OpError, Zxid};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use zookeeper_wire::ConnectResponse;

use super::budget::Held;

/// A reader takes no further requests while its client has this many bytes of answers to read.
const UNREAD_HIGH: usize = 1024 * 1024;

/// A connection is dropped when its client has this many bytes of watch events to read: they are not asked for one by
/// one, so holding back the reader does not bound them as it does the answers.
const UNREAD_EVENTS_MAX: usize = 64 * 1024 * 1024;

/// An unanswered request's share of its connection's bound, and when it came.
#[derive(Debug)]
pub struct Charge {
    /// When it came.
    pub since: Instant,
    /// What it asks for, as the protocol numbers operations.
    pub op_code: i32,
    /// Its share; whoever drops the charge gives it back.
    pub share: OwnedSemaphorePermit,
    /// Its part of what all connections may hold.
    pub held: Held,
}

/// One frame to send.
#[derive(Debug)]
pub enum Outgoing {
    /// The handshake's answer; `None` if the session is gone.
    Connected(Option<ConnectResponse>),
    /// An answer.
    Reply {
        /// The client's number for the request.
        xid: i32,
        /// The state that it shows.
        zxid: Zxid,
        /// The answer.
        result: Result<Response, OpError>,
        /// What the request came with.
        charge: Option<Charge>,
    },
    /// A watch event.
    Event {
        /// The transaction that made the change; −1 if it was missed while the client was away.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
}

/// Bytes of frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Of answers.
    pub answers: usize,
    /// Of watch events.
    pub events: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, more: Size) {
        self.answers += more.answers;
        self.events += more.events;
    }
}

/// How much a client has not read yet; shared by the node, the writer and the reader.
#[derive(Debug, Default)]
pub struct Unread {
    answers: AtomicUsize,
    events: AtomicUsize,
    fewer: Notify,
}

impl Unread {
    /// Frames were sent.
    pub fn sent(&self, size: Size) {
        self.events.fetch_sub(size.events, Relaxed);
        if self.answers.fetch_sub(size.answers, Relaxed) > UNREAD_HIGH {
            self.fewer.notify_one();
        }
    }

    /// Waits until there are few enough answers.
    pub async fn few(&self) {
        while self.answers.load(Relaxed) > UNREAD_HIGH {
            self.fewer.notified().await;
        }
    }
}

/// The node's end of a connection. Dropping it closes the connection once everything is sent.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::UnboundedSender<(Outgoing, Size)>,
    unread: Arc<Unread>,
}

/// The connection's end: frames in their order, each with its size, which [`Unread::sent`] is to be told once it is sent.
pub type Receiver = mpsc::UnboundedReceiver<(Outgoing, Size)>;

impl Sender {
    /// Both ends, and what they share.
    pub fn new() -> (Sender, Receiver, Arc<Unread>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let unread = Arc::new(Unread::default());
        let sender = Sender {
            queue,
            unread: unread.clone(),
        };
        (sender, receiver, unread)
    }

    /// Queues a frame; `false` if the client does not read its events, and is to be dropped.
    pub(crate) fn send(&self, mut outgoing: Outgoing) -> bool {
        let len = estimated_len(&outgoing);
        if let Outgoing::Reply {
            charge: Some(charge),
            result: Ok(result),
            ..
        } = &mut outgoing
        {
            charge.held.grow(copied_len(result));
        }
        let size = match outgoing {
            Outgoing::Event { .. } => Size {
                answers: 0,
                events: len,
            },
            _ => Size {
                answers: len,
                events: 0,
            },
        };
        self.unread.answers.fetch_add(size.answers, Relaxed);
        let events = self.unread.events.fetch_add(size.events, Relaxed) + size.events;
        // A failed send means that the writer has ended; its reader is about to report it.
        let _ = self.queue.send((outgoing, size));
        events <= UNREAD_EVENTS_MAX
    }
}

/// About the memory that an answer takes beside what the tree holds in any case.
fn copied_len(response: &Response) -> usize {
    response.extra_len() - response.shared_len()
}

/// About the memory that a frame holds while it waits.
fn estimated_len(outgoing: &Outgoing) -> usize {
    const FIXED: usize = 128;
    FIXED
        + match outgoing {
            Outgoing::Connected(_) => 0,
            Outgoing::Event { path, .. } => path.len(),
            Outgoing::Reply {
                result: Ok(response),
                ..
            } => response.extra_len(),
            Outgoing::Reply { .. } => 0,
        }
}
