//! One schedule, from the first start to the last look.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coord_core::{NodeId, Zxid};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::administrator::Administrator;
use crate::client::{Client, Dialer, Phase, Signal, Surroundings};
use crate::dice::Dice;
use crate::history::{Event, History, Recorder};
use crate::invariants::{self, Violation};
use crate::network::{Host, Network};
use crate::node::{MAX_SESSION_TIMEOUT_MS, Machine, Nodes};
use crate::panics;
use crate::process;
use crate::schedule::{Fault, Schedule};
use crate::transport::Exchange;

/// How long an ensemble may take, once nothing is broken any more, until every client has written and read again.
const HEALED: Duration = Duration::from_secs(60);

/// How long all members may take from there to the same state.
const CAUGHT_UP: Duration = Duration::from_secs(30);

/// What became of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// All that happened.
    pub history: History,
    /// What was wrong, if anything was.
    pub result: Result<(), Violation>,
}

/// Runs the schedule of a seed, and judges it.
pub fn run(seed: u64) -> Outcome {
    live(seed, Membership::Stays)
}

/// Likewise, with an ensemble whose members come and go.
pub fn run_with_reconfigs(seed: u64) -> Outcome {
    live(seed, Membership::Changes)
}

/// What becomes of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// They are always the same.
    Stays,
    /// They come and go, and in the end all are there again.
    Changes,
}

fn live(seed: u64, membership: Membership) -> Outcome {
    coord::raft::spawn_on_local_set();
    coord::raft::hold_up_tasks(process::hold_up);
    panics::watch();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime can be had: {error}"),
    };
    let (history, lived) = LocalSet::new().block_on(&runtime, async {
        let world = World::new(seed, membership);
        let lived = world.live().await;
        (world.recorder.finish(), lived)
    });
    let nobody_panics = match panics::take() {
        Some(panic) => Err(Violation::overall("nobody_panics", panic)),
        None => Ok(()),
    };
    let result = nobody_panics
        .and_then(|()| invariants::check(&history))
        .and(lived);
    Outcome { history, result }
}

struct World {
    dice: Dice,
    administrator: Option<Administrator>,
    schedule: Schedule,
    recorder: Arc<Recorder>,
    network: Network,
    nodes: Rc<Nodes>,
    around: Rc<Surroundings>,
    content: Rc<Content>,
}

/// How many clients have nothing left to wish for.
#[derive(Debug, Default)]
struct Content {
    clients: Cell<usize>,
    more: Notify,
}

impl World {
    fn new(seed: u64, membership: Membership) -> World {
        let dice = Dice::new(seed);
        let mut schedule = Schedule::draw(seed, &dice);
        if membership == Membership::Changes {
            // A server by itself has no members.
            schedule.voters = schedule.voters.max(3);
        }
        let recorder = Arc::new(Recorder::new());
        recorder.record(Event::Fault(format!("{schedule:?}")));
        let network = Network::new(dice.fork());
        let (from, below) = schedule.delay_ms;
        network.set_delay_ms(from, below);
        let exchange = Exchange::new(network.clone(), recorder.clone());
        let nodes = Rc::new(Nodes::new(&dice, &schedule, recorder.clone(), exchange));
        let around = Rc::new(Surroundings {
            recorder: recorder.clone(),
            network: network.clone(),
            dialer: Dialer::new(network.clone(), dice.fork()),
            nodes: nodes.clone(),
            signal: Signal::default(),
            requests: schedule.requests,
            pipeline: schedule.pipeline,
            think_ms: schedule.think_ms,
            wide: schedule.wide,
        });
        let administrator = (membership == Membership::Changes)
            .then(|| Administrator::new(dice.fork(), around.clone(), nodes.founders()));
        World {
            dice,
            administrator,
            schedule,
            recorder,
            network,
            nodes,
            around,
            content: Rc::default(),
        }
    }

    async fn live(&self) -> Result<(), Violation> {
        for machine in self.nodes.all() {
            machine.start();
        }
        let mut clients = Vec::new();
        for number in 0..self.schedule.clients {
            let client = Client::new(number, self.dice.fork(), self.around.clone());
            let content = self.content.clone();
            clients.push(spawn_local(client.run(move |_| {
                content.clients.set(content.clients.get() + 1);
                content.more.notify_one();
            })));
        }
        tokio::select! {
            biased;
            () = self.suffer() => {}
            () = self.administrate() => {}
        }
        self.heal().await;
        let settled = match &self.administrator {
            Some(administrator) if !administrator.reunite().await => {
                let why = "the members cannot be brought together again".to_owned();
                Err(Violation::overall("heals_in_time", why))
            }
            _ => self.settle().await,
        };
        self.around.signal.set(Phase::End);
        for client in clients {
            // A client that panicked has broken its own promise, and says so on stderr.
            let _ = client.await;
        }
        for machine in self.nodes.all() {
            machine.kill().await;
        }
        settled
    }

    async fn suffer(&self) {
        for _ in 0..self.schedule.faults {
            sleep(self.dice.ms(1..self.schedule.fault_gap_ms)).await;
            self.fault(Fault::draw(self.schedule.wide, &self.dice))
                .await;
        }
        sleep(self.dice.ms(1..self.schedule.fault_gap_ms)).await;
    }

    async fn administrate(&self) {
        match &self.administrator {
            Some(administrator) => administrator.run().await,
            None => std::future::pending().await,
        }
    }

    fn say(&self, what: String) {
        self.recorder.record(Event::Fault(what));
    }

    fn any(&self) -> Rc<Machine> {
        self.dice.pick(&self.nodes.all()).clone()
    }

    async fn fault(&self, fault: Fault) {
        let machine = self.any();
        let host = Host::Node(machine.node);
        self.say(format!("{fault:?} {host}"));
        let others: Vec<Host> = self
            .nodes
            .all()
            .iter()
            .map(|machine| Host::Node(machine.node))
            .filter(|other| *other != host)
            .collect();
        match fault {
            Fault::Kill => {
                self.around.dialer.break_node(machine.node);
                machine.kill().await;
                machine.restart_after(self.dice.ms(0..3000));
            }
            Fault::PowerCut => {
                self.cut_power(&machine).await;
                machine.restart_after(self.dice.ms(10..4000));
            }
            Fault::PowerCutOfAll => {
                for machine in self.nodes.all() {
                    self.cut_power(&machine).await;
                }
                for machine in self.nodes.all() {
                    machine.restart_after(self.dice.ms(10..1000));
                }
            }
            Fault::Stop => machine.stop_for(self.dice.ms(100..8000)),
            Fault::Isolate => {
                for other in others {
                    self.network.block(host, other);
                    self.network.block(other, host);
                }
            }
            Fault::OneWay => {
                let deaf = self.dice.chance(50);
                for other in others {
                    match deaf {
                        true => self.network.block(other, host),
                        false => self.network.block(host, other),
                    }
                }
            }
            Fault::Split => {
                let there: BTreeSet<Host> = others
                    .iter()
                    .copied()
                    .filter(|_| self.dice.chance(50))
                    .collect();
                for &a in others.iter().chain([&host]) {
                    for &b in others.iter().chain([&host]) {
                        if there.contains(&a) != there.contains(&b) {
                            self.network.block(a, b);
                        }
                    }
                }
            }
            Fault::Slow => self.network.slow_down(host, self.dice.within(20..400)),
            Fault::Break => {
                for other in others {
                    self.network.break_connections(host, other);
                }
            }
            Fault::BreakClients => self.around.dialer.break_some(),
            Fault::StallDisk => machine.disk.stall(self.dice.ms(100..5000)),
            Fault::FillDisk => {
                machine
                    .disk
                    .set_free(Some(self.dice.within(0..3000) as usize));
            }
            Fault::JumpClock => {
                let by = self.dice.within(0..20_000_000) as i64 - 10_000_000;
                machine.clock.jump(by);
            }
            Fault::Mend => {
                self.network.mend();
                machine.disk.set_free(None);
            }
            Fault::Busy => self.be_busy(self.dice.ms(200..8000)),
            Fault::Depose => self.depose(),
            Fault::DeposeMany => {
                if self.dice.chance(60) {
                    self.be_busy(Duration::from_secs(10));
                }
                for _ in 0..self.dice.within(2..6) {
                    self.depose();
                    sleep(self.dice.ms(100..1500)).await;
                }
            }
        }
    }

    fn be_busy(&self, time: Duration) {
        for machine in self.nodes.all() {
            if self.dice.chance(60) {
                self.say(format!("node {} is busy for {time:?}", machine.node.0));
                machine.be_busy_for(time);
            }
        }
    }

    /// Cuts the leader off from the other nodes, for a while.
    fn depose(&self) {
        let Some(leader) = self.recorder.leader().map(Host::Node) else {
            return;
        };
        let time = self.dice.ms(50..3000);
        self.say(format!("{leader} is cut off for {time:?}"));
        for machine in self.nodes.all() {
            let other = Host::Node(machine.node);
            if other != leader {
                self.network.block(leader, other);
                self.network.block(other, leader);
                self.network.break_connections(leader, other);
            }
        }
        let network = self.network.clone();
        spawn_local(async move {
            sleep(time).await;
            network.unblock(leader);
        });
    }

    /// Nobody hears that the machine is gone.
    async fn cut_power(&self, machine: &Rc<Machine>) {
        let host = Host::Node(machine.node);
        let nodes = self.nodes.all();
        let nodes = nodes.iter().map(|machine| Host::Node(machine.node));
        for other in nodes.chain((0..self.schedule.clients).map(Host::Client)) {
            self.network.block(host, other);
            self.network.block(other, host);
        }
        machine.kill().await;
        machine.disk.crash();
    }

    async fn heal(&self) {
        self.network.mend();
        for machine in self.nodes.all() {
            machine.disk.set_free(None);
            machine.heal();
        }
        self.recorder.record(Event::Calm);
    }

    /// From here on every client gets what it wants, every member comes to the same state, and who was given up ends.
    async fn settle(&self) -> Result<(), Violation> {
        self.around.signal.set(Phase::Settle);
        let all_content = async {
            while self.content.clients.get() < self.schedule.clients {
                self.content.more.notified().await;
            }
        };
        if timeout(HEALED, all_content).await.is_err() {
            let why = format!(
                "{} of {} clients are content {} s after the last fault",
                self.content.clients.get(),
                self.schedule.clients,
                HEALED.as_secs()
            );
            return Err(Violation::overall("heals_in_time", why));
        }
        // Sessions that nobody keeps alive end meanwhile.
        sleep(Duration::from_millis(u64::from(MAX_SESSION_TIMEOUT_MS) * 2)).await;
        let start = Instant::now();
        loop {
            let mut reached: BTreeMap<NodeId, Zxid> = BTreeMap::new();
            for machine in self.nodes.all() {
                if let Some(state) = machine.look().await {
                    reached.insert(machine.node, state.last_zxid);
                    if start.elapsed() > CAUGHT_UP {
                        continue;
                    }
                }
            }
            let zxids: BTreeSet<Zxid> = reached.values().copied().collect();
            if reached.len() == self.nodes.all().len() && zxids.len() == 1 {
                break;
            }
            if start.elapsed() > CAUGHT_UP {
                let why = format!("the members are at {reached:?}");
                return Err(Violation::overall("heals_in_time", why));
            }
            sleep(Duration::from_millis(500)).await;
        }
        for machine in self.nodes.all() {
            machine.take_last_look().await;
        }
        Ok(())
    }
}
