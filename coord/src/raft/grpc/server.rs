//! What other members call.

use bytes::Bytes;
use proto::raft as wire;
use proto::raft::Frame;
use proto::raft::raft_server::{Raft, RaftServer};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use super::accept;
use super::client::pump;
use super::{
    KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, QuorumTls, STREAM_LEN, convert, message_max_len, status,
    take_envelope,
};
use crate::raft::service::Service;
use crate::raft::transport::{self, Envelope, Rejected, Stream, StreamKind};

/// Connections that wait to be served.
const ACCEPTED_LEN: usize = 16;

/// Serves `service` to the other members until the listener fails. `batch_max_len` is as in
/// [`Settings`](crate::raft::Settings).
pub async fn serve(
    listener: TcpListener,
    service: Service,
    tls: Option<QuorumTls>,
    batch_max_len: usize,
) -> Result<(), tonic::transport::Error> {
    let verify_hosts = tls.as_ref().is_some_and(|tls| tls.verify_hosts);
    let members = Members {
        service,
        verify_hosts,
    };
    let members =
        RaftServer::new(members).max_decoding_message_size(message_max_len(batch_max_len));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(members);
    match tls {
        None => {
            let (sender, incoming) = mpsc::channel(ACCEPTED_LEN);
            tokio::spawn(accept::run(listener, sender, |stream| async { Ok(stream) }));
            server
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await
        }
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls.server);
            let (sender, incoming) = mpsc::channel(ACCEPTED_LEN);
            tokio::spawn(accept::run(listener, sender, move |stream| {
                acceptor.accept(stream)
            }));
            server
                .serve_with_incoming(ReceiverStream::new(incoming))
                .await
        }
    }
}

/// Streams and calls of one connection at once, each of which may hold a message of the greatest length. Further ones wait.
/// A member has two streams for entries, one to forward on, at most two snapshots, and a few calls.
const STREAMS_MAX: u32 = 12;

struct Members {
    service: Service,
    verify_hosts: bool,
}

impl Members {
    /// Who speaks, if its certificate says so too.
    fn envelope<T>(&self, request: &Request<T>) -> Result<Envelope, Status> {
        let envelope = take_envelope(request.metadata())?;
        if !self.verify_hosts {
            return Ok(envelope);
        }
        let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = connection.and_then(TlsConnectInfo::peer_certs);
        let certificate = certificates.as_ref().and_then(|chain| chain.first());
        let host = self.service.host(envelope.from);
        match (certificate, host) {
            (Some(certificate), Some(host)) if is_for(certificate, &host) => Ok(envelope),
            _ => Err(status(&Rejected::Impostor(envelope.from))),
        }
    }

    fn accept(
        &self,
        kind: StreamKind,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Frames>, Status> {
        let envelope = self.envelope(&request)?;
        let (outgoing, answers) = mpsc::channel::<Bytes>(STREAM_LEN);
        let (sender, incoming) = mpsc::channel(STREAM_LEN);
        let stream = Stream { outgoing, incoming };
        self.service
            .accept(envelope, kind, stream)
            .map_err(|rejected| status(&rejected))?;
        tokio::spawn(pump(request.into_inner(), sender));
        let answers = ReceiverStream::new(answers).map(|bytes| Ok(Frame { bytes }));
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn call(
    service: &Service,
    envelope: Envelope,
    request: transport::Request,
) -> Result<transport::Response, Status> {
    let response = service.call(envelope, request).await;
    response.map_err(|rejected| status(&rejected))
}

async fn append(
    service: Service,
    envelope: Envelope,
    request: Result<wire::AppendEntriesRequest, Status>,
) -> Result<wire::AppendEntriesResponse, Status> {
    let request = convert::to_append(request?);
    let request = request.map_err(|rejected| status(&rejected))?;
    let request = transport::Request::AppendEntries(request);
    match call(&service, envelope, request).await? {
        transport::Response::AppendEntries(response) => Ok(convert::from_append_response(response)),
        _ => Err(unexpected()),
    }
}

fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let certificate = ParsedCertificate::try_from(certificate);
    let name = ServerName::try_from(host);
    matches!((certificate, name), (Ok(certificate), Ok(name)) if verify_server_name(&certificate, &name).is_ok())
}

fn unexpected() -> Status {
    status(&Rejected::Damaged(
        "the answer is to something else".to_owned(),
    ))
}

type Messages<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;
type Answers = Messages<wire::AppendEntriesResponse>;
type Frames = Messages<Frame>;

#[tonic::async_trait]
impl Raft for Members {
    type AppendEntriesStream = Answers;
    type SnapshotStream = Frames;
    type ForwardStream = Frames;

    async fn append_entries(
        &self,
        request: Request<Streaming<wire::AppendEntriesRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let envelope = self.envelope(&request)?;
        let service = self.service.clone();
        let answers = request
            .into_inner()
            .then(move |request| append(service.clone(), envelope, request));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let envelope = self.envelope(&request)?;
        let request = convert::to_vote_request(request.into_inner());
        let request = request.map_err(|rejected| status(&rejected))?;
        let request = transport::Request::Vote(request);
        match call(&self.service, envelope, request).await? {
            transport::Response::Vote(response) => {
                Ok(Response::new(convert::from_vote_response(&response)))
            }
            _ => Err(unexpected()),
        }
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let envelope = self.envelope(&request)?;
        let last_log_id = convert::to_status_request(request.into_inner());
        let last_log_id = last_log_id.map_err(|rejected| status(&rejected))?;
        let request = transport::Request::Status { last_log_id };
        match call(&self.service, envelope, request).await? {
            transport::Response::Status(response) => {
                Ok(Response::new(convert::from_status(response)))
            }
            _ => Err(unexpected()),
        }
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Frames>, Status> {
        self.accept(StreamKind::Snapshot, request)
    }

    async fn forward(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Frames>, Status> {
        self.accept(StreamKind::Forward, request)
    }
}
