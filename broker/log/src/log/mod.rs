//! One partition's log.
//!
//! A sequence of segments, the last of them active. `&mut self` changes it, `&self` reads; whoever owns it holds it behind
//! a short lock, since nothing here waits but for the disk. Memory changes only after the files have: a write that
//! fails fences the log, which then takes no further one.

mod append;
mod cleaning;
mod flush;
mod load;
mod moving;
mod read;
mod recovery;
mod retention;
mod swap;
mod timestamps;
mod transactions;
mod truncate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::{TopicPartition, Uuid};

pub use self::append::{AppendInfo, LeaderRecords};
pub(crate) use self::flush::Flush;
pub(crate) use self::load::{OpenLog, bytes_to_verify};
pub use self::read::{FetchData, FileRange};
pub use self::timestamps::TimestampAndOffset;
use crate::checkpoint;
use crate::config::LogConfig;
use crate::error::{LogError, UnsupportedFormat};
use crate::file_names::{self, LEADER_EPOCH_CHECKPOINT, PRODUCER_SNAPSHOT};
use crate::file_system::{Durability, FileSystem, StorageError};
use crate::leader_epoch_cache::{EpochEntry, LeaderEpochCache};
use crate::log_directory::LogDirectory;
use crate::offline::OfflineDirectory;
use crate::partition_metadata;
use crate::producer::{ProducerState, snapshot};
use crate::segment::LogSegment;

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    fs: Arc<dyn FileSystem>,
    log_directory: Arc<LogDirectory>,
    directory: PathBuf,
    topic_partition: TopicPartition,
    topic_id: Option<Uuid>,
    config: Arc<LogConfig>,
    /// By base offset; never empty. In boxes, for a node of the map has room for eleven.
    segments: BTreeMap<i64, Box<LogSegment>>,
    log_start_offset: i64,
    log_end_offset: i64,
    /// What lies before it is on the disk for certain.
    recovery_point: i64,
    /// When the log was last flushed, for `flush.ms`.
    last_flush_ms: i64,
    /// How often the log was truncated: what was read of it before means nothing after.
    truncations: u64,
    epochs: LeaderEpochCache,
    producers: ProducerState,
    /// The newest producer snapshot.
    snapshot_offset: Option<i64>,
    /// Why the log takes no more writes.
    fenced: Option<String>,
    /// Why nothing of the log can be served: it was left as it was found.
    unsupported: Option<UnsupportedFormat>,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.log_directory.log_dropped();
    }
}

impl Log {
    /// Whose log this is.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The topic's id, if the directory knows it.
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// Gives an id to a log that has none yet.
    pub(crate) fn set_topic_id(&mut self, topic_id: Uuid) -> Result<(), StorageError> {
        partition_metadata::write(&*self.fs, &self.directory, topic_id)?;
        self.topic_id = Some(topic_id);
        Ok(())
    }

    /// The directory that holds the log's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Why the log's directory is offline; `None` while it works.
    pub fn offline(&self) -> Option<&OfflineDirectory> {
        self.log_directory.failure()
    }

    pub(crate) fn log_directory(&self) -> &Arc<LogDirectory> {
        &self.log_directory
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Whether records at the front of the first segment are no longer to be read.
    pub(crate) fn starts_within_segment(&self) -> bool {
        self.segments
            .keys()
            .next()
            .is_some_and(|base_offset| self.log_start_offset > *base_offset)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// What lies before this offset survives a power cut.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point
    }

    /// Bytes of record batches in all segments.
    pub fn size(&self) -> u64 {
        self.segments.values().map(|segment| segment.size()).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The configuration in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The configuration in force, for who goes on without the log's lock.
    pub fn shared_config(&self) -> Arc<LogConfig> {
        self.config.clone()
    }

    /// Puts another configuration in force. What has to do with a segment's indexes holds from the next segment on.
    pub fn update_config(&mut self, config: LogConfig) {
        self.config = Arc::new(config);
    }

    /// The leader epoch of the last leader that is known.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.latest().map(|entry| entry.epoch)
    }

    /// The leader epochs of the log, oldest first.
    pub fn epochs(&self) -> &[EpochEntry] {
        self.epochs.entries()
    }

    /// The leader epoch that wrote the record at `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.epochs.epoch_of(offset)
    }

    /// What a leader answers to OffsetForLeaderEpoch: the largest epoch that is not above `epoch`, and where it ended.
    /// `None` if the log knows no epochs, or `epoch` is later than its latest (KIP-101, KIP-279).
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.end_offset_for(epoch, self.log_end_offset)
    }

    /// Says that leader epoch `epoch` begins at `start_offset`: called by who becomes leader, before the first append,
    /// so that the epoch is known even if it never writes (KAFKA-7415).
    pub fn assign_epoch(&mut self, epoch: i32, start_offset: i64) -> Result<(), LogError> {
        self.check_writable()?;
        if self.epochs.assign(epoch, start_offset) {
            let written = self.write_epochs();
            self.fence_on_error(written)?;
        }
        Ok(())
    }

    /// The checkpoint is in place for whoever starts after a kill; [`Log::flush`] syncs it before it moves the recovery
    /// point. Until then a power cut may bring an older one back, but then the part of the log above the recovery point
    /// is read again, and the epochs are in its batches.
    fn write_epochs(&self) -> Result<(), LogError> {
        let path = self.directory.join(LEADER_EPOCH_CHECKPOINT);
        let pairs = self
            .epochs
            .entries()
            .iter()
            .map(|entry| (entry.epoch, entry.start_offset));
        Ok(checkpoint::write_epochs(
            &*self.fs,
            &path,
            pairs,
            Durability::Buffered,
        )?)
    }

    /// Forgets the producers that wrote nothing for `producer.id.expiration.ms`.
    pub(crate) fn remove_expired_producers(&mut self, now_ms: i64) {
        self.producers
            .remove_expired(now_ms, self.config.producer_id_expiration_ms);
    }

    /// How many idempotent producers the log remembers.
    pub fn producer_count(&self) -> usize {
        self.producers.entries().len()
    }

    /// Whether the log takes no more writes, because one failed or because it is closed.
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    /// Whether nothing is done with the log any more until the broker starts anew: it is fenced, or its directory offline.
    pub fn is_out_of_use(&self) -> bool {
        self.is_fenced() || self.offline().is_some()
    }

    /// Whether its segments are in the format that is served.
    fn check_supported(&self) -> Result<(), LogError> {
        match &self.unsupported {
            Some(unsupported) => Err(unsupported.clone().into()),
            None => Ok(()),
        }
    }

    fn check_writable(&self) -> Result<(), LogError> {
        self.check_supported()?;
        match &self.fenced {
            Some(reason) => Err(LogError::Fenced {
                reason: reason.clone(),
            }),
            None => self.log_directory.check_online(),
        }
    }

    /// After a failed write or sync nobody knows what the files hold, so that it must not be tried again (KAFKA-10778), and
    /// the log's directory goes offline; not for bytes that are no batch, which say nothing of the other logs.
    fn fence_on_error<T, E: Into<LogError>>(
        &mut self,
        result: Result<T, E>,
    ) -> Result<T, LogError> {
        result.map_err(|error| {
            let error = error.into();
            self.fence(&error);
            error
        })
    }

    pub(crate) fn fence(&mut self, error: &LogError) {
        if self.fenced.is_none() {
            tracing::error!(partition = %self.topic_partition, %error, "the log takes no more writes");
            self.fenced = Some(error.to_string());
            if !error.is_for_open_files() && !error.is_of_the_content() {
                self.log_directory.fail(error);
            }
        }
    }

    /// The segment that is appended to.
    fn active(&self) -> Option<&LogSegment> {
        self.segments
            .last_key_value()
            .map(|(_, segment)| &**segment)
    }

    /// Closes the active segment and begins a new one at `base_offset`, which is not below the log's end.
    fn roll(&mut self, base_offset: i64, now_ms: i64) -> Result<(), LogError> {
        let empty = match self.segments.last_entry() {
            Some(mut last) if last.get().size() > 0 => {
                last.get_mut().close()?;
                None
            }
            Some(last) => Some(last.remove()),
            None => None,
        };
        if let Some(empty) = empty {
            // The snapshot of its offset goes with it.
            self.snapshot_offset = self
                .snapshot_offset
                .filter(|offset| *offset != empty.base_offset());
            empty.remove()?;
        }
        self.write_snapshot()?;
        let segment =
            LogSegment::create(&self.fs, &self.directory, base_offset, &self.config, now_ms)?;
        self.segments.insert(base_offset, Box::new(segment));
        Ok(())
    }

    /// Writes the producers as they are at the log's end, unless that is already on file.
    fn write_snapshot(&mut self) -> Result<(), LogError> {
        if self.snapshot_offset != Some(self.log_end_offset) {
            snapshot::write(
                &*self.fs,
                &self.snapshot_path(self.log_end_offset),
                &self.producers,
            )?;
            self.snapshot_offset = Some(self.log_end_offset);
        }
        Ok(())
    }

    /// Takes segments out of use, each with the producer snapshot of its base offset: their files are renamed now, and
    /// unlinked once `file.delete.delay.ms` have passed. The caller has taken them out of `segments`.
    fn delete_segments(
        &self,
        segments: impl Iterator<Item = Box<LogSegment>>,
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let deletions = self.log_directory.deletions();
        let due_ms = now_ms.saturating_add(self.config.file_delete_delay_ms);
        for segment in segments {
            let snapshot = self.snapshot_path(segment.base_offset());
            segment.mark_deleted(deletions, due_ms)?;
            deletions.rename_file(&*self.fs, &snapshot, due_ms)?;
        }
        Ok(())
    }

    fn snapshot_path(&self, offset: i64) -> PathBuf {
        file_names::segment_file(&self.directory, offset, PRODUCER_SNAPSHOT)
    }

    /// Brings the log to the form in which it can be opened without reading it: producers on file, indexes cut to their
    /// entries. It takes no more writes. What was written has still to be synced.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        if self.unsupported.is_some() {
            // It is as it was found.
            return Ok(());
        }
        self.check_writable()?;
        let closed = self
            .write_snapshot()
            .and_then(|()| match self.segments.last_entry() {
                Some(mut active) => active.get_mut().close(),
                None => Ok(()),
            });
        self.fence_on_error(closed)?;
        self.fenced = Some("it is closed".to_owned());
        Ok(())
    }

    /// Everything that was written to the log directory is on the disk.
    pub(crate) fn all_is_synced(&mut self) {
        if self.unsupported.is_none() {
            self.recovery_point = self.log_end_offset;
        }
    }

    /// Takes the log out of use because its partition is deleted; readers that hold a file keep it.
    pub(crate) fn retire(&mut self) {
        self.fenced = Some("its partition is deleted".to_owned());
    }
}
