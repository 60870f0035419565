//! Whether a change may be stored.

use super::broker::{BrokerConfig, Properties};
use super::error::ConfigError;
use super::key::{Update, broker_key, topic_key};
use super::topic::TopicConfig;
use super::value::Value;

/// Whom a dynamic configuration of a broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerScope {
    /// One broker, by its id.
    Broker,
    /// All brokers.
    Default,
}

/// Thread pools that may at most halve or double at once (KIP-226).
const THREAD_POOLS: [&str; 5] = [
    "num.io.threads",
    "num.network.threads",
    "num.replica.fetchers",
    "num.recovery.threads.per.data.dir",
    "background.threads",
];

/// Judges the overrides that a topic is to have, all of them together.
///
/// # Errors
/// The first key that does not exist, the first value that can not be used, or a contradiction.
pub fn validate_topic_overrides(
    broker: &BrokerConfig,
    overrides: &Properties,
) -> Result<(), ConfigError> {
    if let Some(key) = overrides.keys().find(|key| topic_key(key).is_none()) {
        return Err(ConfigError::UnknownTopicKey { key: key.clone() });
    }
    TopicConfig::effective(broker, overrides)?;
    let remote = "remote.storage.enable";
    match overrides.get(remote) {
        Some(value) if value.trim().eq_ignore_ascii_case("true") => {
            Err(ConfigError::InvalidValue {
                key: remote.to_owned(),
                value: value.clone(),
                allowed: "false: this broker has no remote storage".to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Judges the dynamic configurations that a broker, or all brokers, are to have. `changed` names the keys that the
/// request sets or deletes; `properties` is the whole layer as it would become.
///
/// Keys that are not in the table are kept: they are for others to read.
///
/// # Errors
/// Read-only keys, keys for single brokers in the default, values that can not be used, thread pools that would change
/// by more than a factor of two.
pub fn validate_broker_overrides<'a>(
    broker: &BrokerConfig,
    scope: BrokerScope,
    changed: impl IntoIterator<Item = &'a str>,
    properties: &Properties,
) -> Result<(), ConfigError> {
    let mut changed: Vec<&str> = changed.into_iter().collect();
    changed.sort_unstable();
    let with_update = |wanted: Update| -> Vec<String> {
        let is_wanted = |name: &&str| broker_key(name).is_some_and(|key| key.update == wanted);
        changed
            .iter()
            .copied()
            .filter(is_wanted)
            .map(str::to_owned)
            .collect()
    };
    let keys = with_update(Update::ReadOnly);
    if !keys.is_empty() {
        return Err(ConfigError::ReadOnly { keys });
    }
    let keys = with_update(Update::PerBroker);
    if scope == BrokerScope::Default && !keys.is_empty() {
        return Err(ConfigError::PerBrokerOnly { keys });
    }
    for name in &changed {
        if let (Some(key), Some(raw)) = (broker_key(name), properties.get(*name)) {
            let value = key.parse(raw)?;
            if let (true, Value::Int(threads)) = (THREAD_POOLS.contains(name), value) {
                check_threads(broker, name, threads)?;
            }
        }
    }
    match scope {
        BrokerScope::Broker => broker.with_dynamic(&broker.layers.dynamic_default, properties)?,
        BrokerScope::Default => broker.with_dynamic(properties, &broker.layers.dynamic_broker)?,
    };
    Ok(())
}

fn check_threads(broker: &BrokerConfig, name: &str, value: i32) -> Result<(), ConfigError> {
    let in_force = broker
        .layers
        .value(name)
        .and_then(|raw| raw.trim().parse::<i32>().ok());
    let Some(current) = in_force else {
        return Ok(());
    };
    let (low, high) = (current / 2, current.saturating_mul(2));
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::ThreadCount {
            key: name.to_owned(),
            value,
            current,
            low,
            high,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixtures::{broker, properties};

    fn topic_error(pairs: &[(&str, &str)]) -> String {
        validate_topic_overrides(&broker(&[]), &properties(pairs))
            .unwrap_err()
            .to_string()
    }

    fn change(scope: BrokerScope, pairs: &[(&str, &str)]) -> Result<(), String> {
        validate_broker_overrides(
            &broker(&[]),
            scope,
            pairs.iter().map(|(key, _)| *key),
            &properties(pairs),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_topics_overrides_must_exist_and_hold() {
        assert!(
            validate_topic_overrides(&broker(&[]), &properties(&[("segment.bytes", "10240")]))
                .is_ok()
        );
        assert_eq!(
            topic_error(&[("segment.byte", "1")]),
            "Unknown topic config name: segment.byte"
        );
        assert!(
            topic_error(&[("segment.bytes", "1")])
                .starts_with("Invalid value 1 for configuration segment.bytes:")
        );
        assert!(topic_error(&[("remote.storage.enable", "true")]).contains("no remote storage"));
    }

    #[test]
    fn read_only_keys_are_all_named() {
        assert_eq!(
            change(
                BrokerScope::Broker,
                &[("zookeeper.connect", "x"), ("broker.id", "2")]
            )
            .unwrap_err(),
            "Cannot update these configs dynamically: Set(broker.id, zookeeper.connect)"
        );
        assert!(
            change(BrokerScope::Broker, &[("log.retention.hours", "1")]).is_err(),
            "only the first synonym is dynamic"
        );
        assert!(change(BrokerScope::Broker, &[("log.retention.ms", "1")]).is_ok());
    }

    #[test]
    fn a_brokers_own_address_is_not_for_all() {
        let listeners = [("advertised.listeners", "PLAINTEXT://h:1")];
        assert!(change(BrokerScope::Broker, &listeners).is_ok());
        assert_eq!(
            change(BrokerScope::Default, &listeners).unwrap_err(),
            "Cannot update these configs at default cluster level, broker id must be specified: Set(advertised.listeners)"
        );
    }

    #[test]
    fn thread_pools_change_by_a_factor_of_two_at_most() {
        for (threads, allowed) in [("3", false), ("4", true), ("16", true), ("17", false)] {
            assert_eq!(
                change(BrokerScope::Default, &[("num.io.threads", threads)]).is_ok(),
                allowed,
                "{threads}"
            );
        }
    }

    #[test]
    fn a_wrong_value_and_an_unknown_key() {
        assert!(change(BrokerScope::Default, &[("message.max.bytes", "many")]).is_err());
        assert!(change(BrokerScope::Default, &[("some.plugin.key", "x")]).is_ok());
    }
}
