//! A topic's configuration, as far as its log obeys it.

use broker_core::config::{BrokerConfig, CompressionType, TimestampType, TopicConfig};
use kafka_wire::compression::Compression;
use log::{LogConfig, TopicCompression};

/// The storage engine's view of a topic's configuration.
pub fn log_config(topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
    // The ranges of the keys were checked when they were set: none is negative.
    let size = |bytes: i32| u32::try_from(bytes).unwrap_or_default();
    let interval = |value: i64| {
        if value == i64::MAX {
            u64::MAX
        } else {
            u64::try_from(value).unwrap_or_default()
        }
    };
    LogConfig {
        segment_bytes: size(topic.segment_bytes),
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        segment_index_bytes: size(topic.segment_index_bytes),
        preallocate: topic.preallocate,
        index_interval_bytes: size(topic.index_interval_bytes),
        max_message_bytes: size(topic.max_message_bytes),
        message_timestamp_type: match topic.message_timestamp_type {
            TimestampType::CreateTime => log::TimestampType::CreateTime,
            TimestampType::LogAppendTime => log::TimestampType::LogAppendTime,
        },
        delete: topic.cleanup_policy.delete,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        message_timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        message_timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        compression: compression(topic),
        compact: topic.cleanup_policy.compact,
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
        flush_messages: interval(topic.flush_messages),
        flush_ms: interval(topic.flush_ms),
        file_delete_delay_ms: topic.file_delete_delay_ms,
        producer_id_expiration_ms: i64::from(broker.producer_id_expiration_ms),
    }
}

fn compression(topic: &TopicConfig) -> TopicCompression {
    let codec = |codec, level| TopicCompression::Codec { codec, level };
    match topic.compression_type {
        CompressionType::Producer => TopicCompression::Producer,
        CompressionType::Uncompressed => codec(Compression::None, None),
        CompressionType::Snappy => codec(Compression::Snappy, None),
        CompressionType::Lz4 => codec(Compression::Lz4, Some(topic.compression_lz4_level)),
        CompressionType::Zstd => codec(Compression::Zstd, Some(topic.compression_zstd_level)),
        // Of gzip's levels -1 is its own.
        CompressionType::Gzip => codec(
            Compression::Gzip,
            Some(topic.compression_gzip_level).filter(|level| *level > 0),
        ),
    }
}
