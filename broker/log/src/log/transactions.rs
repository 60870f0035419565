//! What transactions (KIP-98) mean to the log: how far those may read who want committed records only, which transactions
//! were aborted, and the markers that end them.

use kafka_wire::record_batch::{BatchHeader, EndTransactionMarker, TimestampType, batches};

use super::{AppendInfo, FetchData, Log};
use crate::error::{AppendError, LogError, ReadError};
use crate::producer::{ProducerBatch, ProducerMarker};
use crate::segment::AppendedBatch;
use crate::transaction_index::AbortedTransaction;

impl Log {
    /// Where the first transaction begins of which it is not yet known for good how it ends: one that is open, or whose
    /// marker the high watermark has not passed. `None` if there is none.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let first = self.producers.first_unstable_offset()?;
        Some(first.max(self.log_start_offset))
    }

    /// All transactions before this offset have ended for good: the bound for those who read committed records only.
    pub fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        self.first_unstable_offset()
            .map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// What ended below the high watermark is not taken back any more.
    pub fn high_watermark_advanced(&mut self, high_watermark: i64) {
        self.producers.high_watermark_advanced(high_watermark);
    }

    /// The aborted transactions that have a record or their marker at `from` or after it and began before `to`.
    pub fn aborted_transactions(
        &self,
        from: i64,
        to: i64,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let mut found = Vec::new();
        let floor = self.segments.range(..=from).next_back();
        let floor = floor.map_or(from, |(base_offset, _)| *base_offset);
        for segment in self.segments.range(floor..).map(|(_, segment)| segment) {
            if segment.transaction_index().collect(from, to, &mut found)? {
                break;
            }
        }
        Ok(found)
    }

    /// The aborted transactions of which [`Log::read`] from `offset` up to the last stable offset gave records: what who
    /// reads committed records only must leave out. There may be some that begin behind them.
    pub fn aborted_transactions_of(
        &self,
        data: &FetchData,
        offset: i64,
        last_stable_offset: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let segment = self.segments.get(&data.segment_base_offset);
        let Some((range, segment)) = data.range.as_ref().zip(segment) else {
            return Ok(Vec::new());
        };
        let end = segment.upper_bound_at(range.position + u64::from(range.len))?;
        let next_segment = self.segments.range(segment.base_offset() + 1..).next();
        let end = end.or(next_segment.map(|(base_offset, _)| *base_offset));
        let to = end.map_or(last_stable_offset, |end| end.min(last_stable_offset));
        Ok(self.aborted_transactions(offset, to)?)
    }

    /// Ends a producer's transaction, as its coordinator has decided (WriteTxnMarkers). One that has no records here, or has
    /// ended, may be ended again.
    pub fn append_end_transaction_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        marker: EndTransactionMarker,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        let at_end = ProducerMarker {
            producer_id,
            epoch: producer_epoch,
            offset: self.log_end_offset,
            timestamp: now_ms,
            marker,
        };
        self.producers.check_marker(&at_end)?;
        let mut builder = marker
            .batch(producer_id, producer_epoch, now_ms)
            .map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
        let by_broker = self.config.message_timestamp_type == TimestampType::LogAppendTime;
        if by_broker {
            builder = builder.log_append_time(now_ms);
        }
        let batch = builder
            .base_offset(self.log_end_offset)
            .partition_leader_epoch(leader_epoch)
            .build();
        let batch = batch.map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
        let header = BatchHeader::parse(&batch)
            .map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
        let offset = header.base_offset;
        self.store(&batch, &[AppendedBatch { start: 0, header }], now_ms)?;
        Ok(AppendInfo {
            first_offset: offset,
            last_offset: offset,
            log_append_time_ms: by_broker.then_some(now_ms),
            duplicate: false,
            size: batch.len(),
        })
    }

    /// Takes a batch that is in the active segment into what is known of its producer. An aborted transaction is in the
    /// index before it counts as ended: if that fails, readers of committed records stay before it (KAFKA-7866).
    pub(super) fn note_producer(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        if let Some(batch) = ProducerBatch::from_header(header) {
            self.producers.update(&batch);
        } else if let Some(marker) = marker(header, bytes) {
            if let Some(aborted) = self.producers.aborted_by(&marker)
                && let Some(mut active) = self.segments.last_entry()
            {
                active.get_mut().transaction_index_mut().append(&aborted)?;
            }
            self.producers.end_transaction(&marker);
        }
        Ok(())
    }
}

/// The marker in a batch, if that is a control batch.
fn marker(header: &BatchHeader, bytes: &[u8]) -> Option<ProducerMarker> {
    if !header.attributes.is_control() {
        return None;
    }
    ProducerMarker::read(&batches(bytes).next()?.ok()?)
}
