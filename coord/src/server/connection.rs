//! One client's connection: the handshake, then a reader and a writer side by side.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use coord_core::acl::Identity;
use coord_core::{Connect, ConnectionId, Event, SessionId, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use zookeeper_wire::{ConnectRequest, ConnectResponse, DecodeError, FrameError, Writer, frame_len};

use crate::node::{Charge, Input, Outgoing, Receiver, Sender, Size, Unread};
use crate::server::{Shared, four_letter, reply, translate};
use crate::stats::Stats;

/// The longest handshake, in bytes: its fields take 45, and a stranger gets no more memory than this.
const CONNECT_MAX_LEN: usize = 1024;

/// How long a stranger may take for the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection's unanswered requests, in KiB begun; each takes at least one.
const UNANSWERED_KIB: u32 = 4096;

/// What one read from the socket takes at most, in bytes, unless a frame is longer.
const READ_LEN: usize = 8 * 1024;

/// Frames that one write to the socket may join.
const WRITE_BATCH: usize = 256;

/// A write to the socket is due at this length.
const WRITE_LEN: usize = 64 * 1024;

/// Why a connection ends from this side, beside its session's end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("no handshake within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent,
    #[error("the server is stopping")]
    Stopping,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    mut stream: TcpStream,
    id: ConnectionId,
    shared: &Arc<Shared>,
    address: IpAddr,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let handshake = tokio::time::timeout(CONNECT_TIMEOUT, handshake(&mut stream, shared));
    let Some(request) = handshake.await.map_err(|_| ConnectionError::Silent)?? else {
        return Ok(());
    };

    let (sender, outgoing, unread) = Sender::new();
    let read_only = request.read_only;
    let connect = connect(id, request, address);
    shared
        .node
        .send(Input::Connect { connect, sender })
        .await
        .map_err(|_| ConnectionError::Stopping)?;

    let (read_half, write_half) = stream.into_split();
    // The longest that a client may leave a full socket unread: past this its session is over in any case.
    let write_timeout = Duration::from_millis(shared.config.max_session_timeout_ms.into());
    let writer = Write {
        socket: write_half,
        outgoing,
        unread: unread.clone(),
        read_only,
        write_timeout,
    };
    let writer = writer.run(shared.stats.clone());
    let result = tokio::select! {
        result = read(read_half, id, shared, &unread) => result,
        result = writer => result,
    };
    // The node only goes away with the process.
    let _ = shared
        .node
        .send(Input::Event {
            event: Event::Disconnected { connection: id },
            charge: None,
        })
        .await;
    result
}

/// Reads the first frame; `None` if it was a four-letter word, which is answered here.
async fn handshake(
    stream: &mut TcpStream,
    shared: &Shared,
) -> Result<Option<ConnectRequest>, ConnectionError> {
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    if let Some(answer) = four_letter::answer(first, shared) {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    let mut frame = vec![0; frame_len(first, CONNECT_MAX_LEN)?];
    stream.read_exact(&mut frame).await?;
    shared.stats.packets_received.fetch_add(1, Relaxed);
    Ok(Some(ConnectRequest::decode(frame.into())?))
}

fn connect(connection: ConnectionId, request: ConnectRequest, address: IpAddr) -> Connect {
    let ip = Identity {
        scheme: "ip".into(),
        id: address.to_canonical().to_string().into(),
    };
    Connect {
        connection,
        last_zxid_seen: Zxid(request.last_zxid_seen),
        timeout_ms: request.timeout_ms,
        session: SessionId(request.session_id),
        password: request.password,
        new_password: rand::random(),
        read_only: request.read_only == Some(true),
        identities: vec![ip],
    }
}

async fn read(
    mut socket: OwnedReadHalf,
    id: ConnectionId,
    shared: &Shared,
    unread: &Unread,
) -> Result<(), ConnectionError> {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_KIB as usize));
    let mut buffer = BytesMut::new();
    while let Some(frame) =
        next_frame(&mut socket, &mut buffer, shared.config.jute_maxbuffer).await?
    {
        shared.stats.packets_received.fetch_add(1, Relaxed);
        unread.few().await;
        let share = (1 + frame.len() as u32 / 1024).min(UNANSWERED_KIB);
        let share = unanswered
            .clone()
            .acquire_many_owned(share)
            .await
            .map_err(|_| ConnectionError::Stopping)?;
        let charge = Some(Charge {
            since: Instant::now(),
            share,
        });
        let (xid, request) = translate::request(frame, &shared.config.auth)?;
        let event = Event::Request {
            connection: id,
            xid,
            request,
        };
        shared
            .node
            .send(Input::Event { event, charge })
            .await
            .map_err(|_| ConnectionError::Stopping)?;
    }
    Ok(())
}

/// The next frame's body; `None` at the end of the stream. A small frame is copied: what of it the tree keeps must not
/// hold the whole buffer, which is then used again.
async fn next_frame(
    socket: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    max_len: usize,
) -> Result<Option<Bytes>, ConnectionError> {
    const PREFIX: usize = 4;
    loop {
        if let Some(&prefix) = buffer.first_chunk::<PREFIX>() {
            let end = PREFIX + frame_len(prefix, max_len)?;
            if buffer.len() >= end && end < READ_LEN {
                let frame = Bytes::copy_from_slice(&buffer[PREFIX..end]);
                buffer.advance(end);
                return Ok(Some(frame));
            }
            if buffer.len() >= end {
                return Ok(Some(buffer.split_to(end).freeze().slice(PREFIX..)));
            }
            buffer.reserve(end - buffer.len());
        }
        buffer.reserve(READ_LEN);
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

struct Write {
    socket: OwnedWriteHalf,
    outgoing: Receiver,
    unread: Arc<Unread>,
    read_only: Option<bool>,
    write_timeout: Duration,
}

impl Write {
    /// Sends what comes until the node lets go of the connection.
    async fn run(mut self, stats: Arc<Stats>) -> Result<(), ConnectionError> {
        let mut batch = Vec::new();
        let mut w = Writer::new();
        while self.outgoing.recv_many(&mut batch, WRITE_BATCH).await > 0 {
            let mut encoded = Size::default();
            let mut charges = Vec::with_capacity(batch.len());
            stats.packets_sent.fetch_add(batch.len() as u64, Relaxed);
            for (outgoing, size) in batch.drain(..) {
                encoded += size;
                charges.extend(self.encode(outgoing, &mut w));
                if w.len() >= WRITE_LEN {
                    self.flush(&mut w).await?;
                    self.unread.sent(std::mem::take(&mut encoded));
                }
            }
            self.flush(&mut w).await?;
            self.unread.sent(encoded);
            for charge in charges {
                stats.answered(charge.since.elapsed());
            }
        }
        self.socket.shutdown().await?;
        Ok(())
    }

    fn encode(&self, outgoing: Outgoing, w: &mut Writer) -> Option<Charge> {
        match outgoing {
            Outgoing::Connected(response) => {
                let expired = ConnectResponse::expired(self.read_only);
                let response = response.map(|response| ConnectResponse {
                    // Only a client that speaks of it knows the field.
                    read_only: self.read_only.and(response.read_only),
                    ..response
                });
                w.frame(|w| response.unwrap_or(expired).encode(w));
                None
            }
            Outgoing::Reply {
                xid,
                zxid,
                result,
                charge,
            } => {
                reply::write(w, xid, zxid, &result);
                charge
            }
            Outgoing::Event { zxid, event, path } => {
                reply::write_event(w, zxid, event, &path);
                None
            }
        }
    }

    async fn flush(&mut self, w: &mut Writer) -> Result<(), ConnectionError> {
        let bytes = w.take();
        match tokio::time::timeout(self.write_timeout, self.socket.write_all(&bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}
