//! One connection: a loop that reads and begins, a loop that awaits and writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};

use super::{
    Client, FrameError, FrameReader, Limits, MAX_IN_FLIGHT, PendingReply, Reply, Requests,
    Response, Service,
};

/// What ends a client that takes no answers where idle connections live for ever.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(600);

/// Serves a connection until one side ends it.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    service: Arc<dyn Service>,
    limits: Limits,
) {
    // An answer is whole when it is written; waiting for more would only delay it.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY");
    }
    let patience = limits.max_idle.unwrap_or(DEFAULT_PATIENCE);
    let (read_half, write_half) = socket.into_split();
    let (begun, queue) = mpsc::channel(MAX_IN_FLIGHT);
    let reader = FrameReader::new(read_half, limits.clone());
    let unanswered = AtomicUsize::new(0);
    // Whichever ends first takes the other with it: without a reader no answer is wanted that could
    // not be written at once, and without a writer none can be given.
    tokio::select! {
        ended = read(reader, peer, &*service, limits.max_idle, &unanswered, begun) => {
            if let Err(error) = ended {
                tracing::info!(%peer, %error, "connection closed");
            }
        }
        reason = write(write_half, queue, &unanswered, patience) => {
            if let Some(reason) = reason {
                tracing::info!(%peer, %reason, "connection closed");
            }
        }
    }
}

async fn read(
    mut reader: FrameReader,
    peer: SocketAddr,
    service: &dyn Service,
    max_idle: Option<Duration>,
    unanswered: &AtomicUsize,
    begun: mpsc::Sender<PendingReply>,
) -> Result<(), FrameError> {
    let (received, receiver) = watch::channel(0);
    let client = Client {
        address: peer.ip(),
        requests: Requests { received: receiver },
    };
    loop {
        if !wait_for_frame(&mut reader, max_idle, unanswered).await? {
            return Ok(());
        }
        let frame = reader.next().await?;
        received.send_modify(|number| *number += 1);
        let Ok(slot) = begun.reserve().await else {
            return Ok(());
        };
        unanswered.fetch_add(1, Ordering::Relaxed);
        slot.send(service.begin(&client, frame));
    }
}

/// False if the client has closed the connection, or was idle for too long.
async fn wait_for_frame(
    reader: &mut FrameReader,
    max_idle: Option<Duration>,
    unanswered: &AtomicUsize,
) -> Result<bool, FrameError> {
    let Some(max_idle) = max_idle else {
        return reader.begun().await;
    };
    loop {
        match tokio::time::timeout(max_idle, reader.begun()).await {
            Ok(begun) => return begun,
            // A client that waits for an answer is not idle.
            Err(_) if unanswered.load(Ordering::Relaxed) > 0 => {}
            Err(_) => return Ok(false),
        }
    }
}

/// The reason to close the connection, if there is one.
async fn write(
    socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<PendingReply>,
    unanswered: &AtomicUsize,
    patience: Duration,
) -> Option<String> {
    while let Some(reply) = queue.recv().await {
        let response = match reply.await {
            Reply::Response(response) => response,
            Reply::Silence => Response::default(),
            Reply::Close(reason) => return Some(reason),
        };
        unanswered.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = response.write_to(socket.as_ref(), patience).await {
            return Some(error.to_string());
        }
    }
    None
}
