//! Whole ensembles of real processes, as the crate zookeeper-client sees them: what that client offers, on one coord and
//! on three; and what is left when members are killed, stopped, wiped, cut off, added and taken away.

mod client;
mod disk;
mod harness;
mod killed;
mod load;
mod observers;
mod paused;
mod quorum_tls;
mod read_only;
mod reconfiguration;
mod rejoining;
