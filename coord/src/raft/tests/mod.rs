//! Members of an ensemble in one process, on disks and a network in memory and on tokio's paused clock.

mod ensemble;
mod known_bugs;
mod membership;
mod memory_disk;
mod recovery;
mod suite;
mod world;

pub(super) use memory_disk::MemoryDisk;
pub(super) use world::open_session;
