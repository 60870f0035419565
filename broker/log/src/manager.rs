//! All logs of a broker, in all its log directories.

mod describe;
mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::{TopicPartition, Uuid, valid_topic_name};

pub use self::describe::{DirectoryDescription, LogDescription};
use self::moves::Moves;
pub use self::moves::{MoveError, MoveProgress};
use crate::checkpoint::Offsets;
use crate::config::LogConfig;
use crate::error::LogError;
use crate::file_names;
use crate::file_system::{Attempt, FileSystem, Found, StorageError};
use crate::load_progress::LoadProgress;
use crate::log::{Flush, Log, OpenLog, bytes_to_verify};
use crate::log_directory::{ClaimedDirectory, LogDirectory, OpenError};
use crate::meta_properties::{self, MetaProperties};
use crate::offline::{OfflineDirectories, OfflineDirectory};

/// A log that several hold. The lock is held for one operation, never while waiting for anything but the disk.
pub type SharedLog = Arc<Mutex<Log>>;

/// How a broker's logs are opened.
pub struct LogManagerConfig<'a> {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// `broker.id`, as every directory must carry it.
    pub broker_id: i32,
    /// `cluster.id`, likewise.
    pub cluster_id: String,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_data_dir: usize,
    /// The configuration in force for a topic.
    pub topic_config: &'a (dyn Fn(&str) -> LogConfig + Sync),
    /// Where is counted how far it has come.
    pub progress: &'a LoadProgress,
}

/// Why a partition's log cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GetOrCreateError {
    /// The directory holds another topic of that name (INCONSISTENT_TOPIC_ID).
    #[error("the log of {partition} belongs to topic id {found}, and {expected} was asked for")]
    InconsistentTopicId {
        /// Whose log.
        partition: TopicPartition,
        /// The id on the disk.
        found: Uuid,
        /// The id asked for.
        expected: Uuid,
    },
    /// No topic has such a name, or no partition such a number (INVALID_TOPIC_EXCEPTION): it could lead out of the log
    /// directory.
    #[error("{partition} is no name of a partition")]
    InvalidName {
        /// What was asked for.
        partition: TopicPartition,
    },
    /// Every log directory is offline (KAFKA_STORAGE_ERROR).
    #[error("every log directory is offline")]
    AllOffline,
    /// The log could not be made (KAFKA_STORAGE_ERROR).
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for GetOrCreateError {
    fn from(error: StorageError) -> Self {
        Self::Log(error.into())
    }
}

/// A log's directory that has another name now, and whose log is out of use.
struct RenamedLog {
    /// The log directory that it lies in.
    directory: Arc<LogDirectory>,
    path: PathBuf,
    /// As it was in force for the log.
    file_delete_delay_ms: i64,
}

/// The logs of a broker. All methods may be called from any thread.
#[derive(Debug)]
pub struct LogManager {
    /// Those that were opened. One that could not be is only among `offline`.
    directories: Vec<Arc<LogDirectory>>,
    offline: Arc<OfflineDirectories>,
    /// Taken before the lock of any log in it, and by nothing that serves clients.
    logs: Mutex<BTreeMap<TopicPartition, SharedLog>>,
    /// Taken after `logs`, and before the lock of any log.
    moves: Mutex<Moves>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A log fences itself before it returns an error, and a panic is a defect that ends the request, not the broker.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory whose disk would not is offline, and that is no error.
fn unless_storage_failed<T>(result: Result<T, OpenError>) -> Result<Option<T>, OpenError> {
    match result {
        Err(error) if error.is_of_the_disk() => Ok(None),
        result => result.map(Some),
    }
}

/// The identity that a log directory carries, `None` if it has none: for a broker that does not know its id yet.
pub fn read_meta_properties(
    fs: &dyn FileSystem,
    log_dir: &Path,
) -> Result<Option<MetaProperties>, OpenError> {
    match meta_properties::read(fs, log_dir)? {
        Found::Intact(properties) => Ok(Some(properties)),
        Found::Missing => Ok(None),
        Found::Rubbish(reason) => Err(OpenError::Unidentified {
            path: log_dir.join(file_names::META_PROPERTIES),
            reason,
        }),
    }
}

/// Does one thing to each of many, on several threads. After an error the thread that met it stops; the first is returned.
fn in_parallel<T: Sync, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let work_on = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others = 1..threads.min(items.len());
        let others: Vec<_> = others.map(|_| scope.spawn(work_on)).collect();
        let mine = work_on();
        others.into_iter().fold(mine, |result, thread| {
            let theirs = thread.join();
            result.and(theirs.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

/// Syncs what `prepare` names. The lock is not held meanwhile: appends go on while the disk works.
fn flush(
    shared: &SharedLog,
    prepare: impl Fn(&Log) -> Option<Flush>,
    now_ms: i64,
) -> Result<(), LogError> {
    let flush = prepare(&locked(shared));
    match flush {
        Some(flush) => {
            let done = flush.run();
            locked(shared).finish_flush(flush, done, now_ms)
        }
        None => Ok(()),
    }
}

impl LogManager {
    /// Takes the log directories and opens every log in them, mending those that were not shut down: all directories at
    /// once, and of each several logs. A directory whose disk would not is offline, as long as there is another. One that is
    /// somebody else's is an error, before anything is touched in any of them.
    pub fn open(
        config: LogManagerConfig<'_>,
        fs: Arc<dyn FileSystem>,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        let mut paths = BTreeSet::new();
        if let Some(path) = config.log_dirs.iter().find(|path| !paths.insert(*path)) {
            return Err(OpenError::NamedTwice { path: path.clone() });
        }
        let offline = Arc::<OfflineDirectories>::default();
        let mut claimed = Vec::new();
        for path in &config.log_dirs {
            let claim = ClaimedDirectory::claim(
                fs.clone(),
                path.clone(),
                &offline,
                config.broker_id,
                &config.cluster_id,
            );
            claimed.extend(unless_storage_failed(claim)?);
        }
        let mut manager = Self {
            directories: Vec::new(),
            offline,
            logs: Mutex::default(),
            moves: Mutex::default(),
        };
        for claimed in claimed {
            let opened = unless_storage_failed(claimed.open())?;
            manager.directories.extend(opened.map(Arc::new));
        }
        let directories = &manager.directories;
        in_parallel(directories, directories.len(), |directory| {
            let loaded = manager.load(directory, &config, now_ms);
            unless_storage_failed(loaded.inspect_err(|error| directory.fail_to_load(error)))
                .map(|_| ())
        })?;
        // What was loaded of a directory before it failed is not of use.
        locked(&manager.logs).retain(|_, log| locked(log).offline().is_none());
        manager.resume_moves(&config, now_ms);
        if !manager.all_offline() {
            return Ok(manager);
        }
        let offline = manager.offline.all();
        Err(if offline.is_empty() {
            OpenError::NoDirectory
        } else {
            OpenError::AllOffline(offline)
        })
    }

    /// The directories that work.
    fn online(&self) -> impl Iterator<Item = &Arc<LogDirectory>> {
        self.directories
            .iter()
            .filter(|directory| directory.failure().is_none())
    }

    /// The directories that failed, in the order in which they did.
    pub fn offline_directories(&self) -> Vec<OfflineDirectory> {
        self.offline.all()
    }

    /// Whether any directory is offline.
    pub fn any_offline(&self) -> bool {
        !self.offline.is_empty()
    }

    /// Whether no directory is left.
    pub fn all_offline(&self) -> bool {
        self.online().next().is_none()
    }

    /// Calls `listener` for each directory that is offline, and for each that goes offline from now on. It must not wait,
    /// nor ask anything of a log: it is called in the middle of what failed.
    pub fn on_offline(&self, listener: impl Fn(&OfflineDirectory) + Send + 'static) {
        self.offline.listen(Box::new(listener));
    }

    /// Opens the logs of one directory, several at a time.
    fn load(
        &self,
        directory: &Arc<LogDirectory>,
        config: &LogManagerConfig<'_>,
        now_ms: i64,
    ) -> Result<(), OpenError> {
        let mut partitions = Vec::new();
        for entry in directory
            .fs()
            .list(directory.path())
            .attempt("list", directory.path())?
        {
            if !entry.is_directory {
                continue;
            }
            if file_names::is_deleted_partition_directory(&entry.name) {
                // It may be the original of a move whose copy lies in a directory that is offline, not named yet.
                if !self.any_offline() {
                    let path = directory.path().join(&entry.name);
                    directory.deletions().add_directory(path, now_ms);
                }
            } else if let Some(partition) = file_names::parse_partition_directory(&entry.name) {
                partitions.push(partition);
            }
            locked(&self.moves).note_found(directory, entry.name);
        }
        let threads = config.recovery_threads_per_data_dir;
        let logs = partitions.len() as u64;
        config.progress.expect(logs, 0);
        if !directory.was_clean() {
            in_parallel(&partitions, threads, |partition| {
                let recovery_point = directory.recovery_point(partition);
                let path = directory.path();
                let path = path.join(file_names::partition_directory(partition));
                let bytes = bytes_to_verify(&**directory.fs(), &path, recovery_point)?;
                config.progress.expect(0, bytes);
                Ok::<_, StorageError>(())
            })?;
        }
        in_parallel(&partitions, threads, |partition| {
            let topic_config = (config.topic_config)(&partition.topic);
            let log = self.open_log(directory, partition, topic_config, now_ms, config.progress);
            let log = log.map_err(|source| OpenError::Log {
                partition: partition.clone(),
                source,
            })?;
            let log = Arc::new(Mutex::new(log));
            let other = locked(&self.logs).insert(partition.clone(), log);
            if let Some(other) = other {
                return Err(OpenError::TwoLogs {
                    partition: partition.clone(),
                    one: locked(&other).log_directory().path().to_owned(),
                    other: directory.path().to_owned(),
                });
            }
            config.progress.opened();
            Ok(())
        })
    }

    fn open_log(
        &self,
        directory: &Arc<LogDirectory>,
        partition: &TopicPartition,
        config: LogConfig,
        now_ms: i64,
        progress: &LoadProgress,
    ) -> Result<Log, LogError> {
        let name = file_names::partition_directory(partition);
        let open = OpenLog {
            fs: directory.fs().clone(),
            log_directory: directory.clone(),
            directory: directory.path().join(name),
            topic_partition: partition.clone(),
            config,
            clean: directory.was_clean(),
            recovery_point: directory.recovery_point(partition),
            log_start_offset: directory.log_start_offset(partition),
            now_ms,
            progress,
        };
        open.open()
    }

    /// The log of a partition, `None` if there is none here.
    pub fn get(&self, partition: &TopicPartition) -> Option<SharedLog> {
        locked(&self.logs).get(partition).cloned()
    }

    /// All logs.
    pub fn all(&self) -> Vec<(TopicPartition, SharedLog)> {
        locked(&self.logs)
            .iter()
            .map(|(partition, log)| (partition.clone(), log.clone()))
            .collect()
    }

    /// The log of a partition, made if there is none, in the directory that holds the fewest of those that work. A log that
    /// knows no topic id takes the one that is given. One whose directory is offline is not made anew in another.
    pub fn get_or_create(
        &self,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<SharedLog, GetOrCreateError> {
        if valid_topic_name(&partition.topic).is_err() || partition.partition < 0 {
            let partition = partition.clone();
            return Err(GetOrCreateError::InvalidName { partition });
        }
        let mut logs = locked(&self.logs);
        let shared = match logs.get(partition) {
            Some(shared) => shared.clone(),
            None => {
                let log = self.create(partition, config, now_ms)?;
                let shared = Arc::new(Mutex::new(log));
                logs.insert(partition.clone(), shared.clone());
                shared
            }
        };
        let mut log = locked(&shared);
        log.log_directory().check_online()?;
        match (
            log.topic_id(),
            topic_id.filter(|topic_id| *topic_id != Uuid::ZERO),
        ) {
            (Some(found), Some(expected)) if found != expected => {
                return Err(GetOrCreateError::InconsistentTopicId {
                    partition: partition.clone(),
                    found,
                    expected,
                });
            }
            (None, Some(topic_id)) => log.set_topic_id(topic_id)?,
            _ => {}
        }
        drop(log);
        Ok(shared)
    }

    /// Makes a log. One that is found in the directory, left over from an earlier attempt, is opened, and its topic id
    /// tells whose it is.
    fn create(
        &self,
        partition: &TopicPartition,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Log, GetOrCreateError> {
        let mut online: Vec<_> = self.online().collect();
        if online.len() > 1 {
            let preferred = locked(&self.moves).take_preferred(partition);
            online.sort_by_cached_key(|directory| {
                let is_preferred = preferred.as_deref() == Some(directory.path());
                (!is_preferred, directory.log_count())
            });
        }
        // A directory that fails before there is anything of the log in it is passed over.
        let mut result = Err(GetOrCreateError::AllOffline);
        for directory in online {
            match self.begin(directory, partition) {
                Ok(()) => {
                    let progress = LoadProgress::default();
                    return Ok(self.open_log(directory, partition, config, now_ms, &progress)?);
                }
                Err(error) => result = Err(error.into()),
            }
        }
        result
    }

    /// Makes the empty directory of a log.
    fn begin(
        &self,
        directory: &LogDirectory,
        partition: &TopicPartition,
    ) -> Result<(), StorageError> {
        directory.begin_anew(partition)?;
        let path = directory
            .path()
            .join(file_names::partition_directory(partition));
        directory
            .fs()
            .create_directory(&path)
            .attempt("create", &path)
    }

    /// Takes a partition's log out of use: its directory gets a name that ends in `-delete`, and is removed by
    /// [`LogManager::delete_due`] once `file.delete.delay.ms` have passed. False if there is no such log.
    pub fn delete(&self, partition: &TopicPartition, now_ms: i64) -> Result<bool, LogError> {
        let name = file_names::deleted_partition_directory(partition);
        let Some(renamed) = self.rename_away(partition, &name, now_ms)? else {
            return Ok(false);
        };
        let due_ms = now_ms.saturating_add(renamed.file_delete_delay_ms);
        renamed
            .directory
            .deletions()
            .add_directory(renamed.path, due_ms);
        Ok(true)
    }

    /// Takes out of use a log that nobody asked for: its directory gets a name that ends in `-stray` and stays until
    /// somebody looks at it. False if there is no such log.
    pub fn set_aside_stray(&self, partition: &TopicPartition) -> Result<bool, LogError> {
        let name = file_names::stray_partition_directory(partition);
        Ok(self.rename_away(partition, &name, i64::MIN)?.is_some())
    }

    /// Renames a log's directory and takes the log out of use; it does not move any more. A log whose directory keeps its
    /// name stays in use, lest its records be found by the next topic of that name.
    fn rename_away(
        &self,
        partition: &TopicPartition,
        name: &str,
        now_ms: i64,
    ) -> Result<Option<RenamedLog>, LogError> {
        let mut logs = locked(&self.logs);
        let Some(shared) = logs.get(partition).cloned() else {
            return Ok(None);
        };
        // With `logs` held to the end: a copy without its log would be taken for that of the next topic of the name.
        locked(&self.moves).cancel(partition, now_ms);
        let mut log = locked(&shared);
        let directory = log.log_directory().clone();
        directory.check_online()?;
        let renamed = directory.path().join(name);
        directory
            .fs()
            .rename(log.directory(), &renamed)
            .attempt("rename", log.directory())?;
        log.retire();
        logs.remove(partition);
        directory.forget(partition);
        directory
            .fs()
            .sync_directory(directory.path())
            .attempt("sync", directory.path())?;
        Ok(Some(RenamedLog {
            file_delete_delay_ms: log.config().file_delete_delay_ms,
            directory,
            path: renamed,
        }))
    }

    /// Removes the files of deleted segments and the directories of deleted partitions whose `file.delete.delay.ms` have
    /// passed. The number removed. Everything is tried; the first error is returned.
    pub fn delete_due(&self, now_ms: i64) -> Result<usize, StorageError> {
        let mut result = Ok(0);
        for directory in self.online() {
            let removed = directory.deletions().run_due(&**directory.fs(), now_ms);
            result = result.and_then(|before| Ok(before + removed?));
        }
        result
    }

    /// Syncs the logs that were not synced for `flush.ms`. Every log is tried; the first error is returned, and its log is
    /// fenced.
    pub fn flush_when_due(&self, now_ms: i64) -> Result<(), LogError> {
        self.flush_all(now_ms, |log| log.prepare_flush_when_due(now_ms))
    }

    /// Syncs the segments that were closed since the last time, then writes how far every log is on the disk, and where it
    /// starts. Every log is tried; the first error is returned, and its log is fenced.
    pub fn checkpoint_recovery_points(&self, now_ms: i64) -> Result<(), LogError> {
        let flushed = self.flush_all(now_ms, Log::prepare_flush_of_closed);
        flushed.and(self.write_recovery_points().map_err(LogError::from))
    }

    /// Forgets, in every log, the producers that wrote nothing for `producer.id.expiration.ms`.
    pub fn remove_expired_producers(&self, now_ms: i64) {
        for (_, shared) in self.all() {
            locked(&shared).remove_expired_producers(now_ms);
        }
    }

    fn flush_all(
        &self,
        now_ms: i64,
        prepare: impl Fn(&Log) -> Option<Flush>,
    ) -> Result<(), LogError> {
        let mut result = Ok(());
        for (_, shared) in self.all() {
            result = result.and(flush(&shared, &prepare, now_ms));
        }
        result
    }

    /// Writes where the logs start that do not start with their first segment.
    pub fn checkpoint_log_start_offsets(&self) -> Result<(), StorageError> {
        let start = |log: &Log| log.starts_within_segment().then(|| log.log_start_offset());
        self.write_checkpoints(start, LogDirectory::write_log_start_offsets)
    }

    fn write_recovery_points(&self) -> Result<(), StorageError> {
        let recovery_point = |log: &Log| Some(log.recovery_point());
        self.write_checkpoints(recovery_point, LogDirectory::write_recovery_points)
    }

    fn write_checkpoints(
        &self,
        offset: impl Fn(&Log) -> Option<i64>,
        write: impl Fn(&LogDirectory, Offsets, u64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        // Held to the end: no log can be deleted, and another one get its name, before its offsets are written.
        let logs = locked(&self.logs);
        // Where a copy lies its log does not.
        let futures = self.future_logs();
        let mut result = Ok(());
        for directory in self.online() {
            let withdrawals = directory.withdrawals();
            let mut offsets = Offsets::new();
            let futures = futures.iter().map(|(partition, log)| (partition, log));
            for (partition, shared) in logs.iter().chain(futures) {
                let log = locked(shared);
                if Arc::ptr_eq(log.log_directory(), directory)
                    && let Some(offset) = offset(&log)
                {
                    offsets.insert(partition.clone(), offset);
                }
            }
            result = result.and(write(directory, offsets, withdrawals));
        }
        result
    }

    /// Writes high watermarks. Those of logs that are not among them stay as they are on file; that of a log which was
    /// deleted meanwhile is not written, for another log may have its name.
    pub fn checkpoint_high_watermarks(
        &self,
        high_watermarks: &[(SharedLog, i64)],
    ) -> Result<(), StorageError> {
        let logs = locked(&self.logs);
        let mut result = Ok(());
        for directory in self.online() {
            let mut changed = Offsets::new();
            for (shared, high_watermark) in high_watermarks {
                let log = locked(shared);
                let partition = log.topic_partition();
                let in_use = logs
                    .get(partition)
                    .is_some_and(|current| Arc::ptr_eq(current, shared));
                if in_use && Arc::ptr_eq(log.log_directory(), directory) {
                    changed.insert(partition.clone(), *high_watermark);
                }
            }
            result = result.and(directory.write_high_watermarks(&changed));
        }
        result
    }

    /// The high watermarks on file, of the logs that are here. They may lie beyond the end of a log that lost its tail.
    pub fn high_watermarks(&self) -> BTreeMap<TopicPartition, i64> {
        let logs = locked(&self.logs);
        let known = self.online().flat_map(|directory| {
            let is_here = |partition: &TopicPartition| {
                let log = logs.get(partition).map(|log| locked(log));
                log.is_some_and(|log| Arc::ptr_eq(log.log_directory(), directory))
            };
            let mut high_watermarks = directory.high_watermarks();
            high_watermarks.retain(|partition, _| is_here(partition));
            high_watermarks
        });
        known.collect()
    }

    /// The broker epoch that the last shutdown left, if all directories were shut down cleanly.
    pub fn clean_shutdown_broker_epoch(&self) -> Option<i64> {
        let epochs: Option<Vec<i64>> = self
            .directories
            .iter()
            .map(|directory| directory.last_broker_epoch())
            .collect();
        epochs?.into_iter().min()
    }

    /// Closes all logs, so that the next start may take them on trust. A directory with a log that cannot be closed gets
    /// no clean shutdown file; the first error is returned.
    pub fn shutdown(&self, broker_epoch: i64) -> Result<(), LogError> {
        let mut logs = self.all();
        logs.extend(self.future_logs());
        let mut result = Ok(());
        let mut clean = Vec::new();
        for directory in self.online() {
            let here = |log: &Log| Arc::ptr_eq(log.log_directory(), directory);
            let closed = logs
                .iter()
                .map(|(_, shared)| locked(shared))
                .filter(|log| here(log))
                .map(|mut log| log.close())
                .fold(Ok(()), Result::and);
            // One call for all files of all logs: a few milliseconds, where one for each file would take seconds.
            match closed.and_then(|()| directory.sync_all().map_err(LogError::from)) {
                Ok(()) => clean.push(directory),
                Err(error) => result = result.and(Err(error)),
            }
        }
        for (_, shared) in &logs {
            let mut log = locked(shared);
            if clean
                .iter()
                .any(|directory| Arc::ptr_eq(log.log_directory(), directory))
            {
                log.all_is_synced();
            }
        }
        result = result.and(self.write_recovery_points().map_err(LogError::from));
        result = result.and(self.checkpoint_log_start_offsets().map_err(LogError::from));
        for directory in clean {
            // One whose checkpoints were not written is offline, and takes no more.
            result = result.and(
                directory
                    .write_clean_shutdown(broker_epoch)
                    .map_err(LogError::from),
            );
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::Duration;

    use super::*;

    #[test]
    fn several_things_are_done_at_once_and_no_more_of_them_than_there_are_threads() {
        for (threads, expected) in [(1, 1), (3, 3), (9, 4)] {
            // How many are at work, and were at most.
            let counts = Mutex::new((0, 0));
            let changed = Condvar::new();
            let done = in_parallel(&[(); 4], threads, |()| {
                let mut now = locked(&counts);
                now.0 += 1;
                now.1 = now.1.max(now.0);
                changed.notify_all();
                let waits = |counts: &mut (usize, usize)| counts.1 < expected;
                let timeout = Duration::from_secs(10);
                let (mut now, _) = changed.wait_timeout_while(now, timeout, waits).unwrap();
                now.0 -= 1;
                Ok::<_, ()>(())
            });
            assert_eq!(done, Ok(()));
            assert_eq!(locked(&counts).1, expected, "{threads} threads");
        }
    }
}
