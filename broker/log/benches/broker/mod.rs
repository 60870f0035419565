//! What the benchmarks share: the logs of a broker, and what clients send to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_wire::compression::Compression;
use kafka_wire::record_batch::RecordBatchBuilder;
use log::{LoadProgress, LogConfig, LogManager, LogManagerConfig, StdFileSystem};

/// When everything happens, in milliseconds since 1970.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// The logs in a directory.
pub(crate) fn open(directory: &Path) -> LogManager {
    open_all(vec![directory.to_owned()])
}

/// The logs in some directories.
pub(crate) fn open_all(log_dirs: Vec<PathBuf>) -> LogManager {
    let config = LogManagerConfig {
        log_dirs,
        broker_id: 1,
        cluster_id: "bench".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &|_| LogConfig::default(),
        progress: &LoadProgress::default(),
    };
    LogManager::open(config, Arc::new(StdFileSystem), NOW_MS).unwrap()
}

/// A batch of about `size` bytes, in records of a hundred.
pub(crate) fn batch(size: usize) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    while builder.uncompressed_size() + 110 <= size {
        builder
            .append(NOW_MS, None, Some(&[b'x'; 100]), &[])
            .unwrap();
    }
    builder.build().unwrap().to_vec()
}
