//! What a definition says of one key, and how a key is found.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use super::definitions::{BROKER_KEYS, TOPIC_KEYS};

/// The type of a key's value, with the code that DescribeConfigs carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ValueType {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// A signed integer of 32 bits.
    Int = 3,
    /// A signed integer of 16 bits.
    Short = 4,
    /// A signed integer of 64 bits.
    Long = 5,
    /// A floating point number.
    Double = 6,
    /// Texts, separated by commas.
    List = 7,
    /// The name of a class; of no use outside a Java virtual machine, kept because files hold it.
    Class = 8,
    /// A text that is never shown.
    Password = 9,
}

impl ValueType {
    /// The code on the wire (DescribeConfigs, `ConfigType`).
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Which values of its type a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// All.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers between the two, both included.
    Between(i64, i64),
    /// Numbers between the two, or the third, which stands for "the codec's own choice".
    BetweenOr(i64, i64, i64),
    /// One of these words; of a list, any of them but at least one.
    OneOf(&'static [&'static str]),
    /// A text of at least one character; of a list, at least one item.
    NonEmpty,
    /// Items `partition:broker`, or the single item `*`.
    ThrottledReplicas,
}

/// How much a user should care about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Every cluster should think about it.
    High,
    /// Worth a look when tuning.
    Medium,
    /// Rarely touched.
    Low,
}

/// Whether and where a broker's key may be changed while brokers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Only in the file, at the next start.
    ReadOnly,
    /// For one broker, by its id.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// One key of a broker's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub value_type: ValueType,
    /// The value if none is given; `None` means unset.
    pub default: Option<&'static str>,
    /// Which values it takes.
    pub allowed: Allowed,
    /// How much it matters.
    pub importance: Importance,
    /// Whether it changes at run time.
    pub update: Update,
    /// What it does, in one line.
    pub doc: &'static str,
}

impl Key {
    /// Whether the value must never be shown.
    pub fn sensitive(&self) -> bool {
        self.value_type == ValueType::Password
    }
}

/// What a broker's value must be multiplied by to become a topic's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing; the value is taken as it is.
    Same,
    /// Minutes to milliseconds.
    Minutes,
    /// Hours to milliseconds.
    Hours,
}

impl Unit {
    /// Milliseconds in one unit; 1 for [`Unit::Same`].
    pub fn factor(self) -> i64 {
        match self {
            Unit::Same => 1,
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
        }
    }
}

/// A broker's key that gives a topic's key its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker's key.
    pub name: &'static str,
    /// The unit it counts in.
    pub unit: Unit,
}

/// One key of a topic's configuration.
#[derive(Debug, Clone, Copy)]
pub struct TopicKey {
    /// What the key is; a topic's keys are all changed at run time, so that `update` is cluster-wide.
    pub key: Key,
    /// Where its value comes from if the topic has none of its own; the first of these that has a value.
    pub synonyms: &'static [Synonym],
}

/// The definition of a broker's key, `None` if there is no such key.
pub fn broker_key(name: &str) -> Option<&'static Key> {
    static INDEX: LazyLock<HashMap<&'static str, &'static Key>> =
        LazyLock::new(|| BROKER_KEYS.iter().map(|key| (key.name, key)).collect());
    INDEX.get(name).copied()
}

/// The definition of a topic's key, `None` if there is no such key.
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    static INDEX: LazyLock<HashMap<&'static str, &'static TopicKey>> = LazyLock::new(|| {
        TOPIC_KEYS
            .iter()
            .map(|topic| (topic.key.name, topic))
            .collect()
    });
    INDEX.get(name).copied()
}

/// What a value must be, in words that fit after "must be".
pub(super) struct Requirement {
    pub(super) value_type: ValueType,
    pub(super) allowed: Allowed,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.value_type {
            ValueType::Boolean => "true or false",
            ValueType::Short => "an integer of 16 bits",
            ValueType::Int => "an integer of 32 bits",
            ValueType::Long => "an integer of 64 bits",
            ValueType::Double => "a number",
            ValueType::List => "a list",
            ValueType::String | ValueType::Class | ValueType::Password => "a text",
        };
        match self.allowed {
            Allowed::Any => f.write_str(noun),
            Allowed::AtLeast(low) => write!(f, "{noun} of at least {low}"),
            Allowed::Between(low, high) => write!(f, "{noun} from {low} to {high}"),
            Allowed::BetweenOr(low, high, or) => write!(f, "{noun} from {low} to {high}, or {or}"),
            Allowed::OneOf(words) if self.value_type == ValueType::List => {
                write!(f, "one or more of {}", words.join(", "))
            }
            Allowed::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Allowed::NonEmpty => write!(f, "{noun} that is not empty"),
            Allowed::ThrottledReplicas => {
                f.write_str("a list of partition:broker pairs, or * for every replica")
            }
        }
    }
}
