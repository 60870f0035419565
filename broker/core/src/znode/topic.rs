//! The nodes of topics: `/brokers/topics/T` with the assignment, `…/partitions/P/state` with the
//! leader and the ISR, `/admin/delete_topics/T`.

use std::collections::BTreeMap;

use kafka_wire::Uuid;
use serde::Deserialize;
use serde_json::json;

use super::{DecodeError, from_json, to_json};

/// The parent of the topics.
pub const TOPICS: &str = "/brokers/topics";
/// The parent of the requests to delete a topic.
pub const DELETE_TOPICS: &str = "/admin/delete_topics";

/// `/brokers/topics/T`.
pub fn topic_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}")
}

/// `/brokers/topics/T/partitions`.
pub fn partitions_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

/// `/brokers/topics/T/partitions/P`.
pub fn partition_path(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}")
}

/// `/brokers/topics/T/partitions/P/state`.
pub fn partition_state_path(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/state")
}

/// `/admin/delete_topics/T`.
pub fn delete_topic_path(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{topic}")
}

/// The replicas of one partition, in the order of preference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionReplicas {
    /// Every replica, those under way included.
    pub replicas: Vec<i32>,
    /// Those that a reassignment adds.
    pub adding_replicas: Vec<i32>,
    /// Those that a reassignment removes.
    pub removing_replicas: Vec<i32>,
}

impl From<Vec<i32>> for PartitionReplicas {
    fn from(replicas: Vec<i32>) -> Self {
        Self {
            replicas,
            ..Self::default()
        }
    }
}

/// The value of `/brokers/topics/T`: the topic's id and where its partitions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNode {
    /// None where a broker before 2.8 wrote it: the controller then gives it one.
    pub topic_id: Option<Uuid>,
    /// By partition.
    pub partitions: BTreeMap<i32, PartitionReplicas>,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(default)]
    topic_id: Option<String>,
    partitions: BTreeMap<String, Vec<i32>>,
    #[serde(default)]
    adding_replicas: BTreeMap<String, Vec<i32>>,
    #[serde(default)]
    removing_replicas: BTreeMap<String, Vec<i32>>,
}

impl TopicNode {
    /// Its JSON, version 3, or 2 where the topic has no id.
    pub fn encode(&self) -> Vec<u8> {
        let column = |of: fn(&PartitionReplicas) -> &Vec<i32>, always: bool| {
            let filled = self
                .partitions
                .iter()
                .filter(|(_, replicas)| always || !of(replicas).is_empty());
            filled
                .map(|(partition, replicas)| (partition.to_string(), of(replicas)))
                .collect::<BTreeMap<_, _>>()
        };
        let mut value = json!({
            "version": if self.topic_id.is_some() { 3 } else { 2 },
            "partitions": column(|of| &of.replicas, true),
            "adding_replicas": column(|of| &of.adding_replicas, false),
            "removing_replicas": column(|of| &of.removing_replicas, false),
        });
        if let (Some(topic_id), Some(object)) = (self.topic_id, value.as_object_mut()) {
            object.insert("topic_id".to_owned(), json!(topic_id.to_string()));
        }
        to_json(&value)
    }

    /// Reads versions 1 to 3.
    pub fn decode(topic: &str, data: &[u8]) -> Result<Self, DecodeError> {
        let path = topic_path(topic);
        let raw: RawTopic = from_json(&path, data)?;
        let topic_id = match raw.topic_id {
            Some(text) => Some(text.parse().map_err(|_| {
                DecodeError::new(
                    &path,
                    format!("topic id {text:?} is not 22 characters of base64url"),
                )
            })?),
            None => None,
        };
        let mut partitions = BTreeMap::new();
        for (partition, replicas) in raw.partitions {
            let number: i32 = partition.parse().map_err(|_| {
                DecodeError::new(&path, format!("partition {partition:?} is not a number"))
            })?;
            if number < 0 || replicas.is_empty() {
                return Err(DecodeError::new(
                    &path,
                    format!("partition {number} is below 0 or has no replicas"),
                ));
            }
            let under_way =
                |map: &BTreeMap<String, Vec<i32>>| map.get(&partition).cloned().unwrap_or_default();
            let adding_replicas = under_way(&raw.adding_replicas);
            let removing_replicas = under_way(&raw.removing_replicas);
            partitions.insert(
                number,
                PartitionReplicas {
                    replicas,
                    adding_replicas,
                    removing_replicas,
                },
            );
        }
        Ok(Self {
            topic_id,
            partitions,
        })
    }
}

/// The value of `…/partitions/P/state`. The node's version is the partition epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStateNode {
    /// -1: none.
    pub leader: i32,
    /// Raised with every change by a controller.
    pub leader_epoch: i32,
    /// Of the controller that wrote it.
    pub controller_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// Whether the leader was elected uncleanly and has not yet recovered (KIP-704).
    pub recovering: bool,
}

#[derive(Deserialize)]
struct RawState {
    leader: i32,
    leader_epoch: i32,
    #[serde(default)]
    controller_epoch: i32,
    isr: Vec<i32>,
    #[serde(default)]
    leader_recovery_state: i32,
}

impl PartitionStateNode {
    /// Its JSON, version 1.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = json!({
            "version": 1,
            "leader": self.leader,
            "leader_epoch": self.leader_epoch,
            "controller_epoch": self.controller_epoch,
            "isr": self.isr,
        });
        if let (true, Some(object)) = (self.recovering, value.as_object_mut()) {
            object.insert("leader_recovery_state".to_owned(), json!(1));
        }
        to_json(&value)
    }

    /// Reads its JSON.
    pub fn decode(topic: &str, partition: i32, data: &[u8]) -> Result<Self, DecodeError> {
        let raw: RawState = from_json(&partition_state_path(topic, partition), data)?;
        Ok(Self {
            leader: raw.leader,
            leader_epoch: raw.leader_epoch,
            controller_epoch: raw.controller_epoch,
            isr: raw.isr,
            recovering: raw.leader_recovery_state == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = Vec<i32>> {
        prop::collection::vec(0i32..2000, 0..4)
    }

    prop_compose! {
        fn replicas()(
            replicas in prop::collection::vec(0i32..2000, 1..4),
            adding_replicas in ids(),
            removing_replicas in ids(),
        ) -> PartitionReplicas {
            PartitionReplicas { replicas, adding_replicas, removing_replicas }
        }
    }

    proptest! {
        #[test]
        fn topic_round_trips(
            id in prop::option::of(any::<[u8; 16]>()),
            partitions in prop::collection::btree_map(0i32..10_000, replicas(), 0..8),
        ) {
            let node = TopicNode { topic_id: id.map(Uuid::from_bytes), partitions };
            prop_assert_eq!(TopicNode::decode("t", &node.encode()), Ok(node));
        }

        #[test]
        fn state_round_trips(leader in -1i32..100, epochs: (u16, u16), isr in ids(), recovering: bool) {
            let node = PartitionStateNode {
                leader,
                leader_epoch: epochs.0.into(),
                controller_epoch: epochs.1.into(),
                isr,
                recovering,
            };
            prop_assert_eq!(PartitionStateNode::decode("t", 0, &node.encode()), Ok(node));
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(data: Vec<u8>) {
            let _ = TopicNode::decode("t", &data);
            let _ = PartitionStateNode::decode("t", 0, &data);
        }
    }

    #[test]
    fn versions_of_older_brokers_are_read() {
        let v1 = TopicNode::decode("t", br#"{"version":1,"partitions":{"0":[1,2]}}"#).unwrap();
        let v2 = br#"{"version":2,"partitions":{"0":[1,2]},"adding_replicas":{},"removing_replicas":{}}"#;
        assert_eq!(TopicNode::decode("t", v2).unwrap(), v1);
        assert_eq!(v1.partitions[&0].replicas, [1, 2]);
        assert_eq!(v1.topic_id, None);
    }

    #[test]
    fn a_partition_without_replicas_or_below_zero_is_refused() {
        assert!(TopicNode::decode("t", br#"{"version":1,"partitions":{"0":[]}}"#).is_err());
        assert!(TopicNode::decode("t", br#"{"version":1,"partitions":{"-1":[1]}}"#).is_err());
    }
}
