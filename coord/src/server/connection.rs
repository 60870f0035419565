//! One client's connection: the handshake, then a reader and a writer side by side.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use coord_core::acl::{Identity, super_user};
use coord_core::request::Request;
use coord_core::{Connect, ConnectionId, Event, OpError, SessionId, Zxid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use zookeeper_wire::{
    ConnectRequest, ConnectResponse, DecodeError, FrameError, OpCode, Writer, frame_len,
};

use crate::node::{Allowance, Charge, Held, Input, Outgoing, Receiver, Sender, Size, Unread};
use crate::server::connections::{Place, now_ms};
use crate::server::frames::{CLAIM_LEN, Frames, Head, SMALL_LEN};
use crate::server::sasl::Sasl;
use crate::server::{Shared, four_letter, reply, translate};
use crate::stats::{Answered, ConnectionStats, Stats};

/// The longest handshake, in bytes: its fields take 45, and a stranger gets no more memory than this.
const CONNECT_MAX_LEN: usize = 1024;

/// How long a stranger may take for the handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection's unanswered requests, in KiB begun; each takes at least one.
const UNANSWERED_KIB: u32 = 4096;

/// The share of a request whose answer lists names, or counts all that is below a znode.
const LIST_KIB: u32 = 256;

/// The share of a multiRead, whose answers may be of 16 MiB together.
const MULTI_READ_KIB: u32 = 1024;

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
    #[error(
        "no memory for a request of {len} bytes: those of all clients hold it; raise largeRequestMaxBytes"
    )]
    NoMemory { len: usize },
    #[error("the server is stopping")]
    Stopping,
}

/// Who is at the other end.
pub(super) struct Client {
    pub(super) place: Place,
    /// Whom it has shown to be before its first word, by its certificate.
    pub(super) identities: Vec<Identity>,
}

/// Serves one connection to its end, whatever carries it.
pub(super) async fn serve<R, W>(
    mut reader: R,
    mut writer: W,
    client: Client,
    shared: &Arc<Shared>,
) -> Result<(), ConnectionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Client {
        place,
        mut identities,
    } = client;
    if shared.config.auth.skip_acl {
        identities.push(super_user());
    }
    let id = place.id;
    let handshake = handshake(&mut reader, &mut writer, &place.stats, shared);
    let handshake = tokio::time::timeout(CONNECT_TIMEOUT, handshake);
    let handshake = handshake.await.map_err(|_| {
        shared.stats.sessionless_expired.fetch_add(1, Relaxed);
        ConnectionError::Silent
    });
    let Some(request) = handshake?? else {
        return Ok(());
    };
    shared.stats.connection_requests.fetch_add(1, Relaxed);

    let (sender, outgoing, unread) = Sender::new();
    let knows_read_only = request.read_only.is_some();
    let connect = connect(id, request, place.stats.peer.ip(), identities);
    shared
        .node
        .send(Input::Connect { connect, sender })
        .await
        .map_err(|_| ConnectionError::Stopping)?;

    let write = Write {
        socket: writer,
        outgoing,
        unread: unread.clone(),
        knows_read_only,
        // The longest that a client may leave a full socket unread: past this its session is over in any case.
        timeout: Duration::from_millis(shared.config.max_session_timeout_ms.into()),
        of_connection: place.stats.clone(),
        stats: shared.stats.clone(),
    };
    let result = tokio::select! {
        result = read(reader, &place, shared, &unread) => {
            let ended = match &result {
                // The client has closed it.
                Ok(()) => Some(&shared.stats.connection_drops),
                Err(ConnectionError::NoMemory { .. }) => Some(&shared.stats.large_requests_rejected),
                Err(_) => None,
            };
            if let Some(count) = ended {
                count.fetch_add(1, Relaxed);
            }
            result
        }
        result = write.run() => result,
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
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    stats: &ConnectionStats,
    shared: &Shared,
) -> Result<Option<ConnectRequest>, ConnectionError> {
    let mut first = [0; 4];
    reader.read_exact(&mut first).await?;
    stats.received();
    shared.stats.packets_received.fetch_add(1, Relaxed);
    if let Some(answer) = four_letter::answer(first, &shared.inspector).await {
        writer.write_all(answer.as_bytes()).await?;
        writer.shutdown().await?;
        return Ok(None);
    }
    let mut frame = vec![0; frame_len(first, CONNECT_MAX_LEN)?];
    reader.read_exact(&mut frame).await?;
    Ok(Some(ConnectRequest::decode(frame.into())?))
}

fn connect(
    connection: ConnectionId,
    request: ConnectRequest,
    address: IpAddr,
    mut identities: Vec<Identity>,
) -> Connect {
    identities.push(Identity {
        scheme: "ip".into(),
        id: address.to_canonical().to_string().into(),
    });
    Connect {
        connection,
        last_zxid_seen: Zxid(request.last_zxid_seen),
        timeout_ms: request.timeout_ms,
        session: SessionId(request.session_id),
        password: request.password,
        new_password: rand::random(),
        read_only: request.read_only == Some(true),
        identities,
    }
}

async fn read(
    reader: impl AsyncRead + Unpin,
    place: &Place,
    shared: &Shared,
    unread: &Unread,
) -> Result<(), ConnectionError> {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_KIB as usize));
    let mut sasl = Sasl::default();
    let mut frames = Frames::new(reader, shared.config.jute_maxbuffer);
    let allowance = shared.budget.allowance();
    let timeout = Duration::from_millis(shared.config.max_session_timeout_ms.into());
    while let Some(head) = frames.head().await? {
        unread.few().await;
        let kib = share_kib(head);
        let share = unanswered
            .clone()
            .acquire_many_owned(kib.min(UNANSWERED_KIB))
            .await
            .map_err(|_| ConnectionError::Stopping)?;
        if !frames.begin(head, timeout).await? {
            break;
        }
        let mut held = allowance.nothing();
        if head.len > SMALL_LEN {
            let len = head.len.min(CLAIM_LEN);
            let memory = wait_for_memory(&allowance, len, &mut frames, place, shared);
            let Some(memory) = memory.await? else { break };
            held = memory;
        }
        let room = |more| held.grow(more);
        let Some(frame) = frames.body(head, room).await? else {
            break;
        };
        place.stats.requested();
        shared.stats.packets_received.fetch_add(1, Relaxed);
        shared
            .stats
            .bytes_received
            .fetch_add(frame.len() as u64, Relaxed);
        let charge = Some(Charge {
            since: Instant::now(),
            op_code: head.op_code,
            share,
            held,
        });
        let (xid, request) = translate::request(frame, &shared.config.auth, &mut sasl)?;
        if matches!(
            request,
            Request::Refused {
                error: OpError::AuthFailed | OpError::SaslRequired,
                ..
            }
        ) {
            shared.stats.auth_failures.fetch_add(1, Relaxed);
            tracing::warn!(
                "connection {} from {}: authentication failed",
                place.id.0,
                place.stats.peer
            );
        }
        let event = Event::Request {
            connection: place.id,
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

/// Waits until other requests hold less memory; `None` if the client goes meanwhile. It lives as long as it sends.
async fn wait_for_memory(
    allowance: &Allowance,
    len: usize,
    frames: &mut Frames<impl AsyncRead + Unpin>,
    place: &Place,
    shared: &Shared,
) -> Result<Option<Held>, ConnectionError> {
    let mut held = std::pin::pin!(allowance.hold(len));
    tokio::select! {
        biased;
        held = &mut held => return Ok(Some(held.map_err(|_| ConnectionError::Stopping)?)),
        () = std::future::ready(()) => {}
    }
    shared.stats.requests_throttled.fetch_add(1, Relaxed);
    loop {
        tokio::select! {
            biased;
            held = &mut held => return Ok(Some(held.map_err(|_| ConnectionError::Stopping)?)),
            more = frames.more() => if !more? {
                return Ok(None);
            },
        }
        let event = Event::Heard {
            connection: place.id,
        };
        let input = Input::Event {
            event,
            charge: None,
        };
        let sent = shared.node.send(input).await;
        sent.map_err(|_| ConnectionError::Stopping)?;
    }
}

/// About the memory that a request and its answer take, in KiB. An answer may be much larger than its request, or take
/// long: where it is a list of names, and so a copy, few of them may wait behind a write.
fn share_kib(head: Head) -> u32 {
    let fixed = match OpCode::try_from(head.op_code) {
        Ok(
            OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber,
        ) => LIST_KIB,
        Ok(OpCode::MultiRead) => MULTI_READ_KIB,
        _ => 1,
    };
    fixed + (head.len / 1024) as u32
}

/// The end of a connection that sends.
struct Write<W> {
    socket: W,
    outgoing: Receiver,
    unread: Arc<Unread>,
    /// Whether the client expects the field `readOnly`.
    knows_read_only: bool,
    timeout: Duration,
    of_connection: Arc<ConnectionStats>,
    stats: Arc<Stats>,
}

impl<W: AsyncWrite + Unpin> Write<W> {
    /// Sends what comes until the node lets go of the connection.
    async fn run(mut self) -> Result<(), ConnectionError> {
        let mut batch = Vec::new();
        let mut charges = Vec::new();
        let mut w = Writer::new();
        while self.outgoing.recv_many(&mut batch, WRITE_BATCH).await > 0 {
            let mut encoded = Size::default();
            let frames = batch.len() as u64;
            self.stats.packets_sent.fetch_add(frames, Relaxed);
            self.of_connection.sent(frames);
            // One look at the clocks does for all of them.
            let (now, now_ms) = (Instant::now(), now_ms());
            for (outgoing, size) in batch.drain(..) {
                encoded += size;
                charges.extend(self.encode(outgoing, now, now_ms, &mut w));
                if w.len() >= WRITE_LEN {
                    self.flush(&mut w).await?;
                    self.unread.sent(std::mem::take(&mut encoded));
                    charges.clear();
                }
            }
            self.flush(&mut w).await?;
            self.unread.sent(encoded);
            charges.clear();
        }
        // TLS says goodbye, which a full socket holds up.
        in_time(self.timeout, self.socket.shutdown()).await
    }

    /// Writes a frame; gives back the charge of the request that it answers.
    fn encode(
        &self,
        outgoing: Outgoing,
        now: Instant,
        now_ms: i64,
        w: &mut Writer,
    ) -> Option<Charge> {
        match outgoing {
            Outgoing::Connected(response) => {
                if let Some(response) = &response {
                    let timeout_ms = response.timeout_ms as u32;
                    self.of_connection.accepted(response.session_id, timeout_ms);
                }
                let mut response = response.unwrap_or(ConnectResponse::expired(None));
                response.read_only = self
                    .knows_read_only
                    .then_some(response.read_only.unwrap_or(false));
                w.frame(|w| response.encode(w));
                None
            }
            Outgoing::Reply {
                xid,
                zxid,
                result,
                charge,
            } => {
                let before = w.len();
                reply::write(w, xid, zxid, &result);
                self.stats.responses.record(w.len() - before);
                if let Some(Charge { since, op_code, .. }) = charge {
                    let latency = now.saturating_duration_since(since);
                    self.stats.answered(op_code, latency);
                    self.of_connection.answered(Answered {
                        op_code,
                        xid,
                        zxid: zxid.0,
                        latency,
                        at_ms: now_ms,
                    });
                }
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
        self.stats.bytes_sent.fetch_add(bytes.len() as u64, Relaxed);
        let written = async {
            self.socket.write_all(&bytes).await?;
            self.socket.flush().await
        };
        in_time(self.timeout, written).await
    }
}

async fn in_time(
    timeout: Duration,
    sent: impl Future<Output = std::io::Result<()>>,
) -> Result<(), ConnectionError> {
    let sent = tokio::time::timeout(timeout, sent).await;
    Ok(sent.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
}

#[cfg(test)]
mod tests {
    use coord_core::State;
    use coord_core::names::Names;
    use coord_core::request::Response;

    use super::*;
    use crate::node::Budget;

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_as_a_client_reads_and_what_the_tree_has_takes_none() {
        const LEN: usize = 200 * 1024;
        let allowance = Budget::new(4 * 1024 * 1024).allowance();
        let (sender, outgoing, unread) = Sender::new();
        let stat = State::default().tree.get("/").unwrap().stat();
        let data = Response::Data(Some(vec![0; 1024 * 1024].into()), stat);
        let children = || Response::Children(Names::whole(vec!["n".repeat(LEN).into()]));
        for (xid, response) in [(1, children()), (2, children()), (3, data)] {
            let share = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
            let charge = Charge {
                since: Instant::now(),
                op_code: 0,
                share,
                held: allowance.nothing(),
            };
            sender.send(Outgoing::Reply {
                xid,
                zxid: Zxid(1),
                result: Ok(response),
                charge: Some(charge),
            });
        }
        let (socket, mut client) = tokio::io::duplex(1024);
        let peer = ([127, 0, 0, 1], 1).into();
        let write = Write {
            socket,
            outgoing,
            unread,
            knows_read_only: true,
            timeout: Duration::from_secs(3600),
            of_connection: Arc::new(ConnectionStats::new(peer, false, 0)),
            stats: Arc::default(),
        };
        // The connection may hold a quarter: both lists leave room for this, and one for the next.
        let in_time = |len| tokio::time::timeout(Duration::from_secs(10), allowance.hold(len));
        drop(in_time(600 * 1024).await.expect("only lists take memory"));
        assert!(in_time(700 * 1024).await.is_err());
        tokio::spawn(write.run());
        client.read_exact(&mut vec![0; LEN + 1024]).await.unwrap();
        assert!(in_time(700 * 1024).await.is_ok());
    }

    #[test]
    fn answers_that_are_large_have_few_beside_them() {
        let share = |op: OpCode, len| {
            let op_code = op.code();
            share_kib(Head { len, op_code })
        };
        let at_once = |op| UNANSWERED_KIB / share(op, 100);
        assert_eq!(at_once(OpCode::MultiRead), 4);
        for op in [
            OpCode::GetChildren,
            OpCode::GetChildren2,
            OpCode::GetEphemerals,
            OpCode::GetAllChildrenNumber,
        ] {
            assert_eq!(at_once(op), 16);
        }
        assert_eq!(at_once(OpCode::GetData), UNANSWERED_KIB);
        assert_eq!(share(OpCode::Multi, 48 << 20), 48 * 1024 + 1);
    }
}
