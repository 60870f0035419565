//! The owner of the state: takes events, decides, and says what is to be done.

mod connection;
mod read;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::acl::Identity;
use crate::decide::{Asker, Outstanding};
use crate::error::OpError;
use crate::request::{Read, Request, Response, Write, WriteKind};
use crate::session::{PASSWORD_LEN, SessionTracker};
use crate::state::{Applied, ApplyError, EffectResult, State};
use crate::txn::{Change, LogEntry, Txn};
use crate::watch::{WatchEventType, Watches};
use crate::zxid::{SessionId, Zxid};
use connection::{Connection, Item, Queued};

/// A client's connection to this node, named by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The time, as the shell hands it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Time since any fixed start: what timeouts are measured by. Never goes back.
    pub elapsed: Duration,
    /// Milliseconds since 1970: what znodes are stamped with. May jump.
    pub wall_ms: i64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client asks for a session: a new one if `session` is none, else that one.
    Connect {
        /// The connection that it asks on, new to this coordinator.
        connection: ConnectionId,
        /// The newest state that it has seen.
        last_zxid_seen: Zxid,
        /// The timeout that it would like, in milliseconds.
        timeout_ms: i32,
        /// The session to resume.
        session: SessionId,
        /// That session's password.
        password: Bytes,
        /// The password of a new session: random, from the shell.
        new_password: [u8; PASSWORD_LEN],
        /// Whom the connection is known to be: its address.
        identities: Vec<Identity>,
    },
    /// A client asks for something in its session.
    Request {
        /// On which connection.
        connection: ConnectionId,
        /// The client's number for it.
        xid: i32,
        /// What.
        request: Request,
    },
    /// A connection is gone. Its session lives on.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// Every log entry up to `index` is durable, on a majority where there is one.
    Committed {
        /// The last such entry.
        index: u64,
    },
    /// It is [`Coordinator::poll_timeout`], or later.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the entry durable, behind the ones before, then report [`Event::Committed`].
    Append(LogEntry),
    /// Tell the client that it has its session.
    Accept {
        /// On which connection.
        connection: ConnectionId,
        /// The session.
        session: SessionId,
        /// What resumes it.
        password: [u8; PASSWORD_LEN],
        /// The timeout that holds, in milliseconds.
        timeout_ms: u32,
    },
    /// Tell the client that the session it asked for is gone. A [`Action::Close`] follows.
    Expired {
        /// On which connection.
        connection: ConnectionId,
    },
    /// Answer a request.
    Reply {
        /// On which connection.
        connection: ConnectionId,
        /// The client's number for the request.
        xid: i32,
        /// The state that the answer shows.
        zxid: Zxid,
        /// The answer.
        result: Result<Response, OpError>,
    },
    /// Tell of a watched change.
    Notify {
        /// On which connection.
        connection: ConnectionId,
        /// The transaction that made the change; −1 if the change was missed while the client was away.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
    /// Close the connection once everything before is sent. No event for it is to follow.
    Close {
        /// Which.
        connection: ConnectionId,
    },
}

/// Bounds of what sessions may ask for.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// The shortest timeout given out, in milliseconds.
    pub min_timeout_ms: u32,
    /// The longest timeout given out, in milliseconds.
    pub max_timeout_ms: u32,
}

/// A decided transaction on its way to the disk and back.
#[derive(Debug)]
struct Pending {
    index: u64,
    zxid: Zxid,
    txn: Arc<Txn>,
    origin: Option<ConnectionId>,
}

/// The whole of coord, but for its sockets, its disk and its clock.
#[derive(Debug)]
pub struct Coordinator {
    limits: SessionLimits,
    state: State,
    term: u32,
    last_index: u64,
    last_proposed: Zxid,
    last_session: SessionId,
    applied_index: u64,
    outstanding: Outstanding,
    pending: VecDeque<Pending>,
    /// Connections whose queue begins with something that waits for a zxid, in zxid order.
    waiting: VecDeque<(Zxid, ConnectionId)>,
    connections: HashMap<ConnectionId, Connection>,
    by_session: HashMap<SessionId, ConnectionId>,
    tracker: SessionTracker,
    watches: Watches,
}

impl Coordinator {
    /// Takes up its work on a recovered state, as the leader of `term`, behind the log entry `last_index`. Every open
    /// session gets its full timeout anew.
    pub fn new(
        state: State,
        last_index: u64,
        term: u32,
        limits: SessionLimits,
        now: Now,
    ) -> Coordinator {
        let mut tracker = SessionTracker::default();
        for (&id, session) in &state.sessions {
            tracker.track(id, session.timeout_ms, now.elapsed);
        }
        Coordinator {
            limits,
            term,
            last_index,
            applied_index: last_index,
            last_session: state.last_session,
            last_proposed: state.last_zxid.max(Zxid::start_of(term)),
            state,
            outstanding: Outstanding::default(),
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            connections: HashMap::new(),
            by_session: HashMap::new(),
            tracker,
            watches: Watches::default(),
        }
    }

    /// The applied state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The place in the log that [`Coordinator::state`] has come to, and the term.
    pub fn applied(&self) -> (u64, u32) {
        (self.applied_index, self.term)
    }

    /// Count of log entries appended and not committed yet.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Count of watches.
    pub fn watch_len(&self) -> usize {
        self.watches.len()
    }

    /// Count of connections that have, or are about to have, a session.
    pub fn connection_len(&self) -> usize {
        self.connections.len()
    }

    /// When to send [`Event::Timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.tracker.poll_timeout()
    }

    /// Takes one event and adds what is to be done to `actions`. An error means that a transaction of its own does not
    /// fit the state: nothing can be trusted any more, and the process has to end.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        actions: &mut Vec<Action>,
    ) -> Result<(), ApplyError> {
        match event {
            Event::Connect {
                connection,
                last_zxid_seen,
                timeout_ms,
                session,
                password,
                new_password,
                identities,
            } => {
                if last_zxid_seen > self.state.last_zxid {
                    actions.push(Action::Close { connection });
                    return Ok(());
                }
                let timeout_ms = u32::try_from(timeout_ms).unwrap_or(0);
                let timeout_ms =
                    timeout_ms.clamp(self.limits.min_timeout_ms, self.limits.max_timeout_ms);
                if session.is_some() {
                    self.resume(
                        now, connection, session, &password, timeout_ms, identities, actions,
                    );
                } else {
                    self.open(
                        now,
                        connection,
                        new_password,
                        timeout_ms,
                        identities,
                        actions,
                    );
                }
            }
            Event::Request {
                connection,
                xid,
                request,
            } => self.request(now, connection, xid, request, actions),
            Event::Disconnected { connection } => self.drop_connection(connection),
            Event::Committed { index } => {
                while self
                    .pending
                    .front()
                    .is_some_and(|pending| pending.index <= index)
                    && let Some(pending) = self.pending.pop_front()
                {
                    self.apply(pending, actions)?;
                }
            }
            Event::Timeout => {
                for session in self.tracker.expire(now.elapsed) {
                    self.close_session(now, session, None, actions);
                }
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        now: Now,
        connection: ConnectionId,
        password: [u8; PASSWORD_LEN],
        timeout_ms: u32,
        identities: Vec<Identity>,
        actions: &mut Vec<Action>,
    ) {
        let session = self.new_session_id(now);
        let change = Change::CreateSession {
            password,
            timeout_ms,
        };
        let txn = Txn {
            session,
            time_ms: now.wall_ms,
            change,
        };
        let zxid = self.propose(txn, Some(connection), actions);
        self.connections
            .insert(connection, Connection::new(session, identities));
        self.by_session.insert(session, connection);
        self.tracker.track(session, timeout_ms, now.elapsed);
        self.enqueue(
            connection,
            Queued {
                xid: 0,
                after: zxid,
                item: Item::Accept {
                    password,
                    timeout_ms,
                },
            },
            actions,
        );
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the fields of one event, taken apart once"
    )]
    fn resume(
        &mut self,
        now: Now,
        connection: ConnectionId,
        session: SessionId,
        password: &[u8],
        timeout_ms: u32,
        identities: Vec<Identity>,
        actions: &mut Vec<Action>,
    ) {
        // What the session wrote on its former connection has to be visible to it on this one.
        let after = self.newest();
        let known = self
            .state
            .sessions
            .get(&session)
            .filter(|known| known.password == password);
        let item = match known {
            Some(known) if !self.outstanding.is_closing(session) => Item::Accept {
                password: known.password,
                timeout_ms,
            },
            _ => Item::Expired,
        };
        if let Item::Expired = item {
            self.connections
                .insert(connection, Connection::new(SessionId::NONE, identities));
        } else {
            if let Some(former) = self.by_session.insert(session, connection) {
                self.drop_connection(former);
                actions.push(Action::Close { connection: former });
                self.by_session.insert(session, connection);
            }
            self.connections
                .insert(connection, Connection::new(session, identities));
            self.tracker.track(session, timeout_ms, now.elapsed);
        }
        self.enqueue(
            connection,
            Queued {
                xid: 0,
                after,
                item,
            },
            actions,
        );
    }

    /// Above every id ever given out, and by the clock where that is higher: unique across restarts either way.
    fn new_session_id(&mut self, now: Now) -> SessionId {
        let by_clock = (now.wall_ms & 0xff_ffff_ffff) << 16;
        let id = SessionId(by_clock.max(self.last_session.0.saturating_add(1)));
        self.last_session = id;
        id
    }

    fn request(
        &mut self,
        now: Now,
        connection: ConnectionId,
        xid: i32,
        request: Request,
        actions: &mut Vec<Action>,
    ) {
        let Some(Connection { session, .. }) = self.connections.get(&connection) else {
            return;
        };
        let session = *session;
        self.tracker.touch(session, now.elapsed);
        let (after, item) = match request {
            Request::Read(read) => (Zxid(0), Item::Read(read)),
            Request::Write(write) => {
                let kind = write.kind();
                match self.write(now, connection, std::slice::from_ref(&write), actions) {
                    Ok(zxid) => (zxid, Item::Write(kind)),
                    Err((_, error)) => (self.newest(), Item::Answer(Err(error))),
                }
            }
            Request::Multi(writes) => self.multi(now, connection, &writes, actions),
            Request::Sync { path } => (self.newest(), Item::Answer(Ok(Response::Path(path)))),
            Request::Refused(error) => (Zxid(0), Item::Answer(Err(error))),
            Request::CloseSession => {
                if self.outstanding.is_closing(session) {
                    (self.newest(), Item::Answer(Err(OpError::SessionExpired)))
                } else {
                    (
                        self.close_session(now, session, Some(connection), actions),
                        Item::Closed,
                    )
                }
            }
        };
        self.enqueue(connection, Queued { xid, after, item }, actions);
    }

    /// Decides and proposes writes; gives back their zxid, or which one was refused and why.
    fn write(
        &mut self,
        now: Now,
        connection: ConnectionId,
        writes: &[Write],
        actions: &mut Vec<Action>,
    ) -> Result<Zxid, (usize, OpError)> {
        let Some(asking) = self.connections.get(&connection) else {
            return Err((0, OpError::SessionExpired));
        };
        let asker = Asker {
            session: asking.session,
            identities: &asking.identities,
        };
        let zxid = self.last_proposed.next();
        let decided = self
            .outstanding
            .decide(&self.state, asker, zxid, now.wall_ms, writes);
        let txn = decided.map_err(|refused| (refused.at, refused.error))?;
        Ok(self.propose(txn, Some(connection), actions))
    }

    fn multi(
        &mut self,
        now: Now,
        connection: ConnectionId,
        writes: &[Write],
        actions: &mut Vec<Action>,
    ) -> (Zxid, Item) {
        let kinds: Vec<WriteKind> = writes.iter().map(Write::kind).collect();
        if writes.is_empty() {
            return (Zxid(0), Item::Answer(Ok(Response::Multi(Vec::new()))));
        }
        match self.write(now, connection, writes, actions) {
            Ok(zxid) => (zxid, Item::Multi(kinds)),
            Err((_, OpError::SessionExpired)) => {
                (self.newest(), Item::Answer(Err(OpError::SessionExpired)))
            }
            Err((fault, error)) => {
                // ZooKeeper's clients know these shapes: what came before the fault reads as "no error, undone".
                let outcome = |at: usize| match at.cmp(&fault) {
                    std::cmp::Ordering::Less => None,
                    std::cmp::Ordering::Equal => Some(error),
                    std::cmp::Ordering::Greater => Some(OpError::RuntimeInconsistency),
                };
                let outcomes = (0..kinds.len()).map(outcome).collect();
                (
                    self.newest(),
                    Item::Answer(Ok(Response::MultiFailed(outcomes))),
                )
            }
        }
    }

    /// Decides and proposes a session's end.
    fn close_session(
        &mut self,
        now: Now,
        session: SessionId,
        origin: Option<ConnectionId>,
        actions: &mut Vec<Action>,
    ) -> Zxid {
        self.tracker.forget(session);
        let zxid = self.last_proposed.next();
        let txn = self
            .outstanding
            .decide_close(&self.state, session, zxid, now.wall_ms);
        self.propose(txn, origin, actions)
    }

    fn propose(
        &mut self,
        txn: Txn,
        origin: Option<ConnectionId>,
        actions: &mut Vec<Action>,
    ) -> Zxid {
        let zxid = self.last_proposed.next();
        self.last_proposed = zxid;
        self.last_index += 1;
        self.term = self.term.max(zxid.term());
        let txn = Arc::new(txn);
        let entry = LogEntry {
            index: self.last_index,
            term: self.term,
            zxid,
            txn: txn.clone(),
        };
        actions.push(Action::Append(entry));
        self.pending.push_back(Pending {
            index: self.last_index,
            zxid,
            txn,
            origin,
        });
        zxid
    }

    /// The transaction proposed last, or applied last if none is outstanding: what an answer about the state to come
    /// waits for. It differs from `last_proposed` at the start of a term, whose first zxid is still to be given out.
    fn newest(&self) -> Zxid {
        self.pending
            .back()
            .map_or(self.state.last_zxid, |pending| pending.zxid)
    }

    /// Puts something into a connection's queue, and answers what can be answered at once.
    fn enqueue(&mut self, connection: ConnectionId, queued: Queued, actions: &mut Vec<Action>) {
        let Some(queue) = self
            .connections
            .get_mut(&connection)
            .map(|connection| &mut connection.queue)
        else {
            return;
        };
        let after = queued.after;
        queue.push_back(queued);
        if after > self.state.last_zxid {
            self.waiting.push_back((after, connection));
        } else if queue.len() == 1 {
            self.drain(connection, None, actions);
        }
    }

    /// Applies one committed transaction: its watch events first, then the answers and reads that waited for it.
    fn apply(&mut self, pending: Pending, actions: &mut Vec<Action>) -> Result<(), ApplyError> {
        let Pending {
            index,
            zxid,
            txn,
            origin,
        } = pending;
        let Applied { results, events } = self.state.apply(zxid, &txn)?;
        self.outstanding.applied(zxid, &txn);
        self.applied_index = index;
        for (event, path) in events {
            for connection in self.watches.fire(event, &path) {
                actions.push(Action::Notify {
                    connection,
                    zxid,
                    event,
                    path: path.clone(),
                });
            }
        }
        let mut results = Some(results);
        while let Some(&(after, connection)) = self.waiting.front()
            && after <= zxid
        {
            self.waiting.pop_front();
            let results = if origin == Some(connection) {
                results.take()
            } else {
                None
            };
            self.drain(connection, results, actions);
        }
        if let Change::CloseSession { .. } = txn.change
            && let Some(connection) = self.by_session.get(&txn.session).copied()
        {
            self.drop_connection(connection);
            actions.push(Action::Close { connection });
        }
        Ok(())
    }

    /// Answers from the front of a connection's queue until something there has to wait. `results` are those of the
    /// transaction that was just applied, if this connection asked for it.
    fn drain(
        &mut self,
        id: ConnectionId,
        mut results: Option<Vec<EffectResult>>,
        actions: &mut Vec<Action>,
    ) {
        while let Some(connection) = self.connections.get_mut(&id)
            && connection
                .queue
                .front()
                .is_some_and(|queued| queued.after <= self.state.last_zxid)
            && let Some(Queued { xid, item, .. }) = connection.queue.pop_front()
        {
            let session = connection.session;
            let identities = &connection.identities;
            let zxid = self.state.last_zxid;
            let result = match item {
                Item::Accept {
                    password,
                    timeout_ms,
                } => {
                    actions.push(Action::Accept {
                        connection: id,
                        session,
                        password,
                        timeout_ms,
                    });
                    continue;
                }
                Item::Expired => {
                    self.drop_connection(id);
                    actions.push(Action::Expired { connection: id });
                    actions.push(Action::Close { connection: id });
                    return;
                }
                Item::Read(Read::SetWatches {
                    since,
                    data,
                    exist,
                    child,
                }) => self.set_watches(id, since, [data, exist, child], actions),
                Item::Read(read) => {
                    read::read(&self.state, &mut self.watches, id, identities, read)
                }
                Item::Answer(answer) => answer,
                Item::Closed => Ok(Response::Empty),
                Item::Write(kind) => {
                    let result = results
                        .take()
                        .and_then(|results| results.into_iter().next());
                    Ok(result.map_or(Response::Empty, |result| connection::response(kind, result)))
                }
                Item::Multi(kinds) => {
                    let results = results.take().unwrap_or_default();
                    let outcomes = kinds.into_iter().zip(results);
                    Ok(Response::Multi(
                        outcomes
                            .map(|(kind, result)| (kind, connection::response(kind, result)))
                            .collect(),
                    ))
                }
            };
            actions.push(Action::Reply {
                connection: id,
                xid,
                zxid,
                result,
            });
        }
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.watches.remove_connection(id);
        if self.by_session.get(&connection.session) == Some(&id) {
            self.by_session.remove(&connection.session);
        }
    }
}
