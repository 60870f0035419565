//! A whole ensemble of coord on a virtual clock, network and disk, from one seed.

pub mod administrator;
pub mod client;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod history;
pub mod invariants;
pub mod lifeline;
pub mod model;
pub mod network;
pub mod node;
pub mod panics;
pub mod process;
pub mod schedule;
pub mod story;
pub mod transport;
pub mod world;
