//! Bringing the log to the disk.
//!
//! Syncing takes long, so that it is done in three steps, of which the middle one needs no lock on the log: say what has to
//! be synced, sync it, and move the recovery point.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Log;
use crate::error::LogError;
use crate::file_names::LEADER_EPOCH_CHECKPOINT;
use crate::file_system::{Attempt, FileSystem, LogFile, StorageError};

/// What has to be synced so that the log up to an offset survives a power cut.
#[derive(Debug)]
pub(crate) struct Flush {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    /// Up to where.
    offset: i64,
    truncations: u64,
    logs: Vec<FlushedLog>,
    /// Smaller files: indexes, the producer snapshot, the leader epochs.
    others: Vec<PathBuf>,
}

/// The log file of a segment.
#[derive(Debug)]
struct FlushedLog {
    base_offset: i64,
    path: PathBuf,
    /// Open since something was written to it; what a former broker wrote is synced through any handle.
    file: Option<Arc<dyn LogFile>>,
}

impl Flush {
    /// Syncs it. If this fails it must not be tried again, but the log fenced.
    pub(crate) fn run(&self) -> Result<(), StorageError> {
        for FlushedLog { path, file, .. } in &self.logs {
            match file {
                Some(file) => file.sync().attempt("sync", path)?,
                None => self.sync_if_there(path)?,
            }
        }
        for path in &self.others {
            self.sync_if_there(path)?;
        }
        self.fs
            .sync_directory(&self.directory)
            .attempt("sync", &self.directory)
    }

    /// A file may be deleted since, or never have been there: a log without leader epochs has no checkpoint of them.
    fn sync_if_there(&self, path: &Path) -> Result<(), StorageError> {
        match self.fs.open(path) {
            Ok(file) => file.sync().attempt("sync", path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).attempt("open", path),
        }
    }
}

impl Log {
    /// Returns once everything in the log survives a power cut, and moves the recovery point to its end.
    pub fn flush(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.check_writable()?;
        if let Some(flush) = self.prepare_flush_of_all() {
            let done = flush.run();
            self.finish_flush(flush, done, now_ms)?;
        }
        Ok(())
    }

    /// What to sync so that all that was appended survives a power cut; `None` if it does.
    pub(crate) fn prepare_flush_of_all(&self) -> Option<Flush> {
        self.prepare_flush(self.log_end_offset)
    }

    /// What to sync so that the closed segments survive a power cut; `None` if they do.
    pub(crate) fn prepare_flush_of_closed(&self) -> Option<Flush> {
        self.prepare_flush(self.active()?.base_offset())
    }

    /// What to sync because `flush.ms` have passed; `None` if they have not, or all is synced.
    pub(crate) fn prepare_flush_when_due(&self, now_ms: i64) -> Option<Flush> {
        let waited_ms = now_ms.saturating_sub(self.last_flush_ms).max(0) as u64;
        if waited_ms >= self.config.flush_ms {
            self.prepare_flush(self.log_end_offset)
        } else {
            None
        }
    }

    fn prepare_flush(&self, offset: i64) -> Option<Flush> {
        if offset <= self.recovery_point || self.fenced.is_some() {
            return None;
        }
        let active_base = self.active()?.base_offset();
        // The segments that hold anything between the recovery point and the offset, and the one that ends at the
        // recovery point: a truncation may have cut it.
        let (mut logs, mut others) = (Vec::new(), Vec::new());
        let floor = self.segments.range(..self.recovery_point).next_back();
        let floor = floor.map_or(0, |(base_offset, _)| *base_offset);
        for (base_offset, segment) in self.segments.range(floor..offset) {
            logs.push(FlushedLog {
                base_offset: *base_offset,
                path: segment.path().to_owned(),
                file: segment.unsynced_file(),
            });
            // That of the active segment is not in its final form, and is rebuilt if need be.
            if *base_offset < active_base {
                others.extend(segment.index_paths());
            }
        }
        others.extend(
            self.snapshot_offset
                .map(|offset| self.snapshot_path(offset)),
        );
        others.push(self.directory.join(LEADER_EPOCH_CHECKPOINT));
        Some(Flush {
            fs: self.fs.clone(),
            directory: self.directory.clone(),
            offset,
            truncations: self.truncations,
            logs,
            others,
        })
    }

    /// Moves the recovery point after [`Flush::run`], or fences the log if that failed. Of a log that was taken out of use,
    /// or moved to another log directory, the files are elsewhere, and one that failed meanwhile has said so: of neither is it an error.
    pub(crate) fn finish_flush(
        &mut self,
        flush: Flush,
        done: Result<(), StorageError>,
        now_ms: i64,
    ) -> Result<(), LogError> {
        if self.is_fenced() || self.directory != flush.directory {
            return Ok(());
        }
        self.fence_on_error(done)?;
        // What was truncated meanwhile may have been replaced by something that is not synced.
        if flush.truncations == self.truncations {
            self.recovery_point = self.recovery_point.max(flush.offset);
            self.last_flush_ms = now_ms;
            self.release_synced(&flush);
        }
        Ok(())
    }

    /// Who reads the segments that end where the flush did, or before, opens their files.
    fn release_synced(&mut self, flush: &Flush) {
        let mut flushed = flush.logs.iter().peekable();
        while let Some(log) = flushed.next() {
            let next_offset = match flushed.peek() {
                Some(next) => Some(next.base_offset),
                None => self
                    .segments
                    .range(log.base_offset + 1..)
                    .next()
                    .map(|next| *next.0),
            };
            if next_offset.is_some_and(|next_offset| next_offset <= flush.offset)
                && let Some(segment) = self.segments.get_mut(&log.base_offset)
            {
                segment.synced();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kafka_wire::TopicPartition;
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::RecordBatchBuilder;

    use super::*;
    use crate::{LoadProgress, LogConfig, LogManager, LogManagerConfig, SharedLog, StdFileSystem};

    const RECORDS: i64 = 4;

    /// A log of [`RECORDS`] records, each a batch.
    fn filled(directory: &Path) -> (LogManager, SharedLog) {
        let config = LogManagerConfig {
            log_dirs: vec![directory.to_owned()],
            broker_id: 1,
            cluster_id: "cluster".to_owned(),
            recovery_threads_per_data_dir: 1,
            topic_config: &|_| LogConfig::default(),
            progress: &LoadProgress::default(),
        };
        let manager = LogManager::open(config, Arc::new(StdFileSystem), 0).unwrap();
        let shared = manager
            .get_or_create(&partition(), None, LogConfig::default(), 0)
            .unwrap();
        for _ in 0..RECORDS {
            append(&mut shared.lock().unwrap(), 0);
        }
        (manager, shared)
    }

    fn partition() -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    fn append(log: &mut Log, leader_epoch: i32) {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.append(0, None, None, &[]).unwrap();
        let mut batch = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut batch, leader_epoch, 0).unwrap();
    }

    #[test]
    fn a_truncation_during_a_flush_keeps_the_recovery_point_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (_manager, shared) = filled(directory.path());
        let mut log = shared.lock().unwrap();
        let flush = log
            .prepare_flush(RECORDS)
            .expect("there is something to sync");
        log.truncate_to(2, 0).unwrap();
        for _ in 0..2 {
            append(&mut log, 1);
        }
        let done = flush.run();
        log.finish_flush(flush, done, 0).unwrap();
        assert_eq!(log.recovery_point(), 0);
    }

    #[test]
    fn a_deletion_during_a_flush_is_no_failure_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (manager, shared) = filled(directory.path());
        let flush = shared.lock().unwrap().prepare_flush(RECORDS);
        let flush = flush.expect("there is something to sync");
        manager.delete(&partition(), 0).unwrap();
        let done = flush.run();
        assert!(done.is_err(), "the directory has another name");
        let mut log = shared.lock().unwrap();
        log.finish_flush(flush, done, 0).unwrap();
    }
}
