//! What the tests of this room start from.

use super::{BrokerConfig, Properties};

pub(super) fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// A broker of which only this is said, beside what it cannot do without.
pub(super) fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
    let mut all = properties(pairs);
    all.insert("zookeeper.connect".to_owned(), "localhost:2181".to_owned());
    BrokerConfig::from_properties(&all).unwrap().0
}
