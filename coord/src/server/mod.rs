//! The sockets and the one task that owns the tree.

mod connection;
mod four_letter;
mod reply;
mod translate;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use coord_core::ConnectionId;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::http;
use crate::node::{Input, Node};
use crate::recovery::Recovered;
use crate::stats::Stats;

/// Requests that wait for the node. A full inbox holds the readers back, and so the clients.
const INBOX_LEN: usize = 1024;

/// What every connection needs.
struct Shared {
    config: Config,
    stats: Arc<Stats>,
    node: mpsc::Sender<Input>,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Serves until SIGTERM or SIGINT; then everything on its way to the disk is written before this returns.
pub(crate) async fn run(config: Config, recovered: Recovered) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stats = Arc::new(Stats::default());
    let address = config
        .client_address
        .context("secureClientPort alone is not served")?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (clientPort)"))?;
    if let Some(admin) = &config.admin {
        http::start(admin.address, stats.clone()).await?;
    }
    let (node_inbox, inbox) = mpsc::channel(INBOX_LEN);
    let node = Node::start(&config, recovered, stats.clone())?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let node = tokio::spawn(node.run(inbox, stopped));
    tracing::info!("clientPort {}", listener.local_addr()?);
    let shared = Arc::new(Shared {
        config,
        stats,
        node: node_inbox,
        per_address: Mutex::default(),
    });
    tokio::select! {
        () = accept(listener, shared) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The receiver is there for as long as the node runs.
    let _ = stop.send(());
    node.await.context("the owner of the tree has failed")?
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut next_id = 0;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: a loop without a pause would only burn the processor.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(slot) = Slot::take(&shared, peer.ip()) else {
            shared.stats.connections_rejected.fetch_add(1, Relaxed);
            tracing::warn!(
                "{} has maxClientCnxns={} connections; one more is refused",
                peer.ip(),
                shared.config.max_client_cnxns
            );
            continue;
        };
        next_id += 1;
        tokio::spawn(serve(stream, ConnectionId(next_id), slot));
    }
}

async fn serve(stream: TcpStream, id: ConnectionId, slot: Slot) {
    if let Err(error) = connection::serve(stream, id, &slot.shared, slot.address).await {
        tracing::debug!("connection {} from {} closed: {error}", id.0, slot.address);
    }
}

/// One of an address's connections; dropping it gives the place back.
struct Slot {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Slot {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Slot> {
        let max = shared.config.max_client_cnxns;
        let mut per_address = shared
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = per_address.entry(address).or_insert(0);
        if max != 0 && *count >= max {
            return None;
        }
        *count += 1;
        shared.stats.connections.fetch_add(1, Relaxed);
        Some(Slot {
            shared: shared.clone(),
            address,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.stats.connections.fetch_sub(1, Relaxed);
        let mut per_address = self
            .shared
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                per_address.remove(&self.address);
            }
        }
    }
}
