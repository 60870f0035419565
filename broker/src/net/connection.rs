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
        // First a place in the queue, then the frame: no memory that others wait for is held by a request
        // that cannot begin.
        let Ok(slot) = begun.reserve().await else {
            return Ok(());
        };
        let frame = reader.next().await?;
        received.send_modify(|number| *number += 1);
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::net::frame::BUDGET_UNIT_BYTES;
    use crate::net::{Frame, serve};

    /// Answers nothing, and counts what it has begun.
    struct Stuck(watch::Sender<usize>);

    impl Service for Stuck {
        fn begin(&self, _: &Client, frame: Frame) -> PendingReply {
            self.0.send_modify(|begun| *begun += 1);
            Box::pin(async move {
                let _held = frame;
                std::future::pending().await
            })
        }
    }

    #[tokio::test]
    async fn a_request_that_cannot_begin_holds_no_memory_that_others_wait_for() {
        let large_units = 100;
        let limits = Limits {
            request_max_bytes: large_units * BUDGET_UNIT_BYTES,
            memory: Arc::new(Semaphore::new(large_units)),
            max_idle: None,
            max_connections: 2,
            max_connections_per_ip: 2,
        };
        let (counter, mut begun) = watch::channel(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Stuck(counter)), limits.clone()));
        let mut large = vec![0; 4 + limits.request_max_bytes];
        large[..4].copy_from_slice(&(limits.request_max_bytes as u32).to_be_bytes());

        // One that the writer awaits, and as many behind it as the queue takes.
        let mut full = TcpStream::connect(address).await.unwrap();
        for _ in 0..=MAX_IN_FLIGHT {
            full.write_all(&[0, 0, 0, 1, 0]).await.unwrap();
        }
        let all = begun.wait_for(|begun| *begun == MAX_IN_FLIGHT + 1).await;
        drop(all.unwrap());
        full.write_all(&large).await.unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(&large).await.unwrap();
        let one_more = begun.wait_for(|begun| *begun == MAX_IN_FLIGHT + 2);
        let in_time = tokio::time::timeout(Duration::from_secs(10), one_more).await;
        assert!(in_time.is_ok(), "the memory is held by a full connection");
        server.abort();
    }
}
