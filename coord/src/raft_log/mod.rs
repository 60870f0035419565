//! The log: every transaction, on disk before anyone hears of it.
//!
//! ```text
//! log.<index of its first entry, 16 hex digits> := magic { frame(entry) }
//! entry := index:u64 term:u32 synced:u64 payload
//! ```
//!
//! `synced` is the last entry that was on disk for certain when this one was written. It tells the two kinds of damage
//! apart: entries that were never acknowledged may be torn by a power cut, in any part and any order, and are cut off;
//! but if a later entry says that a damaged one was synced, it was acknowledged, and nothing is guessed.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::{LogEnd, LogError, read};
pub(crate) use writer::{Command, LogHandle, start};

use std::path::{Path, PathBuf};

/// What a segment begins with; the last two characters are the format.
const MAGIC: [u8; 8] = *b"GRGLOG01";

/// Prefix of the segments' names.
const PREFIX: &str = "log";

/// Bytes of an entry before its payload.
const ENTRY_HEADER_LEN: usize = 20;

/// The name of the segment that begins with entry `index`.
fn segment_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{PREFIX}.{index:016x}"))
}

/// Removes the segments that hold nothing behind entry `index`.
pub(crate) fn purge(dir: &Path, index: u64) -> std::io::Result<()> {
    let segments = crate::data_dir::numbered(dir, PREFIX)?;
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if next.0 <= index.saturating_add(1) {
            std::fs::remove_file(&segment.1)?;
        }
    }
    Ok(())
}
