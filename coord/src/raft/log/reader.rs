//! Reading the log back at the start.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::LogIdOptionExt;

use super::record::{Marks, RECORD_HEADER_LEN, RecordHeader, SegmentHeader, header_len};
use super::{MAGIC, PREFIX};
use crate::raft::disk::Disk;
use crate::raft::types::{Entry, LogId, log_id};
use crate::raft::{files, frames, payload};

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk does not give it.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: String,
        /// What the operating system says.
        cause: io::Error,
    },
    /// Entries are not there.
    #[error("the log does not reach back to entry {needed}: {found}; put the missing files back")]
    Gap {
        /// The first of them.
        needed: u64,
        /// What is there.
        found: String,
    },
    /// Entries are there, and wrong.
    #[error(
        "{path} is damaged at byte {at}, in entries that were acknowledged; restore it from a copy"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where its whole entries end, in bytes.
        at: usize,
    },
    /// It was written by another version of coord.
    #[error(
        "{path} has the format {found}, and this coord writes GRGLOG02; start the version that wrote it"
    )]
    Format {
        /// The file.
        path: String,
        /// What it begins with.
        found: String,
    },
    /// An entry makes no sense although its checksum holds.
    #[error("{path}, entry {index}: {cause}")]
    Entry {
        /// The file.
        path: String,
        /// The entry.
        index: u64,
        /// What is wrong with it.
        cause: String,
    },
}

/// The log as it was found.
#[derive(Debug, Default)]
pub(in crate::raft) struct Log {
    /// The entry before the first one that is there; none if that is the very first.
    pub(in crate::raft) before: Option<LogId>,
    /// The last entry, or the one before the first if none is there.
    pub(in crate::raft) last: Option<LogId>,
    /// So many entries from the first were committed for certain.
    pub(in crate::raft) committed: u64,
    /// Whether it goes on from where it was asked to. It does not where the process ended while a leader's snapshot took
    /// its place: then it ends before that, or contradicts it, and nothing in it was committed behind the snapshot.
    pub(in crate::raft) follows: bool,
    /// The segment to go on in: its first entry, its length.
    pub(super) current: Option<(u64, u64)>,
    /// Every segment by its first entry.
    pub(super) segments: BTreeMap<u64, Marks>,
}

impl Log {
    /// The index behind the last entry.
    pub(in crate::raft) fn next(&self) -> u64 {
        self.last.next_index()
    }
}

/// Hands every entry behind `after` on to `each`, in order and with the count of entries known to be committed by then,
/// and cuts off a torn end.
pub(in crate::raft) async fn read(
    disk: &dyn Disk,
    dir: &Path,
    after: Option<LogId>,
    mut each: impl FnMut(Entry, u64) -> Result<(), String>,
) -> Result<Log, LogError> {
    let needed = after.next_index();
    let mut found = files::numbered(disk, dir, PREFIX).map_err(io(dir))?;
    drop_torn_beginning(disk, dir, &mut found).await?;
    let mut log = Log {
        follows: after.is_none(),
        ..Log::default()
    };
    let Some(start) = found.iter().rposition(|(first, _)| *first <= needed) else {
        let found = found
            .first()
            .map(|(first, _)| format!("it begins with entry {first}"));
        return match found {
            None if needed == 0 => Ok(log),
            found => Err(LogError::Gap {
                needed,
                found: found.unwrap_or_else(|| "there is none".to_owned()),
            }),
        };
    };
    let mut anew = false;
    let mut expected = found[start].0;
    for (at, (first, path)) in found.iter().enumerate().skip(start) {
        if *first != expected {
            return Err(LogError::Gap {
                needed: expected,
                found: format!("{} comes next", path.display()),
            });
        }
        let bytes = files::read_whole(disk, path)
            .map_err(io(path))?
            .unwrap_or_default();
        let segment = Segment {
            path,
            first: *first,
            bytes: &bytes,
        };
        let header = segment.header()?.ok_or_else(|| segment.damaged(0))?;
        if at == start {
            anew = header.anew;
            (log.before, log.last) = (header.before, header.before);
            log.follows |= header.before == after;
        }
        let mut marks = Marks::default();
        marks.note(*first, header_len() as u64);
        let valid = segment.entries(&mut expected, |position, record, payload| {
            marks.note(record.index, position as u64);
            let id = log_id(record.term.into(), record.index);
            log.last = Some(id);
            log.committed = log.committed.max(record.committed);
            log.follows |= Some(id) == after;
            if record.index < needed || !log.follows {
                return Ok(());
            }
            let entry = payload::decode(id, payload).map_err(|error| error.to_string())?;
            each(entry, log.committed)
        })?;
        let last = at + 1 == found.len();
        if valid < bytes.len() {
            if !last || segment.was_synced(valid, expected) {
                return Err(segment.damaged(valid));
            }
            tracing::warn!(
                "{} ends in a torn write: {} bytes cut off",
                path.display(),
                bytes.len() - valid
            );
        }
        if last {
            settle(disk, dir, path, valid as u64).await?;
        }
        log.segments.insert(*first, marks);
        log.current = Some((*first, valid as u64));
    }
    for (first, path) in found[..start].iter().rev() {
        if anew {
            break;
        }
        let bytes = peek(disk, path)?;
        let segment = Segment {
            path,
            first: *first,
            bytes: &bytes,
        };
        let header = segment.header()?.ok_or_else(|| segment.damaged(0))?;
        (log.before, anew) = (header.before, header.anew);
        let mut marks = Marks::default();
        marks.note(*first, header_len() as u64);
        log.segments.insert(*first, marks);
    }
    Ok(log)
}

fn io(path: &Path) -> impl Fn(io::Error) -> LogError {
    let path = path.display().to_string();
    move |cause| LogError::Io {
        path: path.clone(),
        cause,
    }
}

/// A segment whose very beginning is torn was about to be begun, and no entry of it was ever acknowledged.
async fn drop_torn_beginning(
    disk: &dyn Disk,
    dir: &Path,
    found: &mut Vec<(u64, PathBuf)>,
) -> Result<(), LogError> {
    let Some((first, path)) = found.last() else {
        return Ok(());
    };
    let start = peek(disk, path)?;
    let segment = Segment {
        path,
        first: *first,
        bytes: &start,
    };
    if segment.header()?.is_some() {
        return Ok(());
    }
    let bytes = files::read_whole(disk, path)
        .map_err(io(path))?
        .unwrap_or_default();
    let segment = Segment {
        bytes: &bytes,
        ..segment
    };
    if segment.was_synced(0, *first) {
        return Err(segment.damaged(0));
    }
    tracing::warn!("{} was torn when it was begun: removed", path.display());
    disk.remove(path).map_err(io(path))?;
    disk.sync_directory(dir).await.map_err(io(dir))?;
    found.pop();
    Ok(())
}

/// The bytes that a segment's header is in.
fn peek(disk: &dyn Disk, path: &Path) -> Result<Bytes, LogError> {
    let file = disk.open(path).map_err(io(path))?;
    files::read(&*file, 0, header_len()).map_err(io(path))
}

/// Cuts off what is torn. What was read may have been in the page cache only, and the file's name too, when the process
/// before this one ended; it is served from now on, so it has to be durable.
async fn settle(disk: &dyn Disk, dir: &Path, path: &Path, valid: u64) -> Result<(), LogError> {
    let mut file = disk.open(path).map_err(io(path))?;
    if file.size().map_err(io(path))? > valid {
        file.truncate(valid).map_err(io(path))?;
    }
    file.sync().await.map_err(io(path))?;
    disk.sync_directory(dir).await.map_err(io(dir))
}

#[derive(Clone, Copy)]
struct Segment<'a> {
    path: &'a Path,
    first: u64,
    bytes: &'a Bytes,
}

impl Segment<'_> {
    fn damaged(&self, at: usize) -> LogError {
        LogError::Damaged {
            path: self.path.display().to_string(),
            at,
        }
    }

    /// None if it is torn.
    fn header(&self) -> Result<Option<SegmentHeader>, LogError> {
        let family = &MAGIC[..6];
        if self.bytes.len() >= MAGIC.len()
            && self.bytes.starts_with(family)
            && !self.bytes.starts_with(&MAGIC)
        {
            return Err(LogError::Format {
                path: self.path.display().to_string(),
                found: String::from_utf8_lossy(&self.bytes[..MAGIC.len()]).into_owned(),
            });
        }
        Ok(SegmentHeader::parse(self.first, self.bytes))
    }

    /// Hands on the entries with their positions; gives back how many bytes hold. `expected` moves on with the entries.
    fn entries(
        &self,
        expected: &mut u64,
        mut each: impl FnMut(usize, RecordHeader, Bytes) -> Result<(), String>,
    ) -> Result<usize, LogError> {
        let mut at = header_len();
        while let Some(body) = frames::read(&self.bytes.slice(at..)) {
            let Some(record) =
                RecordHeader::parse(&body).filter(|record| record.index == *expected)
            else {
                break;
            };
            each(at, record, body.slice(RECORD_HEADER_LEN..)).map_err(|cause| LogError::Entry {
                path: self.path.display().to_string(),
                index: record.index,
                cause,
            })?;
            at += frames::HEADER_LEN + body.len();
            *expected += 1;
        }
        Ok(at)
    }

    /// Whether anything behind `at` proves that entry `index`, which should be there, was acknowledged.
    fn was_synced(&self, at: usize, index: u64) -> bool {
        let plausible = |body: &[u8]| {
            RecordHeader::parse(body)
                .is_some_and(|record| record.index > index && record.synced > index)
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
