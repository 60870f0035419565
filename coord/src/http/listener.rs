//! Connections of administrators, no more at a time than a few.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take to ask for something, and to take some of the answer. It is longer than the minute at
/// which metrics are often scraped.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A listener that does not accept more than [`CONNECTIONS_MAX`] at a time.
pub(super) struct FewListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection, and its place.
pub(super) struct FewStream {
    stream: TcpStream,
    /// When it is to be closed, unless some of an answer is sent before; what is asked byte by byte does not put it off.
    deadline: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl FewListener {
    pub(super) fn new(listener: TcpListener) -> FewListener {
        FewListener {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl Listener for FewListener {
    type Io = FewStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (FewStream, SocketAddr) {
        // It is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = FewStream {
            stream,
            deadline: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)),
            _place: place,
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl FewStream {
    fn pinned(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// What came of reading or writing, or that it has taken too long.
    fn in_time<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncRead for FewStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.as_mut().pinned().poll_read(cx, buf);
        self.in_time(polled, cx)
    }
}

impl AsyncWrite for FewStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().pinned().poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = polled {
            self.deadline.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
        }
        self.in_time(polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_loses_the_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = FewListener::new(listener);
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = listener.accept().await;
        client.write_all(b"GET /metr").await.unwrap();
        let accepted = Instant::now();
        tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        stream.write_all(b"an answer").await.unwrap();
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(accepted.elapsed() >= IDLE_TIMEOUT * 3 / 2);
        assert_eq!(listener.places.available_permits(), CONNECTIONS_MAX - 1);
        drop(stream);
        assert_eq!(listener.places.available_permits(), CONNECTIONS_MAX);
    }
}
