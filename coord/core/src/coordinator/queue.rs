//! Answering a connection's requests in their order.

use super::connection::{Answer, Item, Queued, Wish};
use super::{Action, CloseReason, ConnectionId, Coordinator, Now};
use crate::error::OpError;
use crate::origin::RequestId;
use crate::reconfig::CONFIG_PATH;
use crate::request::{Read, Response};
use crate::zxid::{SessionId, Zxid};

impl Coordinator {
    /// Puts something into a connection's queue, and answers what can be answered at once.
    pub(super) fn enqueue(
        &mut self,
        now: Now,
        id: ConnectionId,
        xid: i32,
        item: Item,
        actions: &mut Vec<Action>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match item {
            Item::Read(_) => connection.reads += 1,
            Item::Held(..) => connection.held += 1,
            Item::Unconfirmed(..) => connection.unconfirmed += 1,
            Item::Asked(..) | Item::Settled { .. } => {}
        }
        connection.queue.push_back(Queued { xid, item });
        if connection.queue.len() == 1 {
            self.drain(now, id, actions);
        }
    }

    /// The answer to a request of this member has become known.
    pub(super) fn settle(
        &mut self,
        now: Now,
        request: RequestId,
        after: Zxid,
        answer: impl FnOnce(Wish) -> Answer,
        actions: &mut Vec<Action>,
    ) {
        let id = self.asked.remove(&request);
        if let Some(id) = id
            && let Some(connection) = self.connections.get_mut(&id)
            && connection.settle(request, after, answer) == Some(0)
        {
            self.drain(now, id, actions);
        }
    }

    /// Answers from the front of a connection's queue until something there has to wait.
    pub(super) fn drain(&mut self, now: Now, id: ConnectionId, actions: &mut Vec<Action>) {
        while let Some(connection) = self.connections.get_mut(&id)
            && let Some(front) = connection.queue.front()
        {
            match front.item {
                Item::Settled { after, .. } if after > self.state.last_zxid => {
                    self.waiting.insert((after, id));
                    return;
                }
                Item::Asked(..) | Item::Unconfirmed(..) | Item::Held(..) => return,
                Item::Read(_) | Item::Settled { .. } => {}
            }
            let Some(Queued { xid, item }) = connection.queue.pop_front() else {
                return;
            };
            match item {
                Item::Read(read) => {
                    connection.reads -= 1;
                    let holds = connection.held > 0;
                    self.read(id, xid, read, actions);
                    if holds {
                        self.release(now, id, actions);
                    }
                }
                Item::Settled { answer, .. } => self.tell(now, id, xid, answer, actions),
                Item::Asked(..) | Item::Unconfirmed(..) | Item::Held(..) => {}
            }
        }
    }

    fn read(&mut self, id: ConnectionId, xid: i32, read: Read, actions: &mut Vec<Action>) {
        let result = self.answer_read(id, read, actions);
        actions.push(Action::Reply {
            connection: id,
            xid,
            zxid: self.state.last_zxid,
            result,
        });
        if self.watches.are_too_many(id) {
            self.close(id, CloseReason::TooManyWatches, actions);
        }
    }

    fn tell(
        &mut self,
        now: Now,
        id: ConnectionId,
        xid: i32,
        answer: Answer,
        actions: &mut Vec<Action>,
    ) {
        match answer {
            Answer::Accept {
                session,
                claim,
                password,
            } => {
                self.accept(id, session, claim, password, actions);
                self.release(now, id, actions);
            }
            Answer::Expired => {
                actions.push(Action::Expired { connection: id });
                self.close(id, CloseReason::SessionExpired, actions);
            }
            Answer::Reply(result) => {
                let moved = result == Err(OpError::SessionMoved);
                actions.push(Action::Reply {
                    connection: id,
                    xid,
                    zxid: self.state.last_zxid,
                    result,
                });
                if moved {
                    self.close(id, CloseReason::SessionMoved, actions);
                }
            }
            Answer::Config => {
                let config = self.state.tree.get(CONFIG_PATH);
                let result = config.ok_or(OpError::NoNode);
                actions.push(Action::Reply {
                    connection: id,
                    xid,
                    zxid: self.state.last_zxid,
                    result: result.map(|node| Response::Data(node.data.clone(), node.stat())),
                });
            }
            Answer::LastReply(error) => {
                actions.push(Action::Reply {
                    connection: id,
                    xid,
                    zxid: self.state.last_zxid,
                    result: Err(error),
                });
                self.close(id, CloseReason::Refused, actions);
            }
            Answer::Unknown => self.close(id, CloseReason::OutcomeUnknown, actions),
        }
    }

    fn accept(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        claim: Zxid,
        password: [u8; crate::session::PASSWORD_LEN],
        actions: &mut Vec<Action>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.session = session;
        connection.claim = claim;
        let (timeout_ms, read_only) = (connection.timeout_ms, connection.read_only);
        if let Some(former) = self.by_session.insert(session, id) {
            self.close(former, CloseReason::SessionMoved, actions);
            self.by_session.insert(session, id);
        }
        actions.push(Action::Accept {
            connection: id,
            session,
            password,
            timeout_ms,
            read_only,
        });
    }

    pub(super) fn close(
        &mut self,
        connection: ConnectionId,
        reason: CloseReason,
        actions: &mut Vec<Action>,
    ) {
        if self.connections.contains_key(&connection) {
            self.drop_connection(connection);
            actions.push(Action::Close { connection, reason });
        }
    }

    pub(super) fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.watches.remove_connection(id);
        if self.by_session.get(&connection.session) == Some(&id) {
            self.by_session.remove(&connection.session);
        }
        for queued in connection.queue {
            match queued.item {
                Item::Asked(request, _) | Item::Unconfirmed(request, _) => {
                    self.asked.remove(&request);
                }
                Item::Settled { after, .. } => {
                    self.waiting.remove(&(after, id));
                }
                Item::Read(_) | Item::Held(..) => {}
            }
        }
    }
}
