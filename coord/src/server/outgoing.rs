//! What is on its way to one client, and the bounds of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use bytestring::ByteString;
use coord_core::request::Response;
use coord_core::watch::WatchEventType;
use coord_core::{OpError, Zxid};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use zookeeper_wire::ConnectResponse;

/// A reader takes no further requests while its client has this many bytes of answers to read.
pub(super) const UNREAD_HIGH: usize = 1024 * 1024;

/// A connection is dropped when its client has this many bytes to read: watch events are not asked for one by one, so
/// holding back the reader does not bound them.
const UNREAD_MAX: usize = 64 * 1024 * 1024;

/// An unanswered request's share of its connection's bound, and when it came.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) since: Instant,
    pub(super) _share: OwnedSemaphorePermit,
}

/// One frame to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// The handshake's answer; `None` if the session is gone.
    Connected(Option<ConnectResponse>),
    /// An answer.
    Reply {
        xid: i32,
        zxid: Zxid,
        result: Result<Response, OpError>,
        charge: Option<Charge>,
    },
    /// A watch event.
    Event {
        zxid: Zxid,
        event: WatchEventType,
        path: ByteString,
    },
}

/// How much a client has not read yet; shared by the owner, the writer and the reader.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: AtomicUsize,
    fewer: Notify,
}

impl Unread {
    /// Bytes were sent.
    pub(super) fn sent(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Relaxed);
        if before > UNREAD_HIGH {
            self.fewer.notify_one();
        }
    }

    /// Waits until there are few enough.
    pub(super) async fn few(&self) {
        while self.bytes.load(Relaxed) > UNREAD_HIGH {
            self.fewer.notified().await;
        }
    }
}

/// The owner's end of a connection. Dropping it closes the connection once everything is sent.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) queue: mpsc::UnboundedSender<(Outgoing, usize)>,
    pub(super) unread: Arc<Unread>,
}

impl Sender {
    /// Queues a frame; `false` if the client reads too slowly, or not at all, and is to be dropped.
    pub(super) fn send(&self, outgoing: Outgoing) -> bool {
        let len = estimated_len(&outgoing);
        let unread = self.unread.bytes.fetch_add(len, Relaxed) + len;
        // A failed send means that the writer has ended; its reader is about to report it.
        let _ = self.queue.send((outgoing, len));
        unread <= UNREAD_MAX
    }
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
            } => match response {
                Response::Data(Some(data), _) => data.len(),
                Response::Children(names) | Response::Children2(names, _) => {
                    names.iter().map(|name| name.len() + 4).sum()
                }
                Response::Multi(results) => results.len() * FIXED,
                _ => 0,
            },
            Outgoing::Reply { .. } => 0,
        }
}
