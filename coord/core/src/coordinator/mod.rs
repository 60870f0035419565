//! The owner of the state: takes events, decides, and says what is to be done.

mod connection;
mod event;
mod read;
mod sessions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::{Asker, Outstanding};
use crate::error::OpError;
use crate::request::{Read, Request, Response, Write, WriteKind};
use crate::session::SessionTracker;
use crate::state::{Applied, ApplyError, EffectResult, State};
use crate::txn::{Change, LogEntry, Txn};
use crate::watch::Watches;
use crate::zxid::{SessionId, Zxid};
use connection::{Connection, Item, Queued};
pub use event::{Action, Connect, ConnectionId, Event, Now, SessionLimits};

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
            Event::Connect(connect) => self.connect(now, connect, actions),
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
            if self.watches.are_too_many(id) {
                self.drop_connection(id);
                actions.push(Action::Close { connection: id });
                return;
            }
        }
    }
}
