//! How the output of a compaction takes the place of its input, at any moment of which the power may fail.
//!
//! The output is written and synced under names that end in `.cleaned`, all of them renamed to end in `.swap`, the input's
//! files renamed to end in `.deleted`, and then the output's to their own. Until the last `.cleaned` is gone the next start
//! undoes what was begun; from then on it completes it (KAFKA-6264). A file system's journal keeps the order of renames
//! within a directory, and [`Deletions`](crate::deletions::Deletions) unlinks no input before they are on the disk.

use std::path::Path;

use super::Log;
use crate::batch_scanner::{BatchScanner, Depth};
use crate::cleaner::source::ClosedSegment;
use crate::error::LogError;
use crate::file_names::{self, CLEANED, LOG, OFFSET_INDEX, SWAP, TIME_INDEX, TRANSACTION_INDEX};
use crate::file_system::{Attempt, FileSystem, StorageError, remove_if_there};
use crate::segment::{LogSegment, remove_segment_files};

/// In this order they get their new names.
const EXTENSIONS: [&str; 4] = [LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX];

fn rename_all(
    fs: &dyn FileSystem,
    directory: &Path,
    base_offset: i64,
    (from, to): (&str, &str),
) -> Result<(), StorageError> {
    let name = |extension: &str, suffix: &str| {
        file_names::segment_file(directory, base_offset, &format!("{extension}{suffix}"))
    };
    for extension in EXTENSIONS {
        let path = name(extension, from);
        match fs.rename(&path, &name(extension, to)) {
            // Few segments have a transaction index.
            Err(error)
                if extension == TRANSACTION_INDEX
                    && error.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed.attempt("rename", &path)?,
        }
    }
    Ok(())
}

impl Log {
    /// Whether these segments are still the log's, as they were when its truncations were counted.
    fn still_holds(&self, segments: &[ClosedSegment], truncations: u64) -> bool {
        let is_held = |closed: &ClosedSegment| {
            let segment = self.segments.get(&closed.base_offset);
            segment.is_some_and(|segment| segment.is(closed))
        };
        !self.was_cut_since(truncations) && segments.iter().all(is_held)
    }

    /// Whether the log was cut, or taken out of use, since its truncations were counted.
    pub(crate) fn was_cut_since(&self, truncations: u64) -> bool {
        self.is_fenced() || self.truncations != truncations
    }

    /// Puts what compaction has made of adjacent segments in their place: it lies beside them under the first one's name
    /// and `.cleaned`. False, and nothing is done, if the log was cut, or its retention or its deletion came first.
    pub(crate) fn swap_in(
        &mut self,
        replaced: &[ClosedSegment],
        truncations: u64,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        if !self.still_holds(replaced, truncations) {
            return Ok(false);
        }
        self.note_gaps()?;
        let swapped = self.swap(replaced, now_ms);
        self.fence_on_error(swapped)?;
        Ok(true)
    }

    fn swap(&mut self, replaced: &[ClosedSegment], now_ms: i64) -> Result<(), LogError> {
        let Some(first) = replaced.first() else {
            return Ok(());
        };
        let base_offset = first.base_offset;
        rename_all(&*self.fs, &self.directory, base_offset, (CLEANED, SWAP))?;
        let deletions = self.log_directory.deletions();
        let due_ms = now_ms.saturating_add(self.config.file_delete_delay_ms);
        for closed in replaced.iter().rev() {
            if let Some(segment) = self.segments.remove(&closed.base_offset) {
                segment.mark_deleted(deletions, due_ms)?;
            }
            // A snapshot stays with its segment's name, and the newest in any case.
            if closed.base_offset != base_offset && self.snapshot_offset != Some(closed.base_offset)
            {
                let snapshot = self.snapshot_path(closed.base_offset);
                deletions.rename_file(&*self.fs, &snapshot, due_ms)?;
            }
        }
        rename_all(&*self.fs, &self.directory, base_offset, (SWAP, ""))?;
        let (mut segment, without_index) =
            LogSegment::open(&self.fs, &self.directory, base_offset, &self.config, now_ms)?;
        if without_index {
            segment.rebuild_closed_indexes(&self.config)?;
        }
        self.segments.insert(base_offset, Box::new(segment));
        Ok(())
    }
}

/// Completes or undoes the compactions that a former broker left half done. The base offsets of those that it completed.
pub(super) fn complete_or_undo(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Vec<i64>, LogError> {
    let entries = fs.list(directory).attempt("list", directory)?;
    let with_suffix = |suffix: &str| -> Vec<(i64, &str)> {
        let files = entries.iter().filter(|entry| !entry.is_directory);
        files
            .filter(|entry| entry.name.ends_with(suffix))
            .filter_map(|entry| {
                let (offset, _) = file_names::parse_segment_file(&entry.name)?;
                Some((offset, entry.name.as_str()))
            })
            .collect()
    };
    let unfinished = with_suffix(CLEANED);
    // A swap at or above an unfinished output belongs to a compaction whose outputs are not all there.
    let undone_from = unfinished.iter().map(|(offset, _)| *offset).min();
    let (undone, swaps): (Vec<_>, Vec<_>) = with_suffix(SWAP)
        .into_iter()
        .partition(|(offset, _)| undone_from.is_some_and(|from| *offset >= from));
    // The swaps first: were the last `.cleaned` gone before them, the next start would take them for finished.
    for (_, name) in undone.iter().chain(&unfinished) {
        remove_if_there(fs, &directory.join(name))?;
    }
    let replaces_log = format!("{LOG}{SWAP}");
    let mut completed = Vec::new();
    for (base_offset, name) in &swaps {
        if name.ends_with(&replaces_log) {
            remove_replaced(fs, &directory.join(name), *base_offset)?;
            completed.push(*base_offset);
        }
    }
    for (_, name) in &swaps {
        let to = directory.join(name.trim_end_matches(SWAP));
        fs.rename(&directory.join(name), &to)
            .attempt("rename to", &to)?;
    }
    Ok(completed)
}

/// Removes the segments that the output of a compaction replaces: those that begin within its offsets.
fn remove_replaced(fs: &dyn FileSystem, swap: &Path, base_offset: i64) -> Result<(), LogError> {
    let directory = swap.parent().unwrap_or(swap);
    let file = fs.open(swap).attempt("open", swap)?;
    let size = file.size().attempt("read the size of", swap)?;
    let mut next_offset = base_offset;
    let mut scanner = BatchScanner::new(file, swap, 0, size, Depth::Headers);
    loop {
        match scanner.next() {
            Ok(Some(batch)) => next_offset = batch.header.next_offset(),
            // What follows the damage is still in its own segments, if they are there.
            Ok(None) | Err(LogError::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    for replaced in super::load::segment_offsets(fs, directory)? {
        if (base_offset..next_offset).contains(&replaced) {
            remove_segment_files(fs, directory, replaced)?;
        }
    }
    // Its log may be gone already, and its indexes still there.
    for extension in EXTENSIONS {
        remove_if_there(
            fs,
            &file_names::segment_file(directory, base_offset, extension),
        )?;
    }
    Ok(())
}
