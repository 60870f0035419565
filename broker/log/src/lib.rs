//! The storage engine of a broker: the log of each partition, on disk.
//!
//! Record batches come in as bytes, from a client or from a leader, and go to the end of the log as they came; they go out
//! as ranges of files, for `sendfile(2)`. In between nothing is decoded but headers, and what a client sends is glanced at.
//! The files are Kafka's, byte for byte.
//!
//! - [`LogManager`] owns the log directories: it opens, makes and deletes logs, and writes the checkpoints.
//! - [`Log`] is one partition: a row of segments, each with an offset index and a time index, the leader epochs that wrote
//!   it, and the idempotent producers that it knows.
//! - [`Cleaner`] compacts the logs that are kept by key.
//! - [`FileSystem`] is the only way to the disk, so that tests can break it; [`inspect`] is for tools that only look.
//!
//! What must never be here: a socket, a task, a clock (the time is handed in), a rule about replicas. The high watermark
//! is a number that is kept in a file for the broker; what may be read is the broker's to say.

mod batch_scanner;
mod checkpoint;
mod cleaner;
mod config;
mod deletions;
mod error;
mod file_names;
mod file_system;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod index;
pub mod inspect;
mod leader_epoch_cache;
mod load_progress;
mod log;
mod log_directory;
mod manager;
mod meta_properties;
mod offline;
mod partition_metadata;
mod producer;
mod segment;
mod segment_file;
mod transaction_index;
mod validate;

pub use batch_scanner::MAX_DECOMPRESSED_BYTES;
pub use cleaner::{Cleaner, CleanerBuffers, Cleaning, CleaningStats, Pace};
pub use config::{LogConfig, TimestampType, TopicCompression};
pub use error::{
    AppendError, LogError, ReadError, RefusedRecord, RefusedRecords, UnsupportedFormat,
};
pub use file_system::{DirectoryEntry, FileSystem, LogFile, Space, StdFileSystem, StorageError};
pub use index::{OffsetPosition, TimestampOffset};
pub use leader_epoch_cache::EpochEntry;
pub use load_progress::LoadProgress;
pub use log::{AppendInfo, FetchData, FileRange, LeaderRecords, Log, TimestampAndOffset};
pub use log_directory::OpenError;
pub use manager::{
    DirectoryDescription, GetOrCreateError, LogDescription, LogManager, LogManagerConfig,
    MoveError, MoveProgress, SharedLog, read_meta_properties,
};
pub use meta_properties::MetaProperties;
pub use offline::OfflineDirectory;
pub use producer::ProducerError;
pub use transaction_index::AbortedTransaction;
pub use validate::{ClientBatch, prepare};
