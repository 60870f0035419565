//! The figures under ZooKeeper's names, for `mntr`, the command `monitor` and Prometheus.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::{QUANTILES, Summary};
use super::{ServerState, Stats, VERSION};

/// A figure as ZooKeeper shows it: whole, or with a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    /// A count, or a size.
    Whole(i64),
    /// An average.
    Fraction(f64),
}

/// A figure with its name, which lacks the `zk_` in front.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Metric {
    /// It goes up and down.
    Gauge(&'static str, Number),
    /// It only goes up, but for `srst`.
    Counter(&'static str, u64),
    /// Times, in milliseconds; with percentiles or without.
    Summary(&'static str, Summary, bool),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            // With a fraction in any case, as Java has it.
            Number::Fraction(number) => write!(f, "{number:?}"),
        }
    }
}

impl Metric {
    /// Each figure of it under a name of its own, as `mntr` has them.
    pub(crate) fn flat(&self) -> Vec<(String, Number)> {
        let (name, summary, percentiles) = match self {
            Metric::Gauge(name, number) => return vec![((*name).to_owned(), *number)],
            Metric::Counter(name, count) => {
                return vec![((*name).to_owned(), Number::Whole(*count as i64))];
            }
            Metric::Summary(name, summary, percentiles) => (name, summary, percentiles),
        };
        let whole = |ms: f64| Number::Whole(ms.round() as i64);
        let mut flat = vec![
            (
                format!("avg_{name}"),
                Number::Fraction(summary.average_ms()),
            ),
            (format!("min_{name}"), whole(summary.min_ms)),
            (format!("max_{name}"), whole(summary.max_ms)),
            (format!("cnt_{name}"), Number::Whole(summary.count as i64)),
            (format!("sum_{name}"), whole(summary.sum_ms)),
        ];
        if *percentiles {
            for ((_, quantile), ms) in QUANTILES.iter().zip(summary.percentiles_ms) {
                flat.push((format!("{quantile}_{name}"), whole(ms)));
            }
        }
        flat
    }
}

impl Stats {
    /// Latency of all requests.
    pub(crate) fn latency(&self) -> Summary {
        self.read_latency
            .summary()
            .and(self.update_latency.summary())
    }

    /// Milliseconds since the process began to count.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Milliseconds since this server is what it is.
    fn state_ms(&self) -> u64 {
        let since_ms = self.state_since_ms.load(Relaxed);
        self.uptime_ms().saturating_sub(since_ms)
    }

    /// All figures.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let latency = self.latency();
        let gauge = |name, value: &AtomicU64| whole(name, value.load(Relaxed) as i64);
        let counter = |name, value: &AtomicU64| Metric::Counter(name, value.load(Relaxed));
        let responses = self.responses.figures();
        let mut metrics = vec![
            Metric::Gauge("avg_latency", Number::Fraction(latency.average_ms())),
            whole("max_latency", latency.max_ms as i64),
            whole("min_latency", latency.min_ms as i64),
            counter("packets_received", &self.packets_received),
            counter("packets_sent", &self.packets_sent),
            counter("bytes_received_count", &self.bytes_received),
            counter("response_bytes", &self.bytes_sent),
            gauge("num_alive_connections", &self.connections),
            gauge("outstanding_requests", &self.outstanding),
            whole("uptime", self.uptime_ms() as i64),
            gauge("znode_count", &self.znodes),
            gauge("watch_count", &self.watches),
            gauge("ephemerals_count", &self.ephemerals),
            gauge("approximate_data_size", &self.data_size),
            gauge("global_sessions", &self.sessions),
            whole("local_sessions", 0),
            whole("last_client_response_size", responses.last),
            whole("max_client_response_size", responses.max),
            whole("min_client_response_size", responses.min),
            gauge("outstanding_tls_handshake", &self.tls_handshakes),
            counter("unsuccessful_handshake", &self.tls_handshakes_failed),
            counter("auth_failed_count", &self.auth_failures),
            counter("request_throttle_wait_count", &self.requests_throttled),
            counter("connection_rejected", &self.connections_rejected),
            counter("connection_request_count", &self.connection_requests),
            counter("connection_drop_count", &self.connection_drops),
            counter("sessionless_connections_expired", &self.sessionless_expired),
            counter("large_requests_rejected", &self.large_requests_rejected),
            counter("stale_sessions_expired", &self.sessions_expired),
            counter("proposal_count", &self.proposals),
            counter("commit_count", &self.commits),
            counter("looking_count", &self.looking),
            // Such an error ends this process, so one that answers has had none.
            Metric::Counter("unrecoverable_error_count", 0),
            Metric::Summary("readlatency", self.read_latency.summary(), true),
            Metric::Summary("updatelatency", self.update_latency.summary(), true),
            Metric::Summary("fsynctime", self.fsync.summary(), false),
        ];
        let (open, max) = file_descriptors();
        metrics.extend(open.map(|open| whole("open_file_descriptor_count", open)));
        metrics.extend(max.map(|max| whole("max_file_descriptor_count", max)));
        let state = self.state();
        let ensemble = self.ensemble.figures();
        let count = |name, count: usize| whole(name, count as i64);
        if state != ServerState::Standalone {
            metrics.push(count("quorum_size", ensemble.quorum_size));
        }
        if state == ServerState::Leader {
            metrics.extend([
                whole("leader_uptime", self.state_ms() as i64),
                count("learners", ensemble.learners),
                count("synced_followers", ensemble.synced_followers),
                count("synced_observers", ensemble.synced_observers),
                gauge("pending_syncs", &self.ensemble.pending_syncs),
                whole("last_proposal_size", ensemble.proposals.last),
                whole("max_proposal_size", ensemble.proposals.max),
                whole("min_proposal_size", ensemble.proposals.min),
            ]);
        }
        metrics
    }

    /// What stands before the figures: words.
    pub(crate) fn words(&self) -> Vec<(&'static str, &'static str)> {
        let state = self.state();
        let mut words = vec![("version", VERSION), ("server_state", state.mode())];
        let peer_state = match state {
            ServerState::NotServing | ServerState::ReadOnly => "looking",
            ServerState::Standalone => return words,
            ServerState::Leader => "leading - broadcast",
            ServerState::Follower => "following - broadcast",
            ServerState::Observer => "observing - broadcast",
        };
        words.push(("peer_state", peer_state));
        words
    }
}

fn whole(name: &'static str, value: i64) -> Metric {
    Metric::Gauge(name, Number::Whole(value))
}

/// How many are open, and how many may be.
fn file_descriptors() -> (Option<i64>, Option<i64>) {
    // The directory itself is open while it is read.
    let open = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count() as i64 - 1);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let max = limit
        .current
        .map(|max| i64::try_from(max).unwrap_or(i64::MAX));
    (open.ok(), max)
}

/// The lines of `mntr`.
pub(crate) fn mntr(stats: &Stats) -> String {
    let mut text = String::new();
    for (name, word) in stats.words() {
        let _ = writeln!(text, "zk_{name}\t{word}");
    }
    for (name, number) in stats.metrics().iter().flat_map(Metric::flat) {
        let _ = writeln!(text, "zk_{name}\t{number}");
    }
    text
}

/// The text that Prometheus scrapes.
pub(crate) fn prometheus(stats: &Stats) -> String {
    let mut text = String::new();
    let state = stats.state();
    let _ = writeln!(
        text,
        "# TYPE zk_server_info gauge\nzk_server_info{{version=\"{VERSION}\",state=\"{}\"}} 1",
        state.mode()
    );
    for metric in stats.metrics() {
        let _ = match metric {
            Metric::Gauge(name, number) => {
                writeln!(text, "# TYPE zk_{name} gauge\nzk_{name} {number}")
            }
            Metric::Counter(name, count) => {
                writeln!(text, "# TYPE zk_{name} counter\nzk_{name} {count}")
            }
            Metric::Summary(name, summary, percentiles) => {
                let _ = writeln!(text, "# TYPE zk_{name} summary");
                for ((quantile, _), ms) in QUANTILES.iter().zip(summary.percentiles_ms) {
                    if percentiles {
                        let _ = writeln!(text, "zk_{name}{{quantile=\"{quantile}\"}} {ms}");
                    }
                }
                writeln!(
                    text,
                    "zk_{name}_sum {}\nzk_{name}_count {}",
                    summary.sum_ms, summary.count
                )
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats() -> Stats {
        let stats = Stats::default();
        stats.set_state(ServerState::Standalone);
        stats.znodes.store(5, Relaxed);
        stats.answered(4, Duration::from_micros(500));
        stats.answered(5, Duration::from_micros(1500));
        stats
    }

    #[test]
    fn mntr_has_zookeepers_names_and_numbers() {
        let stats = stats();
        let text = mntr(&stats);
        assert!(text.starts_with("zk_version\t3.9.0-"), "{text}");
        for line in [
            "zk_server_state\tstandalone",
            "zk_avg_latency\t1.0",
            "zk_min_latency\t0",
            "zk_max_latency\t1",
            "zk_znode_count\t5",
            "zk_cnt_readlatency\t1",
            "zk_avg_updatelatency\t1.5",
            "zk_p999_updatelatency\t2",
            "zk_last_client_response_size\t-1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in {text}");
        }
        assert!(text.contains("\nzk_open_file_descriptor_count\t"));
        assert!(!text.contains("synced_followers") && !text.contains("peer_state"));
        stats.set_state(ServerState::Leader);
        let text = mntr(&stats);
        assert!(text.contains("\nzk_peer_state\tleading - broadcast\n"));
        assert!(text.contains("\nzk_synced_followers\t0\n"));
    }

    #[test]
    fn prometheus_gets_types() {
        let text = prometheus(&stats());
        for lines in [
            "# TYPE zk_znode_count gauge\nzk_znode_count 5\n",
            "# TYPE zk_packets_sent counter\nzk_packets_sent 0\n",
            "# TYPE zk_updatelatency summary\nzk_updatelatency{quantile=\"0.5\"} 1.5\n",
            "zk_updatelatency_sum 1.5\nzk_updatelatency_count 1\n",
            "# TYPE zk_fsynctime summary\nzk_fsynctime_sum 0\nzk_fsynctime_count 0\n",
        ] {
            assert!(text.contains(lines), "{lines} in {text}");
        }
        let mut types: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        let count = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), count, "a name twice");
    }
}
