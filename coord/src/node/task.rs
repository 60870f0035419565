//! The task that owns the coordinator: it feeds events in, and sends actions out to the log and the connections.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use coord_core::coordinator::{ReconfigRules, SessionLimits};
use coord_core::decide::Rules;
use coord_core::reaper::ReaperSettings;
use coord_core::{
    Action, Coordinator, Event, LogEntry, NodeId, Now, RequestId, Settings, Txn, Zxid,
};
use tokio::sync::{mpsc, oneshot};

use super::clients::Clients;
use super::inbox::Input;
use crate::config::Config;
use crate::raft_log::{self, Command, LogHandle};
use crate::recovery::Recovered;
use crate::snapshot::{self, Snapshot};
use crate::stats::{ServerState, Stats};

/// No further requests are taken while this many log entries are on their way to the disk.
const PENDING_MAX: usize = 4096;

/// Requests taken at once, before the clock and the log are looked at again.
pub(super) const INBOX_BATCH: usize = 256;

/// How long clients are kept without a leader; this ensemble of one always has it.
const LEADERLESS_GRACE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Node {
    coordinator: Coordinator,
    term: u32,
    /// On their way to the disk, from `durable_index + 1` on.
    pending: VecDeque<(Zxid, Arc<Txn>)>,
    durable_index: u64,
    clients: Clients,
    log: LogHandle,
    dir: PathBuf,
    stats: Arc<Stats>,
    start: Instant,
    snap_count: u64,
    snapshot_index: u64,
    snapshot: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Node {
    /// Takes up what was recovered, and starts the log's thread behind it.
    pub(crate) fn start(
        config: &Config,
        recovered: Recovered,
        stats: Arc<Stats>,
    ) -> anyhow::Result<Node> {
        let Recovered {
            dir,
            state,
            term,
            since_snapshot,
            log_end,
        } = recovered;
        let limits = SessionLimits {
            min_timeout_ms: config.min_session_timeout_ms,
            max_timeout_ms: config.max_session_timeout_ms,
        };
        let settings = Settings {
            node: NodeId(1),
            limits,
            leaderless_grace: LEADERLESS_GRACE,
            read_only_mode: false,
            required_schemes: config.auth.required_schemes,
            rules: Rules {
                extended_types_enabled: config.extended_types_enabled,
                enforce_quota: config.enforce_quota,
            },
            reconfig: ReconfigRules {
                enabled: config.ensemble.reconfig_enabled,
                min_voters: if config.ensemble.standalone_enabled {
                    2
                } else {
                    1
                },
            },
            reaper: ReaperSettings {
                check_interval: Duration::from_millis(config.containers.check_interval_ms),
                max_per_minute: config.containers.max_per_minute,
                max_never_used_interval: Duration::from_millis(
                    config.containers.max_never_used_interval_ms,
                ),
            },
            first_request: RequestId(rand::random()),
        };
        let start = Instant::now();
        let last_index = log_end.index;
        let mut coordinator = Coordinator::new(settings, state, now(start));
        coordinator.handle(now(start), Event::Leading { term }, &mut Vec::new())?;
        Ok(Node {
            coordinator,
            term,
            pending: VecDeque::new(),
            durable_index: last_index,
            clients: Clients::default(),
            log: raft_log::start(&dir, log_end, stats.clone())?,
            dir,
            stats,
            start,
            snap_count: config.snap_count,
            snapshot_index: last_index - since_snapshot,
            snapshot: None,
        })
    }

    /// Runs until `stopped`, then waits for the log.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Input>,
        mut stopped: oneshot::Receiver<()>,
    ) -> anyhow::Result<()> {
        let mut inputs = Vec::with_capacity(INBOX_BATCH);
        let mut actions = Vec::new();
        loop {
            self.publish_stats();
            // While the disk is that far behind no session is heard, so none may expire either.
            let taking = self.coordinator.pending_len() < PENDING_MAX;
            let timeout = self.coordinator.poll_timeout();
            let wake_up = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until((self.start + at).into()).await,
                    None => std::future::pending().await,
                }
            };
            let mut committed = false;
            tokio::select! {
                biased;
                // First, for once the server stops listening an inbox without connections is ready for ever.
                _ = &mut stopped => break,
                changed = self.log.durable.changed() => {
                    changed.context("the log's thread has ended")?;
                    committed = true;
                }
                _ = inbox.recv_many(&mut inputs, INBOX_BATCH), if taking => {}
                () = wake_up, if taking => {}
            }
            let now = now(self.start);
            if committed {
                let index = *self.log.durable.borrow_and_update();
                let count = (index - self.durable_index) as usize;
                self.durable_index = index;
                let txns = self.pending.drain(..count).collect();
                self.coordinator
                    .handle(now, Event::Committed { txns }, &mut actions)?;
                self.perform(&mut actions)?;
                self.snapshot_if_due()?;
            }
            for input in inputs.drain(..) {
                self.take(now, input, &mut actions)?;
                self.perform(&mut actions)?;
            }
            let due = self
                .coordinator
                .poll_timeout()
                .is_some_and(|at| at <= now.elapsed);
            if taking && due {
                // Behind all that is in the inbox, so that a sign of life that came in time counts.
                for _ in 0..inbox.len() {
                    let Ok(input) = inbox.try_recv() else { break };
                    self.take(now, input, &mut actions)?;
                    self.perform(&mut actions)?;
                }
                self.coordinator.handle(now, Event::Timeout, &mut actions)?;
                self.perform(&mut actions)?;
            }
        }
        let LogHandle {
            commands, thread, ..
        } = self.log;
        drop(commands);
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .ok()
            .context("the log's thread has failed")
    }

    fn take(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) -> anyhow::Result<()> {
        let event = match input {
            Input::Connect { connect, sender } => {
                self.clients.connected(connect.connection, sender);
                Some(Event::Connect(connect))
            }
            Input::Event { event, charge } => self.clients.heard(event, charge),
            Input::Look(look) => {
                look.take(now, &self.coordinator);
                None
            }
        };
        match event {
            Some(event) => Ok(self.coordinator.handle(now, event, actions)?),
            None => Ok(()),
        }
    }

    fn perform(&mut self, actions: &mut Vec<Action>) -> anyhow::Result<()> {
        let mut confirmed = Vec::new();
        for action in actions.drain(..) {
            match action {
                Action::Append { zxid, txn } => {
                    self.pending.push_back((zxid, txn.clone()));
                    let entry = LogEntry {
                        index: self.durable_index + self.pending.len() as u64,
                        term: self.term,
                        zxid,
                        txn,
                    };
                    self.log
                        .commands
                        .send(Command::Append(entry))
                        .context("the log's thread has ended")?;
                }
                // The only voter is a majority by itself, and has nobody to talk to.
                Action::ConfirmLeadership { token } => confirmed.push(token),
                Action::Forward(_) | Action::Answer { .. } | Action::ChangeMembership { .. } => {}
                action => self.clients.perform(action),
            }
        }
        for token in confirmed {
            let event = Event::LeadershipConfirmed { token };
            self.coordinator.handle(now(self.start), event, actions)?;
        }
        if actions.is_empty() {
            Ok(())
        } else {
            self.perform(actions)
        }
    }

    /// Starts to write a snapshot beside everything else, if enough was logged since the last.
    fn snapshot_if_due(&mut self) -> anyhow::Result<()> {
        let (index, term) = (self.durable_index, self.term);
        let running = self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| !snapshot.is_finished());
        if running || index - self.snapshot_index < self.snap_count {
            return Ok(());
        }
        self.snapshot_index = index;
        self.log
            .commands
            .send(Command::Roll)
            .context("the log's thread has ended")?;
        let snapshot = Snapshot {
            index,
            term,
            state: self.coordinator.state().clone(),
        };
        let dir = self.dir.clone();
        let stats = self.stats.clone();
        let at_ms = now(self.start).wall_ms;
        self.snapshot = Some(tokio::task::spawn_blocking(move || {
            let saved = snapshot::save(&dir, &snapshot);
            match &saved {
                Ok(()) => stats.snapshot_saved(snapshot.state.last_zxid.0, at_ms),
                Err(error) => tracing::error!(
                    "no snapshot could be written to {}: {error}; the log is kept",
                    dir.display()
                ),
            }
            saved
        }));
        Ok(())
    }

    fn publish_stats(&self) {
        let state = self.coordinator.state();
        self.stats.set_state(ServerState::Standalone);
        let put = |figure: &std::sync::atomic::AtomicU64, value: usize| {
            figure.store(value as u64, Relaxed)
        };
        self.stats.zxid.store(state.last_zxid.0 as u64, Relaxed);
        put(&self.stats.znodes, state.tree.len());
        put(&self.stats.ephemerals, state.tree.ephemerals_len());
        put(&self.stats.data_size, state.tree.data_len());
        put(&self.stats.sessions, state.sessions.len());
        put(&self.stats.watches, self.coordinator.watch_len());
        put(&self.stats.outstanding, self.coordinator.pending_len());
    }
}

fn now(start: Instant) -> Now {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Now {
        elapsed: start.elapsed(),
        wall_ms: wall.as_millis() as i64,
    }
}
