//! Opening a log, and mending one whose broker did not shut it down.
//!
//! After a clean shutdown nothing is read but the ends of the files. Otherwise every byte from the recovery point on is
//! checked, and the log is cut at the first that is not part of an intact batch. What only saves time (indexes,
//! snapshots, checkpoints) is made again where it is missing or wrong, and is never a reason not to open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::{TopicPartition, Uuid};

use super::{Log, swap};
use crate::batch_scanner::{Depth, PlacedBatch};
use crate::checkpoint;
use crate::config::LogConfig;
use crate::error::{LogError, UnsupportedFormat};
use crate::file_names::{
    self, DELETED, LEADER_EPOCH_CHECKPOINT, LOG, OFFSET_INDEX, TEMPORARY, TIME_INDEX,
    TRANSACTION_INDEX,
};
use crate::file_system::{
    Attempt, DirectoryEntry, FileSystem, Found, StorageError, remove_if_there,
};
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::load_progress::LoadProgress;
use crate::log_directory::LogDirectory;
use crate::partition_metadata;
use crate::producer::{ProducerState, snapshot};
use crate::segment::LogSegment;
use crate::transaction_index::AbortedTransaction;

/// What there is to know before a log is opened.
#[derive(Debug)]
pub(crate) struct OpenLog<'a> {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) log_directory: Arc<LogDirectory>,
    /// The log's own directory, within `log_directory`.
    pub(crate) directory: PathBuf,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) config: LogConfig,
    /// The broker shut the log down, and nobody wrote since.
    pub(crate) clean: bool,
    pub(crate) recovery_point: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) now_ms: i64,
    pub(crate) progress: &'a LoadProgress,
}

/// What was put right, in the words of the one line that says so.
#[derive(Debug, Default)]
pub(super) struct Mended(Vec<String>);

impl Mended {
    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }
}

impl OpenLog<'_> {
    /// Opens the log, or makes it if its directory is empty.
    pub(crate) fn open(self) -> Result<Log, LogError> {
        let directory = self.directory.clone();
        let mut mended = Mended::default();
        let listed = self.fs.list(&directory).attempt("list", &directory)?;
        let mut topic_id = None;
        if !listed.is_empty() {
            tidy(&*self.fs, &directory, &listed, &mut mended)?;
            topic_id = read_topic_id(&*self.fs, &directory, &mut mended)?;
        }
        self.log_directory.log_opened();
        let mut log = Log {
            fs: self.fs.clone(),
            log_directory: self.log_directory.clone(),
            directory,
            topic_partition: self.topic_partition.clone(),
            topic_id,
            config: Arc::new(self.config.clone()),
            segments: BTreeMap::new(),
            log_start_offset: 0,
            log_end_offset: 0,
            recovery_point: 0,
            last_flush_ms: self.now_ms,
            truncations: 0,
            epochs: LeaderEpochCache::default(),
            producers: Default::default(),
            snapshot_offset: None,
            fenced: None,
            unsupported: None,
        };
        let loaded = match listed.is_empty() {
            true => log.create_first_segment(&self),
            false => log.load(&self, &mut mended),
        };
        match loaded {
            Err(LogError::UnsupportedFormat(unsupported)) => log.refuse(unsupported, &self),
            loaded => loaded?,
        }
        if !mended.0.is_empty() {
            let what = mended.0.join("; ");
            tracing::warn!(partition = %log.topic_partition, end = log.log_end_offset, "mended the log: {what}");
        }
        Ok(log)
    }
}

/// Ends what a former broker left half done: removes the files that it was writing or deleting, completes or undoes a
/// compaction, removes what belongs to no segment.
fn tidy(
    fs: &dyn FileSystem,
    directory: &Path,
    listed: &[DirectoryEntry],
    mended: &mut Mended,
) -> Result<(), LogError> {
    for entry in listed.iter().filter(|entry| !entry.is_directory) {
        if [DELETED, TEMPORARY]
            .iter()
            .any(|suffix| entry.name.ends_with(suffix))
        {
            remove_if_there(fs, &directory.join(&entry.name))?;
        }
    }
    for base_offset in swap::complete_or_undo(fs, directory)? {
        mended.note(format!("a compaction into segment {base_offset} completed"));
    }
    remove_orphans(fs, directory)
}

fn read_topic_id(
    fs: &dyn FileSystem,
    directory: &Path,
    mended: &mut Mended,
) -> Result<Option<Uuid>, LogError> {
    Ok(match partition_metadata::read(fs, directory)? {
        Found::Intact(topic_id) => Some(topic_id),
        Found::Missing => None,
        Found::Rubbish(reason) => {
            mended.note(format!(
                "partition.metadata held {reason}, the topic's id is unknown"
            ));
            None
        }
    })
}

/// The base offsets of the segments in a directory, rising.
pub(super) fn segment_offsets(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Vec<i64>, StorageError> {
    let entries = fs.list(directory).attempt("list", directory)?;
    let parsed = entries
        .iter()
        .filter_map(|entry| file_names::parse_segment_file(&entry.name));
    let mut offsets: Vec<i64> = parsed
        .filter(|(_, extension)| *extension == LOG)
        .map(|(offset, _)| offset)
        .collect();
    offsets.sort_unstable();
    Ok(offsets)
}

/// Removes the indexes of segments that are gone.
fn remove_orphans(fs: &dyn FileSystem, directory: &Path) -> Result<(), LogError> {
    let segments = segment_offsets(fs, directory)?;
    for entry in fs.list(directory).attempt("list", directory)? {
        if let Some((offset, OFFSET_INDEX | TIME_INDEX | TRANSACTION_INDEX)) =
            file_names::parse_segment_file(&entry.name)
            && segments.binary_search(&offset).is_err()
        {
            remove_if_there(fs, &directory.join(&entry.name))?;
        }
    }
    Ok(())
}

/// The base offset of the segment that holds `offset`: of the first if it lies before them, of the last if after.
pub(super) fn floor(base_offsets: impl Iterator<Item = i64>, offset: i64) -> i64 {
    base_offsets
        .take_while(|base_offset| *base_offset <= offset)
        .last()
        .unwrap_or(0)
}

/// How many bytes of a log will be verified when it is opened without having been shut down.
pub(crate) fn bytes_to_verify(
    fs: &dyn FileSystem,
    directory: &Path,
    recovery_point: i64,
) -> Result<u64, StorageError> {
    let base_offsets = segment_offsets(fs, directory)?;
    let verify_from = floor(base_offsets.iter().copied(), recovery_point);
    let mut bytes = 0;
    for base_offset in base_offsets {
        if base_offset >= verify_from {
            let path = file_names::segment_file(directory, base_offset, LOG);
            let file = fs.open(&path).attempt("open", &path)?;
            bytes += file.size().attempt("read the size of", &path)?;
        }
    }
    Ok(bytes)
}

impl Log {
    fn load(&mut self, open: &OpenLog<'_>, mended: &mut Mended) -> Result<(), LogError> {
        match self.open_segments(open, mended)? {
            true => self.recover(open, mended),
            false => self.create_first_segment(open),
        }
    }

    /// Leaves a log alone whose end is in a format that is not served; the broker has others.
    fn refuse(&mut self, unsupported: UnsupportedFormat, open: &OpenLog<'_>) {
        tracing::error!(partition = %self.topic_partition, "the log is not served: {unsupported}");
        self.recovery_point = open.recovery_point;
        self.log_end_offset = open.recovery_point.max(self.log_start_offset);
        self.fenced = Some(unsupported.to_string());
        self.unsupported = Some(unsupported);
    }

    /// Opens what segments there are. False if there were none.
    fn open_segments(&mut self, open: &OpenLog<'_>, mended: &mut Mended) -> Result<bool, LogError> {
        let base_offsets = segment_offsets(&*self.fs, &self.directory)?;
        let verify_from = floor(base_offsets.iter().copied(), open.recovery_point);
        let mut rebuilt = 0;
        for base_offset in &base_offsets {
            let opened = LogSegment::open(
                &self.fs,
                &self.directory,
                *base_offset,
                &self.config,
                open.now_ms,
            )?;
            let (mut segment, without_index) = opened;
            // Those that will be verified get their indexes then.
            if without_index && (open.clean || *base_offset < verify_from) {
                let is_last = base_offsets.last() == Some(base_offset);
                let rebuilding = match is_last {
                    true => segment.rebuild_indexes(&self.config).map(drop),
                    false => segment.rebuild_closed_indexes(&self.config).map(drop),
                };
                match rebuilding {
                    // What can be read of it is found without an index.
                    Err(LogError::UnsupportedFormat(_)) if is_last => {}
                    Err(LogError::UnsupportedFormat(_)) => {
                        segment.close()?;
                        segment.sync_indexes()?;
                    }
                    rebuilding => rebuilding?,
                }
                rebuilt += 1;
            }
            self.segments.insert(*base_offset, Box::new(segment));
        }
        if rebuilt > 0 {
            mended.note(format!("indexes of {rebuilt} segments rebuilt"));
        }
        Ok(!self.segments.is_empty())
    }

    fn create_first_segment(&mut self, open: &OpenLog<'_>) -> Result<(), LogError> {
        let start = open.log_start_offset;
        let segment =
            LogSegment::create(&self.fs, &self.directory, start, &self.config, open.now_ms)?;
        self.segments.insert(start, Box::new(segment));
        (self.log_start_offset, self.log_end_offset) = (start, start);
        Ok(())
    }

    /// Finds where the log ends, and what it remembers of it: first of the part that is taken on trust, to which the part
    /// that has to be verified is then added batch by batch.
    fn recover(&mut self, open: &OpenLog<'_>, mended: &mut Mended) -> Result<(), LogError> {
        let first_base = self.segments.keys().next().copied().unwrap_or(0);
        self.log_start_offset = first_base.max(open.log_start_offset);
        let verify_from = self.find_trusted_end(open, mended)?;
        let epochs_on_file = self.load_epochs(mended)?;
        if verify_from.is_some() {
            self.remove_snapshots_above(open.recovery_point)?;
        }
        self.load_producers(self.damaged_transactions_from())?;
        if let Some(base_offset) = verify_from {
            self.verify_from(base_offset, open, mended)?;
        }
        self.recovery_point = match open.clean {
            true => self.log_end_offset,
            // It may lie beyond the end (KAFKA-10101), and verifying syncs nothing.
            false => open.recovery_point.clamp(0, self.log_end_offset),
        };
        // What is appended now has still to be synced, however far the log once came.
        self.log_directory
            .lower_recovery_point(&self.topic_partition, self.log_end_offset)?;
        self.drop_if_it_ends_before_its_start(open, mended)?;
        self.epochs.truncate_from_end(self.log_end_offset);
        self.epochs.truncate_from_start(self.log_start_offset);
        if Some(&self.epochs) != epochs_on_file.as_ref() {
            self.write_epochs()?;
        }
        self.remove_stray_snapshots()
    }

    fn drop_if_it_ends_before_its_start(
        &mut self,
        open: &OpenLog<'_>,
        mended: &mut Mended,
    ) -> Result<(), LogError> {
        let (start, end) = (self.log_start_offset, self.log_end_offset);
        if end >= start {
            return Ok(());
        }
        mended.note(format!(
            "dropped as a whole, for it ended at {end} but starts at {start}"
        ));
        let dropped = std::mem::take(&mut self.segments);
        self.replace_segments(dropped, start, open.now_ms)?;
        self.log_end_offset = start;
        self.producers = Default::default();
        self.remove_snapshots_above(-1)
    }

    /// Loads the leader epochs up to the end of the log, from the batches if the checkpoint is of no use. What the
    /// checkpoint held, `None` if that cannot stay as it is.
    fn load_epochs(&mut self, mended: &mut Mended) -> Result<Option<LeaderEpochCache>, LogError> {
        let path = self.directory.join(LEADER_EPOCH_CHECKPOINT);
        let (on_file, cause) = match checkpoint::read_epochs(&*self.fs, &path)? {
            Found::Intact(pairs) => {
                let on_file = LeaderEpochCache::from_checkpoint(pairs);
                self.epochs = on_file.clone();
                // After a power cut the checkpoint may be of another history than the batches above the recovery point.
                self.epochs.truncate_from_end(self.log_end_offset);
                return Ok(Some(on_file));
            }
            Found::Missing => (Some(LeaderEpochCache::default()), "was empty".to_owned()),
            Found::Rubbish(reason) => (None, format!("held {reason}")),
        };
        let mut epochs = LeaderEpochCache::default();
        self.each_trusted_batch(i64::MIN, |_, batch| {
            epochs.continue_with(&batch.header);
            Ok(())
        })?;
        if on_file.as_ref() != Some(&epochs) {
            mended.note(format!(
                "leader epochs found again, for their checkpoint {cause}"
            ));
        }
        self.epochs = epochs;
        Ok(on_file)
    }

    /// The base offset of the first segment, of those that are taken on trust, whose transaction index is damaged.
    fn damaged_transactions_from(&self) -> Option<i64> {
        let mut trusted = self.segments.range(..self.log_end_offset);
        let (base_offset, _) =
            trusted.find(|(_, segment)| segment.transaction_index().is_damaged())?;
        tracing::warn!(partition = %self.topic_partition, segment = base_offset, "a transaction index is damaged: it and those after it are made again");
        Some(*base_offset)
    }

    /// Brings the producers to the end of the log: from the newest good snapshot, and the batches after it. The
    /// transaction indexes of the segments from `rebuild_from` on are made anew.
    pub(super) fn load_producers(&mut self, rebuild_from: Option<i64>) -> Result<(), LogError> {
        let rebuild_from = rebuild_from.unwrap_or(i64::MAX);
        let newest_of_use = rebuild_from.min(self.log_end_offset);
        let mut producers = ProducerState::default();
        self.snapshot_offset = None;
        let mut from = self.log_start_offset;
        for offset in self.snapshot_offsets()? {
            if offset > newest_of_use || offset < self.log_start_offset {
                continue;
            }
            let path = self.snapshot_path(offset);
            if let Some(found) = snapshot::read(&*self.fs, &path)? {
                producers = found;
                self.snapshot_offset = Some(offset);
                from = offset;
                break;
            }
            tracing::warn!(snapshot = %path.display(), "the producer snapshot is damaged and is not used");
            remove_if_there(&*self.fs, &path)?;
        }
        let mut aborted: Vec<(i64, AbortedTransaction)> = Vec::new();
        if from < self.log_end_offset {
            self.each_trusted_batch(from, |segment, batch| {
                let ended = producers.replay(&batch.header, || segment.marker(batch))?;
                if segment.base_offset() >= rebuild_from {
                    aborted.extend(ended.map(|ended| (segment.base_offset(), ended)));
                }
                Ok(())
            })?;
        }
        self.producers = producers;
        for (_, segment) in self.segments.range_mut(rebuild_from..) {
            segment.transaction_index_mut().clear()?;
        }
        for (base_offset, aborted) in &aborted {
            if let Some(segment) = self.segments.get_mut(base_offset) {
                segment.transaction_index_mut().append(aborted)?;
            }
        }
        Ok(())
    }

    /// Shows the batches from `from` on to the end of the log. Of a segment that cannot be read only those before
    /// that: what is known of it must do.
    fn each_trusted_batch(
        &self,
        from: i64,
        mut see: impl FnMut(&LogSegment, &PlacedBatch) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let floor = floor(self.segments.keys().copied(), from);
        for segment in self.segments.range(floor..).map(|(_, segment)| segment) {
            if segment.base_offset() >= self.log_end_offset {
                break;
            }
            let found = segment.find(from).and_then(|first| match first {
                Some(first) => {
                    let mut batches = segment.scan(first.position, Depth::Headers)?;
                    while let Some(batch) = batches.next()? {
                        see(segment, &batch)?;
                    }
                    Ok(())
                }
                None => Ok(()),
            });
            match found {
                Err(error) if error.is_of_the_content() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Removes the snapshots above the end of the log, and those that belong to no segment, except the newest.
    fn remove_stray_snapshots(&mut self) -> Result<(), LogError> {
        for offset in self.snapshot_offsets()? {
            let of_use =
                Some(offset) == self.snapshot_offset || self.segments.contains_key(&offset);
            if !of_use || offset > self.log_end_offset {
                remove_if_there(&*self.fs, &self.snapshot_path(offset))?;
            }
        }
        self.snapshot_offset = self
            .snapshot_offset
            .filter(|offset| *offset <= self.log_end_offset);
        Ok(())
    }
}
