//! Counters for `srvr`, `mntr` and `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What this process has seen; any thread counts, any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) packets_received: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
    pub(crate) outstanding: AtomicU64,
    pub(crate) zxid: AtomicU64,
    pub(crate) znodes: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) ephemerals: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) data_size: AtomicU64,
    requests: AtomicU64,
    latency_sum_us: AtomicU64,
    latency_max_us: AtomicU64,
    fsyncs: AtomicU64,
    fsync_sum_us: AtomicU64,
}

impl Stats {
    /// A request was answered, so long after it came.
    pub(crate) fn answered(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        self.requests.fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
        self.latency_max_us.fetch_max(us, Relaxed);
    }

    /// A group of log entries was made durable.
    pub(crate) fn fsynced(&self, took: Duration) {
        self.fsyncs.fetch_add(1, Relaxed);
        self.fsync_sum_us
            .fetch_add(took.as_micros() as u64, Relaxed);
    }

    fn average_ms(sum_us: &AtomicU64, count: &AtomicU64) -> f64 {
        sum_us.load(Relaxed) as f64 / count.load(Relaxed).max(1) as f64 / 1000.0
    }

    /// The answer to `srvr`, line by line as ZooKeeper's tools expect it.
    pub(crate) fn srvr(&self) -> String {
        format!(
            "Zookeeper version: {}\nLatency min/avg/max: 0/{:.4}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
             Outstanding: {}\nZxid: {:#x}\nMode: standalone\nNode count: {}\n",
            VERSION,
            Stats::average_ms(&self.latency_sum_us, &self.requests),
            self.latency_max_us.load(Relaxed) / 1000,
            self.packets_received.load(Relaxed),
            self.packets_sent.load(Relaxed),
            self.connections.load(Relaxed),
            self.outstanding.load(Relaxed),
            self.zxid.load(Relaxed),
            self.znodes.load(Relaxed),
        )
    }

    /// Every figure under ZooKeeper's name for it.
    fn figures(&self) -> [(&'static str, f64); 15] {
        let int = |value: &AtomicU64| value.load(Relaxed) as f64;
        [
            (
                "zk_avg_latency",
                Stats::average_ms(&self.latency_sum_us, &self.requests),
            ),
            (
                "zk_max_latency",
                (self.latency_max_us.load(Relaxed) / 1000) as f64,
            ),
            ("zk_min_latency", 0.0),
            ("zk_packets_received", int(&self.packets_received)),
            ("zk_packets_sent", int(&self.packets_sent)),
            ("zk_num_alive_connections", int(&self.connections)),
            ("zk_connection_rejected", int(&self.connections_rejected)),
            ("zk_outstanding_requests", int(&self.outstanding)),
            ("zk_znode_count", int(&self.znodes)),
            ("zk_watch_count", int(&self.watches)),
            ("zk_ephemerals_count", int(&self.ephemerals)),
            ("zk_global_sessions", int(&self.sessions)),
            ("zk_approximate_data_size", int(&self.data_size)),
            ("zk_fsynctime_count", int(&self.fsyncs)),
            (
                "zk_avg_fsynctime",
                Stats::average_ms(&self.fsync_sum_us, &self.fsyncs),
            ),
        ]
    }

    /// The answer to `mntr`.
    pub(crate) fn mntr(&self) -> String {
        let mut text = format!("zk_version\t{VERSION}\nzk_server_state\tstandalone\n");
        for (name, value) in self.figures() {
            text += &format!("{name}\t{value}\n");
        }
        text
    }

    /// The answer to `envi`, from which clients learn the version.
    pub(crate) fn envi() -> String {
        let directory = std::env::current_dir().unwrap_or_default();
        format!(
            "Environment:\nzookeeper.version={VERSION}\nos.name={}\nos.arch={}\nuser.dir={}\n",
            std::env::consts::OS,
            std::env::consts::ARCH,
            directory.display(),
        )
    }

    /// The same figures for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        self.figures()
            .map(|(name, value)| format!("# TYPE {name} gauge\n{name} {value}\n"))
            .concat()
    }
}

/// The version of the protocol's reference that coord behaves as, then its own: tools parse the first part.
const VERSION: &str = concat!("3.9.0-gregor-", env!("CARGO_PKG_VERSION"));
