//! Who is connected, and how many of them may be.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use coord_core::ConnectionId;

use crate::stats::{ConnectionStats, Stats};

/// The connections that are open now.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Of one address; 0 is no bound.
    max_per_address: usize,
    /// In all; 0 is no bound.
    max: usize,
    stats: Arc<Stats>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    per_address: HashMap<IpAddr, usize>,
    all: BTreeMap<ConnectionId, Arc<ConnectionStats>>,
}

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0} has maxClientCnxns={1} connections")]
    Address(IpAddr, usize),
    #[error("there are {0} connections, all that maxCnxns and the limit of open files allow")]
    All(usize),
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    pub(super) id: ConnectionId,
    pub(super) stats: Arc<ConnectionStats>,
}

impl Connections {
    pub(crate) fn new(max_per_address: usize, max: usize, stats: Arc<Stats>) -> Connections {
        Connections {
            max_per_address,
            max,
            stats,
            open: Mutex::default(),
        }
    }

    /// Each connection's figures, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<ConnectionStats>> {
        self.lock().all.values().cloned().collect()
    }

    /// A place for a client, unless there are as many as there may be.
    pub(super) fn take(
        self: &Arc<Connections>,
        peer: SocketAddr,
        secure: bool,
    ) -> Result<Place, Refused> {
        let mut open = self.lock();
        if self.max != 0 && open.all.len() >= self.max {
            return Err(Refused::All(self.max));
        }
        let count = open.per_address.entry(peer.ip()).or_insert(0);
        if self.max_per_address != 0 && *count >= self.max_per_address {
            return Err(Refused::Address(peer.ip(), self.max_per_address));
        }
        *count += 1;
        open.last_id += 1;
        let id = ConnectionId(open.last_id);
        let stats = Arc::new(ConnectionStats::new(peer, secure, now_ms()));
        open.all.insert(id, stats.clone());
        self.stats.connections.store(open.all.len() as u64, Relaxed);
        Ok(Place {
            connections: self.clone(),
            id,
            stats,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all.remove(&self.id);
        let address = self.stats.peer.ip();
        if let Some(count) = open.per_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.per_address.remove(&address);
            }
        }
        let len = open.all.len() as u64;
        self.connections.stats.connections.store(len, Relaxed);
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let stats = Arc::new(Stats::default());
        let connections = Arc::new(Connections::new(2, 3, stats.clone()));
        let take = |address: &str| connections.take(address.parse().unwrap(), false);
        let first = take("10.0.0.1:1").unwrap();
        let _second = take("10.0.0.1:2").unwrap();
        assert!(matches!(take("10.0.0.1:3"), Err(Refused::Address(_, 2))));
        let _other = take("[::1]:1").unwrap();
        assert!(matches!(take("[::2]:1"), Err(Refused::All(3))));
        assert_eq!(stats.connections.load(Relaxed), 3);
        let id = first.id;
        drop(first);
        assert_eq!(stats.connections.load(Relaxed), 2);
        let again = take("10.0.0.1:4").unwrap();
        assert!(again.id > id, "ids are never used twice");
        assert_eq!(connections.all().len(), 3);
        assert_eq!(connections.lock().per_address.len(), 2);
    }
}
