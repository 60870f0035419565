//! What Raft is told to do, and how its times follow from ZooKeeper's settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coord_core::{NodeId, ServerSpec};

/// See the module.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `myid`.
    pub node: NodeId,
    /// The lines `server.N`, by N. They found an ensemble; from then on its log says who the members are. Empty: this
    /// member is an ensemble of its own, and no other is ever spoken to.
    pub servers: BTreeMap<NodeId, ServerSpec>,
    /// `dataDir`.
    pub data_dir: PathBuf,
    /// `dataDir` and `dataLogDir`, where Apache ZooKeeper may have left its files. Nothing is founded beside them.
    pub zookeeper_dirs: Vec<PathBuf>,
    /// `tickTime`, in milliseconds.
    pub tick_time_ms: u32,
    /// `syncLimit`, in ticks.
    pub sync_limit: u32,
    /// `initLimit`, in ticks.
    pub init_limit: u32,
    /// `snapCount`: a snapshot is written after about so many log entries, or more where snapshots are long.
    pub snap_count: u64,
    /// The most bytes that the transactions of one batch may take, given or taken one transaction; nothing larger is
    /// ever sent in one message.
    pub batch_max_len: usize,
    /// A leader that no majority has answered for so long tells its node so.
    pub quorum_grace: Duration,
    /// What everything random follows from.
    pub seed: u64,
    /// What ends the process.
    pub fatal: Fatal,
}

/// What is done when this process cannot go on: it says one line, and ends. A simulator puts something else here.
#[derive(Clone)]
pub struct Fatal(Arc<dyn Fn(&str) + Send + Sync>);

impl Fatal {
    /// Has `end` called with the reason.
    pub fn new(end: impl Fn(&str) + Send + Sync + 'static) -> Fatal {
        Fatal(Arc::new(end))
    }

    pub(super) fn end(&self, reason: &str) {
        (self.0)(reason);
    }
}

impl Default for Fatal {
    fn default() -> Fatal {
        Fatal::new(|reason| {
            tracing::error!("{reason}; coord ends here");
            std::process::abort();
        })
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}

impl Settings {
    /// How often a leader is heard when it has nothing to say.
    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis((self.tick_time_ms / 20).clamp(50, 100).into())
    }

    /// A new participant may take so long to catch up with the log.
    pub(super) fn init_timeout(&self) -> Duration {
        Duration::from_millis(self.tick_time_ms.into()) * self.init_limit
    }

    /// A member that does not hear its leader for this long, or up to twice that, holds it for dead. A fifth of
    /// `tickTime × syncLimit`, after which ZooKeeper does so, but a second at least: a disk that stalls is no election.
    /// A leader whose process ended is noticed by its broken connections, long before.
    pub(super) fn election_timeout(&self) -> Duration {
        let ms = u64::from(self.tick_time_ms) * u64::from(self.sync_limit) / 5;
        Duration::from_millis(ms.max(1000))
    }
}
