//! AlterReplicaLogDirs (34): replicas move to other log directories of their broker (KIP-113).

use crate::ByteString;
use crate::schema::schema;

schema! {
    request AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse, key AlterReplicaLogDirs, versions 0..=2, flexible 2..;

    /// Says where replicas are to lie.
    struct AlterReplicaLogDirsRequest {
        /// By directory.
        dirs: Vec<AlterReplicaLogDir>,
    }

    /// One directory.
    struct AlterReplicaLogDir {
        /// Its absolute path.
        path: ByteString,
        /// What is to lie in it.
        topics: Vec<AlterReplicaLogDirTopic>,
    }

    /// Partitions of one topic.
    struct AlterReplicaLogDirTopic {
        /// The topic.
        name: ByteString,
        /// Its partitions.
        partitions: Vec<i32>,
    }
}

schema! {
    response AlterReplicaLogDirsResponse, versions 0..=2, flexible 2..;

    /// What became of it, by partition.
    struct AlterReplicaLogDirsResponse {
        /// How long the request was held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// One entry for each topic.
        results: Vec<AlterReplicaLogDirTopicResult>,
    }

    /// The partitions of one topic.
    struct AlterReplicaLogDirTopicResult {
        /// The topic.
        topic_name: ByteString,
        /// Its partitions.
        partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }

    /// One partition.
    struct AlterReplicaLogDirPartitionResult {
        /// The partition's index.
        partition_index: i32,
        /// The error, or 0: the replica moves, or lies there.
        error_code: i16,
    }
}
