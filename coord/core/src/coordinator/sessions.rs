//! Opening, resuming and ending sessions.

use super::connection::{Connection, Item, Queued};
use super::{Action, Connect, ConnectionId, Coordinator, Now};
use crate::session::PASSWORD_LEN;
use crate::txn::{Change, Txn};
use crate::zxid::{SessionId, Zxid};

impl Coordinator {
    /// Opens or resumes a session, unless the client has seen a later state than there is here.
    pub(super) fn connect(&mut self, now: Now, connect: Connect, actions: &mut Vec<Action>) {
        let connection = connect.connection;
        if connect.last_zxid_seen > self.state.last_zxid {
            actions.push(Action::Close { connection });
            return;
        }
        let timeout_ms = u32::try_from(connect.timeout_ms).unwrap_or(0);
        let timeout_ms = timeout_ms.clamp(self.limits.min_timeout_ms, self.limits.max_timeout_ms);
        let (session, after, item) = if connect.session.is_some() {
            // What the session wrote on its former connection has to be visible to it on this one.
            let after = self.newest();
            if let Some(password) = self.resumable(connect.session, &connect.password) {
                if let Some(&former) = self.by_session.get(&connect.session) {
                    self.drop_connection(former);
                    actions.push(Action::Close { connection: former });
                }
                (
                    connect.session,
                    after,
                    Item::Accept {
                        password,
                        timeout_ms,
                    },
                )
            } else {
                (SessionId::NONE, after, Item::Expired)
            }
        } else {
            let password = connect.new_password;
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
            let after = self.propose(txn, Some(connection), actions);
            (
                session,
                after,
                Item::Accept {
                    password,
                    timeout_ms,
                },
            )
        };
        if session.is_some() {
            self.by_session.insert(session, connection);
            self.tracker.track(session, timeout_ms, now.elapsed);
        }
        self.connections
            .insert(connection, Connection::new(session, connect.identities));
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

    /// The password of a session that is open, and stays so, if that is the one shown.
    fn resumable(&self, session: SessionId, shown: &[u8]) -> Option<[u8; PASSWORD_LEN]> {
        let password = self.state.sessions.get(&session)?.password;
        (password == shown && !self.outstanding.is_closing(session)).then_some(password)
    }

    /// Above every id ever given out, and by the clock where that is higher: unique across restarts either way.
    fn new_session_id(&mut self, now: Now) -> SessionId {
        let by_clock = (now.wall_ms & 0xff_ffff_ffff) << 16;
        let id = SessionId(by_clock.max(self.last_session.0.saturating_add(1)));
        self.last_session = id;
        id
    }

    /// Decides and proposes a session's end.
    pub(super) fn close_session(
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

    pub(super) fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.watches.remove_connection(id);
        if self.by_session.get(&connection.session) == Some(&id) {
            self.by_session.remove(&connection.session);
        }
    }
}
