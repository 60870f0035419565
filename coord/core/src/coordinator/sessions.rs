//! A client asks for a session, or for the one that it had.

use super::connection::{Answer, Connection, Item, Wish};
use super::role::Role;
use super::{Action, CloseReason, Connect, Coordinator, Now};
use crate::forward::Ask;
use crate::session::PASSWORD_LEN;
use crate::zxid::{SessionId, Zxid};

/// The bits of a session id that a client of a member without a leader gets: no leader gives it out, since the upper ones
/// are a time.
const LOCAL_SESSION: i64 = i64::MIN;

impl Coordinator {
    /// Opens or resumes a session, unless the client has seen a later state than there is here.
    pub(super) fn connect(&mut self, now: Now, connect: Connect, actions: &mut Vec<Action>) {
        let id = connect.connection;
        let refuse = |reason| Action::Close {
            connection: id,
            reason,
        };
        if let Role::Removed = self.role {
            return actions.push(refuse(CloseReason::Removed));
        }
        if connect.last_zxid_seen > self.state.last_zxid {
            return actions.push(refuse(CloseReason::LaterStateSeen));
        }
        let limits = self.settings.limits;
        let timeout_ms = u32::try_from(connect.timeout_ms).unwrap_or(0);
        let timeout_ms = timeout_ms.clamp(limits.min_timeout_ms, limits.max_timeout_ms);
        let shown: Option<[u8; PASSWORD_LEN]> = connect.password.as_ref().try_into().ok();
        let new = Connection::new(timeout_ms, connect.identities.as_slice().into());
        if let Role::Leaderless { over: true, .. } = self.role {
            if !(self.settings.read_only_mode && connect.read_only) {
                return actions.push(refuse(CloseReason::NoQuorum));
            }
            let Some(answer) = self.read_only_session(&connect, shown) else {
                return actions.push(refuse(CloseReason::NoQuorum));
            };
            let read_only = true;
            self.connections.insert(id, Connection { read_only, ..new });
            let after = Zxid(0);
            return self.enqueue(now, id, 0, Item::Settled { after, answer }, actions);
        }
        self.connections.insert(id, new);
        let (ask, wish) = match (connect.session.is_some(), shown) {
            (true, Some(password)) => (
                Ask::ResumeSession {
                    password,
                    timeout_ms,
                },
                Wish::Resume {
                    session: connect.session,
                    password,
                },
            ),
            (true, None) => {
                let (after, answer) = (Zxid(0), Answer::Expired);
                return self.enqueue(now, id, 0, Item::Settled { after, answer }, actions);
            }
            (false, _) => {
                let password = connect.new_password;
                let ask = Ask::CreateSession {
                    password,
                    timeout_ms,
                };
                (ask, Wish::Session { password })
            }
        };
        self.ask_or_hold(now, id, 0, ask, wish, actions);
    }

    /// A session for reads alone: the client's own, if it is known here, else one that nobody else hears of. None if the
    /// client's own is not known, for a majority elsewhere may know it.
    fn read_only_session(
        &mut self,
        connect: &Connect,
        shown: Option<[u8; PASSWORD_LEN]>,
    ) -> Option<Answer> {
        if connect.session.is_some() {
            let known = self.state.sessions.get(&connect.session)?;
            let password = shown.filter(|shown| *shown == known.password)?;
            let session = connect.session;
            return Some(Answer::Accept {
                session,
                claim: Zxid(0),
                password,
            });
        }
        let session = SessionId(LOCAL_SESSION | connect.connection.0 as i64);
        let password = connect.new_password;
        Some(Answer::Accept {
            session,
            claim: Zxid(0),
            password,
        })
    }
}
