//! Record batches of format 2 (KIP-98): the unit that producers send, brokers store and consumers fetch, byte for
//! byte the same on the wire and on disk.
//!
//! A broker reads the header, [`BatchHeader::parse`] or [`batches`], then [`verify_crc`], glances at each record with
//! [`Batch::scan`], and sets what lies before the bytes that the checksum covers in place: [`set_base_offset`] and
//! [`set_partition_leader_epoch`]. Consumers read the [`Record`]s, the cleaner [`RawRecords`]; [`RecordBatchBuilder`] makes
//! batches.
//!
//! | from | bytes | field |
//! |---|---|---|
//! | 0 | 8 | base offset |
//! | 8 | 4 | length of all that follows |
//! | 12 | 4 | partition leader epoch |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC-32C of all that follows |
//! | 21 | 2 | attributes |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp |
//! | 35 | 8 | max timestamp |
//! | 43 | 8 | producer id |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | number of records |
//! | 61 | | records, compressed as one |

mod builder;
mod control;
mod header;
mod raw;
mod record;
mod scan;

pub use builder::{BuildError, RecordBatchBuilder};
pub use control::EndTransactionMarker;
pub use header::{
    Attributes, BATCH_HEADER_SIZE, Batch, BatchError, BatchHeader, Batches, MAGIC,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, batches,
    set_base_offset, set_max_timestamp, set_partition_leader_epoch, verify_crc,
};
pub use raw::{RawRecord, RawRecords, RecompressError, write_batch};
pub use record::{BatchRecords, Record, RecordError, RecordHeader, RecordIter};
pub use scan::RecordGlance;
