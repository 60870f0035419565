//! The sockets: who is let in, and what goes over the wire.

mod connection;
mod connections;
mod distinguished_name;
mod four_letter;
mod frames;
mod inspector;
mod quorum;
mod reply;
mod sasl;
mod tls;
mod translate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::http;
use crate::node::{Budget, Input, Node, Settings, SystemClock};
use crate::raft::StdDisk;
use crate::stats::Stats;
use connection::Client;
use connections::{Connections, Place};
pub(crate) use inspector::Inspector;
use quorum::Quorum;

/// Requests that wait for the node. A full inbox holds the readers back, and so the clients.
const INBOX_LEN: usize = 1024;

/// How long a stranger may take for the handshake of TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Open files that connections leave to the log, the snapshots, the other members and the administrator: a log that
/// cannot be written ends the process.
const FILES_RESERVED: u64 = 256;

/// What every connection needs.
struct Shared {
    config: Arc<Config>,
    stats: Arc<Stats>,
    node: mpsc::Sender<Input>,
    connections: Arc<Connections>,
    inspector: Arc<Inspector>,
    /// What the requests of all connections may hold.
    budget: Budget,
}

/// Serves until SIGTERM or SIGINT; then everything on its way to the disk is written before this returns.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let plain = bind(config.client_address, "clientPort").await?;
    let secure = bind(config.secure_client_address, "secureClientPort").await?;
    let acceptor = config.client_tls.as_ref().map(tls::acceptor).transpose()?;
    let (node_inbox, inbox) = mpsc::channel(INBOX_LEN);
    let quorum = Quorum::bind(&config.ensemble).await?;
    let settings = Settings::new(&config, rand::random());
    let node = Node::start(
        settings,
        Arc::new(StdDisk),
        quorum.transport(),
        Arc::new(SystemClock),
    );
    let node = node.await?;
    let stats = node.stats();
    let quorum = tokio::spawn(quorum.serve(node.raft().service()));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let node = tokio::spawn(node.run(inbox, stopped));
    let max = connections_max(config.max_cnxns, open_files_max());
    if max < config.max_cnxns {
        let wanted = config.max_cnxns;
        tracing::warn!("maxCnxns={wanted} is {max} here: the limit of open files allows no more");
    }
    let connections = Connections::new(config.max_client_cnxns, max, stats.clone());
    let connections = Arc::new(connections);
    let config = Arc::new(config);
    let inspector = Arc::new(Inspector {
        config: config.clone(),
        stats: stats.clone(),
        connections: connections.clone(),
        node: node_inbox.clone(),
        client_port: port(plain.as_ref()),
        secure_client_port: port(secure.as_ref()),
    });
    http::start(inspector.clone()).await?;
    // The last words before clients are served: whoever starts this process waits for them.
    for (listener, key) in [(&secure, "secureClientPort"), (&plain, "clientPort")] {
        if let Some(listener) = listener {
            tracing::info!("{key} {}", listener.local_addr()?);
        }
    }
    let shared = Arc::new(Shared {
        budget: Budget::new(config.large_request_max_bytes),
        config,
        stats,
        node: node_inbox,
        connections,
        inspector,
    });
    tokio::select! {
        () = accept(plain, None, shared.clone()) => {}
        () = accept(secure, acceptor, shared) => {}
        served = quorum => served.context("the listener of the other members has failed")??,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The receiver is there for as long as the node runs.
    let _ = stop.send(());
    Ok(node.await.context("the node has failed")??)
}

/// How many files may be open, raised as far as this process may, as a JVM does; `None` if there is no limit.
fn open_files_max() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = std::mem::replace(&mut limit.current, limit.maximum);
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum,
        Err(_) => soft,
    }
}

/// How many connections there may be in all, 0 being no bound.
fn connections_max(max_cnxns: usize, files: Option<u64>) -> usize {
    let Some(files) = files else {
        return max_cnxns;
    };
    let left = files - FILES_RESERVED.min(files / 2);
    match max_cnxns {
        0 => left as usize,
        max => max.min(left as usize),
    }
}

async fn bind(address: Option<SocketAddr>, key: &str) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({key})"))?;
    Ok(Some(listener))
}

/// Where it listens, as ZooKeeper tells it.
fn port(listener: Option<&TcpListener>) -> i32 {
    let address = listener.and_then(|listener| listener.local_addr().ok());
    address.map_or(-1, |address| address.port().into())
}

/// Takes connections for ever; with an acceptor they speak TLS.
async fn accept(listener: Option<TcpListener>, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: a loop without a pause would only burn the processor.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match shared.connections.take(peer, tls.is_some()) {
            Ok(place) => {
                tokio::spawn(serve(stream, tls.clone(), place, shared.clone()));
            }
            Err(refused) => {
                shared.stats.connections_rejected.fetch_add(1, Relaxed);
                tracing::warn!("{refused}; one more is refused");
            }
        }
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, place: Place, shared: Arc<Shared>) {
    let (id, peer) = (place.id, place.stats.peer);
    let served = async {
        stream.set_nodelay(true)?;
        match tls {
            None => serve_plain(stream, place, &shared).await,
            Some(tls) => serve_secure(stream, tls, place, &shared).await,
        }
    };
    if let Err(error) = served.await {
        tracing::debug!("connection {} from {peer} closed: {error:#}", id.0);
    }
}

async fn serve_plain(stream: TcpStream, place: Place, shared: &Arc<Shared>) -> anyhow::Result<()> {
    let (reader, writer) = stream.into_split();
    let client = Client {
        place,
        identities: Vec::new(),
    };
    Ok(connection::serve(reader, writer, client, shared).await?)
}

async fn serve_secure(
    stream: TcpStream,
    tls: TlsAcceptor,
    place: Place,
    shared: &Arc<Shared>,
) -> anyhow::Result<()> {
    let stats = &shared.stats;
    stats.tls_handshakes.fetch_add(1, Relaxed);
    let accepted = tokio::time::timeout(TLS_TIMEOUT, tls.accept(stream)).await;
    stats.tls_handshakes.fetch_sub(1, Relaxed);
    let accepted = accepted.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let stream = accepted
        .inspect_err(|_| {
            stats.tls_handshakes_failed.fetch_add(1, Relaxed);
        })
        .context("the TLS handshake failed")?;
    let super_user = shared.config.auth.x509_super_user.as_deref();
    let identities = tls::identities(stream.get_ref().1.peer_certificates(), super_user);
    let (reader, writer) = tokio::io::split(stream);
    let client = Client { place, identities };
    Ok(connection::serve(reader, writer, client, shared).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_log() {
        assert_eq!(connections_max(0, None), 0);
        assert_eq!(connections_max(7, None), 7);
        assert_eq!(connections_max(0, Some(1024)), 768);
        assert_eq!(connections_max(7, Some(1024)), 7);
        assert_eq!(connections_max(1000, Some(1024)), 768);
        assert_eq!(connections_max(0, Some(64)), 32);
    }
}
