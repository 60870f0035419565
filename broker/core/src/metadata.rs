//! What a broker knows of the whole cluster: brokers, topics, who leads what.
//!
//! An image never changes; an update yields the next one, which shares every topic that the update
//! does not name. Readers hold an `Arc` of the one they began with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_wire::{ByteString, Uuid};

use crate::partition::LiveBrokers;

/// One listener of a broker, as clients and brokers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: ByteString,
    /// The host to connect to.
    pub host: ByteString,
    /// The port to connect to.
    pub port: u16,
}

/// A broker that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The broker's id.
    pub id: i32,
    /// The czxid of its znode.
    pub epoch: i64,
    /// Its listeners.
    pub endpoints: Vec<Endpoint>,
    /// Its rack, if it has one.
    pub rack: Option<ByteString>,
}

impl Broker {
    /// The endpoint of that name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }
}

/// One partition, as coord holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// `None` while no replica can lead.
    pub leader: Option<i32>,
    /// The epoch of that decision.
    pub leader_epoch: i32,
    /// The version of the partition's state znode.
    pub partition_epoch: i32,
    /// The assigned replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
    /// The replicas whose log directory is offline.
    pub offline_replicas: Vec<i32>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's name.
    pub name: ByteString,
    /// The topic's id.
    pub topic_id: Uuid,
    /// Its partitions by index.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// What changes.
#[derive(Debug, Clone, Default)]
pub struct MetadataUpdate {
    /// Whether `topics` is the whole cluster, so that what it does not name is gone.
    pub full: bool,
    /// Who sends, as controller.
    pub controller_id: i32,
    /// All brokers that are alive.
    pub brokers: Vec<Broker>,
    /// The partitions that changed.
    pub topics: Vec<TopicUpdate>,
}

/// What changes in one topic.
#[derive(Debug, Clone)]
pub struct TopicUpdate {
    /// The topic's name.
    pub name: ByteString,
    /// The topic's id; another one than before means another topic.
    pub topic_id: Uuid,
    /// The new states; `None` for a partition that is being deleted.
    pub partitions: Vec<(i32, Option<PartitionMetadata>)>,
}

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct MetadataImage {
    cluster_id: ByteString,
    controller_id: Option<i32>,
    complete: bool,
    brokers: Arc<BTreeMap<i32, Broker>>,
    live_brokers: Arc<LiveBrokers>,
    topics: Arc<BTreeMap<ByteString, Arc<TopicMetadata>>>,
    topic_names: Arc<HashMap<Uuid, ByteString>>,
}

impl MetadataImage {
    /// The image before the controller has spoken.
    pub fn new(cluster_id: ByteString) -> MetadataImage {
        MetadataImage {
            cluster_id,
            ..MetadataImage::default()
        }
    }

    /// The image after an update.
    pub fn updated(&self, update: MetadataUpdate) -> MetadataImage {
        let mut next = self.clone();
        next.controller_id = Some(update.controller_id);
        next.complete |= update.full;
        next.live_brokers = Arc::new(
            update
                .brokers
                .iter()
                .map(|broker| (broker.id, broker.epoch))
                .collect(),
        );
        next.brokers = Arc::new(
            update
                .brokers
                .into_iter()
                .map(|broker| (broker.id, broker))
                .collect(),
        );
        if update.full {
            next.topics = Arc::default();
            next.topic_names = Arc::default();
        }
        if !update.topics.is_empty() {
            let topics = Arc::make_mut(&mut next.topics);
            let topic_names = Arc::make_mut(&mut next.topic_names);
            for topic in update.topics {
                update_topic(topics, topic_names, topic);
            }
        }
        next
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &ByteString {
        &self.cluster_id
    }

    /// The broker that spoke last as controller.
    pub fn controller_id(&self) -> Option<i32> {
        self.controller_id
    }

    /// Whether a full update was seen. Before that, "unknown topic" may be a lie, and no client is served.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The brokers that are alive, by id.
    pub fn brokers(&self) -> &BTreeMap<i32, Broker> {
        &self.brokers
    }

    /// The brokers that are alive, with their epochs.
    pub fn live_brokers(&self) -> &Arc<LiveBrokers> {
        &self.live_brokers
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicMetadata>> {
        self.topics.values()
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, topic_id: Uuid) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(self.topic_names.get(&topic_id)?)
    }

    /// One partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(&partition)
    }
}

fn update_topic(
    topics: &mut BTreeMap<ByteString, Arc<TopicMetadata>>,
    topic_names: &mut HashMap<Uuid, ByteString>,
    update: TopicUpdate,
) {
    let TopicUpdate {
        name,
        topic_id,
        partitions,
    } = update;
    let born = || {
        Arc::new(TopicMetadata {
            name: name.clone(),
            topic_id,
            partitions: BTreeMap::new(),
        })
    };
    let topic = topics.entry(name.clone()).or_insert_with(born);
    if topic.topic_id != topic_id {
        topic_names.remove(&topic.topic_id);
        *topic = born();
    }
    let changed = Arc::make_mut(topic);
    for (index, partition) in partitions {
        match partition {
            Some(partition) => changed.partitions.insert(index, partition),
            None => changed.partitions.remove(&index),
        };
    }
    if topic.partitions.is_empty() {
        topics.remove(&name);
        topic_names.remove(&topic_id);
    } else {
        topic_names.insert(topic_id, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: i32, leader_epoch: i32) -> Option<PartitionMetadata> {
        Some(PartitionMetadata {
            leader: Some(leader),
            leader_epoch,
            partition_epoch: 0,
            replicas: vec![1, 2],
            isr: vec![1, 2],
            offline_replicas: vec![],
        })
    }

    fn id(byte: u8) -> Uuid {
        Uuid::from_bytes([byte; 16])
    }

    fn topic(
        name: &'static str,
        topic_id: u8,
        partitions: Vec<(i32, Option<PartitionMetadata>)>,
    ) -> TopicUpdate {
        TopicUpdate {
            name: ByteString::from_static(name),
            topic_id: id(topic_id),
            partitions,
        }
    }

    fn update(full: bool, topics: Vec<TopicUpdate>) -> MetadataUpdate {
        let broker = |id| Broker {
            id,
            epoch: 7,
            endpoints: vec![],
            rack: None,
        };
        MetadataUpdate {
            full,
            controller_id: 2,
            brokers: vec![broker(1), broker(2)],
            topics,
        }
    }

    fn image(topics: Vec<TopicUpdate>) -> MetadataImage {
        MetadataImage::new(ByteString::from_static("c")).updated(update(true, topics))
    }

    #[test]
    fn an_image_is_complete_from_the_first_full_update_on() {
        let image = MetadataImage::new(ByteString::from_static("c"));
        let image = image.updated(update(false, vec![]));
        assert!(!image.is_complete());
        let image = image
            .updated(update(true, vec![]))
            .updated(update(false, vec![]));
        assert!(image.is_complete());
        assert_eq!(image.controller_id(), Some(2));
        assert_eq!(**image.live_brokers(), LiveBrokers::from([(1, 7), (2, 7)]));
    }

    #[test]
    fn a_partial_update_shares_what_it_does_not_name() {
        let before = image(vec![
            topic("a", 1, vec![(0, partition(1, 0))]),
            topic("b", 2, vec![(0, partition(1, 0))]),
        ]);
        let after = before.updated(update(
            false,
            vec![topic("b", 2, vec![(1, partition(2, 0))])],
        ));
        assert!(Arc::ptr_eq(
            before.topic("a").unwrap(),
            after.topic("a").unwrap()
        ));
        assert_eq!(before.topic("b").unwrap().partitions.len(), 1);
        assert_eq!(after.topic_by_id(id(2)).unwrap().partitions.len(), 2);
        let brokers_only = after.updated(update(false, vec![]));
        assert!(Arc::ptr_eq(&after.topics, &brokers_only.topics));
    }

    #[test]
    fn a_full_update_drops_what_it_does_not_name() {
        let before = image(vec![topic("a", 1, vec![(0, partition(1, 0))])]);
        let after = before.updated(update(
            true,
            vec![topic("b", 2, vec![(0, partition(1, 0))])],
        ));
        assert!(after.topic("a").is_none() && after.topic_by_id(id(1)).is_none());
        assert_eq!(after.topics().len(), 1);
    }

    #[test]
    fn a_topic_ends_with_its_last_partition() {
        let before = image(vec![topic(
            "a",
            1,
            vec![(0, partition(1, 0)), (1, partition(1, 0))],
        )]);
        let one_left = before.updated(update(false, vec![topic("a", 1, vec![(0, None)])]));
        assert!(one_left.partition("a", 0).is_none() && one_left.partition("a", 1).is_some());
        let none_left = one_left.updated(update(false, vec![topic("a", 1, vec![(1, None)])]));
        assert!(none_left.topic("a").is_none() && none_left.topic_by_id(id(1)).is_none());
    }

    #[test]
    fn kip_516_another_id_is_another_topic() {
        let before = image(vec![topic(
            "a",
            1,
            vec![(0, partition(1, 9)), (1, partition(1, 9))],
        )]);
        let after = before.updated(update(
            false,
            vec![topic("a", 2, vec![(0, partition(2, 0))])],
        ));
        assert!(after.topic_by_id(id(1)).is_none());
        assert_eq!(after.topic_by_id(id(2)).unwrap().partitions.len(), 1);
    }
}
