//! One partition's batches, in order, and what a broker's answer means for the first of them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BuildError, RecordBatchBuilder, RecordHeader};
use tokio::time::Instant;

use super::ProducerConfig;
use super::record::ProducerRecord;

/// Who an idempotent producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// Records that are given up, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) records: Vec<ProducerRecord>,
    pub(super) reason: String,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batch is appended, and forgotten here.
    Done,
    /// The batch was too large, and is two now.
    Split {
        /// The bytes of the larger half.
        half_bytes: usize,
    },
    /// The batch is sent again, after a rest and a look at the metadata.
    Retry,
    /// The batch was refused for good; the next may be sent.
    Failed(Failed),
    /// Nobody knows whether the batch is appended, and its time is over. What follows can not be sent in order.
    Lost {
        /// The first line of the input in the batch.
        first_line: u64,
        /// The last failure.
        reason: String,
    },
}

struct Batch {
    records: Vec<ProducerRecord>,
    bytes: usize,
    created: Instant,
    attempts: u32,
    /// Whether a try ended without an answer, so that the batch may be appended already.
    uncertain: bool,
}

impl Batch {
    /// The line of the input that its first record comes from.
    fn first_line(&self) -> u64 {
        self.records.first().map_or(0, |record| record.line)
    }
}

/// The batches of one partition that are not acknowledged yet.
pub(super) struct PartitionQueue {
    partition: i32,
    batches: VecDeque<Batch>,
    records: usize,
    memory: usize,
    /// Whether the first batch is on its way.
    in_flight: bool,
    /// Not before this moment is the first batch sent again.
    rest_until: Option<Instant>,
    /// The sequence of the first batch: it moves on only when a batch is acknowledged.
    next_sequence: i32,
}

impl PartitionQueue {
    pub(super) fn new(partition: i32) -> Self {
        Self {
            partition,
            batches: VecDeque::new(),
            records: 0,
            memory: 0,
            in_flight: false,
            rest_until: None,
            next_sequence: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many records wait or are on their way.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// How much memory they take.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The bytes of the first batch.
    pub(super) fn head_bytes(&self) -> usize {
        self.batches.front().map_or(0, |batch| batch.bytes)
    }

    /// Adds a record to the last batch, or to a new one if that is full, was sent before, or is none.
    pub(super) fn append(&mut self, record: ProducerRecord, now: Instant, batch_size: usize) {
        let size = record.size();
        self.records += 1;
        self.memory += size + size_of::<ProducerRecord>();
        let first_is_closed = self.in_flight && self.batches.len() == 1;
        match self.batches.back_mut() {
            Some(last)
                if !first_is_closed && last.attempts == 0 && last.bytes + size <= batch_size =>
            {
                last.records.push(record);
                last.bytes += size;
            }
            _ => self.batches.push_back(Batch {
                records: vec![record],
                bytes: size,
                created: now,
                attempts: 0,
                uncertain: false,
            }),
        }
    }

    /// Whether the first batch should be sent now.
    pub(super) fn is_ready(&self, now: Instant, linger: Duration, batch_size: usize) -> bool {
        let full = self.batches.len() > 1 || self.head_bytes() >= batch_size;
        match self.ready_at(linger) {
            Some(at) => at <= now || full && self.rest_until.is_none(),
            None => false,
        }
    }

    /// When the first batch should be sent if it does not fill up before; `None` if there is none or it is on its way.
    pub(super) fn ready_at(&self, linger: Duration) -> Option<Instant> {
        let head = self.batches.front().filter(|_| !self.in_flight)?;
        Some(self.rest_until.unwrap_or(head.created + linger))
    }

    /// The first batch as bytes. It is on its way from here on.
    pub(super) fn send(
        &mut self,
        compression: Compression,
        producer_id: Option<ProducerId>,
    ) -> Result<Bytes, BuildError> {
        let mut builder = RecordBatchBuilder::new(compression);
        if let Some(producer) = producer_id {
            builder = builder.producer(producer.id, producer.epoch, self.next_sequence);
        }
        for record in self
            .batches
            .front()
            .into_iter()
            .flat_map(|batch| &batch.records)
        {
            let headers: Vec<RecordHeader<'_>> = record
                .headers
                .iter()
                .map(|(key, value)| RecordHeader {
                    key,
                    value: value.as_deref(),
                })
                .collect();
            builder.append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )?;
        }
        let bytes = builder.build()?;
        self.in_flight = true;
        if let Some(batch) = self.batches.front_mut() {
            batch.attempts += 1;
        }
        Ok(bytes)
    }

    /// Gives the first batch up.
    pub(super) fn fail(&mut self, reason: String) -> Failed {
        Failed {
            records: self.pop().map_or_else(Vec::new, |batch| batch.records),
            reason,
        }
    }

    /// When the first batch is given up if it is not on its way by then.
    pub(super) fn expires_at(&self, delivery_timeout: Duration) -> Option<Instant> {
        let head = self.batches.front().filter(|_| !self.in_flight)?;
        Some(head.created + delivery_timeout)
    }

    /// Gives the first batch up if its time is over: nobody took it, for want of a leader.
    pub(super) fn expire(&mut self, now: Instant, delivery_timeout: Duration) -> Option<Verdict> {
        self.expires_at(delivery_timeout).filter(|at| *at <= now)?;
        let head = self.batches.front()?;
        let waited_ms = delivery_timeout.as_millis();
        let reason = format!(
            "partition {}: no leader took it within {waited_ms} ms",
            self.partition
        );
        Some(match head.uncertain {
            true => Verdict::Lost {
                first_line: head.first_line(),
                reason,
            },
            false => Verdict::Failed(self.fail(reason)),
        })
    }

    /// Decides what becomes of the first batch.
    pub(super) fn answered(
        &mut self,
        code: ErrorCode,
        message: String,
        now: Instant,
        config: &ProducerConfig,
        backoff: impl Fn(u32) -> Duration,
    ) -> Verdict {
        self.in_flight = false;
        let Some(head) = self.batches.front_mut() else {
            return Verdict::Done;
        };
        let reason = format!("partition {}: {}: {message}", self.partition, code.name());
        match code {
            // A duplicate was appended by an earlier try whose answer was lost.
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                let count = self.pop().map_or(0, |batch| batch.records.len());
                self.next_sequence = advance(self.next_sequence, count);
                Verdict::Done
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge
                if head.records.len() > 1 =>
            {
                self.split()
            }
            // These two ask for a retry only after the log took the batch in, or may have.
            code if code.retriable() => {
                head.uncertain |= matches!(
                    code,
                    ErrorCode::NetworkException
                        | ErrorCode::RequestTimedOut
                        | ErrorCode::NotEnoughReplicasAfterAppend
                );
                let exhausted = config
                    .retries
                    .is_some_and(|retries| head.attempts > retries);
                if !exhausted && now < head.created + config.delivery_timeout {
                    self.rest_until = Some(now + backoff(head.attempts.saturating_sub(1)));
                    return Verdict::Retry;
                }
                match head.uncertain {
                    true => Verdict::Lost {
                        first_line: head.first_line(),
                        reason,
                    },
                    false => Verdict::Failed(self.fail(reason)),
                }
            }
            _ if head.uncertain => Verdict::Lost {
                first_line: head.first_line(),
                reason,
            },
            _ => Verdict::Failed(self.fail(reason)),
        }
    }

    /// Puts two halves in the place of the first batch.
    fn split(&mut self) -> Verdict {
        let Some(mut first) = self.batches.pop_front() else {
            return Verdict::Done;
        };
        let records = first.records.split_off(first.records.len() / 2);
        let bytes = records.iter().map(ProducerRecord::size).sum();
        first.bytes -= bytes;
        let half_bytes = first.bytes.max(bytes);
        let second = Batch {
            records,
            bytes,
            created: first.created,
            attempts: 0,
            uncertain: false,
        };
        first.attempts = 0;
        self.batches.push_front(second);
        self.batches.push_front(first);
        self.rest_until = None;
        Verdict::Split { half_bytes }
    }

    fn pop(&mut self) -> Option<Batch> {
        self.in_flight = false;
        self.rest_until = None;
        let batch = self.batches.pop_front()?;
        self.records -= batch.records.len();
        self.memory -= batch.bytes + batch.records.len() * size_of::<ProducerRecord>();
        Some(batch)
    }
}

/// Sequences begin again at 0 after the largest.
fn advance(sequence: i32, count: usize) -> i32 {
    let next = i64::from(sequence) + i64::try_from(count).unwrap_or(0);
    (next % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::record_batch::batches;

    const LINGER: Duration = Duration::from_millis(1000);

    fn record(line: u64) -> ProducerRecord {
        let value = Some(Bytes::from(format!("line {line}")));
        ProducerRecord {
            line,
            timestamp: 5,
            key: None,
            value,
            headers: Vec::new(),
        }
    }

    fn config() -> ProducerConfig {
        ProducerConfig {
            acks: -1,
            batch_size: 16_384,
            linger: LINGER,
            compression: Compression::None,
            request_timeout: Duration::from_millis(1500),
            retries: None,
            delivery_timeout: Duration::from_secs(120),
            buffer_memory: 1 << 25,
            max_request_size: 1 << 20,
            metadata_max_age: Duration::from_secs(300),
            max_block: Duration::from_secs(60),
            sync: false,
        }
    }

    fn queue(lines: u64, now: Instant) -> PartitionQueue {
        let mut queue = PartitionQueue::new(0);
        (1..=lines).for_each(|line| queue.append(record(line), now, 16_384));
        queue
    }

    fn answer(queue: &mut PartitionQueue, code: ErrorCode, now: Instant) -> Verdict {
        queue.answered(code, "why".to_owned(), now, &config(), |_| {
            Duration::from_millis(100)
        })
    }

    /// Sends the first batch; what lines and sequence it has.
    fn send(queue: &mut PartitionQueue) -> (Vec<String>, i32) {
        let bytes = queue
            .send(Compression::None, Some(ProducerId { id: 9, epoch: 0 }))
            .unwrap();
        let batch = batches(&bytes).next().unwrap().unwrap();
        batch.verify_crc().unwrap();
        let records = batch.records(1 << 20).unwrap();
        let lines = records
            .iter()
            .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
            .collect();
        (lines, batch.header.base_sequence)
    }

    #[test]
    fn a_batch_waits_until_it_is_full_or_old() {
        let now = Instant::now();
        let mut queue = queue(2, now);
        assert!(!queue.is_ready(now, LINGER, 16_384));
        assert!(queue.is_ready(now + LINGER, LINGER, 16_384));
        assert!(
            queue.is_ready(now, Duration::ZERO, 16_384),
            "the end of the input flushes"
        );
        assert!(queue.is_ready(now, LINGER, queue.head_bytes()));
        queue.append(record(3), now, 1);
        assert!(
            queue.is_ready(now, LINGER, 16_384),
            "a second batch waits behind it"
        );
    }

    #[test]
    fn one_request_is_in_flight_and_the_order_is_kept() {
        let now = Instant::now();
        let mut queue = queue(1, now);
        assert_eq!(send(&mut queue), (vec!["line 1".to_owned()], 0));
        queue.append(record(2), now, 16_384);
        assert!(
            !queue.is_ready(now + LINGER, LINGER, 16_384),
            "the first is unanswered"
        );
        assert_eq!(answer(&mut queue, ErrorCode::None, now), Verdict::Done);
        assert_eq!(send(&mut queue), (vec!["line 2".to_owned()], 1));
        assert_eq!(
            answer(&mut queue, ErrorCode::DuplicateSequenceNumber, now),
            Verdict::Done
        );
        assert_eq!((queue.records(), queue.memory()), (0, 0));
    }

    #[test]
    fn a_batch_that_is_too_large_is_split_down_to_single_records() {
        let now = Instant::now();
        let mut queue = queue(5, now);
        let mut sent = Vec::new();
        while !queue.is_empty() {
            let (lines, sequence) = send(&mut queue);
            if lines.len() > 1 {
                assert!(matches!(
                    answer(&mut queue, ErrorCode::RecordListTooLarge, now),
                    Verdict::Split { .. }
                ));
            } else {
                assert_eq!(sequence as usize, sent.len());
                sent.extend(lines);
                assert_eq!(answer(&mut queue, ErrorCode::None, now), Verdict::Done);
            }
        }
        assert_eq!(sent, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
        assert_eq!((queue.records(), queue.memory()), (0, 0));
    }

    #[test]
    fn a_single_record_that_is_too_large_fails_alone() {
        let now = Instant::now();
        let mut queue = queue(1, now);
        send(&mut queue);
        queue.append(record(2), now, 16_384);
        let Verdict::Failed(failed) = answer(&mut queue, ErrorCode::MessageTooLarge, now) else {
            panic!("it can not be split")
        };
        assert_eq!(failed.records, [record(1)]);
        assert_eq!(failed.reason, "partition 0: MESSAGE_TOO_LARGE: why");
        assert_eq!(
            send(&mut queue),
            (vec!["line 2".to_owned()], 0),
            "the refused one takes no sequence"
        );
    }

    #[test]
    fn a_passing_failure_is_tried_again_after_a_rest() {
        let now = Instant::now();
        let mut queue = queue(3, now);
        let first = send(&mut queue);
        assert_eq!(
            answer(&mut queue, ErrorCode::NotLeaderOrFollower, now),
            Verdict::Retry
        );
        assert!(!queue.is_ready(now, Duration::ZERO, 1));
        assert!(queue.is_ready(now + Duration::from_millis(100), LINGER, 16_384));
        assert_eq!(
            send(&mut queue),
            first,
            "the same records under the same sequence"
        );
    }

    #[test]
    fn a_batch_that_may_be_appended_is_never_skipped() {
        let now = Instant::now();
        let late = now + Duration::from_secs(120);
        let mut refused = queue(1, now);
        send(&mut refused);
        assert!(matches!(
            answer(&mut refused, ErrorCode::NotEnoughReplicas, late),
            Verdict::Failed(_)
        ));
        let mut uncertain = queue(1, now);
        send(&mut uncertain);
        assert_eq!(
            answer(&mut uncertain, ErrorCode::NetworkException, now),
            Verdict::Retry
        );
        send(&mut uncertain);
        assert!(matches!(
            answer(&mut uncertain, ErrorCode::NotLeaderOrFollower, late),
            Verdict::Lost { first_line: 1, .. }
        ));
    }

    #[test]
    fn a_batch_that_nobody_takes_is_given_up() {
        let now = Instant::now();
        let timeout = Duration::from_secs(120);
        let mut queue = queue(2, now);
        assert_eq!(queue.expire(now, timeout), None);
        let Some(Verdict::Failed(failed)) = queue.expire(now + timeout, timeout) else {
            panic!("its time is over")
        };
        assert_eq!(failed.records.len(), 2);
        assert_eq!(
            failed.reason,
            "partition 0: no leader took it within 120000 ms"
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn retries_are_counted_where_they_are_bounded() {
        let now = Instant::now();
        let mut queue = queue(1, now);
        let config = ProducerConfig {
            retries: Some(1),
            ..config()
        };
        let mut answer = || {
            queue.send(Compression::None, None).unwrap();
            queue.answered(
                ErrorCode::LeaderNotAvailable,
                String::new(),
                now,
                &config,
                |_| Duration::ZERO,
            )
        };
        assert_eq!(answer(), Verdict::Retry);
        assert!(matches!(answer(), Verdict::Failed(_)));
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(advance(0, 3), 3);
    }
}
