//! Sockets: accepts connections, reads frames, writes responses.
//!
//! A connection is two loops. One reads frames and begins them in their order; the other awaits what
//! was begun and writes the answers in the same order. So a produce request that waits for its
//! followers does not keep the next one from being appended. Nothing here knows what a frame means:
//! that is the [`Service`]'s.
//!
//! All is bounded: a frame by `socket.request.max.bytes` before a byte of it is stored, all large
//! frames together by a budget, the answers of a connection that wait by [`MAX_IN_FLIGHT`], and
//! connections by number, by address, and by the time that they may be idle.

mod accept;
mod connection;
mod frame;
mod response;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use broker_core::config::BrokerConfig;
use tokio::sync::{Semaphore, watch};

use frame::BUDGET_UNIT_BYTES;

pub use accept::serve;
pub use frame::{Frame, FrameError, FrameReader};
pub use response::{Piece, Response};

/// How many requests of one connection may be begun and not answered.
pub const MAX_IN_FLIGHT: usize = 64;

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// It is answered.
    Response(Response),
    /// Its sender wants no answer.
    Silence,
    /// The connection is closed, for this reason.
    Close(String),
}

/// A reply to come. It is awaited when all earlier ones of the connection are written.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What is served on a listener.
pub trait Service: Send + Sync + 'static {
    /// Begins a request: what must happen in the order of the requests happens before this returns.
    fn begin(&self, client: &Client, frame: Frame) -> PendingReply;
}

/// Who sends a request.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where it connects from.
    pub address: IpAddr,
    /// Tells a request that waits for more to come that its client has sent another one behind it.
    pub requests: Requests,
}

/// How many requests a connection has received.
#[derive(Debug, Clone)]
pub struct Requests {
    received: watch::Receiver<u64>,
}

impl Requests {
    /// The number of the latest request.
    pub fn latest(&self) -> u64 {
        *self.received.borrow()
    }

    /// Returns once a request behind that number was received.
    pub async fn beyond(&mut self, number: u64) {
        if self
            .received
            .wait_for(|received| *received > number)
            .await
            .is_err()
        {
            // No request can come any more, and who waits is dropped with the connection.
            std::future::pending::<()>().await;
        }
    }
}

/// The bounds of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `socket.request.max.bytes`: the longest frame.
    pub request_max_bytes: usize,
    /// The bytes that frames which are being read or handled may hold together.
    pub memory: Arc<Semaphore>,
    /// `connections.max.idle.ms`; `None`: for ever.
    pub max_idle: Option<Duration>,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
}

/// What large frames may hold together where `queued.max.request.bytes` sets no bound.
const DEFAULT_MEMORY_BYTES: usize = 256 * 1024 * 1024;

impl Limits {
    /// The bounds that a broker's configuration sets.
    pub fn new(config: &BrokerConfig) -> Limits {
        let positive = |value: i64| usize::try_from(value).ok().filter(|value| *value > 0);
        let request_max_bytes = positive(config.socket_request_max_bytes.into()).unwrap_or(1);
        let memory = positive(config.queued_max_request_bytes).unwrap_or(DEFAULT_MEMORY_BYTES);
        // The longest frame must fit, or it would wait for ever.
        let units = memory.max(request_max_bytes).div_ceil(BUDGET_UNIT_BYTES);
        let max_idle = positive(config.connections_max_idle_ms);
        Limits {
            request_max_bytes,
            memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            max_idle: max_idle.map(|max_idle| Duration::from_millis(max_idle as u64)),
            max_connections: positive(config.max_connections.into()).unwrap_or(usize::MAX),
            max_connections_per_ip: positive(config.max_connections_per_ip.into())
                .unwrap_or(usize::MAX),
        }
    }
}
