//! The log as openraft sees it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    EntryPayload, LogIdOptionExt, LogState, OptionalSend, RaftLogReader, StorageIOError,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::reader::Log;
use super::record::{Marks, RECORD_HEADER_LEN, Record, RecordHeader, header_len, segment_path};
use super::writer::{Command, LogFigures, Writer};
use crate::raft::disk::{Disk, DiskFile};
use crate::raft::payload::Content;
use crate::raft::settings::Fatal;
use crate::raft::types::{Entry, LogId, StorageError, TypeConfig, Vote, log_id};
use crate::raft::{files, frames, payload};

/// The newest entries are kept in memory up to so many bytes, a thousand small transactions: several times what is on its
/// way to the other members or to be applied. Decoded they take four times as many.
const TAIL_LEN: usize = 256 * 1024;

/// Entries for another member are read up to so many bytes at once; one alone may be longer.
const READ_LEN: usize = 1024 * 1024;

/// Where the entries are.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Up to here entries are not needed any more.
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries without gap, and how long each is.
    tail: VecDeque<(Entry, usize)>,
    tail_len: usize,
    /// The index behind the last entry that a segment holds.
    written: u64,
    /// So many entries from the first are committed.
    committed: u64,
    segments: BTreeMap<u64, Marks>,
}

impl Index {
    pub(super) fn begin_segment(&mut self, first: u64) {
        let mut marks = Marks::default();
        marks.note(first, header_len() as u64);
        self.segments.insert(first, marks);
    }

    pub(super) fn drop_segment(&mut self, first: u64) {
        self.segments.remove(&first);
    }

    pub(super) fn segment_before(&self, first: u64) -> Option<u64> {
        let before = self.segments.range(..first).next_back();
        before.map(|(&first, _)| first)
    }

    /// The segments that hold nothing behind entry `index`; never the last.
    pub(super) fn segments_upto(&self, index: u64) -> Vec<u64> {
        let next = self.segments.keys().skip(1);
        let segments = self.segments.keys().zip(next);
        segments
            .filter(|(_, next)| **next <= index + 1)
            .map(|(&first, _)| first)
            .collect()
    }

    /// The segments that begin with entry `index` or behind it, the last one first.
    pub(super) fn segments_from(&self, index: u64) -> Vec<u64> {
        let segments = self.segments.range(index..).rev();
        segments.map(|(&first, _)| first).collect()
    }

    /// Entry `index` is in segment `segment`, at `position`.
    pub(super) fn written(&mut self, segment: u64, index: u64, position: u64) {
        if let Some(marks) = self.segments.get_mut(&segment) {
            marks.note(index, position);
        }
        self.written = index + 1;
    }

    /// Takes the oldest entries out of memory that are on their way to the disk and not needed here any more.
    fn give_way(&mut self) -> Vec<(Entry, usize)> {
        let mut count = 0;
        for (entry, len) in &self.tail {
            if self.tail_len <= TAIL_LEN || entry.log_id.index >= self.written {
                break;
            }
            self.tail_len -= len;
            count += 1;
        }
        self.tail.drain(..count).collect()
    }

    /// An entry at or before `index` in the segment that begins with `first`, and where it begins.
    pub(super) fn mark(&self, first: u64, index: u64) -> (u64, u64) {
        let marks = self.segments.get(&first);
        let mark = marks.and_then(|marks| marks.before(index));
        mark.unwrap_or((first, header_len() as u64))
    }

    pub(super) fn truncate(&mut self, segment: u64, index: u64) {
        if let Some(marks) = self.segments.get_mut(&segment) {
            marks.truncate(index);
        }
        self.written = self.written.min(index);
    }

    fn push(&mut self, entry: Entry, len: usize) {
        self.last = Some(entry.log_id);
        self.tail_len += len;
        self.tail.push_back((entry, len));
    }
}

/// Where entry `index` begins in `file`, given where an entry at or before it does.
pub(super) fn position(
    file: &dyn DiskFile,
    (mut at, mut position): (u64, u64),
    index: u64,
) -> io::Result<u64> {
    while at < index {
        let (_, _, behind) = read_record(file, position)?
            .ok_or_else(|| io::Error::other(format!("entry {at} is not where it was")))?;
        position = behind;
        at += 1;
    }
    Ok(position)
}

/// The record at `position`, and where the next one begins; none at the end of the file.
fn read_record(
    file: &dyn DiskFile,
    position: u64,
) -> io::Result<Option<(RecordHeader, Bytes, u64)>> {
    let damaged = || io::Error::other(format!("the record at byte {position} is damaged"));
    let header = files::read(file, position, frames::HEADER_LEN)?;
    if header.is_empty() {
        return Ok(None);
    }
    let len = frames::body_len(&header).ok_or_else(damaged)?;
    let behind = position + (frames::HEADER_LEN + len) as u64;
    if behind > file.size()? {
        return Err(damaged());
    }
    let frame = files::read(file, position, frames::HEADER_LEN + len)?;
    let body = frames::read(&frame).ok_or_else(damaged)?;
    let record = RecordHeader::parse(&body).ok_or_else(damaged)?;
    Ok(Some((record, body.slice(RECORD_HEADER_LEN..), behind)))
}

/// What a start has to go on from.
pub(in crate::raft) struct Found {
    pub(in crate::raft) disk: Arc<dyn Disk>,
    pub(in crate::raft) dir: PathBuf,
    /// Keeps others out of the directory.
    pub(in crate::raft) lock: Box<dyn Send + Sync>,
    pub(in crate::raft) log: Log,
    /// The last entries of the log, as far as they are not applied.
    pub(in crate::raft) newest: Vec<Entry>,
    /// The last entry in the snapshot that was loaded.
    pub(in crate::raft) snapshot: Option<LogId>,
    pub(in crate::raft) vote: Option<Vote>,
}

/// The log, for openraft's core; for its replication streams a [`LogReader`].
#[derive(Debug)]
pub(in crate::raft) struct LogStore {
    reader: LogReader,
    commands: mpsc::UnboundedSender<Command>,
    vote: Option<Vote>,
    figures: Arc<LogFigures>,
    durable: Durable,
    /// Where the first leader that is not applied yet begins.
    first_begin: Option<u64>,
    /// The number that it has given the ensemble.
    begun: Arc<AtomicU64>,
}

/// Reads entries, from memory or else from the disk.
#[derive(Debug, Clone)]
pub(in crate::raft) struct LogReader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    index: Arc<Mutex<Index>>,
}

/// So many entries from the first are on this member's disk.
#[derive(Debug, Clone)]
pub(in crate::raft) struct Durable(watch::Receiver<u64>);

impl Durable {
    /// Waits until the first `count` entries are. False if the log has stopped before.
    pub(in crate::raft) async fn reaches(&self, count: u64) -> bool {
        let is_there = *self.0.borrow() >= count;
        is_there
            || self
                .0
                .clone()
                .wait_for(|durable| *durable >= count)
                .await
                .is_ok()
    }
}

/// Asks the log for a new segment.
#[derive(Debug, Clone)]
pub(in crate::raft) struct Roller(mpsc::UnboundedSender<Command>);

impl Roller {
    pub(in crate::raft) fn roll(&self) {
        // Without a log there is nothing to roll.
        let _ = self.0.send(Command::Roll);
    }
}

impl LogStore {
    /// Starts the loop at the end of what was found. A log that does not follow from the snapshot is begun anew behind it.
    pub(in crate::raft) async fn start(found: Found, fatal: Fatal) -> io::Result<LogStore> {
        let Found {
            disk,
            dir,
            lock,
            mut log,
            newest,
            snapshot,
            vote,
        } = found;
        let mut index = Index {
            purged: log.before,
            last: log.before,
            committed: log.committed,
            written: log.next(),
            segments: std::mem::take(&mut log.segments),
            ..Index::default()
        };
        let (mut first_begin, begun) = (None, Arc::default());
        for entry in newest {
            let len = payload::encode(&entry).len();
            note_begin(&entry, &mut first_begin, &begun);
            index.push(entry, len);
        }
        index.last = log.last;
        let index = Arc::new(Mutex::new(index));
        let figures = Arc::new(LogFigures::default());
        let durable = watch::Sender::new(log.next());
        let is_durable = Durable(durable.subscribe());
        let mut writer = Writer::open(
            disk.clone(),
            dir.clone(),
            &log,
            index.clone(),
            (figures.clone(), durable),
            fatal,
        )
        .await?;
        if let Some(snapshot) = snapshot.filter(|_| !log.follows) {
            writer.begin_anew(snapshot).await?;
            writer.purge(snapshot).await?;
            let mut index = index.lock().unwrap();
            index.purged = Some(snapshot);
            index.last = Some(snapshot);
            index.written = snapshot.index + 1;
            index.committed = index.written;
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        let run = async move {
            writer.run(inbox).await;
            // The directory is this process's until nothing is written any more.
            drop(lock);
        };
        disk.spawn("raft-log", Box::pin(run))?;
        Ok(LogStore {
            reader: LogReader { disk, dir, index },
            commands,
            vote,
            figures,
            durable: is_durable,
            first_begin,
            begun,
        })
    }

    /// See [`Outlook::begun_in_log`](crate::raft::machine::Outlook::begun_in_log).
    pub(in crate::raft) fn begun(&self) -> Arc<AtomicU64> {
        self.begun.clone()
    }

    pub(in crate::raft) fn figures(&self) -> Arc<LogFigures> {
        self.figures.clone()
    }

    pub(in crate::raft) fn durable(&self) -> Durable {
        self.durable.clone()
    }

    pub(in crate::raft) fn roller(&self) -> Roller {
        Roller(self.commands.clone())
    }

    /// Asks the loop for something and waits until it is done.
    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        let sent = self.commands.send(command(done));
        sent.map_err(|_| stopped())?;
        is_done.await.map_err(|_| stopped())
    }
}

fn note_begin(entry: &Entry, first: &mut Option<u64>, begun: &AtomicU64) {
    if first.is_none()
        && let EntryPayload::Normal(payload) = &entry.payload
        && let Ok(Content::Begin(begin)) = payload.content()
    {
        *first = Some(entry.log_id.index);
        begun.store(begin.nonce, Relaxed);
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log has stopped")
}

impl LogReader {
    /// The entries of `start..end` that are there, from the first on, and no more than about `limit` bytes.
    fn entries(&self, mut start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut len = 0;
        {
            let index = self.index.lock().unwrap();
            start = start.max(index.purged.next_index());
            let end = end.min(index.last.next_index());
            if start >= end {
                return Ok(entries);
            }
            let in_memory = index.tail.front().map(|(entry, _)| entry.log_id.index);
            if let Some(first) = in_memory.filter(|first| *first <= start) {
                let range = (start - first) as usize..(end - first) as usize;
                for (entry, entry_len) in index.tail.range(range) {
                    len += entry_len;
                    if len > limit && !entries.is_empty() {
                        break;
                    }
                    entries.push(entry.clone());
                }
                return Ok(entries);
            }
        }
        self.read(start, end, limit, &mut entries)?;
        Ok(entries)
    }

    fn read(&self, start: u64, end: u64, limit: usize, entries: &mut Vec<Entry>) -> io::Result<()> {
        let end = end.min(self.index.lock().unwrap().written);
        let mut next = start;
        let mut len = 0;
        while next < end {
            let first = {
                let index = self.index.lock().unwrap();
                let segment = index.segments.range(..=next).next_back();
                segment.map(|(&first, _)| first)
            };
            let first = first.ok_or_else(|| io::Error::other(format!("entry {next} is gone")))?;
            let path = segment_path(&self.dir, first);
            let file = self.disk.open(&path)?;
            let in_file =
                |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
            let mark = self.index.lock().unwrap().mark(first, next);
            let mut position = position(&*file, mark, next).map_err(in_file)?;
            let before = next;
            while next < end {
                let Some((record, payload, behind)) =
                    read_record(&*file, position).map_err(in_file)?
                else {
                    break;
                };
                len += payload.len();
                if len > limit && !entries.is_empty() {
                    return Ok(());
                }
                let id = log_id(record.term.into(), record.index);
                entries.push(payload::decode(id, payload).map_err(io::Error::other)?);
                position = behind;
                next += 1;
            }
            if next == before {
                return Err(io::Error::other(format!("entry {next} is gone")));
            }
        }
        Ok(())
    }

    fn id_of(&self, index: u64) -> io::Result<Option<LogId>> {
        let purged = self.index.lock().unwrap().purged;
        if purged.is_some_and(|purged| purged.index == index) {
            return Ok(purged);
        }
        let entry = self.entries(index, index + 1, 0)?;
        Ok(entry.first().map(|entry| entry.log_id))
    }
}

fn read_error(error: &io::Error) -> StorageError {
    StorageIOError::read_logs(error).into()
}

fn write_error(error: &io::Error) -> StorageError {
    StorageIOError::write_logs(error).into()
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start, end, usize::MAX)
            .map_err(|error| read_error(&error))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(start, end, READ_LEN)
            .map_err(|error| read_error(&error))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.reader.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let index = self.reader.index.lock().unwrap();
        Ok(LogState {
            last_purged_log_id: index.purged,
            last_log_id: index.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.ask(|done| Command::Vote { vote, done })
            .await
            .map_err(|error| StorageIOError::write_vote(&error))?;
        self.vote = Some(vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.vote)
    }

    /// openraft applies what is committed behind this, so here it waits until this disk has it too: see
    /// [`append`](Self::append).
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if !self.durable.reaches(committed.next_index()).await {
            return Err(write_error(&stopped()));
        }
        self.reader.index.lock().unwrap().committed = committed.next_index();
        Ok(())
    }

    /// openraft does nothing else until `callback` is called, and only then sends the entries to the others. What this
    /// member has proposed is to reach all disks at once, so the call comes before it is on this one, and nothing gets out
    /// that rests on its being there: before that, what openraft takes for committed is neither applied (`save_committed`)
    /// nor told to the others (`network.rs`). Nor are such entries confirmed to a later leader who has them too: its vote is
    /// saved first, behind all that was appended.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut permits = Vec::new();
        let (committed, unneeded) = {
            let mut index = self.reader.index.lock().unwrap();
            for entry in entries {
                let payload = payload::encode(&entry);
                note_begin(&entry, &mut self.first_begin, &self.begun);
                if let EntryPayload::Normal(payload) = &entry.payload {
                    permits.extend(payload.take_permit());
                }
                records.push(Record {
                    index: entry.log_id.index,
                    term: entry.log_id.leader_id.term as u32,
                    payload: payload.clone(),
                });
                index.push(entry, payload.len());
            }
            (index.committed, index.give_way())
        };
        // Not under the lock, and not by the log's thread: what transactions are made of is used again by those who ask for
        // the next ones.
        drop(unneeded);
        let (at_once, later) = match permits.len() == records.len() {
            true => (Some(callback), None),
            false => (None, Some(callback)),
        };
        let done = Box::new(move || {
            drop(permits);
            if let Some(callback) = later {
                callback.log_io_completed(Ok(()));
            }
        });
        self.commands
            .send(Command::Append {
                records,
                committed,
                done,
            })
            .map_err(|_| write_error(&stopped()))?;
        if let Some(callback) = at_once {
            callback.log_io_completed(Ok(()));
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let index = log_id.index;
        if self.first_begin.is_some_and(|begin| begin >= index) {
            self.first_begin = None;
            self.begun.store(0, Relaxed);
        }
        let before = match index.checked_sub(1) {
            Some(before) => self
                .reader
                .id_of(before)
                .map_err(|error| read_error(&error))?,
            None => None,
        };
        {
            let mut log = self.reader.index.lock().unwrap();
            while let Some((entry, len)) = log.tail.pop_back() {
                if entry.log_id.index < index {
                    log.tail.push_back((entry, len));
                    break;
                }
                log.tail_len -= len;
            }
            log.last = before;
        }
        self.ask(|done| Command::Truncate { last: before, done })
            .await
            .map_err(|error| write_error(&error))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut log = self.reader.index.lock().unwrap();
            if log.purged >= Some(upto) {
                return Ok(());
            }
            while let Some((entry, len)) = log.tail.pop_front() {
                if entry.log_id.index > upto.index {
                    log.tail.push_front((entry, len));
                    break;
                }
                log.tail_len -= len;
            }
            log.purged = Some(upto);
            if log.last < log.purged {
                log.last = log.purged;
                log.written = upto.index + 1;
            }
        }
        self.ask(|done| Command::Purge { upto, done })
            .await
            .map_err(|error| write_error(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_give_way_once_they_are_written() {
        let mut index = Index::default();
        for at in 0..4 {
            let entry = Entry {
                log_id: log_id(1, at),
                payload: EntryPayload::Blank,
            };
            index.push(entry, TAIL_LEN / 2);
        }
        assert!(index.give_way().is_empty(), "none is on its way");
        index.written(0, 0, 0);
        assert_eq!(index.give_way().len(), 1);
        index.written(0, 3, 0);
        assert_eq!(
            index.give_way().len(),
            1,
            "as many are left as there is room for"
        );
        assert_eq!((index.tail.len(), index.tail_len), (2, TAIL_LEN));
    }
}
