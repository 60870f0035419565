//! One of `log.dirs`: who holds it, whose it is, and how far each of its logs came.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_wire::TopicPartition;

use crate::checkpoint::{self, Offsets};
use crate::deletions::Deletions;
use crate::error::LogError;
use crate::file_names::{
    self, CLEAN_SHUTDOWN, CLEANER_OFFSET_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, LOCK,
    LOG_START_OFFSET_CHECKPOINT, META_PROPERTIES, RECOVERY_POINT_CHECKPOINT,
};
use crate::file_system::{
    Attempt, Durability, FileSystem, Found, LogFile, StorageError, read_small, write_replacing,
};
use crate::meta_properties;
use crate::offline::{DirectoryHealth, GuardedFileSystem, OfflineDirectories, OfflineDirectory};

const MAX_SMALL_BYTES: u64 = 4096;

/// Why a log directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No directory was given.
    #[error("no log directory: set log.dirs")]
    NoDirectory,
    /// One directory was given twice.
    #[error("log.dirs names {} twice", path.display())]
    NamedTwice {
        /// The directory.
        path: PathBuf,
    },
    /// None of several directories works.
    #[error("no log directory can be used: {}", list(.0))]
    AllOffline(Vec<OfflineDirectory>),
    /// Two directories hold a log of the same partition.
    #[error(
        "the log of {partition} is both in {} and in {}: move one of them out of log.dirs",
        one.display(),
        other.display()
    )]
    TwoLogs {
        /// Whose log.
        partition: TopicPartition,
        /// The one log directory.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Another process has it.
    #[error("{} is in use by {holder}: stop that broker, or set another log.dirs", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as far as the lock file tells.
        holder: String,
    },
    /// It is another broker's, or another cluster's.
    #[error("{} belongs to {what} {found}, and this is {expected}: set the right {what}, or another log.dirs", path.display())]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// `broker.id` or `cluster.id`.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What this broker is.
        expected: String,
    },
    /// `meta.properties` does not say whose the directory is.
    #[error("{} holds {reason}: put right whose directory it is, or remove that file", path.display())]
    Unidentified {
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        reason: String,
    },
    /// A log could not be opened.
    #[error("cannot open the log of {partition}: {source}")]
    Log {
        /// Whose log.
        partition: TopicPartition,
        /// Why.
        #[source]
        source: LogError,
    },
    /// The disk would not.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn list(offline: &[OfflineDirectory]) -> String {
    let words: Vec<_> = offline.iter().map(ToString::to_string).collect();
    words.join("; ")
}

impl OpenError {
    /// Whether a disk would not, so that another directory may do.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        let cause = match self {
            Self::Storage(_) => return true,
            Self::Log { source, .. } => source,
            _ => return false,
        };
        matches!(cause, LogError::Storage(_) | LogError::Offline(_))
    }
}

/// One offset for each log, and the file that they are kept in.
#[derive(Debug)]
struct OffsetCheckpoint {
    path: PathBuf,
    offsets: Offsets,
    /// The file does not hold `offsets`.
    changed: bool,
}

impl OffsetCheckpoint {
    fn read(fs: &dyn FileSystem, path: PathBuf) -> Result<Self, StorageError> {
        let mut changed = true;
        let offsets = match checkpoint::read_offsets(fs, &path)? {
            Found::Intact(offsets) => {
                changed = false;
                offsets
            }
            Found::Missing => Offsets::new(),
            Found::Rubbish(reason) => {
                tracing::warn!(checkpoint = %path.display(), "the checkpoint is not used, for it holds {reason}");
                Offsets::new()
            }
        };
        Ok(Self {
            path,
            offsets,
            changed,
        })
    }

    /// That of the cleaner. Who has no entry in it has no gaps: where it was lost, each log in the directory gets one. On
    /// the disk when it returns.
    fn read_cleaner_offsets(fs: &dyn FileSystem, directory: &Path) -> Result<Self, StorageError> {
        let mut cleaner_offsets = Self::read(fs, directory.join(CLEANER_OFFSET_CHECKPOINT))?;
        if cleaner_offsets.changed {
            for entry in fs.list(directory).attempt("list", directory)? {
                let future = file_names::parse_future_directory(&entry.name);
                let partition = future
                    .map(|(partition, _)| partition)
                    .or_else(|| file_names::parse_partition_directory(&entry.name));
                if let Some(partition) = partition {
                    cleaner_offsets.set(&partition, 0);
                }
            }
            cleaner_offsets.write(fs)?;
        }
        Ok(cleaner_offsets)
    }

    fn get(&self, partition: &TopicPartition) -> Option<i64> {
        self.offsets.get(partition).copied()
    }

    fn set(&mut self, partition: &TopicPartition, offset: i64) {
        self.changed |= self.offsets.insert(partition.clone(), offset) != Some(offset);
    }

    fn remove(&mut self, partition: &TopicPartition) {
        self.changed |= self.offsets.remove(partition).is_some();
    }

    fn replace(&mut self, offsets: Offsets) {
        self.changed |= self.offsets != offsets;
        self.offsets = offsets;
    }

    fn write(&mut self, fs: &dyn FileSystem) -> Result<(), StorageError> {
        if self.changed {
            checkpoint::write_offsets(fs, &self.path, &self.offsets)?;
            self.changed = false;
        }
        Ok(())
    }
}

/// What is checkpointed for all logs of a directory.
#[derive(Debug)]
struct Checkpoints {
    recovery_points: OffsetCheckpoint,
    log_start_offsets: OffsetCheckpoint,
    high_watermarks: OffsetCheckpoint,
    /// How far each log is compacted; that there is an entry says that the log may have gaps.
    cleaner_offsets: OffsetCheckpoint,
    /// How often a log took back what stands here.
    withdrawals: u64,
}

impl Checkpoints {
    fn all(&mut self) -> [&mut OffsetCheckpoint; 4] {
        [
            &mut self.recovery_points,
            &mut self.log_start_offsets,
            &mut self.high_watermarks,
            &mut self.cleaner_offsets,
        ]
    }
}

/// A directory of logs that is this broker's and locked for this process.
#[derive(Debug)]
pub(crate) struct ClaimedDirectory {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    health: Arc<DirectoryHealth>,
    lock: Arc<dyn LogFile>,
}

impl ClaimedDirectory {
    /// Makes the directory if need be, takes it, and checks whose it is. Every error of the disk from here on takes it
    /// offline.
    pub(crate) fn claim(
        fs: Arc<dyn FileSystem>,
        path: PathBuf,
        offline: &Arc<OfflineDirectories>,
        broker_id: i32,
        cluster_id: &str,
    ) -> Result<Self, OpenError> {
        let health = DirectoryHealth::new(path.clone(), offline.clone());
        let fs: Arc<dyn FileSystem> = Arc::new(GuardedFileSystem {
            inner: fs,
            health: health.clone(),
        });
        let claim = || {
            fs.create_directory(&path).attempt("create", &path)?;
            let lock = lock(&*fs, &path)?;
            identify(&*fs, &path, broker_id, cluster_id)?;
            Ok(lock)
        };
        let lock = claim().inspect_err(|error| fail_by(&health, error))?;
        Ok(Self {
            fs,
            path,
            health,
            lock,
        })
    }

    /// Reads what a former broker left.
    pub(crate) fn open(self) -> Result<LogDirectory, OpenError> {
        let health = self.health.clone();
        self.read().inspect_err(|error| fail_by(&health, error))
    }

    fn read(self) -> Result<LogDirectory, OpenError> {
        let Self {
            fs,
            path,
            health,
            lock,
        } = self;
        let (clean, last_broker_epoch) = take_clean_shutdown(&*fs, &path)?;
        let read = |name: &str| OffsetCheckpoint::read(&*fs, path.join(name));
        let checkpoints = Checkpoints {
            recovery_points: read(RECOVERY_POINT_CHECKPOINT)?,
            log_start_offsets: read(LOG_START_OFFSET_CHECKPOINT)?,
            high_watermarks: read(HIGH_WATERMARK_CHECKPOINT)?,
            cleaner_offsets: OffsetCheckpoint::read_cleaner_offsets(&*fs, &path)?,
            withdrawals: 0,
        };
        Ok(LogDirectory {
            fs,
            path,
            health,
            checkpoints: Mutex::new(checkpoints),
            deletions: Deletions::default(),
            logs: AtomicUsize::new(0),
            clean,
            last_broker_epoch,
            lock,
        })
    }
}

/// The disk that would not takes the directory offline, with whatever it would not do.
fn fail_by(health: &DirectoryHealth, error: &OpenError) {
    if error.is_of_the_disk() {
        health.fail(|| error.to_string());
    }
}

/// A directory of logs, opened.
#[derive(Debug)]
pub(crate) struct LogDirectory {
    /// Takes the directory offline at the first error.
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    health: Arc<DirectoryHealth>,
    checkpoints: Mutex<Checkpoints>,
    deletions: Deletions,
    /// How many logs lie in it that somebody has.
    logs: AtomicUsize,
    /// Whether the broker that had it last shut it down.
    clean: bool,
    /// The broker epoch that a clean shutdown left.
    last_broker_epoch: Option<i64>,
    /// Held for its lock. Open from the start, so that it hears of every write that failed since.
    lock: Arc<dyn LogFile>,
}

impl LogDirectory {
    /// The way to the disk for all that lies in the directory.
    pub(crate) fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// Why the directory is offline; `None` while it works.
    pub(crate) fn failure(&self) -> Option<&OfflineDirectory> {
        self.health.failure()
    }

    /// An error if the directory is offline.
    pub(crate) fn check_online(&self) -> Result<(), LogError> {
        match self.failure() {
            Some(failure) => Err(LogError::Offline(failure.clone())),
            None => Ok(()),
        }
    }

    /// Takes the directory offline: a log in it has failed.
    pub(crate) fn fail(&self, error: &LogError) {
        self.health.fail(|| error.to_string());
    }

    /// Takes the directory offline if it could not be loaded because of its disk.
    pub(crate) fn fail_to_load(&self, error: &OpenError) {
        fail_by(&self.health, error);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many logs lie here that are in use, copies that are not complete among them.
    pub(crate) fn log_count(&self) -> usize {
        self.logs.load(Ordering::Relaxed)
    }

    /// A log is opened here.
    pub(crate) fn log_opened(&self) {
        self.logs.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody has the log any more.
    pub(crate) fn log_dropped(&self) {
        self.logs.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn was_clean(&self) -> bool {
        self.clean
    }

    pub(crate) fn last_broker_epoch(&self) -> Option<i64> {
        self.last_broker_epoch
    }

    /// What lies in the directory and is to go.
    pub(crate) fn deletions(&self) -> &Deletions {
        &self.deletions
    }

    fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        // Each change is one assignment, so that a panic elsewhere left nothing half done.
        self.checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn recovery_point(&self, partition: &TopicPartition) -> i64 {
        self.checkpoints()
            .recovery_points
            .get(partition)
            .unwrap_or(0)
    }

    pub(crate) fn log_start_offset(&self, partition: &TopicPartition) -> i64 {
        self.checkpoints()
            .log_start_offsets
            .get(partition)
            .unwrap_or(0)
    }

    pub(crate) fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.checkpoints().high_watermarks.get(partition)
    }

    pub(crate) fn high_watermarks(&self) -> Offsets {
        self.checkpoints().high_watermarks.offsets.clone()
    }

    /// Takes back a promise: what lies at `offset` and above will be replaced. On the disk when it returns.
    pub(crate) fn lower_recovery_point(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<(), StorageError> {
        let mut checkpoints = self.checkpoints();
        checkpoints.withdrawals += 1;
        let recovery_points = &mut checkpoints.recovery_points;
        if recovery_points
            .get(partition)
            .is_some_and(|known| known > offset)
        {
            recovery_points.set(partition, offset);
            recovery_points.write(&*self.fs)?;
        }
        Ok(())
    }

    /// The log starts where its first segment does. On the disk when it returns.
    pub(crate) fn forget_log_start_offset(
        &self,
        partition: &TopicPartition,
    ) -> Result<(), StorageError> {
        let mut checkpoints = self.checkpoints();
        checkpoints.withdrawals += 1;
        let log_start_offsets = &mut checkpoints.log_start_offsets;
        if log_start_offsets.get(partition).is_some() {
            log_start_offsets.remove(partition);
            log_start_offsets.write(&*self.fs)?;
        }
        Ok(())
    }

    /// To be asked before offsets are collected for [`LogDirectory::write_recovery_points`] or
    /// [`LogDirectory::write_log_start_offsets`].
    pub(crate) fn withdrawals(&self) -> u64 {
        self.checkpoints().withdrawals
    }

    /// Takes over the recovery points of all logs, which have been synced up to them. Does nothing if a log was truncated
    /// since `withdrawals` were counted: what was collected may say of it what no longer holds, and the next time comes
    /// soon.
    pub(crate) fn write_recovery_points(
        &self,
        offsets: Offsets,
        withdrawals: u64,
    ) -> Result<(), StorageError> {
        self.replace_unless_withdrawn(offsets, withdrawals, |checkpoints| {
            &mut checkpoints.recovery_points
        })
    }

    /// Likewise where the logs start that do not start with their first segment.
    pub(crate) fn write_log_start_offsets(
        &self,
        offsets: Offsets,
        withdrawals: u64,
    ) -> Result<(), StorageError> {
        self.replace_unless_withdrawn(offsets, withdrawals, |checkpoints| {
            &mut checkpoints.log_start_offsets
        })
    }

    fn replace_unless_withdrawn(
        &self,
        offsets: Offsets,
        withdrawals: u64,
        which: fn(&mut Checkpoints) -> &mut OffsetCheckpoint,
    ) -> Result<(), StorageError> {
        let mut checkpoints = self.checkpoints();
        if checkpoints.withdrawals != withdrawals {
            return Ok(());
        }
        let checkpoint = which(&mut checkpoints);
        checkpoint.replace(offsets);
        checkpoint.write(&*self.fs)
    }

    /// Takes over the high watermarks of some logs; those of the others stay (KAFKA-1647: never forget one because its
    /// partition has no leader just now).
    pub(crate) fn write_high_watermarks(&self, changed: &Offsets) -> Result<(), StorageError> {
        let high_watermarks = &mut self.checkpoints().high_watermarks;
        for (partition, offset) in changed {
            high_watermarks.set(partition, *offset);
        }
        high_watermarks.write(&*self.fs)
    }

    /// How far the log is compacted, if it ever was, or may have been.
    pub(crate) fn cleaner_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.checkpoints().cleaner_offsets.get(partition)
    }

    /// Offsets may be missing in the log from now on. On the disk when it returns.
    pub(crate) fn note_gaps(&self, partition: &TopicPartition) -> Result<(), StorageError> {
        let cleaner_offsets = &mut self.checkpoints().cleaner_offsets;
        if cleaner_offsets.get(partition).is_none() {
            cleaner_offsets.set(partition, 0);
            cleaner_offsets.write(&*self.fs)?;
        }
        Ok(())
    }

    /// The log is compacted up to `offset`: on the disk after [`LogDirectory::write_cleaner_offsets`].
    pub(crate) fn set_cleaner_offset(&self, partition: &TopicPartition, offset: i64) {
        self.checkpoints().cleaner_offsets.set(partition, offset);
    }

    /// What lies at `offset` and above will be replaced, by records that were not compacted. On the disk when it returns.
    pub(crate) fn lower_cleaner_offset(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<(), StorageError> {
        let cleaner_offsets = &mut self.checkpoints().cleaner_offsets;
        if cleaner_offsets
            .get(partition)
            .is_some_and(|known| known > offset)
        {
            cleaner_offsets.set(partition, offset);
            cleaner_offsets.write(&*self.fs)?;
        }
        Ok(())
    }

    /// Brings to the disk how far each log is compacted.
    pub(crate) fn write_cleaner_offsets(&self) -> Result<(), StorageError> {
        self.checkpoints().cleaner_offsets.write(&*self.fs)
    }

    /// Forgets all about a partition. The files follow when they are next written, at the latest before another log of
    /// that name begins.
    pub(crate) fn forget(&self, partition: &TopicPartition) {
        for checkpoint in self.checkpoints().all() {
            checkpoint.remove(partition);
        }
    }

    /// A partition's log is about to be made: what the files say of a deleted one of that name does not hold for it. On
    /// the disk when it returns.
    pub(crate) fn begin_anew(&self, partition: &TopicPartition) -> Result<(), StorageError> {
        for checkpoint in self.checkpoints().all() {
            checkpoint.remove(partition);
            checkpoint.write(&*self.fs)?;
        }
        Ok(())
    }

    /// Returns once everything that was written to the directory is on the disk.
    pub(crate) fn sync_all(&self) -> Result<(), StorageError> {
        self.lock.sync_file_system().attempt("sync", &self.path)
    }

    /// Says that the next start may take everything in the directory on trust.
    pub(crate) fn write_clean_shutdown(&self, broker_epoch: i64) -> Result<(), StorageError> {
        let content = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        write_replacing(
            &*self.fs,
            &self.path.join(CLEAN_SHUTDOWN),
            content.as_bytes(),
            Durability::Synced,
        )
    }
}

fn lock(fs: &dyn FileSystem, directory: &Path) -> Result<Arc<dyn LogFile>, OpenError> {
    let path = directory.join(LOCK);
    let file = fs.create(&path).attempt("create", &path)?;
    if file.try_lock().attempt("lock", &path)? {
        let pid = std::process::id().to_string();
        file.set_size(0).attempt("empty", &path)?;
        file.write_all_at(pid.as_bytes(), 0)
            .attempt("write", &path)?;
        return Ok(file);
    }
    let mut content = [0; 20];
    let count = file.read_at(&mut content, 0).attempt("read", &path)?;
    let pid = std::str::from_utf8(&content[..count])
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    // Apache Kafka leaves its lock file empty.
    let holder = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    Err(OpenError::Locked {
        path: directory.to_owned(),
        holder,
    })
}

fn identify(
    fs: &dyn FileSystem,
    directory: &Path,
    broker_id: i32,
    cluster_id: &str,
) -> Result<(), OpenError> {
    let other = |what: &'static str, found: String, expected: String| {
        Err(OpenError::OtherOwner {
            path: directory.to_owned(),
            what,
            found,
            expected,
        })
    };
    let known = match meta_properties::read(fs, directory)? {
        Found::Intact(properties) => Some(properties),
        Found::Missing => None,
        Found::Rubbish(reason) => {
            return Err(OpenError::Unidentified {
                path: directory.join(META_PROPERTIES),
                reason,
            });
        }
    };
    let (known_broker, known_cluster) =
        known.map_or((None, None), |known| (known.broker_id, known.cluster_id));
    if let Some(found) = known_broker.filter(|found| *found != broker_id) {
        return other("broker.id", found.to_string(), broker_id.to_string());
    }
    if let Some(found) = known_cluster.clone().filter(|found| found != cluster_id) {
        return other("cluster.id", found, cluster_id.to_owned());
    }
    if known_broker.is_none() || known_cluster.is_none() {
        meta_properties::write(fs, directory, broker_id, cluster_id)?;
    }
    Ok(())
}

/// Whether the directory was shut down cleanly, and the broker epoch that was noted then. The note is gone afterwards, so
/// that it does not speak for what this broker does.
fn take_clean_shutdown(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<(bool, Option<i64>), StorageError> {
    let path = directory.join(CLEAN_SHUTDOWN);
    let content = match read_small(fs, &path, MAX_SMALL_BYTES)? {
        Found::Missing => return Ok((false, None)),
        Found::Rubbish(_) => None,
        Found::Intact(content) => Some(content),
    };
    fs.remove_file(&path).attempt("remove", &path)?;
    fs.sync_directory(directory).attempt("sync", directory)?;
    let Some(content) = content else {
        return Ok((false, None));
    };
    let epoch = std::str::from_utf8(&content).ok().and_then(|text| {
        let value = text.split_once("\"brokerEpoch\":")?.1;
        let end = value
            .find(|letter: char| letter != '-' && !letter.is_ascii_digit())
            .unwrap_or(value.len());
        value[..end].parse().ok()
    });
    Ok((true, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn a_recovery_point_that_was_taken_back_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let offline = Arc::default();
        let fs = Arc::new(StdFileSystem);
        let claimed = ClaimedDirectory::claim(fs, path, &offline, 1, "cluster").unwrap();
        let directory = claimed.open().unwrap();
        let partition = TopicPartition::new("t", 0);
        let write = |offset, withdrawals| {
            let recovery_points = Offsets::from([(partition.clone(), offset)]);
            directory
                .write_recovery_points(recovery_points, withdrawals)
                .unwrap();
        };
        let before = directory.withdrawals();
        write(100, before);
        assert_eq!(directory.recovery_point(&partition), 100);
        // The log was truncated after its recovery point was collected, and before it is written.
        directory.lower_recovery_point(&partition, 50).unwrap();
        write(100, before);
        assert_eq!(directory.recovery_point(&partition), 50);
        write(60, directory.withdrawals());
        assert_eq!(directory.recovery_point(&partition), 60);

        // Likewise where it starts, if it began anew.
        let before = directory.withdrawals();
        let start = || Offsets::from([(partition.clone(), 30)]);
        directory.write_log_start_offsets(start(), before).unwrap();
        assert_eq!(directory.log_start_offset(&partition), 30);
        directory.forget_log_start_offset(&partition).unwrap();
        directory.write_log_start_offsets(start(), before).unwrap();
        assert_eq!(directory.log_start_offset(&partition), 0);
    }
}
