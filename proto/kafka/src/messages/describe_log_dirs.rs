//! DescribeLogDirs (35): a broker's log directories and what lies in them (KIP-113).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request DescribeLogDirsRequest => DescribeLogDirsResponse, key DescribeLogDirs, versions 0..=4, flexible 2..;

    /// Asks what lies in the log directories.
    struct DescribeLogDirsRequest {
        /// Of which partitions to tell; of all, if there is no list.
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    /// Partitions of one topic.
    struct DescribableLogDirTopic {
        /// The topic.
        topic: ByteString,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

schema! {
    response DescribeLogDirsResponse, versions 0..=4, flexible 2..;

    /// The log directories.
    struct DescribeLogDirsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// The error, or 0.
        error_code: i16 [3..],
        /// One entry for each directory.
        results: Vec<DescribeLogDirsResult>,
    }

    /// One directory.
    struct DescribeLogDirsResult {
        /// The error, or 0: 56 for a directory that is offline.
        error_code: i16,
        /// The directory's absolute path.
        log_dir: ByteString,
        /// What lies in it.
        topics: Vec<DescribeLogDirsTopic>,
        /// The size of the volume that holds it, in bytes; -1 if not known.
        total_bytes: i64 [4..] = -1,
        /// How much of that is free, in bytes; -1 if not known.
        usable_bytes: i64 [4..] = -1,
    }

    /// One topic.
    struct DescribeLogDirsTopic {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// One log.
    struct DescribeLogDirsPartition {
        /// The partition's index.
        partition_index: i32,
        /// The size of its segments, in bytes.
        partition_size: i64,
        /// How far its end is behind the high watermark, or behind the log's end if it is to replace that log.
        offset_lag: i64,
        /// Whether it is made to replace the partition's log in another directory.
        is_future_key: bool,
    }
}
