//! The thread that writes the log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coord_core::{LogEntry, txn};
use tokio::sync::{mpsc, watch};

use super::reader::LogEnd;
use super::{LogError, MAGIC, segment_path};
use crate::stats::Stats;
use crate::{data_dir, frames};

/// A segment is full at this length.
const SEGMENT_LEN: u64 = 64 * 1024 * 1024;

/// A group is closed at this length, so that one fsync never waits for more than this to reach the disk.
const GROUP_LEN: usize = 8 * 1024 * 1024;

/// What the thread is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Append an entry. The owner stops taking requests while too many are on their way, which bounds the queue.
    Append(LogEntry),
    /// Go on in a new segment, so that the old ones can be purged.
    Roll,
}

/// The way to the thread and back.
#[derive(Debug)]
pub(crate) struct LogHandle {
    /// Commands, in order. Dropping it ends the thread once all is written.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// The last entry that is on disk.
    pub(crate) durable: watch::Receiver<u64>,
    /// Ends with the thread.
    pub(crate) thread: std::thread::JoinHandle<()>,
}

/// Starts the thread at the end of the log that was read.
pub(crate) fn start(dir: &Path, end: LogEnd, stats: Arc<Stats>) -> Result<LogHandle, LogError> {
    let io = |cause| LogError::Io {
        path: dir.display().to_string(),
        cause,
    };
    let writer = Writer::open(dir, end).map_err(io)?;
    let (commands, inbox) = mpsc::unbounded_channel();
    let (durable_sender, durable) = watch::channel(writer.written);
    let run = move || writer.run(inbox, durable_sender, &stats);
    let thread = std::thread::Builder::new()
        .name("raft-log".to_owned())
        .spawn(run)
        .map_err(io)?;
    Ok(LogHandle {
        commands,
        durable,
        thread,
    })
}

struct Writer {
    dir: PathBuf,
    file: File,
    len: u64,
    /// The last entry in the file.
    written: u64,
    group: Vec<u8>,
}

impl Writer {
    fn open(dir: &Path, end: LogEnd) -> std::io::Result<Writer> {
        let (file, len) = match end.segment {
            Some((path, len)) if len >= MAGIC.len() as u64 => resume(dir, &path, len)?,
            _ => create(dir, end.index + 1)?,
        };
        Ok(Writer {
            dir: dir.to_owned(),
            file,
            len,
            written: end.index,
            group: Vec::new(),
        })
    }

    fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        durable: watch::Sender<u64>,
        stats: &Stats,
    ) {
        while let Some(command) = inbox.blocking_recv() {
            let synced = self.written;
            let mut next = Some(command);
            let mut roll = false;
            while let Some(command) = next {
                match command {
                    Command::Append(entry) => self.add(&entry, synced),
                    Command::Roll => roll = true,
                }
                next = if roll || self.group.len() >= GROUP_LEN {
                    None
                } else {
                    inbox.try_recv().ok()
                };
            }
            if let Err(cause) = self.write_group(stats).and_then(|()| self.roll_if(roll)) {
                // What is on disk is unknown now, and a second fsync could lie about it: the end.
                tracing::error!(
                    "the log in {} cannot be written: {cause}; coord ends here",
                    self.dir.display()
                );
                std::process::abort();
            }
            durable.send_replace(self.written);
        }
    }

    fn add(&mut self, entry: &LogEntry, synced: u64) {
        frames::write(&mut self.group, |out| {
            out.extend(entry.index.to_le_bytes());
            out.extend(entry.term.to_le_bytes());
            out.extend(synced.to_le_bytes());
            txn::encode(entry.zxid, &entry.txn, out);
        });
        self.written = entry.index;
    }

    fn write_group(&mut self, stats: &Stats) -> std::io::Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.group)?;
        let start = std::time::Instant::now();
        self.file.sync_data()?;
        stats.fsynced(start.elapsed());
        self.len += self.group.len() as u64;
        self.group.clear();
        // One large group must not hold its memory for ever.
        self.group.shrink_to(1024 * 1024);
        Ok(())
    }

    fn roll_if(&mut self, asked: bool) -> std::io::Result<()> {
        let empty = self.len == MAGIC.len() as u64;
        if !empty && (asked || self.len >= SEGMENT_LEN) {
            (self.file, self.len) = create(&self.dir, self.written + 1)?;
        }
        Ok(())
    }
}

/// A segment to go on in. What was read of it may have been in the page cache only, and its name
/// too, when the process before this one ended; it is served from now on, so it has to be durable.
fn resume(dir: &Path, path: &Path, len: u64) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).open(path)?;
    file.sync_all()?;
    data_dir::sync(dir)?;
    Ok((file, len))
}

/// A new segment, durable by name and magic.
fn create(dir: &Path, first: u64) -> std::io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(segment_path(dir, first))?;
    file.write_all(&MAGIC)?;
    file.sync_all()?;
    data_dir::sync(dir)?;
    Ok((file, MAGIC.len() as u64))
}
