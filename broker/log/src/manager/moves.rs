//! Logs that move to another log directory of their broker (KIP-113).
//!
//! A *future* log is made in the other directory, `<topic>-<partition>.<id>-future`, and filled from the present one, a piece
//! at a time. Once it has everything it takes the place of the present one, while nobody can append: the present directory
//! is renamed to `<topic>-<partition>.<id>-delete`, then the future one to `<topic>-<partition>`. Between the two a broker
//! may end; the id tells the next start that the second is to follow. Ended at any other point, the present log is what it
//! was, and the copy goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kafka_wire::TopicPartition;

use super::{LogManager, LogManagerConfig, SharedLog, flush, locked};
use crate::checkpoint::Offsets;
use crate::config::LogConfig;
use crate::error::{AppendError, LogError, ReadError};
use crate::file_names;
use crate::file_system::{Attempt, Found, StorageError};
use crate::load_progress::LoadProgress;
use crate::log::{FileRange, Log, OpenLog};
use crate::log_directory::LogDirectory;
use crate::partition_metadata;

/// How many pieces may be copied while nobody can append; if there is more, the copy goes on as before.
const LAST_PIECES: u64 = 4;

/// For so many partitions that are not here the directory is remembered; clients name them.
const MAX_PREFERRED: usize = 100_000;

/// The logs that move.
#[derive(Debug, Default)]
pub(super) struct Moves {
    futures: BTreeMap<TopicPartition, Future>,
    /// Where the logs of partitions are to be made that are not here yet.
    preferred: BTreeMap<TopicPartition, PathBuf>,
    /// The names of directories that were found at the start.
    found: Vec<(Arc<LogDirectory>, String)>,
}

/// A log that is to replace the partition's log.
#[derive(Debug, Clone)]
struct Future {
    log: SharedLog,
    directory: Arc<LogDirectory>,
    id: String,
    /// The truncations of the present log when this one was known to hold nothing that is not in that.
    aligned: Option<u64>,
}

impl Moves {
    pub(super) fn note_found(&mut self, directory: &Arc<LogDirectory>, name: String) {
        if file_names::is_deleted_partition_directory(&name)
            || file_names::parse_future_directory(&name).is_some()
        {
            self.found.push((directory.clone(), name));
        }
    }

    pub(super) fn take_preferred(&mut self, partition: &TopicPartition) -> Option<PathBuf> {
        self.preferred.remove(partition)
    }
}

/// Why a log does not move.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// `log.dirs` names no such directory (LOG_DIR_NOT_FOUND).
    #[error("{} is not in log.dirs", .0.display())]
    UnknownDirectory(PathBuf),
    /// The directory that the log would have in between has too long a name (INVALID_TOPIC_EXCEPTION, KAFKA-4893).
    #[error("the name of {0} is too long for its log to move")]
    NameTooLong(TopicPartition),
    /// There is no such log here. It will be made in that directory.
    #[error("there is no log of {0} here")]
    NoLog(TopicPartition),
    /// The log cannot be made, or one of the directories is offline (KAFKA_STORAGE_ERROR).
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for MoveError {
    fn from(error: StorageError) -> Self {
        Self::Log(error.into())
    }
}

/// What became of a piece of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveProgress {
    /// So many bytes were copied; there is more to do.
    Copied(u64),
    /// The log is in its new directory.
    Moved,
    /// The log does not move, or not any more.
    None,
}

impl LogManager {
    /// Has a log lie in that directory of `log.dirs`: by and by, as [`LogManager::copy_to_future`] is called. One that is
    /// there stays, and a move to elsewhere ends. The directory is remembered for a log that is not here yet.
    pub fn move_to(
        &self,
        partition: &TopicPartition,
        path: &Path,
        now_ms: i64,
    ) -> Result<(), MoveError> {
        let mut directories = self.directories.iter();
        let Some(directory) = directories.find(|directory| directory.path() == path) else {
            let offline = self.offline_directories();
            return Err(
                match offline.into_iter().find(|offline| offline.path == path) {
                    Some(offline) => LogError::Offline(offline).into(),
                    None => MoveError::UnknownDirectory(path.to_owned()),
                },
            );
        };
        directory.check_online()?;
        let id = file_names::fresh_id();
        let Some(name) = file_names::future_partition_directory(partition, &id) else {
            return Err(MoveError::NameTooLong(partition.clone()));
        };
        let logs = locked(&self.logs);
        let mut moves = locked(&self.moves);
        let Some(present) = logs.get(partition) else {
            if moves.preferred.len() < MAX_PREFERRED {
                moves.preferred.insert(partition.clone(), path.to_owned());
            }
            return Err(MoveError::NoLog(partition.clone()));
        };
        let present = locked(present);
        present.log_directory().check_online()?;
        if let Some(future) = moves.futures.get(partition) {
            if Arc::ptr_eq(&future.directory, directory) {
                return Ok(());
            }
            moves.cancel(partition, now_ms);
        }
        if Arc::ptr_eq(present.log_directory(), directory) {
            return Ok(());
        }
        directory.begin_anew(partition)?;
        let path = directory.path().join(name);
        directory
            .fs()
            .create_directory(&path)
            .attempt("create", &path)?;
        let opening = Opening::of(directory, partition);
        let mut log = opening.open(path, present.config().clone(), now_ms)?;
        if let Some(topic_id) = present.topic_id() {
            log.set_topic_id(topic_id)?;
        }
        tracing::info!(%partition, from = %present.log_directory().path().display(), to = %directory.path().display(), "the log moves");
        let future = Future {
            log: Arc::new(Mutex::new(log)),
            directory: directory.clone(),
            id,
            aligned: None,
        };
        moves.futures.insert(partition.clone(), future);
        Ok(())
    }

    /// The logs that move.
    pub fn moving(&self) -> Vec<TopicPartition> {
        locked(&self.moves).futures.keys().cloned().collect()
    }

    pub(super) fn future_logs(&self) -> Vec<(TopicPartition, SharedLog)> {
        let moves = locked(&self.moves);
        let futures = moves.futures.iter();
        futures
            .map(|(partition, future)| (partition.clone(), future.log.clone()))
            .collect()
    }

    /// Gives up a move, if there is one.
    pub fn cancel_move(&self, partition: &TopicPartition, now_ms: i64) {
        let _logs = locked(&self.logs);
        locked(&self.moves).cancel(partition, now_ms);
    }

    /// Copies the next records of a log that moves, at most `max_bytes` of them but at least a batch. The present log is
    /// locked while they are found, not while they are copied; and once more, for a moment, when the copy takes its place.
    /// After an error the move is given up.
    pub fn copy_to_future(
        &self,
        partition: &TopicPartition,
        max_bytes: u32,
        now_ms: i64,
    ) -> Result<MoveProgress, LogError> {
        let (present, mut future) = {
            let logs = locked(&self.logs);
            let moves = locked(&self.moves);
            match (logs.get(partition), moves.futures.get(partition)) {
                (Some(present), Some(future)) => (present.clone(), future.clone()),
                _ => return Ok(MoveProgress::None),
            }
        };
        let progress = match future.copy_next(&present, max_bytes, now_ms) {
            Ok(Some(bytes)) => Ok(MoveProgress::Copied(bytes)),
            Ok(None) => self.replace_by_future(partition, max_bytes, now_ms),
            Err(error) => Err(error),
        };
        let _logs = locked(&self.logs);
        let mut moves = locked(&self.moves);
        let known = moves.futures.get_mut(partition);
        let Some(known) = known.filter(|known| Arc::ptr_eq(&known.log, &future.log)) else {
            // It has moved, or that move was given up meanwhile: one to elsewhere goes on.
            return progress.or(Ok(MoveProgress::None));
        };
        match &progress {
            Ok(_) => known.aligned = future.aligned,
            // The copy may be all that is left.
            Err(_) if locked(&present).offline().is_some() => {
                moves.futures.remove(partition);
            }
            Err(_) => moves.cancel(partition, now_ms),
        }
        progress
    }

    /// Lets the copy take the place of the log, if it has everything.
    fn replace_by_future(
        &self,
        partition: &TopicPartition,
        max_bytes: u32,
        now_ms: i64,
    ) -> Result<MoveProgress, LogError> {
        let logs = locked(&self.logs);
        let mut moves = locked(&self.moves);
        let (Some(shared), Some(future)) = (logs.get(partition), moves.futures.get_mut(partition))
        else {
            return Ok(MoveProgress::None);
        };
        let mut present = locked(shared);
        future.align(&present, now_ms)?;
        let mut copy = locked(&future.log);
        let mut copied = 0;
        while let Some(piece) = Piece::next(&present, &copy, max_bytes)? {
            copied += piece.copy(&mut copy, now_ms)?;
            if copied > LAST_PIECES * u64::from(max_bytes) {
                return Ok(MoveProgress::Copied(copied));
            }
        }
        copy.complete_copy(&present, now_ms)?;
        let (from, to) = (
            present.log_directory().clone(),
            copy.log_directory().clone(),
        );
        let high_watermark = from.high_watermark(partition);
        let high_watermarks = high_watermark.map(|offset| (partition.clone(), offset));
        to.write_high_watermarks(&Offsets::from_iter(high_watermarks))?;
        if from.cleaner_offset(partition).is_some() {
            // The log has gaps, and how much of the copy was made before it was compacted nobody knows.
            to.set_cleaner_offset(partition, 0);
            to.write_cleaner_offsets()?;
        }

        let replaced = from.path().join(file_names::replaced_partition_directory(
            partition, &future.id,
        ));
        let path = to.path().join(file_names::partition_directory(partition));
        let present_path = present.directory().to_owned();
        rename(&from, &present_path, &replaced)?;
        let renamed = to.fs().rename(copy.directory(), &path);
        if let Err(error) = renamed.attempt("rename", copy.directory()) {
            rename(&from, &replaced, &present_path)?;
            return Err(error.into());
        }
        let synced = to.fs().sync_directory(to.path());
        let synced = synced.attempt("sync", to.path()).map_err(LogError::from);
        let next = Opening {
            recovery_point: copy.recovery_point(),
            log_start_offset: present.log_start_offset(),
            clean: true,
            ..Opening::of(&to, partition)
        };
        let opened = synced.and_then(|()| next.open(path, present.config().clone(), now_ms));
        let mut next = match opened {
            Ok(next) => next,
            Err(error) => {
                // The log is there, and nobody can read it: its directory is offline, and it is in that. The original
                // keeps its new name, for there must not be two; it tells the next start to complete the move.
                to.fail(&error);
                std::mem::swap(&mut *present, &mut *copy);
                return Err(error);
            }
        };
        next.succeed(&present);
        if let Some(high_watermark) = high_watermark {
            next.high_watermark_advanced(high_watermark);
        }
        present.retire();
        let due_ms = now_ms.saturating_add(present.config().file_delete_delay_ms);
        *present = next;
        from.forget(partition);
        from.deletions().add_directory(replaced, due_ms);
        drop(copy);
        moves.futures.remove(partition);
        tracing::info!(%partition, directory = %to.path().display(), "the log has moved");
        Ok(MoveProgress::Moved)
    }

    /// Goes on with what a former broker left half done.
    pub(super) fn resume_moves(&self, config: &LogManagerConfig<'_>, now_ms: i64) {
        let found = std::mem::take(&mut locked(&self.moves).found);
        let was_replaced = |partition: &TopicPartition, id: &str| {
            let replaced = file_names::replaced_partition_directory(partition, id);
            found.iter().any(|(_, name)| *name == replaced)
        };
        for (directory, name) in &found {
            let Some((partition, id)) = file_names::parse_future_directory(name) else {
                continue;
            };
            if directory.failure().is_some() {
                continue;
            }
            let path = directory.path().join(name);
            let topic_id = match partition_metadata::read(&**directory.fs(), &path) {
                Ok(Found::Intact(topic_id)) => Some(topic_id),
                _ => None,
            };
            let mut logs = locked(&self.logs);
            let present = logs.get(&partition);
            let is_elsewhere = present.is_some_and(|log| {
                let log = locked(log);
                // One of another topic that had the name is of no use.
                !Arc::ptr_eq(log.log_directory(), directory) && log.topic_id() == topic_id
            });
            let topic_config = (config.topic_config)(&partition.topic);
            let mut moves = locked(&self.moves);
            let resumed = if is_elsewhere && !moves.futures.contains_key(&partition) {
                let opened = Opening::of(directory, &partition).open(path, topic_config, now_ms);
                opened.map(|log| {
                    let future = Future {
                        log: Arc::new(Mutex::new(log)),
                        directory: directory.clone(),
                        id: id.to_owned(),
                        aligned: None,
                    };
                    moves.futures.insert(partition.clone(), future);
                })
            } else if present.is_none() && was_replaced(&partition, id) {
                let to = directory
                    .path()
                    .join(file_names::partition_directory(&partition));
                let renamed = rename(directory, &path, &to).map_err(LogError::from);
                let opening = Opening::of(directory, &partition);
                let opened = renamed.and_then(|()| opening.open(to, topic_config, now_ms));
                let opened = opened.inspect_err(|error| directory.fail(error));
                opened.map(|log| {
                    tracing::warn!(%partition, directory = %directory.path().display(), "completed the move of the log");
                    logs.insert(partition.clone(), Arc::new(Mutex::new(log)));
                })
            } else if present.is_none() && self.any_offline() {
                // Its log may lie in the directory that is offline.
                Ok(())
            } else {
                let deleted = file_names::replaced_partition_directory(&partition, id);
                let deleted = directory.path().join(deleted);
                rename(directory, &path, &deleted)
                    .map(|()| directory.deletions().add_directory(deleted, now_ms))
                    .map_err(LogError::from)
            };
            if let Err(error) = resumed {
                tracing::error!(%partition, %error, "the move of the log does not go on");
            }
        }
    }
}

impl Moves {
    pub(super) fn cancel(&mut self, partition: &TopicPartition, now_ms: i64) {
        let Some(Future { log, .. }) = self.futures.remove(partition) else {
            return;
        };
        let mut log = locked(&log);
        log.retire();
        let directory = log.log_directory().clone();
        let name = file_names::deleted_partition_directory(partition);
        let deleted = directory.path().join(name);
        match rename(&directory, log.directory(), &deleted) {
            Ok(()) => {
                let due_ms = now_ms.saturating_add(log.config().file_delete_delay_ms);
                directory.deletions().add_directory(deleted, due_ms);
            }
            Err(error) => tracing::error!(%partition, %error, "what was copied of the log stays"),
        }
        directory.forget(partition);
    }
}

impl Future {
    /// Copies the next records: how many bytes, or `None` if what is left is for the last step.
    fn copy_next(
        &mut self,
        present: &SharedLog,
        max_bytes: u32,
        now_ms: i64,
    ) -> Result<Option<u64>, LogError> {
        let piece = {
            let present = locked(present);
            self.align(&present, now_ms)?;
            let copy = locked(&self.log);
            match present.bytes_from(copy.log_end_offset())? > max_bytes.into() {
                true => Piece::next(&present, &copy, max_bytes)?,
                false => None,
            }
        };
        let copied = match piece {
            Some(piece) => piece.copy(&mut locked(&self.log), now_ms).map(Some),
            None => Ok(None),
        };
        // Before appends have to wait for it, and a piece at a time, for what is not synced is held open.
        let flushed = copied.and_then(|copied| {
            let prepare = match copied {
                Some(_) => Log::prepare_flush_of_closed,
                None => Log::prepare_flush_of_all,
            };
            flush(&self.log, prepare, now_ms).map(|()| copied)
        });
        match flushed {
            // What was cut off while it was copied may be anything.
            Err(_) if Some(locked(present).truncations()) != self.aligned => Ok(Some(0)),
            flushed => flushed,
        }
    }

    /// Cuts off what the present log does not hold any more, if that was truncated.
    fn align(&mut self, present: &Log, now_ms: i64) -> Result<(), LogError> {
        present.log_directory().check_online()?;
        let mut log = locked(&self.log);
        if self.aligned != Some(present.truncations())
            || log.log_end_offset() < present.log_start_offset()
        {
            log.align_with(present, now_ms)?;
            self.aligned = Some(present.truncations());
        }
        Ok(())
    }
}

/// Record batches of the present log that are to be copied.
struct Piece {
    range: FileRange,
    /// Of the present log.
    directory: PathBuf,
}

impl Piece {
    /// What follows the end of the copy; `None` if nothing does.
    fn next(present: &Log, copy: &Log, max_bytes: u32) -> Result<Option<Self>, LogError> {
        match present.read(copy.log_end_offset(), max_bytes, i64::MAX, true) {
            Ok(data) => Ok(data.range.map(|range| Self {
                range,
                directory: present.directory().to_owned(),
            })),
            Err(ReadError::Log(error)) => Err(error),
            // Not after the copy was aligned.
            Err(error @ ReadError::OffsetOutOfRange { .. }) => Err(LogError::Damaged {
                path: present.directory().to_owned(),
                position: 0,
                cause: error.to_string(),
            }),
        }
    }

    /// How many bytes were copied.
    fn copy(self, copy: &mut Log, now_ms: i64) -> Result<u64, LogError> {
        let Self { range, directory } = self;
        let mut records = vec![0; range.len as usize];
        let read = range.file.read_at(&mut records, range.position);
        let count = read.attempt("read", &directory)?;
        records.truncate(count);
        match copy.append_as_follower(&records, now_ms) {
            Ok(appended) => Ok(appended.size as u64),
            Err(AppendError::Log(error)) => Err(error),
            Err(error) => Err(LogError::Damaged {
                path: directory,
                position: range.position,
                cause: error.to_string(),
            }),
        }
    }
}

fn rename(directory: &LogDirectory, from: &Path, to: &Path) -> Result<(), StorageError> {
    directory.fs().rename(from, to).attempt("rename", from)?;
    directory
        .fs()
        .sync_directory(directory.path())
        .attempt("sync", directory.path())
}

/// How a log is opened whose directory has any name.
struct Opening<'a> {
    log_directory: &'a Arc<LogDirectory>,
    partition: &'a TopicPartition,
    clean: bool,
    recovery_point: i64,
    log_start_offset: i64,
}

impl<'a> Opening<'a> {
    /// As a former broker left it.
    fn of(log_directory: &'a Arc<LogDirectory>, partition: &'a TopicPartition) -> Self {
        Self {
            log_directory,
            partition,
            clean: log_directory.was_clean(),
            recovery_point: log_directory.recovery_point(partition),
            log_start_offset: log_directory.log_start_offset(partition),
        }
    }

    fn open(self, directory: PathBuf, config: LogConfig, now_ms: i64) -> Result<Log, LogError> {
        let open = OpenLog {
            fs: self.log_directory.fs().clone(),
            log_directory: self.log_directory.clone(),
            directory,
            topic_partition: self.partition.clone(),
            config,
            clean: self.clean,
            recovery_point: self.recovery_point,
            log_start_offset: self.log_start_offset,
            now_ms,
            progress: &LoadProgress::default(),
        };
        open.open()
    }
}
