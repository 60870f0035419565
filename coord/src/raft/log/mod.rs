//! The log: every entry, on disk before anyone hears of it.
//!
//! ```text
//! log.<index of its first entry, 16 hex digits> := magic frame(before) { frame(record) }
//! before := term:u32                     of the entry before the first one
//! record := index:u64 term:u32 synced:u64 committed:u64 payload
//! ```
//!
//! `synced` counts the entries that were on disk for certain when this one was written. It tells the two kinds of damage
//! apart: entries that were never acknowledged may be torn by a power cut, in any part and any order, and are cut off;
//! but if a later entry says that a damaged one was synced, it was acknowledged, and nothing is guessed.
//!
//! `committed` counts the entries that were committed by then. What it counts is applied again at once after a restart;
//! the few behind it wait for the leader to say so. It rides along because a file of its own would cost a second fsync.
//!
//! The newest entries are also kept in memory, up to a bound: replication and the state machine read those, and the disk
//! only for a member that is behind.

mod reader;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::LogError;
pub(super) use reader::read;
pub(super) use store::{Durable, Found, LogStore, Roller};
pub use writer::LogFigures;

/// What a segment begins with; the last two characters are the format.
const MAGIC: [u8; 8] = *b"GRGLOG02";

/// Prefix of the segments' names.
const PREFIX: &str = "log";
