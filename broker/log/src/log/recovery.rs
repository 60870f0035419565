//! Mending a log whose broker did not shut it down: every byte from the recovery point on is checked, once, and the log is
//! cut at the first that is not part of an intact batch.

use super::Log;
use super::load::{Mended, OpenLog, floor};
use crate::batch_scanner::PlacedBatch;
use crate::error::LogError;
use crate::segment;

/// Progress is told in steps of this.
const PROGRESS_BYTES: u64 = 1 << 20;

impl Log {
    /// Finds how far the log is taken on trust, and sets its end there: all of it after a clean shutdown, otherwise up to
    /// the segment that holds the recovery point. That segment's base offset, if there is anything to verify.
    pub(super) fn find_trusted_end(
        &mut self,
        open: &OpenLog<'_>,
        mended: &mut Mended,
    ) -> Result<Option<i64>, LogError> {
        let verify_from = if open.clean {
            let Some(active) = self.active() else {
                return Ok(None);
            };
            match active.next_offset() {
                Ok(next_offset) => {
                    self.log_end_offset = next_offset;
                    return Ok(None);
                }
                Err(LogError::Damaged { .. }) => active.base_offset(),
                Err(error) => return Err(error),
            }
        } else {
            let verify_from = floor(self.segments.keys().copied(), open.recovery_point);
            self.cut_before(verify_from, mended)?
        };
        self.log_end_offset = verify_from;
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
        let recovered = match segment.rebuild_indexes(&self.config) {
            // Nothing is cut off what cannot be read.
            Err(LogError::UnsupportedFormat(_)) => return Ok(verify_from),
            recovered => recovered?,
        };
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
        // It lies below the recovery point, so that no later flush does it.
        segment.sync_indexes()?;
        Ok(verify_from)
    }

    /// Whether offsets may be missing: in a log that is compacted, and in one that was, or may have been, compacted once,
    /// whatever its policy is now. In any other a missing offset is a sign of damage.
    fn may_have_gaps(&self) -> bool {
        let cleaner_offset = self.log_directory.cleaner_offset(&self.topic_partition);
        self.config.compact || cleaner_offset.is_some()
    }

    /// Verifies every byte of the segments from `verified_from` on, rebuilds their indexes, and takes their epochs,
    /// producers and transactions in. Each segment is cut at its first damage, or where the next begins; the log ends
    /// where the next does not continue it.
    pub(super) fn verify_from(
        &mut self,
        verified_from: i64,
        open: &OpenLog<'_>,
        mended: &mut Mended,
    ) -> Result<(), LogError> {
        let bases: Vec<i64> = self
            .segments
            .range(verified_from..)
            .map(|(base_offset, _)| *base_offset)
            .collect();
        let gaps = self.may_have_gaps();
        let mut leader_epoch = -1;
        let mut cut_what_was_seen = false;
        for (index, base_offset) in bases.iter().enumerate() {
            let Some(segment) = self.segments.get_mut(base_offset) else {
                continue;
            };
            let before = segment.size();
            let mut told = 0;
            let log_start_offset = self.log_start_offset;
            let (epochs, producers) = (&mut self.epochs, &mut self.producers);
            let (file, path) = (segment.file()?, segment.path().to_owned());
            let mut aborted = Vec::new();
            let see = |batch: &PlacedBatch| {
                epochs.continue_with(&batch.header);
                if batch.header.last_offset() >= log_start_offset {
                    let marker = || segment::marker(&*file, &path, batch);
                    aborted.extend(producers.replay(&batch.header, marker)?);
                }
                if batch.end() - told >= PROGRESS_BYTES {
                    open.progress.verified(batch.end() - told);
                    told = batch.end();
                }
                Ok(())
            };
            segment.transaction_index_mut().clear()?;
            let recovered = segment.verify(&self.config, gaps, leader_epoch, see)?;
            for aborted in &aborted {
                segment.transaction_index_mut().append(aborted)?;
            }
            open.progress.verified(before - told);
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
                cut_what_was_seen = true;
                mended.note(format!(
                    "segment {base_offset} cut at {following}, where the next begins"
                ));
            }
            // Segments follow each other without a gap: where there is one, the end of this was lost. Only compaction
            // takes records away at the end of a segment.
            let continued = self.log_end_offset == following
                || gaps && !damaged && self.log_end_offset < following;
            if continued {
                segment.close()?;
                continue;
            }
            let later = self.segments.split_off(&following);
            mended.note(format!(
                "{} segments removed that begin after the end",
                later.len()
            ));
            let later_bytes = later.values().map(|segment| segment.size()).sum();
            open.progress.verified(later_bytes);
            self.delete_segments(later.into_values().rev(), open.now_ms)?;
            break;
        }
        if cut_what_was_seen {
            // The batches that went are among those that the producers were told of; epochs forget what is contradicted.
            self.load_producers(Some(verified_from))?;
        }
        Ok(())
    }
}
