//! One entry in a segment, and where segments keep which.

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use super::{MAGIC, PREFIX};
use crate::raft::types::{LogId, log_id};
use crate::raft::{files, frames};

/// What a segment says before its first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The entry before the first one; none if that is the very first.
    pub(super) before: Option<LogId>,
    /// The log was begun anew here, behind a snapshot: older segments are no part of it.
    pub(super) anew: bool,
}

const SEGMENT_HEADER_LEN: usize = 5;

/// Where the first entry of a segment begins.
pub(super) fn header_len() -> usize {
    MAGIC.len() + frames::HEADER_LEN + SEGMENT_HEADER_LEN
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let term = self.before.map_or(0, |before| before.leader_id.term as u32);
        frames::write(&mut out, |out| {
            out.extend(term.to_le_bytes());
            out.push(self.anew.into());
        });
        out
    }

    /// The header at the start of the segment that begins with entry `first`.
    pub(super) fn parse(first: u64, bytes: &Bytes) -> Option<SegmentHeader> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let mut body = frames::read(&bytes.slice(MAGIC.len()..))?;
        if body.len() != SEGMENT_HEADER_LEN {
            return None;
        }
        let term = body.get_u32_le();
        let before = first.checked_sub(1);
        Some(SegmentHeader {
            before: before.map(|index| log_id(term.into(), index)),
            anew: body.get_u8() != 0,
        })
    }
}

/// Bytes of a record before its payload.
pub(super) const RECORD_HEADER_LEN: usize = 28;

/// The fields of a record before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) index: u64,
    pub(super) term: u32,
    /// So many entries from the first were on disk when this one was written.
    pub(super) synced: u64,
    /// So many entries from the first were committed by then.
    pub(super) committed: u64,
}

impl RecordHeader {
    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        out[..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..12].copy_from_slice(&self.term.to_le_bytes());
        out[12..20].copy_from_slice(&self.synced.to_le_bytes());
        out[20..].copy_from_slice(&self.committed.to_le_bytes());
        out
    }

    pub(super) fn parse(mut body: &[u8]) -> Option<RecordHeader> {
        if body.len() <= RECORD_HEADER_LEN {
            return None;
        }
        let header = RecordHeader {
            index: body.get_u64_le(),
            term: body.get_u32_le(),
            synced: body.get_u64_le(),
            committed: body.get_u64_le(),
        };
        // No entry is synced or committed before it is written, so this also sorts out most bytes that are no record.
        (header.synced <= header.index && header.committed <= header.index).then_some(header)
    }
}

/// An entry on its way to or from the disk.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) index: u64,
    pub(super) term: u32,
    pub(super) payload: Bytes,
}

/// Some positions in a segment, so that an entry is found without reading all of it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Vec<(u64, u64)>,
}

/// One position is kept in so many bytes.
const MARK_DISTANCE: u64 = 64 * 1024;

impl Marks {
    /// Entry `index` begins at `position`. Told of every entry, in order.
    pub(super) fn note(&mut self, index: u64, position: u64) {
        let far = |&(_, last)| position - last >= MARK_DISTANCE;
        if self.marks.last().is_none_or(far) {
            self.marks.push((index, position));
        }
    }

    /// The last entry known at or before `index`, and where it begins.
    pub(super) fn before(&self, index: u64) -> Option<(u64, u64)> {
        let behind = self.marks.partition_point(|&(at, _)| at <= index);
        self.marks[..behind].last().copied()
    }

    /// Forgets `index` and what comes after it.
    pub(super) fn truncate(&mut self, index: u64) {
        self.marks.retain(|&(at, _)| at < index);
    }
}

/// The segment that begins with entry `first`.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    files::numbered_path(dir, PREFIX, first)
}
