//! Whose configurations are shown or changed, and to what: the options of `kafka-configs` that say so.

use std::collections::BTreeMap;

use kafka_wire::valid_topic_name;

use crate::options::Options;

/// What has configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entity {
    Topic(String),
    Broker(i32),
    BrokerDefault,
}

impl Entity {
    /// Its type and name on the wire.
    pub(super) fn resource(&self) -> (i8, String) {
        match self {
            Entity::Topic(name) => (2, name.clone()),
            Entity::Broker(id) => (4, id.to_string()),
            Entity::BrokerDefault => (4, String::new()),
        }
    }

    /// The source of the configurations that were set for this very entity.
    pub(super) fn dynamic_source(&self) -> i8 {
        match self {
            Entity::Topic(_) => 1,
            Entity::Broker(_) => 2,
            Entity::BrokerDefault => 3,
        }
    }

    /// The line above its configurations.
    pub(super) fn title(&self, all: bool) -> String {
        let which = if all { "All" } else { "Dynamic" };
        match self {
            Entity::Topic(name) => format!("{which} configs for topic {name} are:"),
            Entity::Broker(id) => format!("{which} configs for broker {id} are:"),
            Entity::BrokerDefault => "Default configs for brokers in the cluster are:".to_owned(),
        }
    }

    /// The line that says that its configurations were changed.
    pub(super) fn completed(&self) -> String {
        match self {
            Entity::Topic(name) => format!("Completed updating config for topic {name}."),
            Entity::Broker(id) => format!("Completed updating config for broker {id}."),
            Entity::BrokerDefault => {
                "Completed updating default config for brokers in the cluster.".to_owned()
            }
        }
    }
}

/// The entities that the options name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    One(Entity),
    AllTopics,
    AllBrokers,
}

/// The entity, or all of a type, with the checks of Kafka's tool.
pub(super) fn selection(options: &Options) -> Result<Selection, String> {
    let value = |name: &str| options.value(name).map_err(|error| error.0);
    let short = ["topic", "broker", "broker-defaults"];
    let long = ["entity-type", "entity-name", "entity-default"];
    let is_short = short.iter().any(|name| options.has(name));
    if is_short && long.iter().any(|name| options.has(name)) {
        return Err("--entity-{type,name,default} should not be used in conjunction with specific entity flags".to_owned());
    }
    if short.iter().filter(|name| options.has(name)).count() > 1
        || options.values("entity-type").len() > 1
    {
        return Err("Only one entity type may be specified".to_owned());
    }
    let (entity_type, name, default) = match is_short {
        true if options.has("topic") => ("topics", value("topic")?, false),
        true => ("brokers", value("broker")?, options.has("broker-defaults")),
        false => (
            value("entity-type")?.ok_or("At least one entity type must be specified")?,
            value("entity-name")?,
            options.has("entity-default"),
        ),
    };
    let altering = options.has("alter");
    let selection = match (entity_type, name, default) {
        ("topics", Some(name), false) => {
            valid_topic_name(name).map_err(|error| error.to_string())?;
            Selection::One(Entity::Topic(name.to_owned()))
        }
        ("topics", None, false) if altering => {
            return Err("an entity name must be specified with --alter of topics".to_owned());
        }
        ("topics", None, false) => Selection::AllTopics,
        ("brokers", Some(name), false) => {
            let id = name.parse().map_err(|_| {
                format!("The entity name for brokers must be a valid integer broker id, but it is: {name}")
            })?;
            Selection::One(Entity::Broker(id))
        }
        ("brokers", None, true) => Selection::One(Entity::BrokerDefault),
        ("brokers", None, false) if altering => {
            let message = "an entity-name or default entity must be specified with --alter of users, clients, brokers or ips";
            return Err(message.to_owned());
        }
        ("brokers", None, false) => Selection::AllBrokers,
        ("topics" | "brokers", _, _) => {
            return Err(format!(
                "An entity of type {entity_type} is named or is the default, not both"
            ));
        }
        (other, _, _) => {
            return Err(format!(
                "Invalid entity type {other}, the entity type must be one of topics, brokers with a --bootstrap-server argument"
            ));
        }
    };
    if altering {
        let given = |name: &str| options.has(name);
        if given("add-config") && given("add-config-file") {
            return Err(
                "Only one of --add-config or --add-config-file must be specified".to_owned(),
            );
        }
        if !given("add-config") && !given("add-config-file") && !given("delete-config") {
            return Err(
                "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter".to_owned()
            );
        }
    }
    Ok(selection)
}

/// The configurations to set, from the command line and from a file.
pub(super) fn configs_to_add(options: &Options) -> Result<BTreeMap<String, String>, String> {
    let mut configs = options
        .properties("add-config-file")
        .map_err(|error| error.0)?;
    if let Some(text) = options.value("add-config").map_err(|error| error.0)? {
        configs.extend(parse_configs(text)?);
    }
    let is_sound = |key: &String| {
        key.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match configs.keys().find(|key| !is_sound(key)) {
        Some(key) => Err(format!("Invalid character found for config key: {key}")),
        None => Ok(configs),
    }
}

/// Reads `k1=v1,k2=[v1,v2]`: commas within brackets belong to the value, and the brackets go.
fn parse_configs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut items = vec![String::new()];
    let mut within_brackets = false;
    for character in text.chars() {
        match character {
            '[' => within_brackets = true,
            ']' => within_brackets = false,
            ',' if !within_brackets => items.push(String::new()),
            other => items
                .last_mut()
                .into_iter()
                .for_each(|item| item.push(other)),
        }
    }
    let pair = |item: String| {
        let (key, value) = item
            .split_once('=')
            .ok_or("requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\".")?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    items.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::super::TOOL;
    use super::*;
    use crate::options::tests::options;

    fn selected(line: &[&str]) -> Result<Selection, String> {
        selection(&options(&TOOL, line))
    }

    #[test]
    fn an_entity_is_named_long_or_short() {
        let topic = Selection::One(Entity::Topic("t".to_owned()));
        assert_eq!(
            selected(&[
                "--describe",
                "--entity-type",
                "topics",
                "--entity-name",
                "t"
            ])
            .unwrap(),
            topic
        );
        assert_eq!(selected(&["--describe", "--topic", "t"]).unwrap(), topic);
        assert_eq!(
            selected(&["--describe", "--broker", "1"]).unwrap(),
            Selection::One(Entity::Broker(1))
        );
        assert_eq!(
            selected(&["--describe", "--entity-type", "brokers"]).unwrap(),
            Selection::AllBrokers
        );
        let default = ["--describe", "--entity-type", "brokers", "--entity-default"];
        assert_eq!(
            selected(&default).unwrap(),
            Selection::One(Entity::BrokerDefault)
        );
        assert_eq!(
            selected(&["--describe", "--entity-type", "topics"]).unwrap(),
            Selection::AllTopics
        );
    }

    #[test]
    fn mistakes_are_said_in_kafkas_words() {
        let said = |line: &[&str]| selected(line).unwrap_err();
        assert_eq!(
            said(&["--describe"]),
            "At least one entity type must be specified"
        );
        assert_eq!(
            said(&[
                "--describe",
                "--entity-type",
                "brokers",
                "--entity-name",
                "x"
            ]),
            "The entity name for brokers must be a valid integer broker id, but it is: x"
        );
        assert!(
            said(&["--describe", "--entity-type", "user"]).starts_with("Invalid entity type user")
        );
        assert_eq!(
            said(&["--alter", "--entity-type", "topics", "--add-config", "a=b"]),
            "an entity name must be specified with --alter of topics"
        );
        assert!(said(&["--alter", "--topic", "t"]).starts_with("At least one of --add-config"));
        assert!(
            said(&["--describe", "--topic", "t", "--entity-type", "topics"])
                .contains("should not be used")
        );
    }

    #[test]
    fn brackets_keep_commas_together() {
        let parsed =
            parse_configs("cleanup.policy=[compact,delete], retention.ms = 1 ,empty=").unwrap();
        let pairs: Vec<(&str, &str)> = parsed
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("cleanup.policy", "compact,delete"),
                ("empty", ""),
                ("retention.ms", "1")
            ]
        );
        assert!(
            parse_configs("retention.ms")
                .unwrap_err()
                .contains("\"key=val\"")
        );
        let bad_key = options(&TOOL, &["--alter", "--topic", "t", "--add-config", "a b=1"]);
        assert_eq!(
            configs_to_add(&bad_key).unwrap_err(),
            "Invalid character found for config key: a b"
        );
    }
}
