//! Opening a log, and mending one whose broker did not shut it down.
//!
//! After a clean shutdown nothing is read but the ends of the files. Otherwise every byte from the recovery point on is
//! checked, and the log is cut at the first that is not part of an intact batch. What only saves time (indexes,
//! snapshots, checkpoints) is made again where it is missing or wrong, and is never a reason not to open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::TopicPartition;

use super::Log;
use crate::batch_scanner::{BatchScanner, Depth};
use crate::checkpoint;
use crate::config::LogConfig;
use crate::error::LogError;
use crate::file_names::{
    self, CLEANED, DELETED, LEADER_EPOCH_CHECKPOINT, LOG, OFFSET_INDEX, PRODUCER_SNAPSHOT, SWAP,
    TEMPORARY, TIME_INDEX, TRANSACTION_INDEX,
};
use crate::file_system::{Attempt, FileSystem, Found, StorageError, remove_if_there};
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log_directory::LogDirectory;
use crate::partition_metadata;
use crate::producer::{ProducerBatch, snapshot};
use crate::segment::{LogSegment, remove_segment_files};

/// What there is to know before a log is opened.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) log_directory: Arc<LogDirectory>,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) config: LogConfig,
    /// The broker shut the log down, and nobody wrote since.
    pub(crate) clean: bool,
    pub(crate) recovery_point: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) now_ms: i64,
}

/// What was put right, in the words of the one line that says so.
#[derive(Debug, Default)]
struct Mended(Vec<String>);

impl Mended {
    fn note(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }
}

impl OpenLog {
    /// Opens the log, or makes it if its directory is empty.
    pub(crate) fn open(self) -> Result<Log, LogError> {
        let directory = self
            .log_directory
            .path()
            .join(file_names::partition_directory(&self.topic_partition));
        let mut mended = Mended::default();
        tidy(&*self.fs, &directory, &mut mended)?;
        let topic_id = match partition_metadata::read(&*self.fs, &directory)? {
            Found::Intact(topic_id) => Some(topic_id),
            Found::Missing => None,
            Found::Rubbish(reason) => {
                mended.note(format!(
                    "partition.metadata held {reason}, the topic's id is unknown"
                ));
                None
            }
        };
        let mut log = Log {
            fs: self.fs.clone(),
            log_directory: self.log_directory.clone(),
            directory,
            topic_partition: self.topic_partition.clone(),
            topic_id,
            config: self.config.clone(),
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
            batches: Vec::new(),
        };
        let fresh = log.open_segments(&self, &mut mended)?;
        let verified_from = log.find_end(&self, &mut mended)?;
        log.find_start(&self, &mut mended)?;
        if !fresh {
            log.load_epochs(verified_from, &mut mended)?;
            log.trust_snapshots_up_to(verified_from.map(|_| self.recovery_point))?;
            log.load_producers()?;
            log.remove_stray_snapshots()?;
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
fn tidy(fs: &dyn FileSystem, directory: &Path, mended: &mut Mended) -> Result<(), LogError> {
    let entries = fs.list(directory).attempt("list", directory)?;
    let names: Vec<&str> = entries
        .iter()
        .filter(|entry| !entry.is_directory)
        .map(|entry| entry.name.as_str())
        .collect();
    let offset_of = |name: &str| file_names::parse_segment_file(name).map(|(offset, _)| offset);

    // A swap at or above an unfinished output belongs to a compaction whose outputs are not all there.
    let unfinished = names
        .iter()
        .filter(|name| name.ends_with(CLEANED))
        .filter_map(|name| offset_of(name))
        .min();
    let mut swaps = Vec::new();
    for name in &names {
        let undone = unfinished
            .zip(offset_of(name))
            .is_some_and(|(unfinished, offset)| offset >= unfinished);
        if [DELETED, CLEANED, TEMPORARY]
            .iter()
            .any(|suffix| name.ends_with(suffix))
            || name.ends_with(SWAP) && undone
        {
            let path = directory.join(name);
            remove_if_there(fs, &path)?;
        } else if name.ends_with(SWAP) {
            swaps.push(*name);
        }
    }
    let replaces_log = format!("{LOG}{SWAP}");
    for name in &swaps {
        if let Some((base_offset, extension)) = file_names::parse_segment_file(name)
            && extension == replaces_log
        {
            remove_replaced(fs, directory, name, base_offset)?;
            mended.note(format!("a compaction into segment {base_offset} completed"));
        }
    }
    for name in &swaps {
        let to = directory.join(name.trim_end_matches(SWAP));
        fs.rename(&directory.join(name), &to)
            .attempt("rename to", &to)?;
    }
    remove_orphans(fs, directory)
}

/// Removes the segments that the output of a compaction replaces: those that begin within its offsets.
fn remove_replaced(
    fs: &dyn FileSystem,
    directory: &Path,
    swap: &str,
    base_offset: i64,
) -> Result<(), LogError> {
    let path = directory.join(swap);
    let file = fs.open(&path).attempt("open", &path)?;
    let size = file.size().attempt("read the size of", &path)?;
    let mut next_offset = base_offset;
    let mut scanner = BatchScanner::new(&*file, &path, 0, size, Depth::Headers);
    while let Some(batch) = scanner.next()? {
        next_offset = batch.header.next_offset();
    }
    for replaced in segment_offsets(fs, directory)? {
        if (base_offset..next_offset).contains(&replaced) {
            remove_segment_files(fs, directory, replaced)?;
        }
    }
    // Its log may be gone already, and its indexes still there.
    Ok(remove_segment_files(fs, directory, base_offset)?)
}

/// The base offsets of the segments in a directory, rising.
fn segment_offsets(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<i64>, StorageError> {
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
fn floor(base_offsets: impl Iterator<Item = i64>, offset: i64) -> i64 {
    base_offsets
        .take_while(|base_offset| *base_offset <= offset)
        .last()
        .unwrap_or(0)
}

impl Log {
    /// Opens what segments there are. True if there were none.
    fn open_segments(&mut self, open: &OpenLog, mended: &mut Mended) -> Result<bool, LogError> {
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
                segment.recover(Depth::Headers, &self.config, -1)?;
                if base_offsets.last() != Some(base_offset) {
                    segment.close()?;
                }
                rebuilt += 1;
            }
            self.segments.insert(*base_offset, segment);
        }
        if rebuilt > 0 {
            mended.note(format!("indexes of {rebuilt} segments rebuilt"));
        }
        Ok(self.segments.is_empty())
    }

    /// Finds where the log ends, and cuts off what is damaged. From which offset on it was verified, if it was.
    fn find_end(&mut self, open: &OpenLog, mended: &mut Mended) -> Result<Option<i64>, LogError> {
        let Some(active) = self.active() else {
            let segment = LogSegment::create(
                &self.fs,
                &self.directory,
                open.log_start_offset,
                &self.config,
                open.now_ms,
            )?;
            self.log_end_offset = segment.base_offset();
            self.segments.insert(segment.base_offset(), segment);
            return Ok(None);
        };
        if open.clean {
            match active.next_offset() {
                Ok(next_offset) => {
                    self.log_end_offset = next_offset;
                    self.recovery_point = next_offset;
                    return Ok(None);
                }
                Err(LogError::Damaged { .. }) => {
                    let active_base = active.base_offset();
                    self.verify_from(active_base, mended)?;
                    self.recovery_point = self.log_end_offset;
                    return Ok(Some(active_base));
                }
                Err(error) => return Err(error),
            }
        }
        let verify_from = floor(self.segments.keys().copied(), open.recovery_point);
        let verify_from = self.cut_before(verify_from, mended)?;
        self.verify_from(verify_from, mended)?;
        // It may lie beyond the end (KAFKA-10101), and verifying syncs nothing.
        self.recovery_point = open.recovery_point.clamp(0, self.log_end_offset);
        Ok(Some(verify_from))
    }

    /// Cuts the segment before those that will be verified where they begin, for a truncation that was not synced may
    /// have been undone by a power cut; and rebuilds its indexes, for it may have been closed after it was last synced.
    /// The base offset to verify from: that segment's own, if it does not even end well.
    fn cut_before(&mut self, verify_from: i64, mended: &mut Mended) -> Result<i64, LogError> {
        let Some((base_offset, segment)) = self.segments.range_mut(..verify_from).next_back()
        else {
            return Ok(verify_from);
        };
        let recovered = segment.recover(Depth::Headers, &self.config, -1)?;
        if recovered.damage.is_some() {
            return Ok(*base_offset);
        }
        if recovered.next_offset > verify_from {
            segment.truncate_to(verify_from)?;
            mended.note(format!(
                "segment {base_offset} cut at {verify_from}, where the next begins"
            ));
        }
        segment.close()?;
        Ok(verify_from)
    }

    /// Verifies every byte of the segments from `base_offset` on, and rebuilds their indexes. Each is cut at its first
    /// damage, or where the next begins; the log ends where the next does not continue it.
    fn verify_from(&mut self, base_offset: i64, mended: &mut Mended) -> Result<(), LogError> {
        let bases: Vec<i64> = self
            .segments
            .range(base_offset..)
            .map(|(base_offset, _)| *base_offset)
            .collect();
        let mut leader_epoch = -1;
        for (index, base_offset) in bases.iter().enumerate() {
            let Some(segment) = self.segments.get_mut(base_offset) else {
                continue;
            };
            let before = segment.size();
            let recovered = segment.recover(Depth::Checksums, &self.config, leader_epoch)?;
            leader_epoch = recovered.leader_epoch;
            let damaged = recovered.damage.is_some();
            if let Some(damage) = recovered.damage {
                mended.note(format!(
                    "{} bytes cut off: {damage}",
                    before - segment.size()
                ));
            }
            self.log_end_offset = recovered.next_offset;
            let Some(following) = bases.get(index + 1).copied() else {
                break;
            };
            if recovered.next_offset > following {
                segment.truncate_to(following)?;
                self.log_end_offset = segment.next_offset()?;
                mended.note(format!(
                    "segment {base_offset} cut at {following}, where the next begins"
                ));
            }
            // Segments follow each other without a gap: where there is one, the end of this was lost. Only compaction
            // takes records away at the end of a segment.
            let continued = self.log_end_offset == following
                || self.config.compact && !damaged && self.log_end_offset < following;
            if continued {
                segment.close()?;
                continue;
            }
            let later = self.segments.split_off(&following);
            mended.note(format!(
                "{} segments removed that begin after the end",
                later.len()
            ));
            for (_, segment) in later.into_iter().rev() {
                segment.remove()?;
            }
            break;
        }
        Ok(())
    }

    /// Finds where the log starts, and drops it as a whole if it ends before that.
    fn find_start(&mut self, open: &OpenLog, mended: &mut Mended) -> Result<(), LogError> {
        let first_base = self.segments.keys().next().copied().unwrap_or(0);
        self.log_start_offset = first_base.max(open.log_start_offset);
        if self.log_end_offset < self.log_start_offset {
            let (start, end) = (self.log_start_offset, self.log_end_offset);
            mended.note(format!(
                "dropped as a whole, for it ended at {end} but starts at {start}"
            ));
            let dropped = std::mem::take(&mut self.segments);
            self.replace_segments(dropped, start, open.now_ms)?;
            self.log_end_offset = start;
            self.recovery_point = self.recovery_point.min(start);
        }
        Ok(())
    }

    /// Loads the leader epochs; those from `verified_from` on, and all if the checkpoint is of no use, from the batches.
    fn load_epochs(
        &mut self,
        verified_from: Option<i64>,
        mended: &mut Mended,
    ) -> Result<(), LogError> {
        let path = self.directory.join(LEADER_EPOCH_CHECKPOINT);
        let first_base = self.segments.keys().next().copied().unwrap_or(0);
        let (on_file, scan_from) = match checkpoint::read_epochs(&*self.fs, &path)? {
            Found::Intact(pairs) => (LeaderEpochCache::from_checkpoint(pairs), verified_from),
            Found::Missing => (LeaderEpochCache::default(), Some(first_base)),
            Found::Rubbish(reason) => {
                mended.note(format!(
                    "leader epochs found again, for their checkpoint held {reason}"
                ));
                (LeaderEpochCache::default(), Some(first_base))
            }
        };
        self.epochs = on_file.clone();
        if let Some(scan_from) = scan_from {
            // After a power cut the checkpoint may be of another history than the batches above the recovery point.
            self.epochs.truncate_from_end(scan_from);
            for segment in self.segments.range(scan_from..).map(|(_, segment)| segment) {
                let mut batches = segment.scan(0, Depth::Headers);
                loop {
                    let batch = match batches.next() {
                        Ok(Some(batch)) => batch,
                        // Only a segment that is taken on trust can still be damaged: what is known of it must do.
                        Ok(None) | Err(LogError::Damaged { .. }) => break,
                        Err(error) => return Err(error),
                    };
                    let epoch = batch.header.partition_leader_epoch;
                    if self
                        .epochs
                        .latest()
                        .is_none_or(|latest| latest.epoch < epoch)
                    {
                        self.epochs.assign(epoch, batch.header.base_offset);
                    }
                }
            }
        }
        self.epochs.truncate_from_end(self.log_end_offset);
        self.epochs.truncate_from_start(self.log_start_offset);
        if self.epochs != on_file {
            self.write_epochs()?;
        }
        Ok(())
    }

    /// Removes the snapshots above an offset up to which they were certainly synced, and above the end of the log.
    fn trust_snapshots_up_to(&mut self, synced: Option<i64>) -> Result<(), LogError> {
        let limit = synced.unwrap_or(i64::MAX).min(self.log_end_offset);
        for offset in self.snapshot_offsets()? {
            if offset > limit {
                remove_if_there(&*self.fs, &self.snapshot_path(offset))?;
            }
        }
        Ok(())
    }

    /// Brings the producers to the end of the log: from the newest good snapshot, and the batches after it.
    pub(super) fn load_producers(&mut self) -> Result<(), LogError> {
        self.producers = Default::default();
        self.snapshot_offset = None;
        let mut from = self.log_start_offset;
        for offset in self.snapshot_offsets()? {
            if offset > self.log_end_offset || offset < self.log_start_offset {
                continue;
            }
            match snapshot::read(&*self.fs, &self.snapshot_path(offset))? {
                Some(producers) => {
                    self.producers = producers;
                    self.snapshot_offset = Some(offset);
                    from = offset;
                    break;
                }
                None => {
                    let path: PathBuf = self.snapshot_path(offset);
                    tracing::warn!(snapshot = %path.display(), "the producer snapshot is damaged and is not used");
                    remove_if_there(&*self.fs, &path)?;
                }
            }
        }
        if from == self.log_end_offset {
            return Ok(());
        }
        let floor = self
            .segments
            .range(..=from)
            .next_back()
            .map_or(from, |(base_offset, _)| *base_offset);
        for segment in self.segments.range(floor..).map(|(_, segment)| segment) {
            let Some(first) = segment.find(from)? else {
                continue;
            };
            let mut batches = segment.scan(first.position, Depth::Headers);
            while let Some(batch) = batches.next()? {
                if let Some(batch) = ProducerBatch::from_header(&batch.header) {
                    self.producers.update(&batch);
                }
            }
        }
        Ok(())
    }

    /// Removes the snapshots that belong to no segment, except the newest.
    fn remove_stray_snapshots(&mut self) -> Result<(), LogError> {
        for offset in self.snapshot_offsets()? {
            if Some(offset) != self.snapshot_offset && !self.segments.contains_key(&offset) {
                remove_if_there(
                    &*self.fs,
                    &file_names::segment_file(&self.directory, offset, PRODUCER_SNAPSHOT),
                )?;
            }
        }
        Ok(())
    }
}
