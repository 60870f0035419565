//! Calls and streams to other members.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coord_core::{NodeId, ServerSpec};
use hyper_util::rt::TokioIo;
use proto::raft::Frame;
use proto::raft::raft_client::RaftClient;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response as GrpcResponse, Status, Streaming};

use super::appends::Appends;
use super::{
    KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, QuorumTls, STREAM_LEN, convert, message_max_len, put_envelope,
    rejected,
};
use crate::raft::disk::Work;
use crate::raft::transport::{
    Envelope, Request, Response, Stream, StreamKind, Transport, TransportError,
};

/// A member that takes no connection for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to all members, made when they are used and again when they broke.
#[derive(Debug)]
pub struct GrpcTransport {
    tls: Option<QuorumTls>,
    message_max_len: usize,
    members: Mutex<BTreeMap<NodeId, Connected>>,
}

/// The connection to a member, and what goes over it.
#[derive(Debug, Clone)]
struct Connected {
    server: ServerSpec,
    client: RaftClient<Channel>,
    entries: Arc<Appends>,
    /// Signs of life have a stream of their own: entries that take long must not hold them up.
    signs_of_life: Arc<Appends>,
}

impl GrpcTransport {
    /// No connection yet. `batch_max_len` is as in [`Settings`](crate::raft::Settings).
    pub fn new(tls: Option<QuorumTls>, batch_max_len: usize) -> GrpcTransport {
        GrpcTransport {
            tls,
            message_max_len: message_max_len(batch_max_len),
            members: Mutex::default(),
        }
    }

    /// The connection to `to`; another one if its address has changed.
    fn connected(&self, to: NodeId, server: &ServerSpec) -> Connected {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = members.get(&to)
            && known.server.host == server.host
            && known.server.quorum_port == server.quorum_port
        {
            return known.clone();
        }
        let connector = Connector {
            host: server.host.clone().into(),
            port: server.quorum_port,
            tls: self.tls.as_ref().map(|tls| tls.client.clone().into()),
        };
        // The connector has the address; this one only becomes the authority in the requests.
        let channel = Endpoint::from_static("http://coord")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        let client = RaftClient::new(channel)
            .max_decoding_message_size(self.message_max_len)
            .max_encoding_message_size(usize::MAX);
        let connected = Connected {
            server: server.clone(),
            client,
            entries: Arc::default(),
            signs_of_life: Arc::default(),
        };
        members.insert(to, connected.clone());
        connected
    }
}

impl Transport for GrpcTransport {
    fn call(
        &self,
        server: &ServerSpec,
        envelope: Envelope,
        request: Request,
    ) -> Work<'static, Result<Response, TransportError>> {
        let Connected {
            mut client,
            entries,
            signs_of_life,
            ..
        } = self.connected(envelope.to, server);
        Box::pin(async move {
            match request {
                Request::AppendEntries(request) => {
                    let appends = match request.entries.is_empty() {
                        true => signs_of_life,
                        false => entries,
                    };
                    let response = appends.ask(client, envelope, &request).await?;
                    Ok(Response::AppendEntries(response))
                }
                Request::Vote(request) => {
                    let request = addressed(envelope, convert::from_vote_request(&request));
                    let response = answered(client.vote(request).await)?;
                    Ok(Response::Vote(convert::to_vote_response(response)?))
                }
                Request::Status { last_log_id } => {
                    let request = addressed(envelope, convert::from_status_request(last_log_id));
                    let response = answered(client.status(request).await)?;
                    Ok(Response::Status(convert::to_status(response)))
                }
            }
        })
    }

    fn open(
        &self,
        server: &ServerSpec,
        envelope: Envelope,
        kind: StreamKind,
    ) -> Work<'static, Result<Stream, TransportError>> {
        let mut client = self.connected(envelope.to, server).client;
        Box::pin(async move {
            let (outgoing, frames) = mpsc::channel(STREAM_LEN);
            let frames = ReceiverStream::new(frames).map(|bytes| Frame { bytes });
            let request = addressed(envelope, frames);
            let answers = match kind {
                StreamKind::Forward => client.forward(request).await,
                StreamKind::Snapshot => client.snapshot(request).await,
            };
            let (sender, incoming) = mpsc::channel(STREAM_LEN);
            tokio::spawn(pump(answered(answers)?, sender));
            Ok(Stream { outgoing, incoming })
        })
    }
}

/// Hands on what arrives until either side ends it.
pub(super) async fn pump(mut frames: Streaming<Frame>, sender: mpsc::Sender<Bytes>) {
    loop {
        tokio::select! {
            biased;
            () = sender.closed() => return,
            frame = frames.message() => match frame {
                Ok(Some(frame)) => if sender.send(frame.bytes).await.is_err() { return },
                Ok(None) | Err(_) => return,
            }
        }
    }
}

pub(super) fn addressed<T>(envelope: Envelope, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    put_envelope(envelope, request.metadata_mut());
    request
}

pub(super) fn answered<T>(answer: Result<GrpcResponse<T>, Status>) -> Result<T, TransportError> {
    match answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(error(&status)),
    }
}

pub(super) fn error(status: &Status) -> TransportError {
    match rejected(status) {
        Some(rejected) => rejected.into(),
        None => TransportError::Broken(status.message().to_owned()),
    }
}

/// Makes one connection to one member.
#[derive(Clone)]
struct Connector {
    host: Arc<str>,
    port: u16,
    tls: Option<TlsConnector>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    async fn connect(self) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.to_string()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}
