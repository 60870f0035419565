//! What a seed stands for: how large the ensemble is, what it is told, and how it is treated.

use std::time::Duration;

use crate::dice::Dice;

/// Seeds from here on have all that schedules know by now. Those before it have what they had when bugs were found with
/// them, so that these stay what they are.
pub const WIDE_FROM: u64 = 40_000;

/// The plan of a run, but for the times and targets of its faults, which are drawn on the way.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Whether its seed is [`WIDE_FROM`] or later.
    pub wide: bool,
    /// Members that vote.
    pub voters: u64,
    /// Members that only follow.
    pub observers: u64,
    /// Clients.
    pub clients: usize,
    /// Requests of each client.
    pub requests: usize,
    /// The most unanswered requests of a client.
    pub pipeline: usize,
    /// How long clients think between requests at most, in milliseconds.
    pub think_ms: u64,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// How long nodes keep clients without a leader.
    pub leaderless_grace: Duration,
    /// How long a packet takes, in milliseconds: from, below.
    pub delay_ms: (u64, u64),
    /// How long a sync of the disk takes, in milliseconds: from, below.
    pub sync_ms: (u64, u64),
    /// How many things go wrong.
    pub faults: usize,
    /// The longest time between two of them, in milliseconds.
    pub fault_gap_ms: u64,
}

impl Schedule {
    /// The plan of a seed.
    pub fn draw(seed: u64, dice: &Dice) -> Schedule {
        let voters = *dice.pick(&[1, 3, 3, 3, 3, 5]);
        Schedule {
            wide: seed >= WIDE_FROM,
            voters,
            observers: u64::from(voters > 1 && dice.chance(20)),
            clients: dice.within(2..5) as usize,
            requests: dice.within(10..60) as usize,
            pipeline: *dice.pick(&[1, 4, 8]),
            think_ms: *dice.pick(&[10, 60, 200]),
            snap_count: *dice.pick(&[3, 3, 6, 20, 1000]),
            leaderless_grace: dice.ms(500..3000),
            delay_ms: *dice.pick(&[(0, 2), (0, 2), (0, 8), (2, 30)]),
            sync_ms: *dice.pick(&[(0, 2), (0, 4), (0, 20)]),
            faults: dice.within(0..10) as usize,
            fault_gap_ms: *dice.pick(&[200, 800, 2500]),
        }
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process ends; what it wrote stays.
    Kill,
    /// A machine loses power: what was not synced is lost, in whole or in part, and nobody hears of it.
    PowerCut,
    /// All machines lose power.
    PowerCutOfAll,
    /// A process is stopped, and goes on later.
    Stop,
    /// A node reaches nobody and is reached by nobody.
    Isolate,
    /// A node is not heard by the others, and hears them; or the other way round.
    OneWay,
    /// The nodes fall into two parts.
    Split,
    /// A node's packets take long.
    Slow,
    /// A node's connections to the others break.
    Break,
    /// Some clients lose their connections.
    BreakClients,
    /// A disk takes long to sync.
    StallDisk,
    /// A disk is full for a while.
    FillDisk,
    /// A wall clock jumps.
    JumpClock,
    /// All is whole again.
    Mend,
    /// The machines of some processes have more to do: their tasks get their turns late.
    Busy,
    /// Who leads reaches no other node for a while, and the others notice at once; its clients do not.
    Depose,
    /// One leader after the other is deposed so.
    DeposeMany,
}

impl Fault {
    /// The next one.
    pub fn draw(wide: bool, dice: &Dice) -> Fault {
        if wide && dice.chance(30) {
            return *dice.pick(&[Fault::Busy, Fault::Depose, Fault::DeposeMany]);
        }
        *dice.pick(&[
            Fault::Kill,
            Fault::Kill,
            Fault::PowerCut,
            Fault::PowerCut,
            Fault::PowerCutOfAll,
            Fault::Stop,
            Fault::Isolate,
            Fault::Isolate,
            Fault::OneWay,
            Fault::Split,
            Fault::Slow,
            Fault::Break,
            Fault::BreakClients,
            Fault::BreakClients,
            Fault::StallDisk,
            Fault::FillDisk,
            Fault::JumpClock,
            Fault::Mend,
            Fault::Mend,
        ])
    }
}
