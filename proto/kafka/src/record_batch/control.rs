//! Control records: what a broker tells its consumers in the log itself.
//!
//! The only kind in a topic of a cluster with ZooKeeper ends a transaction. Its key is a version and a type, its value a
//! version and the coordinator's epoch; later versions only add to them.

use super::builder::{BuildError, RecordBatchBuilder};
use super::header::Batch;
use crate::compression::Compression;

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// Markers are far smaller. What decompresses to more is none.
const MAX_BYTES: usize = 4096;

/// The end of a producer's transaction in one partition (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Consumers that read committed records only get those of the transaction, or never will.
    pub committed: bool,
    /// The epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The marker in a batch; `None` if the batch is a client's, empty, or holds something else.
    pub fn read(batch: &Batch<'_>) -> Option<Self> {
        if !batch.header.attributes.is_control() {
            return None;
        }
        let records = batch.records(MAX_BYTES).ok()?;
        let record = records.iter().next()?.ok()?;
        let (version, key) = record.key?.split_first_chunk()?;
        let control_type = i16::from_be_bytes(*key.first_chunk()?);
        let (value_version, value) = record.value?.split_first_chunk()?;
        let coordinator_epoch = i32::from_be_bytes(*value.first_chunk()?);
        if i16::from_be_bytes(*version) < 0 || i16::from_be_bytes(*value_version) < 0 {
            return None;
        }
        let committed = match control_type {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        Some(Self {
            committed,
            coordinator_epoch,
        })
    }

    /// The batch of its own in which the marker is written for a producer, at `timestamp` in milliseconds since 1970.
    pub fn batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp: i64,
    ) -> Result<RecordBatchBuilder, BuildError> {
        let mut builder = RecordBatchBuilder::new(Compression::None)
            .producer(producer_id, producer_epoch, super::NO_SEQUENCE)
            .transactional()
            .control();
        let control_type = if self.committed { COMMIT } else { ABORT };
        let key = [VERSION.to_be_bytes(), control_type.to_be_bytes()].concat();
        let mut value = VERSION.to_be_bytes().to_vec();
        value.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        builder.append(timestamp, Some(&key), Some(&value), &[])?;
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batches;
    use super::*;

    fn read(bytes: &[u8]) -> Option<EndTransactionMarker> {
        EndTransactionMarker::read(&batches(bytes).next().unwrap().unwrap())
    }

    #[test]
    fn a_marker_is_written_and_read() {
        for committed in [false, true] {
            let marker = EndTransactionMarker {
                committed,
                coordinator_epoch: 12,
            };
            let bytes = marker.batch(9, 3, 1000).unwrap().build().unwrap();
            assert_eq!(read(&bytes), Some(marker));
            let header = batches(&bytes).next().unwrap().unwrap().header;
            assert_eq!((header.producer_id, header.producer_epoch), (9, 3));
            assert_eq!((header.base_sequence, header.record_count), (-1, 1));
            assert!(header.attributes.is_transactional());
            // As Apache Kafka writes it: 61 of header, a record of 17 with its length.
            assert_eq!(bytes.len(), 78);
            assert_eq!(bytes[66..70], [0, 0, 0, u8::from(committed)]);
            assert_eq!(bytes[71..77], [0, 0, 0, 0, 0, 12]);
        }
    }

    #[test]
    fn what_is_no_marker_is_none() {
        let build = |key: Option<&[u8]>, value: Option<&[u8]>| {
            let mut builder = RecordBatchBuilder::new(Compression::None).control();
            builder.append(1, key, value, &[]).unwrap();
            builder.build().unwrap()
        };
        let (key, value) = ([0, 0, 0, 1], [0, 0, 0, 0, 0, 7]);
        assert!(read(&build(Some(&key), Some(&value))).is_some());
        let longer = [0, 1, 0, 0, 0, 7, 1, 2, 3];
        assert!(
            read(&build(Some(&key), Some(&longer))).is_some(),
            "a later version"
        );
        assert_eq!(
            read(&build(Some(&[0, 0, 0, 2]), Some(&value))),
            None,
            "another type"
        );
        assert_eq!(read(&build(Some(&key[..3]), Some(&value))), None);
        assert_eq!(read(&build(Some(&key), Some(&value[..5]))), None);
        assert_eq!(read(&build(None, Some(&value))), None);
        assert_eq!(read(&build(Some(&key), None)), None);
        assert_eq!(read(&build(Some(&[0xff, 0xff, 0, 1]), Some(&value))), None);
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.append(1, Some(&key), Some(&value), &[]).unwrap();
        assert_eq!(read(&builder.build().unwrap()), None, "a client's");
        let empty = RecordBatchBuilder::new(Compression::None).control();
        assert_eq!(read(&empty.build().unwrap()), None);
    }
}
