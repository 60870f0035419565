//! What the four-letter words and the administrator's commands tell of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coord_core::server_spec::{ServerRole, ServerSpec};
use coord_core::{Coordinator, NodeId, Now, SessionId, Standing};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::node::{Input, Look};
use crate::server::connections::Connections;
use crate::stats::{ConnectionStats, EnsembleFigures, ServerState, Stats, VERSION};

/// A member that lacks no more entries of the log is in step: some are always on their way.
const SYNCED_WITHIN: u64 = 1000;

/// Everything that can be asked.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(crate) config: Arc<Config>,
    pub(crate) stats: Arc<Stats>,
    pub(super) connections: Arc<Connections>,
    pub(super) node: mpsc::Sender<Input>,
    /// The port of plain connections; −1 if there is none.
    pub(crate) client_port: i32,
    /// The port of TLS connections; −1 if there is none.
    pub(crate) secure_client_port: i32,
}

/// Sessions, and what hangs on them.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// With their timeouts, in milliseconds.
    pub(crate) open: BTreeMap<SessionId, u32>,
    /// Which expire when if they are not heard before, in milliseconds since 1970; known where this server leads.
    pub(crate) expiring: Option<BTreeMap<i64, BTreeSet<SessionId>>>,
    /// Of those that have any.
    pub(crate) ephemerals: BTreeMap<SessionId, BTreeSet<Arc<str>>>,
}

/// Who the members are.
#[derive(Debug)]
pub(crate) struct EnsembleView {
    pub(crate) members: BTreeMap<NodeId, ServerSpec>,
    pub(crate) leader: Option<NodeId>,
}

/// Bytes on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskSizes {
    pub(crate) data_dir: u64,
    pub(crate) data_log_dir: u64,
}

impl Inspector {
    /// Whether clients are served.
    pub(crate) fn is_serving(&self) -> bool {
        self.stats.state() != ServerState::NotServing
    }

    /// Everyone who is connected.
    pub(crate) fn connections(&self) -> Vec<Arc<ConnectionStats>> {
        self.connections.all()
    }

    /// Forgets the figures of every connection.
    pub(crate) fn reset_connections(&self) {
        for connection in self.connections() {
            connection.reset();
        }
    }

    /// Sessions and ephemerals; `None` while the server stops.
    pub(crate) async fn sessions(&self) -> Option<Sessions> {
        let tick_ms = i64::from(self.config.tick_time_ms);
        Look::ask(&self.node, move |view| {
            sessions(view.coordinator, view.now, tick_ms)
        })
        .await
    }

    /// What `see` makes of the coordinator; `None` while the server stops.
    pub(crate) async fn see<T: Send + 'static>(
        &self,
        see: impl FnOnce(&Coordinator) -> T + Send + 'static,
    ) -> Option<T> {
        Look::ask(&self.node, |view| see(view.coordinator)).await
    }

    /// Who the members are; `None` while the server stops.
    pub(crate) async fn ensemble(&self) -> Option<EnsembleView> {
        let me = NodeId(self.config.ensemble.my_id);
        self.see(move |coordinator| EnsembleView {
            members: coordinator.members().clone(),
            leader: match coordinator.standing() {
                Standing::Leading => Some(me),
                Standing::Following(leader) | Standing::Observing(leader) => Some(leader),
                Standing::Leaderless | Standing::ReadOnly | Standing::Removed => None,
            },
        })
        .await
    }

    /// Counts who follows; without an answer while the server stops, the figures stay as they were.
    pub(crate) async fn count_members(&self) {
        let seen = Look::ask(&self.node, |view| {
            let proposals = view.raft.log_figures().proposals.figures();
            (view.raft.status(), proposals)
        });
        let Some((status, proposals)) = seen.await else {
            return;
        };
        let participants = status.members.values();
        let participants =
            participants.filter(|(server, _)| server.role == ServerRole::Participant);
        let learners = status.connected.iter();
        let learners: Vec<_> = learners
            .filter(|node| node.0 != self.config.ensemble.my_id)
            .filter_map(|node| status.members.get(node))
            .collect();
        let last = status.last_index.map_or(0, |last| last + 1);
        let synced = |role: ServerRole| {
            let synced = learners.iter().filter(|(server, holds)| {
                server.role == role && holds.is_some_and(|holds| holds + SYNCED_WITHIN >= last)
            });
            synced.count()
        };
        self.stats.ensemble.set(EnsembleFigures {
            quorum_size: participants.count(),
            learners: learners.len(),
            synced_followers: synced(ServerRole::Participant),
            synced_observers: synced(ServerRole::Observer),
            proposals,
        });
    }

    /// How much is on disk.
    pub(crate) async fn disk_sizes(&self) -> DiskSizes {
        let config = self.config.clone();
        let sizes = tokio::task::spawn_blocking(move || DiskSizes {
            data_dir: size_of(&config.data_dir),
            data_log_dir: size_of(&config.data_log_dir),
        });
        // It only fails while the process ends.
        sizes.await.unwrap_or(DiskSizes {
            data_dir: 0,
            data_log_dir: 0,
        })
    }

    /// Where this process runs.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let variable = |name| std::env::var(name).unwrap_or_else(|_| "<NA>".to_owned());
        vec![
            ("zookeeper.version", VERSION.to_owned()),
            ("host.name", text(uname.nodename())),
            ("os.name", text(uname.sysname())),
            ("os.arch", text(uname.machine())),
            ("os.version", text(uname.release())),
            ("user.name", variable("USER")),
            ("user.home", variable("HOME")),
            (
                "user.dir",
                std::env::current_dir()
                    .unwrap_or_default()
                    .display()
                    .to_string(),
            ),
        ]
    }

    /// What the list of servers says, or said at the start, of this one.
    pub(crate) fn me(&self) -> Option<&ServerSpec> {
        self.config.ensemble.me()
    }

    /// The lines `server.N` of the configuration, each with its end.
    pub(crate) fn configured_servers(&self) -> String {
        let servers = self.config.ensemble.servers.iter();
        servers
            .map(|(id, server)| format!("server.{id}={server}\n"))
            .collect()
    }

    /// ZooKeeper's number for what this member is: 0 votes, 1 does not.
    pub(crate) fn peer_type(&self) -> u8 {
        u8::from(self.me().is_some_and(|me| me.role == ServerRole::Observer))
    }
}

fn sessions(coordinator: &Coordinator, now: Now, tick_ms: i64) -> Sessions {
    let state = coordinator.state();
    let open: BTreeMap<SessionId, u32> = state
        .sessions
        .iter()
        .map(|(&id, session)| (id, session.timeout_ms))
        .collect();
    let expiring = coordinator.session_deadlines().map(|deadlines| {
        let mut expiring: BTreeMap<i64, BTreeSet<SessionId>> = BTreeMap::new();
        for (session, deadline) in deadlines {
            // In the steps that ZooKeeper expires sessions in, or there would be as many sets as sessions.
            let left = deadline.saturating_sub(now.elapsed);
            let at = now.wall_ms + left.as_millis() as i64;
            let at = (at / tick_ms + 1) * tick_ms;
            expiring.entry(at).or_default().insert(session);
        }
        expiring
    });
    let ephemerals = open
        .keys()
        .map(|&id| (id, state.tree.ephemerals(id).cloned().collect()))
        .filter(|(_, paths): &(_, BTreeSet<Arc<str>>)| !paths.is_empty())
        .collect();
    Sessions {
        open,
        expiring,
        ephemerals,
    }
}

/// Bytes of all files below `dir`; what vanishes meanwhile does not count.
fn size_of(dir: &Path) -> u64 {
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    let mut size = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => dirs.push(entry.path()),
                Ok(metadata) => size += metadata.len(),
                Err(_) => {}
            }
        }
    }
    size
}
