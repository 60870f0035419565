//! The loop that writes the log and the vote: on a thread of its own in production, a task in the simulator.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use openraft::LogIdOptionExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::reader::Log;
use super::record::{Record, RecordHeader, SegmentHeader, header_len, segment_path};
use super::store::{Index, position};
use crate::raft::disk::{Disk, DiskFile};
use crate::raft::settings::Fatal;
use crate::raft::types::{LogId, Vote, log_id};
use crate::raft::{frames, vote};
use crate::stats::Sizes;

/// A segment is full at this length.
const SEGMENT_LEN: u64 = 64 * 1024 * 1024;

/// Commands that are taken at once; the appends among them share one sync.
const GROUP: usize = 64;

/// What the loop is asked for, in order. openraft waits for each before it asks for the next, but for what this member
/// proposes, of which one entry is on its way at a time: the queue stays short.
pub(super) enum Command {
    /// Append entries, and call `done` once they are on disk.
    Append {
        records: Vec<Record>,
        committed: u64,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Forget all entries behind `last`.
    Truncate {
        last: Option<LogId>,
        done: oneshot::Sender<()>,
    },
    /// Entries up to this one are not needed any more. If the log ends before it, go on behind it.
    Purge {
        upto: LogId,
        done: oneshot::Sender<()>,
    },
    /// Save the vote.
    Vote {
        vote: Vote,
        done: oneshot::Sender<()>,
    },
    /// Go on in a new segment, so that the old ones can be purged.
    Roll,
}

/// What the log has cost so far; any thread reads.
#[derive(Debug, Default)]
pub struct LogFigures {
    /// Times that the disk was waited for.
    pub fsyncs: AtomicU64,
    /// How long that took in all, in microseconds.
    pub fsync_sum_us: AtomicU64,
    /// The longest of these times, in microseconds.
    pub fsync_max_us: AtomicU64,
    /// Bytes appended.
    pub appended: AtomicU64,
    /// Bytes of each batch of transactions that this member has proposed.
    pub(crate) proposals: Sizes,
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    fatal: Fatal,
    index: Arc<Mutex<Index>>,
    figures: Arc<LogFigures>,
    file: Box<dyn DiskFile>,
    /// The first entry of the segment that is written.
    first: u64,
    len: u64,
    /// The index behind the last entry, and the term of that entry.
    next: u64,
    last_term: u64,
    /// So many entries are on disk for certain, for itself and for all who wait for it.
    synced: u64,
    durable: watch::Sender<u64>,
    /// The record headers of a group, kept for their memory.
    headers: Vec<u8>,
}

impl Writer {
    /// Goes on at the end of `log`.
    pub(super) async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        log: &Log,
        index: Arc<Mutex<Index>>,
        (figures, durable): (Arc<LogFigures>, watch::Sender<u64>),
        fatal: Fatal,
    ) -> io::Result<Writer> {
        let (first, file, len) = match log.current {
            Some((first, len)) => (first, disk.open(&segment_path(&dir, first))?, len),
            None => {
                let header = SegmentHeader {
                    before: None,
                    anew: true,
                };
                let (file, len) = create(&*disk, &dir, 0, header).await?;
                index.lock().unwrap().begin_segment(0);
                (0, file, len)
            }
        };
        Ok(Writer {
            disk,
            dir,
            fatal,
            index,
            figures,
            file,
            first,
            len,
            next: log.next(),
            last_term: log.last.map_or(0, |last| last.leader_id.term),
            synced: log.next(),
            durable,
            headers: Vec::new(),
        })
    }

    /// Works until nobody can ask any more, or the disk fails.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut commands = Vec::with_capacity(GROUP);
        while inbox.recv_many(&mut commands, GROUP).await > 0 {
            if let Err(cause) = self.work(&mut commands).await {
                // What is on disk is unknown now, and a second fsync could lie about it: the end.
                let dir = self.dir.display();
                self.fatal
                    .end(&format!("the log in {dir} cannot be written: {cause}"));
                return;
            }
        }
    }

    async fn work(&mut self, commands: &mut Vec<Command>) -> io::Result<()> {
        let mut waiting = Vec::new();
        for command in commands.drain(..) {
            if !matches!(command, Command::Append { .. }) {
                self.sync(&mut waiting).await?;
            }
            match command {
                Command::Append {
                    records,
                    committed,
                    done,
                } => {
                    self.append(&records, committed)?;
                    waiting.push(done);
                    if self.len >= SEGMENT_LEN {
                        self.sync(&mut waiting).await?;
                        self.roll().await?;
                    }
                }
                Command::Truncate { last, done } => {
                    self.truncate(last).await?;
                    let _ = done.send(());
                }
                Command::Purge { upto, done } => {
                    self.purge(upto).await?;
                    let _ = done.send(());
                }
                Command::Vote { vote, done } => {
                    vote::save(&*self.disk, &self.dir, &vote).await?;
                    let _ = done.send(());
                }
                Command::Roll => self.roll().await?,
            }
        }
        self.sync(&mut waiting).await
    }

    fn append(&mut self, records: &[Record], committed: u64) -> io::Result<()> {
        const HEADERS_LEN: usize = frames::HEADER_LEN + super::record::RECORD_HEADER_LEN;
        self.headers.clear();
        for record in records {
            let header = RecordHeader {
                index: record.index,
                term: record.term,
                synced: self.synced,
                committed: committed.min(record.index),
            }
            .encode();
            self.headers
                .extend(frames::header(&[&header, &record.payload]));
            self.headers.extend(header);
        }
        let mut slices: Vec<IoSlice> = self
            .headers
            .chunks(HEADERS_LEN)
            .zip(records)
            .flat_map(|(header, record)| [IoSlice::new(header), IoSlice::new(&record.payload)])
            .collect();
        self.file.append(&mut slices)?;
        let start = self.len;
        {
            let mut index = self.index.lock().unwrap();
            for record in records {
                index.written(self.first, record.index, self.len);
                self.len += (HEADERS_LEN + record.payload.len()) as u64;
            }
        }
        if let Some(last) = records.last() {
            self.next = last.index + 1;
            self.last_term = last.term.into();
        }
        self.figures.appended.fetch_add(self.len - start, Relaxed);
        Ok(())
    }

    async fn sync(&mut self, waiting: &mut Vec<Box<dyn FnOnce() + Send>>) -> io::Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        self.file.sync().await?;
        let took = start.elapsed().as_micros() as u64;
        self.figures.fsyncs.fetch_add(1, Relaxed);
        self.figures.fsync_sum_us.fetch_add(took, Relaxed);
        self.figures.fsync_max_us.fetch_max(took, Relaxed);
        self.set_synced(self.next);
        for done in waiting.drain(..) {
            done();
        }
        Ok(())
    }

    fn set_synced(&mut self, count: u64) {
        self.synced = count;
        self.durable.send_replace(count);
    }

    async fn roll(&mut self) -> io::Result<()> {
        if self.first == self.next {
            return Ok(());
        }
        let before = self.next.checked_sub(1);
        self.begin(
            self.next,
            SegmentHeader {
                before: before.map(|index| log_id(self.last_term, index)),
                anew: false,
            },
        )
        .await
    }

    async fn begin(&mut self, first: u64, header: SegmentHeader) -> io::Result<()> {
        (self.file, self.len) = create(&*self.disk, &self.dir, first, header).await?;
        self.first = first;
        self.index.lock().unwrap().begin_segment(first);
        Ok(())
    }

    async fn truncate(&mut self, last: Option<LogId>) -> io::Result<()> {
        let index = last.next_index();
        // From the end, so that what a crash leaves has no gap.
        while self.first > index {
            self.remove(self.first).await?;
            let mut segments = self.index.lock().unwrap();
            segments.drop_segment(self.first);
            self.first = segments
                .segment_before(self.first)
                .ok_or_else(|| io::Error::other(format!("entry {index} was purged")))?;
        }
        self.file = self.disk.open(&segment_path(&self.dir, self.first))?;
        let mark = self.index.lock().unwrap().mark(self.first, index);
        let len = position(&*self.file, mark, index)?;
        self.index.lock().unwrap().truncate(self.first, index);
        self.file.truncate(len)?;
        // Before anything new is written there: a crash must not bring old entries back behind new ones.
        self.file.sync().await?;
        self.len = len;
        self.next = index;
        self.last_term = last.map_or(0, |last| last.leader_id.term);
        self.set_synced(self.synced.min(index));
        Ok(())
    }

    /// Goes on behind `snapshot`, as if nothing had been before.
    pub(super) async fn begin_anew(&mut self, snapshot: LogId) -> io::Result<()> {
        self.next = snapshot.index + 1;
        self.last_term = snapshot.leader_id.term;
        self.set_synced(self.next);
        let later = self.index.lock().unwrap().segments_from(self.next);
        for first in later {
            self.remove(first).await?;
            self.index.lock().unwrap().drop_segment(first);
        }
        let header = SegmentHeader {
            before: Some(snapshot),
            anew: true,
        };
        self.begin(self.next, header).await
    }

    pub(super) async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        if upto.index >= self.next {
            self.begin_anew(upto).await?;
        }
        let unneeded = self.index.lock().unwrap().segments_upto(upto.index);
        for first in unneeded {
            self.remove(first).await?;
            self.index.lock().unwrap().drop_segment(first);
        }
        Ok(())
    }

    /// Removes a segment for certain: a disk may not keep the order of several, and what a crash leaves must have no gap.
    async fn remove(&self, first: u64) -> io::Result<()> {
        self.disk.remove(&segment_path(&self.dir, first))?;
        self.disk.sync_directory(&self.dir).await
    }
}

/// A new segment, durable by name and header.
async fn create(
    disk: &dyn Disk,
    dir: &std::path::Path,
    first: u64,
    header: SegmentHeader,
) -> io::Result<(Box<dyn DiskFile>, u64)> {
    let mut file = disk.create(&segment_path(dir, first))?;
    file.append(&mut [IoSlice::new(&header.encode())])?;
    file.sync().await?;
    disk.sync_directory(dir).await?;
    Ok((file, header_len() as u64))
}
