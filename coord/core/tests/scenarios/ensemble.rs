//! Several coordinators, wired by a Raft that a test moves step by step: what is proposed, passed on, committed and
//! applied happens when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use coord_core::coordinator::MembershipRefusal;
use coord_core::forward::Forward;
use coord_core::request::{Request, Response};
use coord_core::{
    Action, CloseReason, Connect, ConnectionId, Coordinator, Event, ForwardAnswer, Members, NodeId,
    Now, OpError, SessionId, Settings, Standing, State, Txn, Zxid,
};

use crate::harness::settings;

/// The password of every session.
pub(crate) const PASSWORD: [u8; 16] = [7; 16];

/// A client's connection: to which member, and its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) node: u64,
    pub(crate) connection: ConnectionId,
}

struct Member {
    coordinator: Coordinator,
    /// How much of the log it has applied.
    applied: usize,
    /// What its clients were sent.
    sent: Vec<Action>,
    /// What it passes on, still on the way.
    forwards: VecDeque<Forward>,
    /// What it is answered, still on the way.
    answers: VecDeque<ForwardAnswer>,
}

pub(crate) struct Ensemble {
    members: BTreeMap<u64, Member>,
    /// What the leader of each term proposed; of a lost term only what was committed is left.
    log: Vec<(Zxid, Arc<Txn>)>,
    committed: usize,
    leader: Option<u64>,
    term: u32,
    now: Now,
    connections: u64,
    xid: i32,
    /// Questions for the leadership that are not answered.
    pub(crate) tokens: Vec<u64>,
    /// The members that the leader has asked for last, and the name of its question.
    pub(crate) asked_for: Option<(u64, Members)>,
}

impl Ensemble {
    /// Members 1 to `count`, of which 1 leads in term 1.
    pub(crate) fn new(count: u64) -> Ensemble {
        Ensemble::with(count, |settings| settings)
    }

    pub(crate) fn with(count: u64, change: impl Fn(Settings) -> Settings) -> Ensemble {
        let now = Now {
            wall_ms: 1_000,
            ..Now::default()
        };
        let member = |node| Member {
            coordinator: Coordinator::new(change(settings(node)), State::default(), now),
            applied: 0,
            sent: Vec::new(),
            forwards: VecDeque::new(),
            answers: VecDeque::new(),
        };
        let mut ensemble = Ensemble {
            members: (1..=count).map(|node| (node, member(node))).collect(),
            log: Vec::new(),
            committed: 0,
            leader: None,
            term: 0,
            now,
            connections: 0,
            xid: 0,
            tokens: Vec::new(),
            asked_for: None,
        };
        ensemble.elect(1);
        ensemble
    }

    pub(crate) fn handle(&mut self, node: u64, event: Event) {
        let mut actions = Vec::new();
        let member = self.members.get_mut(&node).unwrap();
        member
            .coordinator
            .handle(self.now, event, &mut actions)
            .expect("what was decided applies");
        for action in actions {
            match action {
                Action::Append { term, zxid, txn } => {
                    assert_eq!(self.leader, Some(node), "only the leader proposes");
                    assert_eq!(
                        self.term, term,
                        "it is proposed in the term that it was decided in"
                    );
                    self.log.push((zxid, txn));
                }
                Action::Forward(forward) => {
                    // As the wire has it.
                    let mut bytes = Vec::new();
                    forward.encode(&mut bytes);
                    let forward = Forward::decode(bytes.into()).unwrap();
                    self.member(node).forwards.push_back(forward);
                }
                Action::Answer { to, answer } => self.member(to.0).answers.push_back(answer),
                Action::ConfirmLeadership { token } => self.tokens.push(token),
                Action::ChangeMembership { token, members } => {
                    self.asked_for = Some((token, members));
                }
                action => self.member(node).sent.push(action),
            }
        }
    }

    fn member(&mut self, node: u64) -> &mut Member {
        self.members.get_mut(&node).unwrap()
    }

    pub(crate) fn state(&self, node: u64) -> &State {
        self.members[&node].coordinator.state()
    }

    pub(crate) fn standing(&self, node: u64) -> Standing {
        self.members[&node].coordinator.standing()
    }

    pub(crate) fn connection_len(&self, node: u64) -> usize {
        self.members[&node].coordinator.connection_len()
    }

    /// How many transactions are proposed and not committed.
    pub(crate) fn proposed_len(&self) -> usize {
        self.log.len() - self.committed
    }

    /// What a member's clients were sent since the last look.
    pub(crate) fn sent(&mut self, node: u64) -> Vec<Action> {
        std::mem::take(&mut self.member(node).sent)
    }

    /// Delivers what is on the way to the leader.
    pub(crate) fn pass_forwards(&mut self) {
        let Some(leader) = self.leader else { return };
        for node in self.nodes() {
            while let Some(forward) = self.member(node).forwards.pop_front() {
                let from = NodeId(node);
                self.handle(leader, Event::Forwarded { from, forward });
            }
        }
    }

    /// Loses the first thing on the way to the leader.
    pub(crate) fn lose_forward(&mut self, node: u64) -> Forward {
        self.member(node).forwards.pop_front().unwrap()
    }

    /// Delivers what the leader has answered.
    pub(crate) fn pass_answers(&mut self) {
        for node in self.nodes() {
            while let Some(answer) = self.member(node).answers.pop_front() {
                self.handle(node, Event::Answered(answer));
            }
        }
    }

    pub(crate) fn commit(&mut self) {
        self.committed = self.log.len();
    }

    /// Has a member apply all that is committed.
    pub(crate) fn apply(&mut self, node: u64) {
        let member = &self.members[&node];
        let txns = self.log[member.applied..self.committed].to_vec();
        self.member(node).applied = self.committed;
        if !txns.is_empty() {
            self.handle(node, Event::Committed { txns });
        }
    }

    /// Everything that is on its way arrives, until nothing is.
    pub(crate) fn run(&mut self) {
        loop {
            self.pass_forwards();
            self.commit();
            for token in std::mem::take(&mut self.tokens) {
                let leader = self.leader.unwrap();
                self.handle(leader, Event::LeadershipConfirmed { token });
            }
            self.pass_answers();
            for node in self.nodes() {
                self.apply(node);
            }
            let idle = |member: &Member| member.forwards.is_empty() && member.answers.is_empty();
            let applied = |member: &Member| member.applied == self.log.len();
            if self
                .members
                .values()
                .all(|member| idle(member) && applied(member))
                && self.tokens.is_empty()
            {
                return;
            }
        }
    }

    fn nodes(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// Nobody hears of a leader any more. What was proposed and not committed is lost, and so is what is on its way.
    pub(crate) fn lose_leader(&mut self) {
        self.log.truncate(self.committed);
        self.lose_leader_alone();
    }

    /// Likewise, but what was proposed is on enough disks for the next leader to have it.
    pub(crate) fn lose_leader_alone(&mut self) {
        self.leader = None;
        for node in self.nodes() {
            self.member(node).forwards.clear();
            self.member(node).answers.clear();
            self.handle(node, Event::Leaderless);
        }
    }

    /// A member leads in the next term, once it has applied all that is committed; the others hear of it.
    pub(crate) fn elect(&mut self, leader: u64) {
        if self.leader.is_some() {
            self.lose_leader();
        }
        self.term += 1;
        self.leader = Some(leader);
        let term = self.term;
        self.commit();
        self.apply(leader);
        self.handle(leader, Event::Leading { term });
        for node in self.nodes() {
            if node != leader {
                let leader = NodeId(leader);
                self.handle(node, Event::Following { term, leader });
            }
        }
    }

    /// Every member hears who the members are.
    pub(crate) fn tell_members(&mut self, members: &Members) {
        for node in self.nodes() {
            let members = members.clone();
            self.handle(node, Event::MembershipChanged { members });
        }
    }

    /// The leader hears that the members are those that it has asked for.
    pub(crate) fn agree(&mut self) {
        let (token, _) = self.asked_for.take().expect("it has asked");
        self.handle(self.leader.unwrap(), Event::ReconfigDone { token });
    }

    /// The leader hears that they are not.
    pub(crate) fn refuse(&mut self, refusal: MembershipRefusal) {
        let (token, _) = self.asked_for.take().expect("it has asked");
        let refused = Event::ReconfigRefused { token, refusal };
        self.handle(self.leader.unwrap(), refused);
    }

    /// A process ends, and another one takes its place on what is on disk.
    pub(crate) fn restart(&mut self, node: u64, change: impl Fn(Settings) -> Settings) {
        let mut state = State::default();
        for (zxid, txn) in &self.log[..self.committed] {
            state.apply(*zxid, txn).unwrap();
        }
        let coordinator = Coordinator::new(change(settings(node)), state, self.now);
        let applied = self.committed;
        let member = self.member(node);
        *member = Member {
            coordinator,
            applied,
            sent: Vec::new(),
            forwards: VecDeque::new(),
            answers: VecDeque::new(),
        };
        if let Some(leader) = self.leader {
            let (term, leader) = (self.term, NodeId(leader));
            self.handle(node, Event::Following { term, leader });
        }
    }

    /// Time goes by in small steps, in which every member that is due is woken, and what they pass on arrives.
    pub(crate) fn advance(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.elapse(10);
            self.pass_forwards();
        }
    }

    /// Time goes by, and every member that is due is woken.
    pub(crate) fn elapse(&mut self, ms: u64) {
        self.now.elapsed += std::time::Duration::from_millis(ms);
        self.now.wall_ms += ms as i64;
        for node in self.nodes() {
            let due = self.members[&node].coordinator.poll_timeout();
            if due.is_some_and(|due| due <= self.now.elapsed) {
                self.handle(node, Event::Timeout);
            }
        }
    }

    pub(crate) fn connect(&mut self, node: u64, session: SessionId, seen: Zxid) -> Client {
        self.connect_with(node, session, seen, false)
    }

    pub(crate) fn connect_with(
        &mut self,
        node: u64,
        session: SessionId,
        seen: Zxid,
        read_only: bool,
    ) -> Client {
        self.connect_for(node, session, seen, read_only, 1_000)
    }

    /// Likewise, with this timeout.
    pub(crate) fn connect_for(
        &mut self,
        node: u64,
        session: SessionId,
        seen: Zxid,
        read_only: bool,
        timeout_ms: i32,
    ) -> Client {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let password = if session.is_some() {
            Bytes::copy_from_slice(&PASSWORD)
        } else {
            Bytes::new()
        };
        let connect = Connect {
            connection,
            last_zxid_seen: seen,
            timeout_ms,
            session,
            password,
            new_password: PASSWORD,
            read_only,
            identities: Vec::new(),
        };
        self.handle(node, Event::Connect(connect));
        Client { node, connection }
    }

    /// A new session, known to all.
    pub(crate) fn open(&mut self, node: u64) -> (Client, SessionId) {
        let client = self.connect(node, SessionId::NONE, Zxid(0));
        self.run();
        let session = self.accepted(client).expect("the session is accepted");
        (client, session)
    }

    /// The session that a client was given since the last look at what its member sent.
    pub(crate) fn accepted(&mut self, client: Client) -> Option<SessionId> {
        let sent = self.sent(client.node);
        sent.into_iter().find_map(|action| match action {
            Action::Accept {
                connection,
                session,
                ..
            } if connection == client.connection => Some(session),
            _ => None,
        })
    }

    pub(crate) fn ask(&mut self, client: Client, request: Request) {
        self.xid += 1;
        let event = Event::Request {
            connection: client.connection,
            xid: self.xid,
            request,
        };
        self.handle(client.node, event);
    }

    /// The answers that a client got since the last look at what its member sent.
    pub(crate) fn answers(&mut self, client: Client) -> Vec<Result<Response, OpError>> {
        let sent = self.sent(client.node);
        sent.into_iter()
            .filter_map(|action| match action {
                Action::Reply {
                    connection, result, ..
                } if connection == client.connection => Some(result),
                _ => None,
            })
            .collect()
    }

    /// Asks, lets everything happen, and gives back the last answer.
    pub(crate) fn answer(&mut self, client: Client, request: Request) -> Result<Response, OpError> {
        self.ask(client, request);
        self.run();
        self.answers(client).pop().expect("it is answered")
    }

    /// Why a client's connection was closed since the last look at what its member sent.
    pub(crate) fn closed(&mut self, client: Client) -> Option<CloseReason> {
        let sent = self.sent(client.node);
        sent.into_iter().find_map(|action| match action {
            Action::Close { connection, reason } if connection == client.connection => Some(reason),
            _ => None,
        })
    }
}
