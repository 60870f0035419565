//! Values: from text, checked, and back to the text that tools show.

use std::fmt;

use super::error::ConfigError;
use super::key::{Allowed, Key, Requirement, ValueType};

/// A value that has passed its key's checks.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a [`ValueType::Boolean`] key.
    Boolean(bool),
    /// Of a [`ValueType::Short`] key.
    Short(i16),
    /// Of an [`ValueType::Int`] key.
    Int(i32),
    /// Of a [`ValueType::Long`] key.
    Long(i64),
    /// Of a [`ValueType::Double`] key.
    Double(f64),
    /// Of a string, class or password key.
    Text(String),
    /// Of a [`ValueType::List`] key; items are trimmed, none is empty.
    List(Vec<String>),
}

impl Key {
    /// Reads and checks a value. Space around it is ignored.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`], which names the key, the value and what is allowed.
    pub fn parse(&self, raw: &str) -> Result<Value, ConfigError> {
        parse(self.value_type, raw.trim())
            .filter(|value| allows(self.allowed, value))
            .ok_or_else(|| ConfigError::InvalidValue {
                key: self.name.to_owned(),
                value: if self.sensitive() {
                    "[hidden]".to_owned()
                } else {
                    raw.to_owned()
                },
                allowed: Requirement {
                    value_type: self.value_type,
                    allowed: self.allowed,
                }
                .to_string(),
            })
    }
}

fn parse(value_type: ValueType, text: &str) -> Option<Value> {
    Some(match value_type {
        ValueType::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
        ValueType::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
        ValueType::Boolean => return None,
        ValueType::Short => Value::Short(text.parse().ok()?),
        ValueType::Int => Value::Int(text.parse().ok()?),
        ValueType::Long => Value::Long(text.parse().ok()?),
        ValueType::Double => Value::Double(
            text.parse()
                .ok()
                .filter(|number: &f64| number.is_finite())?,
        ),
        ValueType::String | ValueType::Class | ValueType::Password => Value::Text(text.to_owned()),
        ValueType::List => Value::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
    })
}

fn allows(allowed: Allowed, value: &Value) -> bool {
    match allowed {
        Allowed::Any => true,
        Allowed::AtLeast(low) => within(value, low, i64::MAX),
        Allowed::Between(low, high) => within(value, low, high),
        Allowed::BetweenOr(low, high, or) => within(value, low, high) || within(value, or, or),
        Allowed::OneOf(words) => match value {
            Value::Text(text) => words.contains(&text.as_str()),
            Value::List(items) => {
                !items.is_empty() && items.iter().all(|item| words.contains(&item.as_str()))
            }
            _ => false,
        },
        Allowed::NonEmpty => match value {
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            _ => false,
        },
        Allowed::ThrottledReplicas => match value {
            Value::List(items) => {
                items.as_slice() == ["*"] || items.iter().all(|item| is_partition_and_broker(item))
            }
            _ => false,
        },
    }
}

fn within(value: &Value, low: i64, high: i64) -> bool {
    match *value {
        Value::Short(number) => (low..=high).contains(&i64::from(number)),
        Value::Int(number) => (low..=high).contains(&i64::from(number)),
        Value::Long(number) => (low..=high).contains(&number),
        Value::Double(number) => (low as f64..=high as f64).contains(&number),
        Value::Boolean(_) | Value::Text(_) | Value::List(_) => false,
    }
}

fn is_partition_and_broker(item: &str) -> bool {
    item.split_once(':').is_some_and(|(partition, broker)| {
        let is_id = |text: &str| text.parse::<i32>().is_ok_and(|id| id >= 0);
        is_id(partition) && is_id(broker)
    })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Short(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Long(value) => value.fmt(f),
            Value::Double(value) => write_double(f, *value),
            Value::Text(value) => value.fmt(f),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Writes a number as Kafka's tools show it: `0.5`, `1.7976931348623157E308`.
fn write_double(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return write!(f, "{value:?}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => write!(f, "{mantissa}E{exponent}"),
        Some((mantissa, exponent)) => write!(f, "{mantissa}.0E{exponent}"),
        None => f.write_str(&scientific),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{broker_key, topic_key};
    use super::*;

    fn topic(name: &str, raw: &str) -> Result<Value, String> {
        topic_key(name)
            .expect("a known key")
            .key
            .parse(raw)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_names_key_value_and_what_is_allowed() {
        assert_eq!(
            topic("segment.bytes", "13").unwrap_err(),
            "Invalid value 13 for configuration segment.bytes: must be an integer of 32 bits of at least 14"
        );
        assert_eq!(
            topic("segment.bytes", "10k").unwrap_err(),
            "Invalid value 10k for configuration segment.bytes: must be an integer of 32 bits of at least 14"
        );
        assert_eq!(
            topic("cleanup.policy", "compress").unwrap_err(),
            "Invalid value compress for configuration cleanup.policy: must be one or more of compact, delete"
        );
        assert_eq!(
            topic("preallocate", "yes").unwrap_err(),
            "Invalid value yes for configuration preallocate: must be true or false"
        );
    }

    #[test]
    fn ranges_include_their_ends() {
        assert_eq!(topic("segment.bytes", " 14 "), Ok(Value::Int(14)));
        assert_eq!(topic("compression.gzip.level", "-1"), Ok(Value::Int(-1)));
        assert_eq!(topic("compression.gzip.level", "9"), Ok(Value::Int(9)));
        assert!(topic("compression.gzip.level", "0").is_err());
        assert!(topic("min.cleanable.dirty.ratio", "1.1").is_err());
        assert!(topic("min.cleanable.dirty.ratio", "NaN").is_err());
        assert_eq!(
            topic("min.cleanable.dirty.ratio", "1"),
            Ok(Value::Double(1.0))
        );
    }

    #[test]
    fn throttled_replicas_are_pairs_or_a_star() {
        let name = "leader.replication.throttled.replicas";
        assert!(topic(name, "0:1,1:2").is_ok());
        assert!(topic(name, "*").is_ok());
        assert!(topic(name, "").is_ok());
        assert!(topic(name, "0:1,*").is_err());
        assert!(topic(name, "0-1").is_err());
    }

    #[test]
    fn numbers_show_as_kafkas_tools_show_them() {
        for (number, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e7, "1.0E7"),
            (0.0001, "1.0E-4"),
        ] {
            assert_eq!(Value::Double(number).to_string(), text);
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        use super::super::definitions::{BROKER_KEYS, TOPIC_KEYS};
        for key in BROKER_KEYS
            .iter()
            .chain(TOPIC_KEYS.iter().map(|topic| &topic.key))
        {
            if let Some(default) = key.default {
                let value = key.parse(default).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(value.to_string(), default, "{}", key.name);
            }
        }
    }

    #[test]
    fn every_synonym_is_a_key_and_its_default_is_the_topics() {
        use super::super::definitions::TOPIC_KEYS;
        for topic in TOPIC_KEYS {
            let with_default = topic.synonyms.iter().find_map(|synonym| {
                let key =
                    broker_key(synonym.name).unwrap_or_else(|| panic!("no key {}", synonym.name));
                key.default.map(|default| (default, synonym.unit.factor()))
            });
            if let Some((default, factor)) = with_default {
                let expected = topic.key.default.expect("a topic's key has a default");
                if factor == 1 {
                    assert_eq!(default, expected, "{}", topic.key.name);
                } else {
                    assert_eq!(
                        default.parse::<i64>().unwrap() * factor,
                        expected.parse::<i64>().unwrap()
                    );
                }
            }
        }
    }
}
