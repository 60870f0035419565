//! Where each value comes from: what DescribeConfigs answers.

use super::broker::{BrokerConfig, Properties};
use super::definitions::{BROKER_KEYS, TOPIC_KEYS, UNLISTED_KEYS};
use super::error::ConfigError;
use super::key::{Key, Update, ValueType, broker_key};
use super::topic::topic_value;

/// The layer that a value was found in, with its code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// An override of the topic.
    DynamicTopic = 1,
    /// Set at run time for one broker.
    DynamicBroker = 2,
    /// Set at run time for all brokers.
    DynamicDefaultBroker = 3,
    /// Written in the broker's file.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

impl ConfigSource {
    /// The code on the wire (DescribeConfigs, `ConfigSource`).
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One of the places where a value is or could be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key there.
    pub name: String,
    /// Its value, as it was written; `None` if it is sensitive.
    pub value: Option<String>,
    /// The layer.
    pub source: ConfigSource,
}

/// A key, its value, and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value in force; `None` if it is unset or sensitive.
    pub value: Option<String>,
    /// The layer of the value.
    pub source: ConfigSource,
    /// Whether the value must not be shown.
    pub sensitive: bool,
    /// Whether the key can only be changed in the broker's file.
    pub read_only: bool,
    /// All places where it is set, the one in force first.
    pub synonyms: Vec<ConfigSynonym>,
    /// The type of the value; `None` if the key is unknown.
    pub value_type: Option<ValueType>,
    /// What the key does.
    pub doc: Option<&'static str>,
}

/// Every key of a topic with these overrides, by name.
///
/// The synonyms follow Kafka's rule, quirk included: after the override come the broker's keys, layer by layer, but
/// leading ones are dropped until one bears the name of the first of them. So `retention.ms` shows nothing where only
/// `log.retention.hours` is set, for it is not `log.retention.ms`.
///
/// # Errors
/// The first value that can not be used.
pub fn describe_topic(
    broker: &BrokerConfig,
    overrides: &Properties,
) -> Result<Vec<ConfigEntry>, ConfigError> {
    let mut entries = Vec::with_capacity(TOPIC_KEYS.len());
    for topic in TOPIC_KEYS {
        let key = &topic.key;
        let value = topic_value(topic, &broker.layers, overrides)?.to_string();
        let own = overrides.contains_key(key.name).then(|| ConfigSynonym {
            name: key.name.to_owned(),
            value: Some(value.clone()),
            source: ConfigSource::DynamicTopic,
        });
        let of_broker = match topic.synonyms.first() {
            Some(first) => broker_synonyms(broker, first.name),
            None => Vec::new(),
        };
        let synonyms: Vec<ConfigSynonym> = own.into_iter().chain(of_broker).collect();
        entries.push(entry(key.name, Some(key), Some(value), false, synonyms));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Every key of a broker, by name, and the keys of its layers that are unknown or not always listed.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let layers = &broker.layers;
    let listed = BROKER_KEYS
        .iter()
        .map(|key| key.name)
        .filter(|name| !UNLISTED_KEYS.contains(name));
    let set = [
        &layers.static_broker,
        &layers.dynamic_default,
        &layers.dynamic_broker,
    ]
    .into_iter()
    .flat_map(|layer| layer.keys().map(String::as_str));
    let mut names: Vec<&str> = listed.chain(set).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| broker_entry(broker, name, broker_synonyms(broker, name)))
        .collect()
}

/// The keys that are set at run time for all brokers, by name.
pub fn describe_broker_default(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let of_default = |name: &String| {
        let mut synonyms = broker_synonyms(broker, name);
        synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        ConfigEntry {
            value: synonyms.first().and_then(|synonym| synonym.value.clone()),
            ..broker_entry(broker, name, synonyms)
        }
    };
    broker
        .layers
        .dynamic_default
        .keys()
        .map(of_default)
        .collect()
}

fn broker_entry(broker: &BrokerConfig, name: &str, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    let key = broker_key(name);
    let raw = broker.layers.value(name);
    let value = match (key, raw) {
        (Some(key), Some(raw)) if raw.trim().is_empty() && key.default.is_none() => None,
        (Some(key), Some(raw)) => key.parse(raw).ok().map(|value| value.to_string()),
        (_, raw) => raw.map(str::to_owned),
    };
    let read_only = key.is_none_or(|key| key.update == Update::ReadOnly);
    entry(name, key, value, read_only, synonyms)
}

fn entry(
    name: &str,
    key: Option<&Key>,
    value: Option<String>,
    read_only: bool,
    synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    let sensitive = is_sensitive(key);
    ConfigEntry {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms
            .first()
            .map_or(ConfigSource::Default, |synonym| synonym.source),
        sensitive,
        read_only,
        synonyms,
        value_type: key.map(|key| key.value_type),
        doc: key.map(|key| key.doc),
    }
}

/// A key that is not known might hold a password, and is treated as if it did.
fn is_sensitive(key: Option<&Key>) -> bool {
    key.is_none_or(Key::sensitive)
}

/// The places where a broker's key is set: its synonyms, layer by layer, from the first that bears its own name on.
fn broker_synonyms(broker: &BrokerConfig, name: &str) -> Vec<ConfigSynonym> {
    let layers = &broker.layers;
    let names = names_of(name);
    let set = [
        (&layers.dynamic_broker, ConfigSource::DynamicBroker),
        (&layers.dynamic_default, ConfigSource::DynamicDefaultBroker),
        (&layers.static_broker, ConfigSource::StaticBroker),
    ];
    let of_layers = set.into_iter().flat_map(|(layer, source)| {
        names
            .iter()
            .filter_map(move |name| Some((*name, layer.get(*name)?.as_str(), source)))
    });
    let of_defaults = names
        .iter()
        .filter_map(|name| Some((*name, broker_key(name)?.default?, ConfigSource::Default)));
    of_layers
        .chain(of_defaults)
        .skip_while(|(found, _, _)| *found != name)
        .map(|(name, value, source)| ConfigSynonym {
            name: name.to_owned(),
            value: Some(value.to_owned()).filter(|_| !is_sensitive(broker_key(name))),
            source,
        })
        .collect()
}

/// The names that a broker's key goes by, the one that counts most first.
fn names_of(name: &str) -> Vec<&str> {
    match name {
        "log.roll.ms" | "log.roll.hours" => vec!["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => {
            vec!["log.roll.jitter.ms", "log.roll.jitter.hours"]
        }
        "log.flush.interval.ms" => vec!["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            vec![
                "log.retention.ms",
                "log.retention.minutes",
                "log.retention.hours",
            ]
        }
        _ => vec![name],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixtures::{broker, properties};

    /// An entry's value and synonyms as kafka-configs prints them.
    fn shown(entries: &[ConfigEntry], name: &str) -> String {
        let entry = entries
            .iter()
            .find(|entry| entry.name == name)
            .unwrap_or_else(|| panic!("no {name}"));
        let synonyms: Vec<String> = entry
            .synonyms
            .iter()
            .map(|synonym| {
                format!(
                    "{:?}:{}={}",
                    synonym.source,
                    synonym.name,
                    synonym.value.as_deref().unwrap_or("null")
                )
            })
            .collect();
        format!(
            "{} {{{}}}",
            entry.value.as_deref().unwrap_or("null"),
            synonyms.join(", ")
        )
    }

    #[test]
    fn the_static_layer_shows_only_if_the_file_has_the_key() {
        let overrides = properties(&[("segment.bytes", "10240")]);
        let entries =
            describe_topic(&broker(&[("log.segment.bytes", "1073741824")]), &overrides).unwrap();
        assert_eq!(
            shown(&entries, "segment.bytes"),
            "10240 {DynamicTopic:segment.bytes=10240, StaticBroker:log.segment.bytes=1073741824, Default:log.segment.bytes=1073741824}"
        );
        let entries = describe_topic(&broker(&[]), &overrides).unwrap();
        assert_eq!(
            shown(&entries, "segment.bytes"),
            "10240 {DynamicTopic:segment.bytes=10240, Default:log.segment.bytes=1073741824}"
        );
    }

    #[test]
    fn keys_with_several_synonyms_show_none_unless_the_first_is_set() {
        let entries = describe_topic(&broker(&[]), &Properties::new()).unwrap();
        for name in ["retention.ms", "segment.ms"] {
            assert_eq!(shown(&entries, name), "604800000 {}");
        }
        assert_eq!(shown(&entries, "segment.jitter.ms"), "0 {}");
        assert_eq!(shown(&entries, "flush.ms"), format!("{} {{}}", i64::MAX));
        let entries =
            describe_topic(&broker(&[("log.retention.hours", "1")]), &Properties::new()).unwrap();
        assert_eq!(shown(&entries, "retention.ms"), "3600000 {}");
        let file = [("log.retention.ms", "7"), ("log.retention.hours", "1")];
        let entries = describe_topic(&broker(&file), &Properties::new()).unwrap();
        assert_eq!(
            shown(&entries, "retention.ms"),
            "7 {StaticBroker:log.retention.ms=7, StaticBroker:log.retention.hours=1, Default:log.retention.hours=168}"
        );
    }

    #[test]
    fn keys_without_a_synonym_show_nothing_by_default() {
        let entries = describe_topic(&broker(&[]), &Properties::new()).unwrap();
        assert_eq!(
            shown(&entries, "leader.replication.throttled.replicas"),
            " {}"
        );
        assert_eq!(shown(&entries, "remote.storage.enable"), "false {}");
    }

    #[test]
    fn a_brokers_layers_show_in_order() {
        let broker = broker(&[("message.max.bytes", "1")])
            .with_dynamic(
                &properties(&[("message.max.bytes", "2")]),
                &properties(&[("message.max.bytes", "3")]),
            )
            .unwrap();
        assert_eq!(
            shown(&describe_broker(&broker), "message.max.bytes"),
            "3 {DynamicBroker:message.max.bytes=3, DynamicDefaultBroker:message.max.bytes=2, \
             StaticBroker:message.max.bytes=1, Default:message.max.bytes=1048588}"
        );
        assert_eq!(
            shown(&describe_broker_default(&broker), "message.max.bytes"),
            "2 {DynamicDefaultBroker:message.max.bytes=2}"
        );
        let topic = describe_topic(&broker, &Properties::new()).unwrap();
        assert!(
            shown(&topic, "max.message.bytes")
                .starts_with("3 {DynamicBroker:message.max.bytes=3, ")
        );
    }

    #[test]
    fn an_unset_key_is_null_and_its_hours_show_themselves() {
        let entries = describe_broker(&broker(&[]));
        assert_eq!(shown(&entries, "log.retention.ms"), "null {}");
        assert_eq!(
            shown(&entries, "log.retention.hours"),
            "168 {Default:log.retention.hours=168}"
        );
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        let hidden = "log.initial.task.delay.ms";
        assert!(!entries.iter().any(|entry| entry.name == hidden));
        assert_eq!(
            shown(&describe_broker(&broker(&[(hidden, "0")])), hidden),
            format!("0 {{StaticBroker:{hidden}=0, Default:{hidden}=30000}}")
        );
    }

    #[test]
    fn an_unknown_key_hides_its_value() {
        let entries = describe_broker(&broker(&[("ssl.keystore.password", "secret")]));
        assert_eq!(
            shown(&entries, "ssl.keystore.password"),
            "null {StaticBroker:ssl.keystore.password=null}"
        );
        assert!(
            entries
                .iter()
                .find(|entry| entry.name == "ssl.keystore.password")
                .unwrap()
                .sensitive
        );
    }
}
