//! The task that owns the coordinator: it feeds events in, and sends actions out to the log and the connections.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use coord_core::coordinator::SessionLimits;
use coord_core::decide::Rules;
use coord_core::reaper::ReaperSettings;
use coord_core::{
    Action, Connect, ConnectionId, Coordinator, Event, LogEntry, NodeId, Now, RequestId, Settings,
    Txn, Zxid,
};
use tokio::sync::{mpsc, oneshot};
use zookeeper_wire::ConnectResponse;

use crate::config::Config;
use crate::raft_log::{self, Command, LogHandle};
use crate::recovery::Recovered;
use crate::server::outgoing::{Charge, Outgoing, Sender};
use crate::snapshot::{self, Snapshot};
use crate::stats::Stats;

/// No further requests are taken while this many log entries are on their way to the disk.
const PENDING_MAX: usize = 4096;

/// Requests taken at once, before the clock and the log are looked at again.
const INBOX_BATCH: usize = 256;

/// What connections send.
#[derive(Debug)]
pub(super) enum Input {
    /// A handshake, and where to answer.
    Connect { connect: Connect, sender: Sender },
    /// Anything else; requests come with a charge, which goes back with the answer.
    Event {
        event: Event,
        charge: Option<Charge>,
    },
}

#[derive(Debug)]
struct Client {
    sender: Sender,
    /// Of the requests not answered yet, oldest first: answers come in the same order.
    charges: VecDeque<Charge>,
}

/// How long clients are kept without a leader; this ensemble of one always has it.
const LEADERLESS_GRACE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Owner {
    coordinator: Coordinator,
    term: u32,
    /// On their way to the disk, from `durable_index + 1` on.
    pending: VecDeque<(Zxid, Arc<Txn>)>,
    durable_index: u64,
    clients: HashMap<ConnectionId, Client>,
    log: LogHandle,
    dir: PathBuf,
    stats: Arc<Stats>,
    start: Instant,
    snap_count: u64,
    snapshot_index: u64,
    snapshot: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Owner {
    /// Takes up what was recovered, and starts the log's thread behind it.
    pub(super) fn start(
        config: &Config,
        recovered: Recovered,
        stats: Arc<Stats>,
    ) -> anyhow::Result<Owner> {
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
            rules: Rules {
                extended_types_enabled: config.extended_types_enabled,
                enforce_quota: config.enforce_quota,
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
        Ok(Owner {
            coordinator,
            term,
            pending: VecDeque::new(),
            durable_index: last_index,
            clients: HashMap::new(),
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
    pub(super) async fn run(
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
                let client = Client {
                    sender,
                    charges: VecDeque::new(),
                };
                self.clients.insert(connect.connection, client);
                Event::Connect(connect)
            }
            Input::Event { event, charge } => {
                match &event {
                    Event::Disconnected { connection } => {
                        self.clients.remove(connection);
                    }
                    Event::Request { connection, .. } => {
                        // A connection that was closed from here still sends until it notices.
                        let Some(client) = self.clients.get_mut(connection) else {
                            return Ok(());
                        };
                        client.charges.extend(charge);
                    }
                    _ => {}
                }
                event
            }
        };
        Ok(self.coordinator.handle(now, event, actions)?)
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
                Action::Accept {
                    connection,
                    session,
                    password,
                    timeout_ms,
                    read_only,
                } => {
                    let response = ConnectResponse {
                        timeout_ms: timeout_ms as i32,
                        session_id: session.0,
                        password,
                        read_only: Some(read_only),
                    };
                    send(&mut self.clients, connection, |_| {
                        Outgoing::Connected(Some(response))
                    });
                }
                Action::Expired { connection } => {
                    send(&mut self.clients, connection, |_| Outgoing::Connected(None));
                }
                Action::Reply {
                    connection,
                    xid,
                    zxid,
                    result,
                } => {
                    send(&mut self.clients, connection, |client| {
                        let charge = client.charges.pop_front();
                        Outgoing::Reply {
                            xid,
                            zxid,
                            result,
                            charge,
                        }
                    });
                }
                Action::Notify {
                    connection,
                    zxid,
                    event,
                    path,
                } => {
                    send(&mut self.clients, connection, |_| Outgoing::Event {
                        zxid,
                        event,
                        path,
                    });
                }
                Action::Close { connection, reason } => {
                    tracing::debug!("connection {} is closed: {reason}", connection.0);
                    self.clients.remove(&connection);
                }
                // The only voter is a majority by itself, and has nobody to talk to.
                Action::ConfirmLeadership { token } => confirmed.push(token),
                Action::Forward(_) | Action::Answer { .. } | Action::ChangeMembership { .. } => {}
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
        self.snapshot = Some(tokio::task::spawn_blocking(move || {
            let saved = snapshot::save(&dir, &snapshot);
            if let Err(error) = &saved {
                tracing::error!(
                    "no snapshot could be written to {}: {error}; the log is kept",
                    dir.display()
                );
            }
            saved
        }));
        Ok(())
    }

    fn publish_stats(&self) {
        let state = self.coordinator.state();
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

/// Sends what `make` makes; a client that reads too slowly is dropped, and resumes its session when it can.
fn send(
    clients: &mut HashMap<ConnectionId, Client>,
    connection: ConnectionId,
    make: impl FnOnce(&mut Client) -> Outgoing,
) {
    let Some(client) = clients.get_mut(&connection) else {
        return;
    };
    let outgoing = make(client);
    if !client.sender.send(outgoing) {
        tracing::warn!(
            "connection {} is dropped: its client does not read what it is sent",
            connection.0
        );
        clients.remove(&connection);
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coord_core::request::{Read, Request};
    use coord_core::{SessionId, Zxid};

    use super::*;
    use crate::recovery::recover;
    use crate::server::outgoing::Unread;

    const TIMEOUT: Duration = Duration::from_millis(500);

    fn config(dir: &std::path::Path) -> Config {
        let set = [
            format!("dataDir={}", dir.display()),
            "minSessionTimeout=1".to_owned(),
            "maxSessionTimeout=10000".to_owned(),
        ];
        let pairs = crate::config::load(None, &set).unwrap();
        Config::from_pairs(pairs).unwrap().0
    }

    // On one thread, so that the owner sleeps for as long as the test does not wait.
    #[tokio::test]
    async fn a_ping_that_waits_behind_other_requests_is_heard_before_its_session_expires() {
        let dir = tempfile::tempdir().unwrap();
        let recovered = recover(dir.path()).unwrap();
        let owner = Owner::start(&config(dir.path()), recovered, Arc::default()).unwrap();
        let (inputs, inbox) = mpsc::channel(1024);
        let (_stop, stopped) = oneshot::channel();
        tokio::spawn(owner.run(inbox, stopped));
        let (queue, mut outgoing) = mpsc::unbounded_channel();
        let sender = Sender {
            queue,
            unread: Arc::new(Unread::default()),
        };
        let connection = ConnectionId(1);
        let connect = Connect {
            connection,
            last_zxid_seen: Zxid(0),
            timeout_ms: TIMEOUT.as_millis() as i32,
            session: SessionId(0),
            password: Bytes::new(),
            new_password: [1; 16],
            read_only: false,
            identities: Vec::new(),
        };
        let input = Input::Connect { connect, sender };
        inputs.send(input).await.unwrap();
        let (answer, _) = outgoing.recv().await.unwrap();
        assert!(matches!(answer, Outgoing::Connected(Some(_))), "{answer:?}");

        let connected = Instant::now();
        let event = |event| Input::Event {
            event,
            charge: None,
        };
        for _ in 0..INBOX_BATCH {
            let nobody = ConnectionId(2);
            let other = event(Event::Disconnected { connection: nobody });
            inputs.try_send(other).unwrap();
        }
        for (xid, request) in [(1, Request::Read(Read::Ping)), (2, Request::CloseSession)] {
            let request = event(Event::Request {
                connection,
                xid,
                request,
            });
            inputs.try_send(request).unwrap();
        }
        while connected.elapsed() < TIMEOUT {
            std::hint::spin_loop();
        }
        for expected in [1, 2] {
            let (answer, _) = outgoing.recv().await.unwrap();
            assert!(
                matches!(answer, Outgoing::Reply { xid, result: Ok(_), .. } if xid == expected),
                "{answer:?}"
            );
        }
    }
}
