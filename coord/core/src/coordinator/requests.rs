//! From a client's request to the leader.

use super::connection::{Answer, Connection, Item, Wish};
use super::leader::{Asking, Decision, TOUCH_INTERVAL};
use super::role::Role;
use super::{Action, CloseReason, ConnectionId, Coordinator, Now};
use crate::acl::Identity;
use crate::error::OpError;
use crate::forward::{Ask, Forward, ForwardAnswer};
use crate::origin::Origin;
use crate::request::{Read, Request, Response, Write};
use crate::zxid::{NodeId, SessionId, Zxid};

impl Coordinator {
    pub(super) fn request(
        &mut self,
        now: Now,
        id: ConnectionId,
        xid: i32,
        request: Request,
        actions: &mut Vec<Action>,
    ) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let read_only = connection.read_only;
        // A sign of life does nothing, and there are clients that give one before they get to show who they are.
        let may_come_first = matches!(
            request,
            Request::Authenticated(_)
                | Request::Sasl { .. }
                | Request::Refused { .. }
                | Request::Read(Read::Ping)
        );
        if !may_come_first
            && !self
                .settings
                .required_schemes
                .are_met_by(&connection.identities)
        {
            let answer = Answer::LastReply(OpError::SaslRequired);
            let after = Zxid(0);
            return self.enqueue(now, id, xid, Item::Settled { after, answer }, actions);
        }
        let settled = |answer| Item::Settled {
            after: Zxid(0),
            answer: Answer::Reply(answer),
        };
        let (ask, wish) = match request {
            Request::Read(read) => {
                self.heard(now, id);
                return self.enqueue(now, id, xid, Item::Read(read), actions);
            }
            Request::Refused { error, close } => {
                self.heard(now, id);
                let item = match close {
                    true => Item::Settled {
                        after: Zxid(0),
                        answer: Answer::LastReply(error),
                    },
                    false => settled(Err(error)),
                };
                return self.enqueue(now, id, xid, item, actions);
            }
            Request::Authenticated(identities) => {
                return self.authenticated(now, id, xid, identities, Response::Empty, actions);
            }
            Request::Sasl { token, identities } => {
                let answer = Response::Token(token);
                return self.authenticated(now, id, xid, identities, answer, actions);
            }
            Request::Multi(writes) if writes.is_empty() => {
                self.heard(now, id);
                let empty = settled(Ok(Response::Multi(Vec::new())));
                return self.enqueue(now, id, xid, empty, actions);
            }
            Request::CloseSession if read_only => {
                // Known here alone, or resumed here for the while only.
                self.enqueue(now, id, xid, settled(Ok(Response::Empty)), actions);
                return self.close(id, CloseReason::SessionEnded, actions);
            }
            _ if read_only => {
                let refused = settled(Err(OpError::NotReadOnly));
                return self.enqueue(now, id, xid, refused, actions);
            }
            Request::Write(write) => {
                let wish = Wish::Write(write.kind());
                (Ask::Write(write), wish)
            }
            Request::Multi(writes) => {
                let wish = Wish::Multi(writes.iter().map(Write::kind).collect());
                (Ask::Multi(writes), wish)
            }
            Request::Sync { path } => (Ask::Sync, Wish::Sync(path)),
            Request::Reconfig(reconfig) => (Ask::Reconfig(reconfig), Wish::Reconfig),
            Request::CloseSession => (Ask::CloseSession, Wish::Close),
        };
        self.ask_or_hold(now, id, xid, ask, wish, actions);
    }

    /// A client has shown to be someone else too.
    fn authenticated(
        &mut self,
        now: Now,
        id: ConnectionId,
        xid: i32,
        identities: Vec<Identity>,
        answer: Response,
        actions: &mut Vec<Action>,
    ) {
        self.heard(now, id);
        let Some(asking) = self.connections.get_mut(&id) else {
            return;
        };
        let answer = match asking.authenticate(identities) {
            Ok(()) => Answer::Reply(Ok(answer)),
            Err(error) => Answer::LastReply(error),
        };
        let after = Zxid(0);
        self.enqueue(now, id, xid, Item::Settled { after, answer }, actions);
    }

    /// Asks the leader, or puts that off until it may be asked.
    pub(super) fn ask_or_hold(
        &mut self,
        now: Now,
        id: ConnectionId,
        xid: i32,
        ask: Ask,
        wish: Wish,
        actions: &mut Vec<Action>,
    ) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let item = if connection.held == 0 && self.may_ask(connection, &wish, connection.reads) {
            self.ask(now, id, ask, wish, actions)
        } else {
            self.heard(now, id);
            Item::Held(ask, wish)
        };
        self.enqueue(now, id, xid, item, actions);
    }

    /// Whether a request may go to the leader. In a session it has to wait until the session is there. A follower also
    /// keeps it back behind reads, which may themselves wait for an earlier answer: the transaction could overtake that
    /// answer, and the reads would see what their session wrote after them. The leader knows when there is such an answer.
    fn may_ask(&self, connection: &Connection, wish: &Wish, reads_before: usize) -> bool {
        let in_session = !matches!(wish, Wish::Session { .. } | Wish::Resume { .. });
        if in_session && !connection.session.is_some() {
            return false;
        }
        match self.role {
            Role::Leading(_) => reads_before == 0 || connection.unconfirmed == 0,
            Role::Following { .. } => reads_before == 0,
            Role::Leaderless { .. } | Role::Removed => false,
        }
    }

    /// Asks what was held back on this connection, as far as that may be asked now.
    pub(super) fn release(&mut self, now: Now, id: ConnectionId, actions: &mut Vec<Action>) {
        let mut reads_before = 0;
        let mut at = 0;
        while let Some(connection) = self.connections.get(&id)
            && connection.held > 0
            && let Some(queued) = connection.queue.get(at)
        {
            match &queued.item {
                Item::Read(_) => reads_before += 1,
                Item::Held(_, wish) if !self.may_ask(connection, wish, reads_before) => return,
                Item::Held(..) => self.ask_held(now, id, at, actions),
                Item::Asked(..) | Item::Unconfirmed(..) | Item::Settled { .. } => {}
            }
            at += 1;
        }
    }

    fn ask_held(&mut self, now: Now, id: ConnectionId, at: usize, actions: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(queued) = connection.queue.get_mut(at) else {
            return;
        };
        let unknown = Item::Settled {
            after: Zxid(0),
            answer: Answer::Unknown,
        };
        if let Item::Held(ask, wish) = std::mem::replace(&mut queued.item, unknown) {
            connection.held -= 1;
            let item = self.ask(now, id, ask, wish, actions);
            if let Some(connection) = self.connections.get_mut(&id)
                && let Some(queued) = connection.queue.get_mut(at)
            {
                if let Item::Unconfirmed(..) = item {
                    connection.unconfirmed += 1;
                }
                queued.item = item;
            }
        }
    }

    /// Asks the leader: at once if that is this member.
    fn ask(
        &mut self,
        now: Now,
        id: ConnectionId,
        ask: Ask,
        wish: Wish,
        actions: &mut Vec<Action>,
    ) -> Item {
        let unknown = Item::Settled {
            after: Zxid(0),
            answer: Answer::Unknown,
        };
        let Some(connection) = self.connections.get(&id) else {
            return unknown;
        };
        let session = match wish {
            Wish::Session { .. } => SessionId::NONE,
            Wish::Resume { session, .. } => session,
            _ => connection.session,
        };
        let request = self.next_request;
        let mut confirmed = true;
        match &mut self.role {
            Role::Leading(leader) => {
                let asking = Asking {
                    origin: Origin {
                        node: self.settings.node,
                        request,
                    },
                    session,
                    claim: connection.claim,
                    identities: &connection.identities,
                };
                match leader.ask(&self.state, now, asking, &ask, actions) {
                    Decision::Proposed => {}
                    Decision::Unconfirmed => confirmed = false,
                    Decision::Settled { after, outcome } => {
                        let answer = wish.settled(outcome);
                        return Item::Settled { after, answer };
                    }
                }
            }
            Role::Following { .. } => actions.push(Action::Forward(Forward::Request {
                epoch: self.epoch,
                request,
                session,
                claim: connection.claim,
                identities: connection.identities.clone(),
                ask,
            })),
            Role::Leaderless { .. } | Role::Removed => return Item::Held(ask, wish),
        }
        self.next_request = request.next();
        self.asked.insert(request, id);
        match confirmed {
            true => Item::Asked(request, wish),
            false => Item::Unconfirmed(request, wish),
        }
    }

    /// A member passes on what its clients ask for.
    pub(super) fn forwarded(
        &mut self,
        now: Now,
        from: NodeId,
        forward: Forward,
        actions: &mut Vec<Action>,
    ) {
        let Role::Leading(leader) = &mut self.role else {
            // Its clients find out through other connections, when there is a leader.
            if let Forward::Request { epoch, .. } = forward {
                let answer = ForwardAnswer::Lost { epoch };
                actions.push(Action::Answer { to: from, answer });
            }
            return;
        };
        let (epoch, request, session, claim, identities, ask) = match forward {
            Forward::Touch(touches) => return leader.touched(from, &touches, now),
            Forward::Request {
                epoch,
                request,
                session,
                claim,
                identities,
                ask,
            } => (epoch, request, session, claim, identities, ask),
        };
        if !leader.is_next(from, epoch, request) {
            let answer = ForwardAnswer::Lost { epoch };
            return actions.push(Action::Answer { to: from, answer });
        }
        let asking = Asking {
            origin: Origin {
                node: from,
                request,
            },
            session,
            claim,
            identities: &identities,
        };
        let decision = leader.ask(&self.state, now, asking, &ask, actions);
        let Decision::Settled { after, outcome } = decision else {
            return;
        };
        let answer = ForwardAnswer::Settled {
            request,
            after,
            outcome,
        };
        self.answer_member(now, from, answer, actions);
    }

    /// The leader answers, or this member does so itself where it leads.
    pub(super) fn answered(&mut self, now: Now, answer: ForwardAnswer, actions: &mut Vec<Action>) {
        match answer {
            ForwardAnswer::Settled {
                request,
                after,
                outcome,
            } => self.settle(now, request, after, |wish| wish.settled(outcome), actions),
            ForwardAnswer::Lost { epoch } if epoch == self.epoch => self.forward_lost(actions),
            ForwardAnswer::Lost { .. } => {}
        }
    }

    /// Whether this member was the leader when some syncs came has been found out.
    pub(super) fn confirmed(
        &mut self,
        now: Now,
        token: u64,
        confirmed: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(leader) = self.role.leader() else {
            return;
        };
        for (origin, answer) in leader.confirmations.answered(token, confirmed, actions) {
            self.answer_member(now, origin.node, answer, actions);
        }
    }

    /// Answers a member; it may be this one.
    pub(super) fn answer_member(
        &mut self,
        now: Now,
        to: NodeId,
        answer: ForwardAnswer,
        actions: &mut Vec<Action>,
    ) {
        if to == self.settings.node {
            self.answered(now, answer, actions);
        } else {
            if let Some(leader) = self.role.leader() {
                leader.done(to);
            }
            actions.push(Action::Answer { to, answer });
        }
    }

    /// A client of this member was heard.
    pub(super) fn heard(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match &mut self.role {
            Role::Leading(leader) => leader.heard(connection.touch(), now),
            Role::Following { .. } if !connection.touched && !connection.read_only => {
                connection.touched = true;
                self.touched.push(id);
                self.touch_due.get_or_insert(now.elapsed + TOUCH_INTERVAL);
            }
            Role::Following { .. } | Role::Leaderless { .. } | Role::Removed => {}
        }
    }

    /// Tells the leader whom this member has heard since it last told.
    pub(super) fn pass_on_touches(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.touch_due.is_none_or(|due| due > now.elapsed) {
            return;
        }
        self.touch_due = None;
        let mut touches = Vec::with_capacity(self.touched.len());
        for id in self.touched.drain(..) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.touched = false;
                if connection.session.is_some() {
                    touches.push(connection.touch());
                }
            }
        }
        if !touches.is_empty() {
            actions.push(Action::Forward(Forward::Touch(touches)));
        }
    }
}
