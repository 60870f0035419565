//! A topic's configuration: its overrides over what its broker says.

use super::broker::{BrokerConfig, Layers, Properties};
use super::definitions::TOPIC_KEYS;
use super::error::ConfigError;
use super::key::{TopicKey, Unit, topic_key};
use super::typed::{FromValue, typed_config};
use super::value::Value;

/// What becomes of old segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// They are deleted by age and size.
    pub delete: bool,
    /// They are compacted to the last value of each key.
    pub compact: bool,
}

/// Whose time a record bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Its producer's.
    CreateTime,
    /// The broker's, at its append.
    LogAppendTime,
}

/// The codec that a log is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// The producer's own.
    Producer,
    /// None.
    Uncompressed,
    /// gzip, at `compression.gzip.level`.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4, at `compression.lz4.level`.
    Lz4,
    /// Zstandard, at `compression.zstd.level`.
    Zstd,
}

impl FromValue for CleanupPolicy {
    fn from_value(value: Option<Value>) -> Option<Self> {
        let items = Vec::<String>::from_value(value)?;
        let has = |policy: &str| items.iter().any(|item| item == policy);
        Some(Self {
            delete: has("delete"),
            compact: has("compact"),
        })
    }
}

impl FromValue for TimestampType {
    fn from_value(value: Option<Value>) -> Option<Self> {
        match String::from_value(value)?.as_str() {
            "CreateTime" => Some(Self::CreateTime),
            "LogAppendTime" => Some(Self::LogAppendTime),
            _ => None,
        }
    }
}

impl FromValue for CompressionType {
    fn from_value(value: Option<Value>) -> Option<Self> {
        match String::from_value(value)?.as_str() {
            "producer" => Some(Self::Producer),
            "uncompressed" => Some(Self::Uncompressed),
            "gzip" => Some(Self::Gzip),
            "snappy" => Some(Self::Snappy),
            "lz4" => Some(Self::Lz4),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

typed_config! {
    /// What a broker does with one topic, typed and checked. Numbers keep the units of their names.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TopicConfig {
        cleanup_policy: CleanupPolicy = "cleanup.policy",
        compression_type: CompressionType = "compression.type",
        compression_gzip_level: i32 = "compression.gzip.level",
        compression_lz4_level: i32 = "compression.lz4.level",
        compression_zstd_level: i32 = "compression.zstd.level",
        delete_retention_ms: i64 = "delete.retention.ms",
        file_delete_delay_ms: i64 = "file.delete.delay.ms",
        flush_messages: i64 = "flush.messages",
        flush_ms: i64 = "flush.ms",
        index_interval_bytes: i32 = "index.interval.bytes",
        max_compaction_lag_ms: i64 = "max.compaction.lag.ms",
        max_message_bytes: i32 = "max.message.bytes",
        message_timestamp_type: TimestampType = "message.timestamp.type",
        min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio",
        min_compaction_lag_ms: i64 = "min.compaction.lag.ms",
        min_insync_replicas: i32 = "min.insync.replicas",
        preallocate: bool = "preallocate",
        retention_bytes: i64 = "retention.bytes",
        retention_ms: i64 = "retention.ms",
        segment_bytes: i32 = "segment.bytes",
        segment_index_bytes: i32 = "segment.index.bytes",
        segment_jitter_ms: i64 = "segment.jitter.ms",
        segment_ms: i64 = "segment.ms",
        unclean_leader_election_enable: bool = "unclean.leader.election.enable",
    }
    also {
        /// `message.timestamp.before.max.ms`, or, where that is unset, `message.timestamp.difference.max.ms` (KIP-937).
        message_timestamp_before_max_ms: i64,
        /// `message.timestamp.after.max.ms`, or, where that is unset, `message.timestamp.difference.max.ms` (KIP-937).
        message_timestamp_after_max_ms: i64,
    }
}

impl TopicConfig {
    /// What the broker does with a topic that has these overrides. Unknown overrides have no effect: another broker
    /// of the cluster may know more than this one.
    ///
    /// # Errors
    /// The first value that can not be used.
    pub fn effective(broker: &BrokerConfig, overrides: &Properties) -> Result<Self, ConfigError> {
        if overrides.is_empty() {
            return Ok(broker.topic_defaults.clone());
        }
        Self::from_layers(&broker.layers, overrides)
    }

    pub(super) fn from_layers(
        layers: &Layers,
        overrides: &Properties,
    ) -> Result<Self, ConfigError> {
        for topic in TOPIC_KEYS {
            topic_value(topic, layers, overrides)?;
        }
        let value_of = |name: &'static str| match topic_key(name) {
            Some(topic) => topic_value(topic, layers, overrides).map(Some),
            None => Err(ConfigError::Missing { key: name }),
        };
        let within = |name: &'static str| {
            let chosen = match value_of(name)? {
                Some(Value::Long(i64::MAX)) => value_of("message.timestamp.difference.max.ms")?,
                value => value,
            };
            i64::from_value(chosen).ok_or(ConfigError::Missing { key: name })
        };
        let before = within("message.timestamp.before.max.ms")?;
        let after = within("message.timestamp.after.max.ms")?;
        let config = Self::read(value_of, before, after)?;
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(ConfigError::Conflict {
                key: "min.compaction.lag.ms",
                value: config.min_compaction_lag_ms.to_string(),
                other_key: "max.compaction.lag.ms",
                other_value: config.max_compaction_lag_ms.to_string(),
                rule: "the least lag must not exceed the greatest",
            });
        }
        Ok(config)
    }
}

/// The value of a topic's key that is in force: its override, or the first of its synonyms that the broker sets or
/// has a default for, or the key's own default.
pub(super) fn topic_value(
    topic: &TopicKey,
    layers: &Layers,
    overrides: &Properties,
) -> Result<Value, ConfigError> {
    if let Some(raw) = overrides.get(topic.key.name) {
        return topic.key.parse(raw);
    }
    for synonym in topic.synonyms {
        if let Some(value) = layers.typed(synonym.name)? {
            return Ok(in_milliseconds(value, synonym.unit));
        }
    }
    topic.key.parse(topic.key.default.unwrap_or_default())
}

/// A broker's value in the topic's unit. Negative values mean "no bound", whatever the unit.
fn in_milliseconds(value: Value, unit: Unit) -> Value {
    match value {
        Value::Int(number) if unit != Unit::Same => Value::Long(match number {
            ..0 => -1,
            _ => i64::from(number) * unit.factor(),
        }),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixtures::{broker, properties};

    #[test]
    fn a_topic_without_overrides_has_kafkas_defaults() {
        let config = TopicConfig::effective(&broker(&[]), &Properties::new()).unwrap();
        assert_eq!(config.retention_ms, 604_800_000);
        assert_eq!(config.segment_ms, 604_800_000);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(config.flush_ms, i64::MAX);
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(
            config.cleanup_policy,
            CleanupPolicy {
                delete: true,
                compact: false
            }
        );
        assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    }

    #[test]
    fn milliseconds_go_before_minutes_before_hours() {
        let retention = |pairs: &[(&str, &str)]| broker(pairs).topic_defaults.retention_ms;
        let (ms, minutes, hours) = (
            ("log.retention.ms", "5"),
            ("log.retention.minutes", "3"),
            ("log.retention.hours", "2"),
        );
        assert_eq!(retention(&[hours]), 7_200_000);
        assert_eq!(retention(&[hours, minutes]), 180_000);
        assert_eq!(retention(&[hours, minutes, ms]), 5);
        assert_eq!(retention(&[("log.retention.hours", "-1")]), -1);
        assert_eq!(
            retention(&[hours, ("log.retention.ms", "")]),
            7_200_000,
            "an empty value is unset"
        );
        assert_eq!(
            retention(&[("log.retention.hours", "2147483647")]),
            2_147_483_647 * 3_600_000
        );
        assert_eq!(
            broker(&[("log.roll.hours", "1")]).topic_defaults.segment_ms,
            3_600_000
        );
        assert_eq!(
            broker(&[("log.flush.scheduler.interval.ms", "9")])
                .topic_defaults
                .flush_ms,
            9
        );
    }

    #[test]
    fn overrides_lie_over_dynamic_over_static() {
        let file = broker(&[("log.segment.bytes", "1000")]);
        assert_eq!(file.topic_defaults.segment_bytes, 1000);
        let dynamic = file
            .with_dynamic(
                &properties(&[("log.segment.bytes", "2000")]),
                &Properties::new(),
            )
            .unwrap();
        assert_eq!(dynamic.topic_defaults.segment_bytes, 2000);
        let own = dynamic
            .with_dynamic(
                &properties(&[("log.segment.bytes", "2000")]),
                &properties(&[("log.segment.bytes", "3000")]),
            )
            .unwrap();
        assert_eq!(own.topic_defaults.segment_bytes, 3000);
        let topic =
            TopicConfig::effective(&own, &properties(&[("segment.bytes", "4000")])).unwrap();
        assert_eq!(topic.segment_bytes, 4000);
    }

    #[test]
    fn a_broker_keeps_the_id_that_was_generated_for_it() {
        let generated = crate::config::BrokerConfig {
            broker_id: 1001,
            ..broker(&[])
        };
        let dynamic = properties(&[("log.retention.ms", "5")]);
        let changed = generated.with_dynamic(&dynamic, &Properties::new());
        assert_eq!(changed.unwrap().broker_id, 1001);
    }

    #[test]
    fn the_older_timestamp_bound_holds_where_the_newer_are_unset() {
        let overrides = properties(&[
            ("message.timestamp.difference.max.ms", "10"),
            ("message.timestamp.after.max.ms", "20"),
        ]);
        let config = TopicConfig::effective(&broker(&[]), &overrides).unwrap();
        assert_eq!(
            (
                config.message_timestamp_before_max_ms,
                config.message_timestamp_after_max_ms
            ),
            (10, 20)
        );
    }

    #[test]
    fn contradictory_lags_are_refused() {
        let overrides = properties(&[
            ("min.compaction.lag.ms", "2"),
            ("max.compaction.lag.ms", "1"),
        ]);
        let error = TopicConfig::effective(&broker(&[]), &overrides).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("min.compaction.lag.ms=2 and max.compaction.lag.ms=1")
        );
    }
}
