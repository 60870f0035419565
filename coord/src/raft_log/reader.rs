//! Reading the log back.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use coord_core::{LogEntry, txn};

use super::{ENTRY_HEADER_LEN, MAGIC, PREFIX};
use crate::{data_dir, frames};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{path}: {cause}")]
    Io { path: String, cause: std::io::Error },
    #[error("the log does not reach back to entry {needed}: {found}; put the missing files back")]
    Gap { needed: u64, found: String },
    #[error(
        "{path} is damaged at byte {at}, in entries that were acknowledged; restore it from a copy"
    )]
    Damaged { path: String, at: usize },
    #[error("{path}, entry {index}: {cause}")]
    Entry {
        path: String,
        index: u64,
        cause: String,
    },
}

/// Where the log ends.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// The last entry.
    pub(crate) index: u64,
    /// The segment to go on with, and its length in bytes; none if there is none yet.
    pub(crate) segment: Option<(PathBuf, u64)>,
}

/// Hands every entry from `needed` on to `apply`, in order, and cuts off a torn end.
pub(crate) fn read(
    dir: &Path,
    needed: u64,
    mut apply: impl FnMut(LogEntry) -> Result<(), String>,
) -> Result<LogEnd, LogError> {
    let io = |path: &Path, cause| LogError::Io {
        path: path.display().to_string(),
        cause,
    };
    let segments = data_dir::numbered(dir, PREFIX).map_err(|cause| io(dir, cause))?;
    let Some(first) = segments.iter().rposition(|(index, _)| *index <= needed) else {
        let found = segments
            .first()
            .map(|(index, _)| format!("it begins with entry {index}"));
        return match found {
            None if needed == 1 => Ok(LogEnd {
                index: 0,
                segment: None,
            }),
            found => Err(LogError::Gap {
                needed,
                found: found.unwrap_or_else(|| "there is none".to_owned()),
            }),
        };
    };
    let mut expected = segments[first].0;
    let mut end = None;
    for (at, (index, path)) in segments.iter().enumerate().skip(first) {
        if *index != expected {
            return Err(LogError::Gap {
                needed: expected,
                found: format!("{} comes next", path.display()),
            });
        }
        let bytes = Bytes::from(std::fs::read(path).map_err(|cause| io(path, cause))?);
        let segment = Segment {
            path,
            bytes: &bytes,
        };
        let valid = segment.entries(&mut expected, needed, &mut apply)?;
        if valid < bytes.len() {
            if at + 1 < segments.len() || segment.was_synced(valid, expected) {
                return Err(LogError::Damaged {
                    path: path.display().to_string(),
                    at: valid,
                });
            }
            tracing::warn!(
                "{} ends in a torn write: {} bytes cut off",
                path.display(),
                bytes.len() - valid
            );
            cut(path, valid as u64).map_err(|cause| io(path, cause))?;
        }
        end = Some((path.clone(), valid as u64));
    }
    Ok(LogEnd {
        index: expected - 1,
        segment: end,
    })
}

fn cut(path: &Path, len: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

struct Segment<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
}

impl Segment<'_> {
    /// Hands on the entries; gives back how many bytes hold. `expected` moves on with the entries.
    fn entries(
        &self,
        expected: &mut u64,
        needed: u64,
        apply: &mut impl FnMut(LogEntry) -> Result<(), String>,
    ) -> Result<usize, LogError> {
        if !self.bytes.starts_with(&MAGIC) {
            return Ok(0);
        }
        let mut at = MAGIC.len();
        while let Some(body) = frames::read(&self.bytes.slice(at..)) {
            let Some(entry) = Header::parse(&body).filter(|entry| entry.index == *expected) else {
                break;
            };
            at += frames::HEADER_LEN + body.len();
            *expected += 1;
            if entry.index < needed {
                continue;
            }
            let failed = |cause: String| LogError::Entry {
                path: self.path.display().to_string(),
                index: entry.index,
                cause,
            };
            let (zxid, txn) = txn::decode(body.slice(ENTRY_HEADER_LEN..))
                .map_err(|error| failed(error.to_string()))?;
            apply(LogEntry {
                index: entry.index,
                term: entry.term,
                zxid,
                txn: txn.into(),
            })
            .map_err(failed)?;
        }
        Ok(at)
    }

    /// Whether anything behind `at` proves that entry `index`, which should be there, was acknowledged.
    fn was_synced(&self, at: usize, index: u64) -> bool {
        let plausible = |body: &[u8]| {
            Header::parse(body).is_some_and(|entry| entry.index > index && entry.synced >= index)
        };
        (at..self.bytes.len()).any(|at| {
            // The cheap test first: a checksum at every byte would take time quadratic in the tail's length.
            self.bytes
                .get(at + frames::HEADER_LEN..)
                .is_some_and(plausible)
                && frames::read(&self.bytes.slice(at..)).is_some()
        })
    }
}

struct Header {
    index: u64,
    term: u32,
    synced: u64,
}

impl Header {
    fn parse(mut body: &[u8]) -> Option<Header> {
        if body.len() < ENTRY_HEADER_LEN {
            return None;
        }
        let header = Header {
            index: body.get_u64_le(),
            term: body.get_u32_le(),
            synced: body.get_u64_le(),
        };
        // No entry is synced before it is written, so this also sorts out most bytes that are no header.
        (header.synced < header.index).then_some(header)
    }
}
