//! Connections of administrators, no more at a time than a few.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Connections at a time; one more takes the place of the one that was quiet for longest.
const CONNECTIONS_MAX: usize = 64;

/// How long a new connection may take until it has asked for something and the answer begins.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that had an answer may take to ask for something else, and to take some of the answer. It is
/// longer than the minute at which metrics are often scraped.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A listener that has no more than [`CONNECTIONS_MAX`] at a time, and always accepts: whoever asks for the health of this
/// server must not wait for those who ask for nothing.
pub(super) struct FewListener {
    listener: TcpListener,
    begun: Instant,
    places: Vec<Place>,
}

/// One connection's place. Dropping it closes the connection.
struct Place {
    heard: Arc<Heard>,
    close: oneshot::Sender<()>,
}

/// When the last byte came or went, in milliseconds from when the listener began.
#[derive(Default)]
struct Heard(AtomicU64);

/// A connection.
pub(super) struct FewStream {
    stream: TcpStream,
    /// When it is to be closed, unless some of an answer is sent before; what is asked byte by byte does not put it off.
    deadline: Pin<Box<Sleep>>,
    begun: Instant,
    heard: Arc<Heard>,
    /// Ready once its place is somebody else's.
    closed: oneshot::Receiver<()>,
}

impl FewListener {
    pub(super) fn new(listener: TcpListener) -> FewListener {
        FewListener {
            listener,
            begun: Instant::now(),
            places: Vec::new(),
        }
    }

    /// Gives the stream a place, the longest quiet one's if need be.
    fn place(&mut self, stream: TcpStream) -> FewStream {
        self.places.retain(|place| !place.close.is_closed());
        if self.places.len() >= CONNECTIONS_MAX {
            let places = self.places.iter().enumerate();
            let quiet = places.min_by_key(|(_, place)| place.heard.0.load(Relaxed));
            if let Some((at, _)) = quiet {
                self.places.swap_remove(at);
            }
        }
        let heard = Arc::new(Heard::default());
        let (close, closed) = oneshot::channel();
        self.places.push(Place {
            heard: heard.clone(),
            close,
        });
        let stream = FewStream {
            stream,
            deadline: Box::pin(tokio::time::sleep(FIRST_TIMEOUT)),
            begun: self.begun,
            heard,
            closed,
        };
        stream.heard();
        stream
    }
}

impl Listener for FewListener {
    type Io = FewStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (FewStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (self.place(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl FewStream {
    fn pinned(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    fn heard(&self) {
        let since = self.begun.elapsed().as_millis() as u64;
        self.heard.0.store(since, Relaxed);
    }

    /// What came of reading or writing, or that it has taken too long.
    fn in_time<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.heard();
            return polled;
        }
        if Pin::new(&mut self.closed).poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
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

    async fn listener() -> FewListener {
        FewListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn accepted(listener: &mut FewListener) -> (TcpStream, FewStream) {
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        (client, listener.accept().await.0)
    }

    /// How it ends, unless something comes.
    async fn end(stream: &mut FewStream) -> io::ErrorKind {
        stream
            .read_to_end(&mut Vec::new())
            .await
            .unwrap_err()
            .kind()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_soon_closed() {
        let mut listener = listener().await;
        let (mut client, mut stream) = accepted(&mut listener).await;
        client.write_all(b"GET /metr").await.unwrap();
        let accepted = Instant::now();
        assert_eq!(end(&mut stream).await, io::ErrorKind::TimedOut);
        assert!(accepted.elapsed() <= FIRST_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_an_answer_may_come_back_later() {
        let mut listener = listener().await;
        let (mut client, mut stream) = accepted(&mut listener).await;
        client.write_all(b"GET /metr").await.unwrap();
        stream.write_all(b"an answer").await.unwrap();
        let answered = Instant::now();
        assert_eq!(end(&mut stream).await, io::ErrorKind::TimedOut);
        assert!(answered.elapsed() >= IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_takes_the_place_of_the_longest_quiet_one() {
        let mut listener = listener().await;
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            all.push(accepted(&mut listener).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let (client, first) = &mut all[0];
        client.write_all(b"G").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'G');
        tokio::time::advance(Duration::from_millis(1)).await;
        let (mut client, mut stream) = accepted(&mut listener).await;
        client.write_all(b"G").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'G', "it is served");
        let ends = |end| matches!(end, io::ErrorKind::ConnectionAborted);
        assert!(
            ends(end(&mut all[1].1).await),
            "the second is the longest quiet one"
        );
        assert!(
            !ends(end(&mut all[0].1).await),
            "the first has asked meanwhile"
        );
        assert!(!ends(end(&mut all[2].1).await));
        drop(all);
        accepted(&mut listener).await;
        assert_eq!(listener.places.len(), 2, "who has gone holds no place");
    }
}
