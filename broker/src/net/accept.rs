//! The accept loop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

use super::{Limits, Service, connection};

/// How long to wait after an accept that failed, mostly for want of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Serves a listener. Ends only with the task; its connections end with it.
pub async fn serve(listener: TcpListener, service: Arc<dyn Service>, limits: Limits) {
    let counts = Arc::new(Counts::default());
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Some(counted) = counts.admit(peer.ip(), connections.len(), &limits) else {
            tracing::warn!(%peer, "connection refused: max.connections or max.connections.per.ip is reached");
            continue;
        };
        let (service, limits) = (service.clone(), limits.clone());
        connections.spawn(async move {
            connection::run(socket, peer, service, limits).await;
            drop(counted);
        });
    }
}

/// Connections by address.
#[derive(Debug, Default)]
struct Counts {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection, counted until this is dropped.
#[derive(Debug)]
struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Counts {
    fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        connections: usize,
        limits: &Limits,
    ) -> Option<Counted> {
        let mut by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_address = by_address.entry(address).or_default();
        let admitted =
            connections < limits.max_connections && *of_address < limits.max_connections_per_ip;
        if admitted {
            *of_address += 1;
        } else if *of_address == 0 {
            by_address.remove(&address);
        }
        admitted.then(|| Counted {
            counts: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_address = self
            .counts
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
