//! A ZooKeeper client as libraries are: it keeps a session alive across nodes, sends without waiting for answers, sets
//! its watches again after a reconnect, and never goes to a node that is behind what it has seen.

mod link;
mod workload;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use coord_core::request::{Read, Request, Response};
use coord_core::watch::{WatchEventType, WatchKind};
use coord_core::{ConnectionId, NodeId, OpError, SessionId, Zxid};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::dice::Dice;
use crate::history::{Event, Recorder};
use crate::network::Network;
use crate::node::{FromNode, Nodes};
use link::Link;
pub use link::{Dialer, Introduction};
use workload::Workload;

/// What the clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Whatever comes to their minds.
    Work,
    /// To find a node, write, sync and read once more: then the client is content.
    Settle,
    /// To end.
    End,
}

/// What the clients are to do at present. tokio's own `watch` wakes those who wait in an order that no seed decides.
#[derive(Debug)]
pub struct Signal {
    phase: Cell<Phase>,
    changed: Notify,
}

impl Default for Signal {
    fn default() -> Signal {
        Signal {
            phase: Cell::new(Phase::Work),
            changed: Notify::new(),
        }
    }
}

impl Signal {
    /// Has every client do something else.
    pub fn set(&self, phase: Phase) {
        self.phase.set(phase);
        self.changed.notify_waiters();
    }

    async fn until(&self, phase: Phase) {
        while self.phase.get() != phase {
            self.changed.notified().await;
        }
    }
}

/// The surroundings that all clients share.
#[derive(Debug)]
pub struct Surroundings {
    /// Where to write down what happens.
    pub recorder: Arc<Recorder>,
    /// What lies between.
    pub network: Network,
    /// Opens connections.
    pub dialer: Dialer,
    /// Who may be connected to.
    pub nodes: Rc<Nodes>,
    /// What is to be done.
    pub signal: Signal,
    /// Requests that each client sends while it works.
    pub requests: usize,
    /// The most requests without an answer.
    pub pipeline: usize,
    /// The longest that a client thinks between requests, in milliseconds.
    pub think_ms: u64,
    /// Whether they ask for all that they know by now.
    pub wide: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    dice: Dice,
    around: Rc<Surroundings>,
    workload: Workload,
    wanted_timeout_ms: i32,
    session: Option<Session>,
    last_zxid_seen: Zxid,
    left: usize,
    next_xid: i32,
    content: bool,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    password: Bytes,
    timeout: Duration,
    watches: Watches,
}

/// What the client watches, for SetWatches.
#[derive(Debug, Default)]
struct Watches {
    data: BTreeSet<ByteString>,
    exist: BTreeSet<ByteString>,
    child: BTreeSet<ByteString>,
    persistent: BTreeSet<ByteString>,
    recursive: BTreeSet<ByteString>,
}

/// How a conversation with a node came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The connection is gone; the session may be resumed.
    Lost,
    /// The client closed its session.
    Closed,
    /// The client lets its session expire.
    Abandoned,
    /// All is over.
    Over,
}

const PING_XID: i32 = -2;
const SET_WATCHES_XID: i32 = -8;

impl Client {
    /// A client that has not spoken yet.
    pub fn new(number: usize, dice: Dice, around: Rc<Surroundings>) -> Client {
        let workload = Workload::new(number, dice.fork(), around.wide);
        let wanted_timeout_ms = dice.within(1500..6000) as i32;
        let left = around.requests;
        Client {
            number,
            dice,
            around,
            workload,
            wanted_timeout_ms,
            session: None,
            last_zxid_seen: Zxid(0),
            left,
            next_xid: 0,
            content: false,
        }
    }

    /// Lives until all is over; says through `content` once it has settled.
    pub async fn run(mut self, content: impl Fn(usize)) {
        let around = self.around.clone();
        while around.signal.phase.get() != Phase::End {
            let Some(node) = self.choose() else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = self.around.dialer.name();
            let ending = self.visit(node, connection, &content).await;
            self.record(Event::Lost { connection });
            match ending {
                Ending::Over => return,
                Ending::Lost => sleep(self.dice.ms(1..200)).await,
                Ending::Closed => self.session = None,
                Ending::Abandoned => {
                    let Some(session) = self.session.take() else {
                        continue;
                    };
                    self.record(Event::Abandoned {
                        client: self.number,
                        session: session.id,
                    });
                    // Long enough for it to expire, mostly; then the client comes back for it, or takes a new one.
                    let pause = session.timeout * self.dice.within(50..200) as u32 / 100;
                    let _ = timeout(pause, around.signal.until(Phase::End)).await;
                    if self.dice.chance(50) {
                        self.session = Some(session);
                    }
                }
            }
        }
    }

    fn record(&self, event: Event) {
        self.around.recorder.record(event);
    }

    fn choose(&self) -> Option<NodeId> {
        let nodes = self.around.nodes.addresses();
        (!nodes.is_empty()).then(|| *self.dice.pick(&nodes))
    }

    async fn visit(
        &mut self,
        node: NodeId,
        connection: ConnectionId,
        content: &impl Fn(usize),
    ) -> Ending {
        let (id, password) = match &self.session {
            Some(session) => (session.id, session.password.clone()),
            None => (SessionId::NONE, Bytes::from_static(&[0; 16])),
        };
        self.record(Event::Connecting {
            client: self.number,
            connection,
            node,
            session: id,
            last_zxid_seen: self.last_zxid_seen,
        });
        let introduction = Introduction {
            session: id,
            password,
            timeout_ms: self.wanted_timeout_ms,
            last_zxid_seen: self.last_zxid_seen,
        };
        let door = self.around.nodes.door(node);
        let dialer = &self.around.dialer;
        let mut link = dialer.open(self.number, node, connection, introduction, door);
        let patience = Duration::from_millis(self.wanted_timeout_ms as u64);
        match timeout(patience, link.receive()).await {
            Ok(Some(FromNode::Connected {
                session,
                password,
                timeout_ms,
            })) => {
                self.record(Event::Connected {
                    connection,
                    session,
                    timeout_ms,
                });
                let watches = match self.session.take() {
                    Some(former) if former.id == session => former.watches,
                    _ => Watches::default(),
                };
                self.session = Some(Session {
                    id: session,
                    password: Bytes::copy_from_slice(&password),
                    timeout: Duration::from_millis(timeout_ms as u64),
                    watches,
                });
                self.converse(node, connection, link, content).await
            }
            Ok(Some(FromNode::Expired)) => {
                self.record(Event::Expired { connection });
                self.session = None;
                Ending::Lost
            }
            _ => Ending::Lost,
        }
    }

    async fn converse(
        &mut self,
        node: NodeId,
        connection: ConnectionId,
        link: Link,
        content: &impl Fn(usize),
    ) -> Ending {
        let Some(session_timeout) = self.session.as_ref().map(|session| session.timeout) else {
            return Ending::Lost;
        };
        let mut talk = Talk {
            node,
            connection,
            link,
            unanswered: VecDeque::new(),
            heard: Instant::now(),
            spoke: Instant::now(),
            settling: false,
        };
        let set_watches = self.set_watches();
        if let Some(request) = set_watches
            && !self.send(&mut talk, SET_WATCHES_XID, request)
        {
            return Ending::Lost;
        }
        let around = self.around.clone();
        let mut next = Instant::now();
        // How many requests this client sends on this connection before it leaves it on its own.
        let mut patience = match self.dice.chance(30) {
            true => self.dice.within(1..12) as usize,
            false => usize::MAX,
        };
        loop {
            let silent = talk.heard + session_timeout * 2 / 3;
            let ping = talk.spoke + session_timeout / 3;
            let now = around.signal.phase.get();
            let working = now == Phase::Work && self.left > 0;
            let settling = now == Phase::Settle && !talk.settling && !self.content;
            let may_send = talk.unanswered.len() < self.around.pipeline;
            let act = match (working || settling) && may_send {
                true => next,
                false => ping,
            };
            tokio::select! {
                biased;
                () = around.signal.changed.notified() => {
                    if around.signal.phase.get() == Phase::End {
                        return Ending::Over;
                    }
                }
                frame = talk.link.receive() => {
                    let Some(frame) = frame else {
                        return Ending::Lost;
                    };
                    talk.heard = Instant::now();
                    if let Some(ending) = self.hear(&mut talk, frame) {
                        return ending;
                    }
                    if talk.settling && talk.unanswered.is_empty() {
                        talk.settling = false;
                        self.content = true;
                        content(self.number);
                    }
                }
                () = sleep_until(silent) => return Ending::Lost,
                () = sleep_until(act.min(ping)) => {
                    if Instant::now() >= ping {
                        if !self.send(&mut talk, PING_XID, Request::Read(Read::Ping)) {
                            return Ending::Lost;
                        }
                    } else if settling {
                        if !self.settle(&mut talk) {
                            return Ending::Lost;
                        }
                    } else if working {
                        if patience == 0 {
                            return match self.dice.within(0..3) {
                                0 => Ending::Abandoned,
                                _ => Ending::Lost,
                            };
                        }
                        patience -= 1;
                        self.left -= 1;
                        let request = match self.dice.chance(2) {
                            true => Request::CloseSession,
                            false => self.workload.request(),
                        };
                        let xid = self.xid();
                        if !self.send(&mut talk, xid, request) {
                            return Ending::Lost;
                        }
                        next = Instant::now() + self.think();
                    }
                }
            }
        }
    }

    /// Mostly short, now and then a rest.
    fn think(&self) -> Duration {
        match self.dice.within(0..10) {
            0 => self.dice.ms(0..self.around.think_ms * 10 + 1),
            1..4 => Duration::ZERO,
            _ => self.dice.ms(0..self.around.think_ms + 1),
        }
    }

    fn xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid
    }

    fn send(&self, talk: &mut Talk, xid: i32, request: Request) -> bool {
        self.record(Event::Sent {
            connection: talk.connection,
            xid,
            request: request.clone(),
        });
        talk.unanswered.push_back(request.clone());
        talk.spoke = Instant::now();
        talk.link
            .send(&self.around.network, self.number, talk.node, xid, request)
    }

    /// Writes, syncs, and looks at everything once more.
    fn settle(&mut self, talk: &mut Talk) -> bool {
        let last: [Request; 2] = [
            self.workload.last_word(),
            Request::Sync { path: "/".into() },
        ];
        talk.settling = true;
        for request in last.into_iter().chain(Workload::look_around()) {
            let xid = self.xid();
            if !self.send(talk, xid, request) {
                return false;
            }
        }
        true
    }

    fn set_watches(&self) -> Option<Request> {
        let Watches {
            data,
            exist,
            child,
            persistent,
            recursive,
        } = &self.session.as_ref()?.watches;
        let all = [data, exist, child, persistent, recursive];
        if all.iter().all(|paths| paths.is_empty()) {
            return None;
        }
        Some(Request::Read(Read::SetWatches {
            since: self.last_zxid_seen,
            data: data.iter().cloned().collect(),
            exist: exist.iter().cloned().collect(),
            child: child.iter().cloned().collect(),
            persistent: persistent.iter().cloned().collect(),
            persistent_recursive: recursive.iter().cloned().collect(),
        }))
    }

    /// Takes what came; gives back how the conversation ends, if it does.
    fn hear(&mut self, talk: &mut Talk, frame: FromNode) -> Option<Ending> {
        match frame {
            FromNode::Reply { xid, zxid, result } => {
                self.record(Event::Replied {
                    connection: talk.connection,
                    xid,
                    zxid,
                    result: result.clone(),
                });
                self.last_zxid_seen = self.last_zxid_seen.max(zxid);
                match talk.unanswered.pop_front()? {
                    Request::CloseSession if result.is_ok() => return Some(Ending::Closed),
                    request => self.session.as_mut()?.watches.leave(&request, &result),
                }
            }
            FromNode::Event { zxid, event, path } => {
                self.record(Event::Notified {
                    connection: talk.connection,
                    zxid,
                    event,
                    path: path.clone(),
                });
                self.last_zxid_seen = self.last_zxid_seen.max(zxid);
                self.session.as_mut()?.watches.fire(event, &path);
            }
            FromNode::Connected { .. } | FromNode::Expired => return Some(Ending::Lost),
        }
        None
    }
}

/// A conversation with a node.
#[derive(Debug)]
struct Talk {
    node: NodeId,
    connection: ConnectionId,
    link: Link,
    unanswered: VecDeque<Request>,
    heard: Instant,
    spoke: Instant,
    /// Whether those requests were sent that settle.
    settling: bool,
}

impl Watches {
    fn leave(&mut self, request: &Request, result: &Result<Response, OpError>) {
        let Request::Read(read) = request else {
            return;
        };
        match (read, result) {
            (Read::Exists { path, watch: true }, Ok(_))
            | (Read::GetData { path, watch: true }, Ok(_)) => {
                self.data.insert(path.clone());
            }
            (Read::Exists { path, watch: true }, Err(OpError::NoNode)) => {
                self.exist.insert(path.clone());
            }
            (
                Read::GetChildren {
                    path, watch: true, ..
                },
                Ok(_),
            ) => {
                self.child.insert(path.clone());
            }
            (Read::AddWatch { path, recursive }, Ok(_)) => {
                let paths = match recursive {
                    true => &mut self.recursive,
                    false => &mut self.persistent,
                };
                paths.insert(path.clone());
            }
            (Read::RemoveWatches { path, kind }, Ok(_)) => {
                let of = |kinds: &[WatchKind]| kind.is_none_or(|kind| kinds.contains(&kind));
                if of(&[WatchKind::Data]) {
                    self.data.remove(path);
                    self.exist.remove(path);
                }
                if of(&[WatchKind::Child]) {
                    self.child.remove(path);
                }
                if of(&[WatchKind::Persistent]) {
                    self.persistent.remove(path);
                }
                if of(&[WatchKind::PersistentRecursive]) {
                    self.recursive.remove(path);
                }
            }
            _ => {}
        }
    }

    fn fire(&mut self, event: WatchEventType, path: &ByteString) {
        match event {
            WatchEventType::NodeChildrenChanged => {
                self.child.remove(path);
            }
            WatchEventType::NodeDeleted => {
                self.data.remove(path);
                self.exist.remove(path);
                self.child.remove(path);
            }
            _ => {
                self.data.remove(path);
                self.exist.remove(path);
            }
        }
    }
}
