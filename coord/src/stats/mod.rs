//! What this process counts and measures, for the four-letter words, the administrator's commands and `/metrics`.

mod connection;
mod histogram;
mod metrics;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use connection::{Answered, ConnectionStats};
use histogram::Histogram;
pub(crate) use metrics::{Metric, Number, mntr, prometheus};

/// The version of the protocol's reference that coord behaves as, then its own: tools parse the first part.
pub(crate) const VERSION: &str = concat!("3.9.0-gregor-", env!("CARGO_PKG_VERSION"));

/// What this server is to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ServerState {
    /// It serves none: it starts, or has no leader.
    NotServing,
    /// It serves by itself.
    Standalone,
    /// It leads.
    Leader,
    /// It follows, and votes.
    Follower,
    /// It follows, and does not vote.
    Observer,
    /// It has no leader, and serves reads to those who asked for that.
    ReadOnly,
}

/// What this process has seen; any thread counts, any thread reads.
#[derive(Debug)]
pub(crate) struct Stats {
    state: AtomicU8,
    started: Instant,
    /// In milliseconds since `started`.
    state_since_ms: AtomicU64,
    pub(crate) packets_received: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
    /// Handshakes that came.
    pub(crate) connection_requests: AtomicU64,
    /// Connections that their clients closed.
    pub(crate) connection_drops: AtomicU64,
    /// Connections that were closed because no handshake came.
    pub(crate) sessionless_expired: AtomicU64,
    pub(crate) tls_handshakes: AtomicU64,
    pub(crate) tls_handshakes_failed: AtomicU64,
    pub(crate) auth_failures: AtomicU64,
    /// Requests that waited for memory.
    pub(crate) requests_throttled: AtomicU64,
    /// Requests that got no memory, and ended their connections.
    pub(crate) large_requests_rejected: AtomicU64,
    /// Sessions that this server, leading, has let expire.
    pub(crate) sessions_expired: AtomicU64,
    /// Transactions that this server, leading, has proposed.
    pub(crate) proposals: AtomicU64,
    /// Transactions that were committed while this server led.
    pub(crate) commits: AtomicU64,
    /// How often this server was without a leader.
    pub(crate) looking: AtomicU64,
    pub(crate) outstanding: AtomicU64,
    pub(crate) zxid: AtomicU64,
    pub(crate) znodes: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) ephemerals: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) data_size: AtomicU64,
    last_snapshot: Mutex<Option<(i64, i64)>>,
    pub(crate) ensemble: EnsembleStats,
    /// Bytes of answers.
    pub(crate) responses: Sizes,
    read_latency: Histogram,
    update_latency: Histogram,
    fsync: Histogram,
}

/// What is known of the other members.
#[derive(Debug, Default)]
pub(crate) struct EnsembleStats {
    /// Syncs that wait for a majority.
    pub(crate) pending_syncs: AtomicU64,
    figures: Mutex<EnsembleFigures>,
}

/// What a look at the ensemble has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnsembleFigures {
    /// Members that vote.
    pub(crate) quorum_size: usize,
    /// Members that follow this one.
    pub(crate) learners: usize,
    /// Those of them that vote and are in step.
    pub(crate) synced_followers: usize,
    /// Those of them that do not vote and are in step.
    pub(crate) synced_observers: usize,
    /// Bytes of batches of transactions that this member has proposed.
    pub(crate) proposals: SizeFigures,
}

impl Default for EnsembleFigures {
    fn default() -> EnsembleFigures {
        EnsembleFigures {
            quorum_size: 0,
            learners: 0,
            synced_followers: 0,
            synced_observers: 0,
            proposals: Sizes::default().figures(),
        }
    }
}

impl EnsembleStats {
    /// Somebody has looked.
    pub(crate) fn set(&self, figures: EnsembleFigures) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// What was seen last.
    pub(crate) fn figures(&self) -> EnsembleFigures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last, the least and the greatest of many sizes, in bytes.
#[derive(Debug)]
pub(crate) struct Sizes {
    last: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

/// What [`Sizes`] held at some time; −1 where there was none yet, as ZooKeeper says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeFigures {
    pub(crate) last: i64,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

/// No size.
const NO_SIZE: u64 = u64::MAX;

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            last: AtomicU64::new(NO_SIZE),
            min: AtomicU64::new(NO_SIZE),
            max: AtomicU64::new(0),
        }
    }
}

impl Sizes {
    /// One more.
    pub(crate) fn record(&self, len: usize) {
        let len = len as u64;
        self.last.store(len, Relaxed);
        if len < self.min.load(Relaxed) {
            self.min.fetch_min(len, Relaxed);
        }
        if len > self.max.load(Relaxed) {
            self.max.fetch_max(len, Relaxed);
        }
    }

    fn reset(&self) {
        self.last.store(NO_SIZE, Relaxed);
        self.min.store(NO_SIZE, Relaxed);
        self.max.store(0, Relaxed);
    }

    /// What there is by now.
    pub(crate) fn figures(&self) -> SizeFigures {
        let last = self.last.load(Relaxed);
        if last == NO_SIZE {
            return SizeFigures {
                last: -1,
                min: -1,
                max: -1,
            };
        }
        let max = self.max.load(Relaxed).max(last);
        SizeFigures {
            last: last as i64,
            min: self.min.load(Relaxed).min(last) as i64,
            max: max as i64,
        }
    }
}

impl Default for Stats {
    fn default() -> Stats {
        let zero = || AtomicU64::new(0);
        Stats {
            state: AtomicU8::new(ServerState::NotServing as u8),
            started: Instant::now(),
            state_since_ms: zero(),
            packets_received: zero(),
            packets_sent: zero(),
            bytes_received: zero(),
            bytes_sent: zero(),
            connections: zero(),
            connections_rejected: zero(),
            connection_requests: zero(),
            connection_drops: zero(),
            sessionless_expired: zero(),
            tls_handshakes: zero(),
            tls_handshakes_failed: zero(),
            auth_failures: zero(),
            requests_throttled: zero(),
            large_requests_rejected: zero(),
            sessions_expired: zero(),
            proposals: zero(),
            commits: zero(),
            looking: zero(),
            outstanding: zero(),
            zxid: zero(),
            znodes: zero(),
            watches: zero(),
            ephemerals: zero(),
            sessions: zero(),
            data_size: zero(),
            last_snapshot: Mutex::default(),
            ensemble: EnsembleStats::default(),
            responses: Sizes::default(),
            read_latency: Histogram::default(),
            update_latency: Histogram::default(),
            fsync: Histogram::default(),
        }
    }
}

impl Stats {
    /// This server is from here on.
    pub(crate) fn set_state(&self, state: ServerState) {
        if self.state.swap(state as u8, Relaxed) != state as u8 {
            self.state_since_ms.store(self.uptime_ms(), Relaxed);
        }
    }

    /// What this server is.
    pub(crate) fn state(&self) -> ServerState {
        use ServerState as S;
        let states = [
            S::NotServing,
            S::Standalone,
            S::Leader,
            S::Follower,
            S::Observer,
            S::ReadOnly,
        ];
        let state = self.state.load(Relaxed);
        states
            .into_iter()
            .find(|&known| known as u8 == state)
            .unwrap_or(S::NotServing)
    }

    /// A request was answered, so long after it came.
    pub(crate) fn answered(&self, op_code: i32, latency: Duration) {
        if is_update(op_code) {
            self.update_latency.record(latency);
        } else {
            self.read_latency.record(latency);
        }
    }

    /// A snapshot of the state at `zxid` is on disk since `at_ms` milliseconds after 1970.
    pub(crate) fn snapshot_saved(&self, zxid: i64, at_ms: i64) {
        let last = self.last_snapshot.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some((zxid, at_ms));
    }

    /// The zxid of the last snapshot, and since when it is on disk, in milliseconds after 1970.
    pub(crate) fn last_snapshot(&self) -> Option<(i64, i64)> {
        let last = self.last_snapshot.lock();
        *last.unwrap_or_else(PoisonError::into_inner)
    }

    /// A group of log entries was made durable.
    pub(crate) fn fsynced(&self, took: Duration) {
        self.fsync.record(took);
    }

    /// Forgets what was counted and measured; what there is stays.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.packets_received,
            &self.packets_sent,
            &self.bytes_received,
            &self.bytes_sent,
            &self.connections_rejected,
            &self.connection_requests,
            &self.connection_drops,
            &self.sessionless_expired,
            &self.tls_handshakes_failed,
            &self.auth_failures,
            &self.requests_throttled,
            &self.large_requests_rejected,
            &self.sessions_expired,
            &self.proposals,
            &self.commits,
            &self.looking,
        ] {
            counter.store(0, Relaxed);
        }
        for histogram in [&self.read_latency, &self.update_latency, &self.fsync] {
            histogram.reset();
        }
        self.responses.reset();
    }
}

impl ServerState {
    /// ZooKeeper's word for it, after `Mode:`.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            ServerState::NotServing => "not serving",
            ServerState::Standalone => "standalone",
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Observer => "observer",
            ServerState::ReadOnly => "read-only",
        }
    }
}

/// Whether an operation changes the tree or the sessions, as ZooKeeper sorts latencies.
fn is_update(op_code: i32) -> bool {
    matches!(op_code, 1 | 2 | 5 | 7 | 13 | 14 | 15 | 16 | 19 | 21 | -11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_begin_with_none() {
        let sizes = Sizes::default();
        let figures = |last, min, max| SizeFigures { last, min, max };
        assert_eq!(sizes.figures(), figures(-1, -1, -1));
        for len in [5, 9, 7] {
            sizes.record(len);
        }
        assert_eq!(sizes.figures(), figures(7, 5, 9));
        sizes.reset();
        assert_eq!(sizes.figures(), figures(-1, -1, -1));
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let stats = Stats::default();
        assert_eq!(stats.state(), ServerState::NotServing);
        for state in [
            ServerState::Leader,
            ServerState::ReadOnly,
            ServerState::Standalone,
            ServerState::Follower,
            ServerState::Observer,
            ServerState::NotServing,
        ] {
            stats.set_state(state);
            assert_eq!(stats.state(), state);
        }
    }
}
