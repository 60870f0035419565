//! A network between nodes and clients: it delays, holds back and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coord_core::NodeId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::dice::Dice;

/// An end of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A node's machine.
    Node(NodeId),
    /// A client's machine.
    Client(usize),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Node(node) => write!(f, "node {}", node.0),
            Host::Client(client) => write!(f, "client {client}"),
        }
    }
}

/// The network that everything of a schedule shares.
#[derive(Debug, Clone)]
pub struct Network(Arc<Wires>);

#[derive(Debug)]
struct Wires {
    state: Mutex<State>,
    mended: Notify,
    reset: Notify,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    /// Directions in which nothing arrives.
    blocked: BTreeSet<(Host, Host)>,
    /// Machines whose every packet takes longer, by so many milliseconds.
    slow: BTreeMap<Host, u64>,
    /// How often the connections of two machines were broken; the smaller of the two first.
    resets: BTreeMap<(Host, Host), u32>,
    /// What a packet takes, in milliseconds: from, below.
    delay_ms: (u64, u64),
}

impl Network {
    /// One that is whole.
    pub fn new(dice: Dice) -> Network {
        Network(Arc::new(Wires {
            state: Mutex::new(State {
                dice,
                blocked: BTreeSet::new(),
                slow: BTreeMap::new(),
                resets: BTreeMap::new(),
                delay_ms: (0, 3),
            }),
            mended: Notify::new(),
            reset: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a packet takes from now on, in milliseconds.
    pub fn set_delay_ms(&self, from: u64, below: u64) {
        self.state().delay_ms = (from, below);
    }

    /// Makes every packet from and to a machine take so much longer.
    pub fn slow_down(&self, host: Host, by_ms: u64) {
        self.state().slow.insert(host, by_ms);
    }

    /// Cuts one direction.
    pub fn block(&self, from: Host, to: Host) {
        self.state().blocked.insert((from, to));
    }

    /// Breaks every connection between two machines.
    pub fn break_connections(&self, a: Host, b: Host) {
        *self.state().resets.entry((a.min(b), a.max(b))).or_default() += 1;
        self.0.reset.notify_waiters();
    }

    /// Waits until the connections between two machines are broken.
    pub async fn reset(&self, a: Host, b: Host) {
        let resets = || self.state().resets.get(&(a.min(b), a.max(b))).copied();
        let before = resets();
        while resets() == before {
            self.0.reset.notified().await;
        }
    }

    /// Lets packets pass again between a machine and all others.
    pub fn unblock(&self, host: Host) {
        self.state()
            .blocked
            .retain(|&(from, to)| from != host && to != host);
        self.0.mended.notify_waiters();
    }

    /// Makes the network whole.
    pub fn mend(&self) {
        let mut state = self.state();
        state.blocked.clear();
        state.slow.clear();
        drop(state);
        self.0.mended.notify_waiters();
    }

    /// Whether packets arrive in that direction.
    pub fn reaches(&self, from: Host, to: Host) -> bool {
        !self.state().blocked.contains(&(from, to))
    }

    /// When a packet that leaves now arrives, if nothing is in its way.
    pub fn arrival(&self, from: Host, to: Host) -> Instant {
        let state = self.state();
        let (least, below) = state.delay_ms;
        let slow = |host| state.slow.get(&host).copied().unwrap_or(0);
        let ms = state.dice.within(least..below) + slow(from) + slow(to);
        Instant::now() + Duration::from_millis(ms)
    }

    /// Waits until a packet that is to arrive at `arrival` does: as TCP does it, later if the way is cut meanwhile.
    pub async fn arrive(&self, from: Host, to: Host, arrival: Instant) {
        if arrival > Instant::now() {
            sleep_until(arrival).await;
        }
        loop {
            let mended = self.0.mended.notified();
            if self.reaches(from, to) {
                return;
            }
            mended.await;
        }
    }

    /// A packet's whole way.
    pub async fn travel(&self, from: Host, to: Host) {
        self.arrive(from, to, self.arrival(from, to)).await;
    }
}
