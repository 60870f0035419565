//! Where reading stands in a partition, and how it moves through batches.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use kafka_wire::TopicPartition;
use kafka_wire::fetch::AbortedTransaction;
use kafka_wire::list_offsets::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use kafka_wire::record_batch::{BatchError, batches};
use tokio::time::Instant;

use super::Start;
use super::formatter::Message;

/// The most that one batch may decompress to.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// Where reading stands.
#[derive(Debug)]
pub(super) struct Position {
    /// Who leads the partition, as far as is known.
    pub(super) leader: Option<i32>,
    start: Start,
    /// Failures since the last answer that brought something.
    failures: u32,
    rests_until: Option<Instant>,
}

impl Position {
    pub(super) fn new(start: Start) -> Self {
        Self {
            leader: None,
            start,
            failures: 0,
            rests_until: None,
        }
    }

    /// The next offset to read; `None` if a broker has to be asked for it.
    pub(super) fn offset(&self) -> Option<i64> {
        match self.start {
            Start::Offset(offset) => Some(offset),
            Start::Earliest | Start::Latest => None,
        }
    }

    /// What a broker is asked for where the offset is not known: the timestamp that stands for an end of the log.
    pub(super) fn timestamp(&self) -> i64 {
        match self.start {
            Start::Earliest => EARLIEST_TIMESTAMP,
            Start::Latest | Start::Offset(_) => LATEST_TIMESTAMP,
        }
    }

    /// Nobody is asked for the partition for a while, nor before the metadata says who leads it now.
    pub(super) fn failed(&mut self, now: Instant, backoff: impl Fn(u32) -> Duration) {
        self.leader = None;
        self.rests_until = Some(now + backoff(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// The leader answered.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
        self.rests_until = None;
    }

    /// Until when nobody is asked.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// The offset is gone, and a broker has to be asked for another.
    pub(super) fn lost(&mut self, reset: Start) {
        self.start = reset;
    }

    /// The broker's answer.
    pub(super) fn found(&mut self, offset: i64) {
        self.start = Start::Offset(offset);
    }
}

/// Hands over the records from the position on, and moves it. Control batches, and what belongs to the aborted
/// transactions, are passed over. A last batch that is cut off is left for the next fetch.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn read_batches(
    partition: &TopicPartition,
    position: &mut Position,
    bytes: &[u8],
    mut aborted: Vec<AbortedTransaction>,
    show: &mut impl FnMut(&Message<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut aborting: HashSet<i64> = HashSet::new();
    for batch in batches(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(BatchError::Incomplete { .. }) => break,
            Err(error) => return Err(error.to_string()),
        };
        batch.verify_crc().map_err(|error| error.to_string())?;
        let header = &batch.header;
        while let Some(transaction) =
            aborted.next_if(|transaction| transaction.first_offset <= header.last_offset())
        {
            aborting.insert(transaction.producer_id);
        }
        if header.attributes.is_control() {
            // Whatever the marker says, the producer's transaction ends with it.
            aborting.remove(&header.producer_id);
        } else if !(header.attributes.is_transactional() && aborting.contains(&header.producer_id))
        {
            let records = batch
                .records(MAX_BATCH_BYTES)
                .map_err(|error| error.to_string())?;
            for record in &records {
                let record = record.map_err(|error| error.to_string())?;
                if position.offset().is_some_and(|next| record.offset < next) {
                    continue;
                }
                let message = Message {
                    partition: partition.partition,
                    timestamp_type: header.attributes.timestamp_type(),
                    leader_epoch: header.partition_leader_epoch,
                    record: &record,
                };
                if show(&message).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                position.found(record.offset + 1);
            }
        }
        let next = header.next_offset();
        if position.offset().is_none_or(|offset| offset < next) {
            position.found(next);
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::{RecordBatchBuilder, set_base_offset};

    fn batch(base_offset: i64, values: &[&str]) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Compression::Lz4).base_offset(base_offset);
        for value in values {
            builder
                .append(1, None, Some(value.as_bytes()), &[])
                .unwrap();
        }
        builder.build().unwrap().to_vec()
    }

    fn transactional(base_offset: i64, producer_id: i64, value: &str) -> Vec<u8> {
        let builder = RecordBatchBuilder::new(Compression::None).base_offset(base_offset);
        let mut builder = builder.producer(producer_id, 0, 0).transactional();
        builder
            .append(1, None, Some(value.as_bytes()), &[])
            .unwrap();
        builder.build().unwrap().to_vec()
    }

    fn read(
        position: &mut Position,
        bytes: &[u8],
        aborted: &[(i64, i64)],
        most: usize,
    ) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        let aborted = aborted
            .iter()
            .map(|(producer_id, first_offset)| AbortedTransaction {
                producer_id: *producer_id,
                first_offset: *first_offset,
            })
            .collect();
        read_batches(
            &TopicPartition::new("t", 0),
            position,
            bytes,
            aborted,
            &mut |message| {
                if seen.len() == most {
                    return ControlFlow::Break(());
                }
                let value =
                    String::from_utf8_lossy(message.record.value.unwrap_or_default()).into_owned();
                seen.push(format!("{}:{value}", message.record.offset));
                ControlFlow::Continue(())
            },
        )
        .map(|_| seen)
    }

    #[test]
    fn records_before_the_position_are_passed_over() {
        let mut position = Position::new(Start::Offset(11));
        let bytes = [batch(10, &["a", "b"]), batch(12, &["c"])].concat();
        assert_eq!(
            read(&mut position, &bytes, &[], 9).unwrap(),
            ["11:b", "12:c"]
        );
        assert_eq!(position.offset(), Some(13));
    }

    #[test]
    fn a_break_leaves_the_position_before_what_was_not_shown() {
        let mut position = Position::new(Start::Offset(0));
        let bytes = batch(0, &["a", "b", "c"]);
        assert_eq!(read(&mut position, &bytes, &[], 2).unwrap(), ["0:a", "1:b"]);
        assert_eq!(position.offset(), Some(2));
    }

    #[test]
    fn a_batch_that_is_cut_off_waits_for_the_next_fetch() {
        let mut position = Position::new(Start::Offset(0));
        let whole = batch(0, &["a"]);
        let bytes = [&whole[..], &batch(1, &["b"])[..70]].concat();
        assert_eq!(read(&mut position, &bytes, &[], 9).unwrap(), ["0:a"]);
        assert_eq!(position.offset(), Some(1));
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut bytes = batch(0, &["a"]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(read(&mut Position::new(Start::Offset(0)), &bytes, &[], 9).is_err());
    }

    #[test]
    fn aborted_transactions_are_passed_over() {
        let mut position = Position::new(Start::Offset(0));
        let bytes = [
            transactional(0, 7, "aborted"),
            transactional(1, 8, "kept"),
            batch(2, &["plain"]),
        ]
        .concat();
        assert_eq!(
            read(&mut position, &bytes, &[(7, 0)], 9).unwrap(),
            ["1:kept", "2:plain"]
        );
        let mut moved = transactional(0, 7, "aborted");
        set_base_offset(&mut moved, 5);
        assert!(
            read(&mut position, &moved, &[(7, 5)], 9)
                .unwrap()
                .is_empty()
        );
        assert_eq!(position.offset(), Some(6));
    }
}
