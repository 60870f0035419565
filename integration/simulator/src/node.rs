//! The nodes: machines with a disk and a clock, and on each, now and then, a process that runs coord.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use coord::node::{Input, Look, Node, Outgoing, Sender, Settings, Told, Witness};
use coord::raft::{self, Fatal, RaftEvent, Role};
use coord_core::coordinator::{ReconfigRules, SessionLimits};
use coord_core::decide::Rules;
use coord_core::reaper::ReaperSettings;
use coord_core::request::{Request, Response};
use coord_core::required_schemes::RequiredSchemes;
use coord_core::server_spec::HostPort;
use coord_core::watch::WatchEventType;
use coord_core::{
    Connect, ConnectionId, Members, NodeId, OpError, RequestId, ServerRole, ServerSpec, SessionId,
    State, Zxid,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::clock::WallClock;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::history::{Event, Life, Recorder, Whole};
use crate::invariants::IN_THE_END;
use crate::lifeline::Lifeline;
use crate::process::Process;
use crate::schedule::Schedule;
use crate::transport::Exchange;

/// The shortest session timeout that nodes give out.
const MIN_SESSION_TIMEOUT_MS: u32 = 1000;

/// The longest session timeout that nodes give out.
pub const MAX_SESSION_TIMEOUT_MS: u32 = 6000;

/// How often a leader looks for containers to remove, and znodes past their time to live.
const REAPER_INTERVAL: Duration = Duration::from_millis(700);

/// What waits for a node's attention.
const INBOX_LEN: usize = 256;

/// How long a node that is looked at may take to show its state.
const LOOK: Duration = Duration::from_secs(5);

/// What a node says to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum FromNode {
    /// The client has its session.
    Connected {
        /// Which.
        session: SessionId,
        /// What resumes it.
        password: [u8; 16],
        /// Its timeout, in milliseconds.
        timeout_ms: i32,
    },
    /// The session is gone.
    Expired,
    /// An answer.
    Reply {
        /// The request's number.
        xid: i32,
        /// The state that it shows.
        zxid: Zxid,
        /// What it says.
        result: Result<Response, OpError>,
    },
    /// A watch event.
    Event {
        /// The transaction; −1 if it was missed.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
}

impl From<Outgoing> for FromNode {
    fn from(outgoing: Outgoing) -> FromNode {
        match outgoing {
            Outgoing::Connected(Some(response)) => FromNode::Connected {
                session: SessionId(response.session_id),
                password: response.password,
                timeout_ms: response.timeout_ms,
            },
            Outgoing::Connected(None) => FromNode::Expired,
            Outgoing::Reply {
                xid, zxid, result, ..
            } => FromNode::Reply { xid, zxid, result },
            Outgoing::Event { zxid, event, path } => FromNode::Event { zxid, event, path },
        }
    }
}

/// Where a process takes connections.
#[derive(Debug, Clone)]
pub struct Door {
    inbox: mpsc::Sender<Input>,
    life: Lifeline,
}

impl Door {
    /// Lets a client in, and gives back what it is told from then on.
    pub async fn connect(&self, connect: Connect) -> Option<mpsc::UnboundedReceiver<FromNode>> {
        let (sender, mut frames, _) = Sender::new();
        self.send(Input::Connect { connect, sender })
            .await
            .then_some(())?;
        let (told, telling) = mpsc::unbounded_channel();
        let life = self.life.clone();
        spawn_local(async move {
            loop {
                let frame = tokio::select! {
                    biased;
                    // What a process says behind its end is not heard. The end is heard of here first, for the process
                    // drops its connections in an order that no seed decides.
                    () = life.ended() => None,
                    frame = frames.recv() => frame,
                };
                let Some((outgoing, _)) = frame else { return };
                if told.send(outgoing.into()).is_err() {
                    return;
                }
            }
        });
        Some(telling)
    }

    /// Hands in a client's request; `false` if nobody is there.
    pub async fn request(&self, connection: ConnectionId, xid: i32, request: Request) -> bool {
        self.event(coord_core::Event::Request {
            connection,
            xid,
            request,
        })
        .await
    }

    /// Tells of the end of a connection.
    pub async fn disconnected(&self, connection: ConnectionId) {
        self.event(coord_core::Event::Disconnected { connection })
            .await;
    }

    async fn event(&self, event: coord_core::Event) -> bool {
        let charge = None;
        self.send(Input::Event { event, charge }).await
    }

    async fn send(&self, input: Input) -> bool {
        !self.life.is_over() && self.inbox.send(input).await.is_ok()
    }
}

/// A machine of the ensemble.
#[derive(Debug)]
pub struct Machine {
    /// Which node runs on it.
    pub node: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    /// Its clock.
    pub clock: WallClock,
    dice: Dice,
    schedule: Schedule,
    servers: Members,
    recorder: Arc<Recorder>,
    exchange: Exchange,
    lives: Cell<u32>,
    running: RefCell<Option<Running>>,
    /// Counts what was decided about its process: what was planned before is not done any more.
    plans: Cell<u32>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    door: Door,
    life: Life,
}

impl Machine {
    fn settings(&self, life: Life, lifeline: Lifeline) -> Settings {
        let node = self.node;
        let limits = SessionLimits {
            min_timeout_ms: MIN_SESSION_TIMEOUT_MS,
            max_timeout_ms: MAX_SESSION_TIMEOUT_MS,
        };
        let coordinator = coord_core::Settings {
            node,
            limits,
            leaderless_grace: self.schedule.leaderless_grace,
            read_only_mode: false,
            rules: Rules {
                extended_types_enabled: self.schedule.wide,
                ..Rules::default()
            },
            required_schemes: RequiredSchemes::default(),
            reconfig: ReconfigRules {
                enabled: true,
                min_voters: 1,
            },
            reaper: match self.schedule.wide {
                true => ReaperSettings {
                    check_interval: REAPER_INTERVAL,
                    ..ReaperSettings::default()
                },
                false => ReaperSettings::default(),
            },
            first_request: RequestId(self.dice.next()),
        };
        let recorder = self.recorder.clone();
        let witness = Witness::new(move |told| note(&recorder, life, told));
        let recorder = self.recorder.clone();
        let exchange = self.exchange.clone();
        let raft = raft::Settings {
            node,
            servers: self.servers.clone(),
            data_dir: PathBuf::from("/data"),
            zookeeper_dirs: Vec::new(),
            tick_time_ms: 500,
            sync_limit: 4,
            init_limit: 10,
            snap_count: self.schedule.snap_count,
            batch_max_len: 1024 * 1024,
            quorum_grace: self.schedule.leaderless_grace,
            seed: self.dice.next(),
            fatal: Fatal::new(move |why| {
                // The first reason is the reason; what comes of it is not.
                if !lifeline.is_over() {
                    let why = why.to_owned();
                    recorder.record(Event::Ended { life, why });
                    exchange.close(node);
                    lifeline.end();
                }
            }),
        };
        Settings {
            coordinator,
            raft,
            witness,
        }
    }

    /// Starts its process, unless there is one.
    pub fn start(self: &Rc<Self>) {
        self.plans.set(self.plans.get() + 1);
        let mut running = self.running.borrow_mut();
        if running
            .as_ref()
            .is_some_and(|running| running.process.is_alive())
        {
            return;
        }
        let lifeline = Lifeline::default();
        let life = Life {
            node: self.node,
            number: self.lives.replace(self.lives.get() + 1),
        };
        let (inbox, inputs) = mpsc::channel(INBOX_LEN);
        let door = Door {
            inbox,
            life: lifeline.clone(),
        };
        let main = self.clone().main(life, lifeline.clone(), inputs);
        self.recorder.record(Event::Fault(format!("{life} starts")));
        *running = Some(Running {
            process: Process::start(lifeline, main),
            door,
            life,
        });
    }

    async fn main(self: Rc<Self>, life: Life, lifeline: Lifeline, inbox: mpsc::Receiver<Input>) {
        let disk = Arc::new(self.disk.for_process(lifeline.clone()));
        let transport = Arc::new(self.exchange.for_process(lifeline.clone()));
        let clock = Arc::new(self.clock.clone());
        let settings = self.settings(life, lifeline.clone());
        // Nobody asks it to stop.
        let (_running, stopped) = oneshot::channel();
        let ended = match Node::start(settings, disk, transport, clock).await {
            Ok(node) => {
                self.exchange.listen(self.node, node.raft().service());
                node.run(inbox, stopped).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended
            && !lifeline.is_over()
        {
            let why = error.to_string();
            self.recorder.record(Event::Ended { life, why });
        }
        lifeline.end();
    }

    /// Ends its process at once.
    pub async fn kill(&self) {
        self.plans.set(self.plans.get() + 1);
        let running = self.running.borrow_mut().take();
        if let Some(running) = running {
            self.exchange.close(self.node);
            running.process.kill().await;
        }
    }

    /// Starts its process after a while, if nothing else is decided before.
    pub fn restart_after(self: &Rc<Self>, time: Duration) {
        let machine = self.clone();
        let plan = self.plans.get();
        spawn_local(async move {
            sleep(time).await;
            if machine.plans.get() == plan {
                machine
                    .exchange
                    .network()
                    .unblock(crate::network::Host::Node(machine.node));
                machine.start();
            }
        });
    }

    /// Has its process stand still for a while.
    pub fn stop_for(self: &Rc<Self>, time: Duration) {
        if let Some(running) = &*self.running.borrow() {
            running.process.stop();
        }
        let machine = self.clone();
        let plan = self.plans.get();
        spawn_local(async move {
            sleep(time).await;
            if machine.plans.get() == plan {
                machine.go_on();
            }
        });
    }

    /// Has its process share the machine with others for a while.
    pub fn be_busy_for(&self, time: Duration) {
        if let Some(running) = &*self.running.borrow() {
            running.process.be_busy(self.dice.fork(), time);
        }
    }

    fn go_on(&self) {
        if let Some(running) = &*self.running.borrow() {
            running.process.go_on();
        }
    }

    /// Has its process run, whatever became of it.
    pub fn heal(self: &Rc<Self>) {
        self.go_on();
        self.start();
    }

    /// The state of its process; `None` if it does not show it.
    pub async fn look(&self) -> Option<State> {
        let inbox = self.running.borrow().as_ref()?.door.inbox.clone();
        let looked = Look::ask(&inbox, |view| view.coordinator.state().clone());
        timeout(LOOK, looked).await.ok()?
    }

    /// Writes down the state of its process, for the last time.
    pub async fn take_last_look(&self) {
        let life = self.running.borrow().as_ref().map(|running| running.life);
        if let (Some(life), Some(state)) = (life, self.look().await) {
            self.recorder.record(Event::Holds {
                life,
                state: Whole(Arc::new(state)),
                why: IN_THE_END,
            });
        }
    }
}

/// Writes down what a node comes to know.
fn note(recorder: &Recorder, life: Life, told: Told<'_>) {
    let holds = |state: &State, why| {
        let state = Whole(Arc::new(state.clone()));
        recorder.record(Event::Holds { life, state, why });
    };
    match told {
        Told::Recovered(state) => holds(state, "recovered"),
        Told::Raft(RaftEvent::Committed(txns)) => {
            for (zxid, txn) in txns {
                recorder.record(Event::Applied {
                    life,
                    zxid: *zxid,
                    txn: txn.clone(),
                });
            }
        }
        Told::Raft(RaftEvent::Install(state)) => holds(state, "installed"),
        Told::Raft(RaftEvent::Role(role)) => {
            recorder.record(Event::Role { life, role: *role });
            if let Role::Leader { term } = *role {
                let leader = life.node;
                recorder.record(Event::Began { life, term, leader });
            }
        }
        Told::Raft(RaftEvent::Membership(members)) => {
            let members = members.clone();
            recorder.record(Event::Members { life, members });
        }
        Told::Raft(_) => {}
    }
}

/// All machines.
#[derive(Debug)]
pub struct Nodes(RefCell<Vec<Rc<Machine>>>);

impl Nodes {
    /// Those of a schedule, with empty disks.
    pub fn new(
        dice: &Dice,
        schedule: &Schedule,
        recorder: Arc<Recorder>,
        exchange: Exchange,
    ) -> Nodes {
        let members = schedule.voters + schedule.observers;
        let server = |node: u64| ServerSpec {
            host: format!("node{node}"),
            role: match node > schedule.voters {
                true => ServerRole::Observer,
                false => ServerRole::Participant,
            },
            quorum_port: 2888,
            election_port: 3888,
            client: Some(HostPort {
                host: "0.0.0.0".to_owned(),
                port: 2181,
            }),
        };
        let servers: Members = match members {
            1 => BTreeMap::new(),
            _ => (1..=members)
                .map(|node| (NodeId(node), server(node)))
                .collect(),
        };
        let machine = |node| {
            let disk = SimDisk::new(dice.fork());
            let (from, below) = schedule.sync_ms;
            disk.set_sync_ms(from, below);
            Rc::new(Machine {
                node: NodeId(node),
                disk,
                clock: WallClock::new(),
                dice: dice.fork(),
                schedule: schedule.clone(),
                servers: servers.clone(),
                recorder: recorder.clone(),
                exchange: exchange.clone(),
                lives: Cell::new(0),
                running: RefCell::new(None),
                plans: Cell::new(0),
            })
        };
        Nodes(RefCell::new((1..=members).map(machine).collect()))
    }

    /// Every machine.
    pub fn all(&self) -> Vec<Rc<Machine>> {
        self.0.borrow().clone()
    }

    /// The members that found the ensemble; none if it is a server by itself.
    pub fn founders(&self) -> Members {
        let machines = self.0.borrow();
        let first = machines.first();
        first.map_or_else(Members::new, |machine| machine.servers.clone())
    }

    /// Whom a client may try.
    pub fn addresses(&self) -> Vec<NodeId> {
        self.0.borrow().iter().map(|machine| machine.node).collect()
    }

    /// Where a node takes connections; `None` if nobody listens there.
    pub fn door(&self, node: NodeId) -> Option<Door> {
        let machines = self.0.borrow();
        let machine = machines.iter().find(|machine| machine.node == node)?;
        let running = machine.running.borrow();
        let running = running.as_ref()?;
        running.process.is_alive().then(|| running.door.clone())
    }
}
