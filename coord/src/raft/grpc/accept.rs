//! Connections that are taken: how many at once, and in what time each has to show what it speaks. Whoever can reach the
//! port can open some, so none of them may cost the members their own.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

/// Who does not finish its handshake, of TLS and of HTTP/2, in this time is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at once. A member has two or three to each other one.
const CONNECTIONS_MAX: usize = 1024;

/// Connections of one address at once.
const ADDRESS_MAX: usize = 64;

/// What a client of HTTP/2 says first: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connections that there are.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.count >= CONNECTIONS_MAX || of_address >= ADDRESS_MAX {
            return None;
        }
        taken.count += 1;
        taken.by_address.insert(address, of_address + 1);
        let places = self.clone();
        Some(Place { places, address })
    }
}

/// One connection's place; whoever drops it gives it back.
#[derive(Debug)]
struct Place {
    places: Places,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.count -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    /// What is still to be read of the preface, which was looked at already.
    preface: &'static [u8],
    _place: Place,
}

/// Takes connections, each beside all others, until nobody wants them any more. `shake` does what comes before HTTP/2.
pub(super) async fn run<S, F>(
    listener: TcpListener,
    sender: mpsc::Sender<io::Result<Connection<S>>>,
    shake: impl Fn(TcpStream) -> F,
) where
    S: AsyncRead + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let places = Places::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection of a member: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            tracing::debug!("{peer} is one connection too many");
            continue;
        };
        // Without it the connection is only slower.
        let _ = stream.set_nodelay(true);
        let (shake, sender) = (shake(stream), sender.clone());
        tokio::spawn(async move {
            match begin(shake).await {
                Ok(stream) => {
                    let connection = Connection {
                        stream,
                        preface: PREFACE,
                        _place: place,
                    };
                    // The receiver is gone when the process ends.
                    let _ = sender.send(Ok(connection)).await;
                }
                Err(error) => tracing::warn!("{peer} does not pass for a member: {error}"),
            }
        });
    }
}

/// Waits until the other side has said that it speaks HTTP/2.
async fn begin<S: AsyncRead + Unpin>(shake: impl Future<Output = io::Result<S>>) -> io::Result<S> {
    let begun = async {
        let mut stream = shake.await?;
        let mut said = [0; PREFACE.len()];
        stream.read_exact(&mut said).await?;
        match said == PREFACE {
            true => Ok(stream),
            false => Err(io::Error::other("it does not speak HTTP/2")),
        }
    };
    let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, begun).await;
    begun.unwrap_or_else(|_| Err(io::Error::other("it does not finish its handshake")))
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.preface.len().min(buffer.remaining());
        let (read, rest) = self.preface.split_at(len);
        buffer.put_slice(read);
        self.preface = rest;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Connected> Connected for Connection<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn one_address_does_not_take_the_places_of_another() {
        let places = Places::default();
        let address = |n: u8| IpAddr::from(Ipv4Addr::new(10, 0, 0, n));
        let mut taken: Vec<Place> = (0..ADDRESS_MAX)
            .map(|_| places.take(address(1)).unwrap())
            .collect();
        assert!(places.take(address(1)).is_none());
        assert!(places.take(address(2)).is_some());
        taken.pop();
        assert!(places.take(address(1)).is_some());
        drop(taken);
        assert!(places.lock().by_address.is_empty());
        let many: Vec<Place> = (1..=255)
            .cycle()
            .map_while(|n| places.take(address(n)))
            .collect();
        assert_eq!(many.len(), CONNECTIONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_it_speaks_is_let_go() {
        for said in [&PREFACE[..PREFACE.len() - 1], b""] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let start = Instant::now();
            assert!(begin(async { Ok(server) }).await.is_err());
            assert_eq!(start.elapsed(), HANDSHAKE_TIMEOUT);
        }
        let start = Instant::now();
        let stalled = begin(std::future::pending::<io::Result<tokio::io::DuplexStream>>());
        assert!(stalled.await.is_err());
        assert_eq!(start.elapsed(), HANDSHAKE_TIMEOUT);
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(&[b'x'; 24]).await.unwrap();
        assert!(begin(async { Ok(server) }).await.is_err());
    }
}
