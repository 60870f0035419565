//! Fetchers: what this broker's followers read from their leaders.
//!
//! A task for each leading broker (and `num.replica.fetchers` of them) holds one connection and one
//! fetch session, so that thousands of idle partitions cost one small request each half second. The
//! partitions of a fetcher are a set, not a queue: what starts or stops is in force with the next
//! request, and one that waits at the leader is overtaken by it.

mod connection;
mod session;
mod task;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use broker_core::metadata::{Broker, MetadataImage};
use kafka_wire::TopicPartition;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::replica::Replica;

/// What fetchers need to know of the configuration.
#[derive(Debug, Clone)]
pub struct FetcherSettings {
    /// This broker's id.
    pub broker_id: i32,
    /// The listener to connect to.
    pub listener: String,
    /// `num.replica.fetchers`.
    pub fetchers_per_broker: i32,
    /// `replica.fetch.wait.max.ms`.
    pub wait_max_ms: i32,
    /// `replica.fetch.min.bytes`.
    pub min_bytes: i32,
    /// `replica.fetch.max.bytes`, for each partition.
    pub partition_max_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub response_max_bytes: i32,
    /// `replica.socket.timeout.ms`.
    pub socket_timeout_ms: i32,
}

/// A partition that is fetched.
#[derive(Debug, Clone)]
struct Fetched {
    replica: Arc<Replica>,
    leader_epoch: i32,
}

/// The partitions of one fetcher.
#[derive(Debug, Default)]
struct Assignment {
    partitions: Mutex<Changing>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Changing {
    /// What started since the fetcher looked last.
    started: HashMap<TopicPartition, Fetched>,
    /// What stopped since then.
    stopped: Vec<TopicPartition>,
}

impl Assignment {
    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Fetcher {
    assignment: Arc<Assignment>,
    task: JoinHandle<()>,
}

/// Where leaders are found.
#[derive(Debug, Clone)]
struct Leaders {
    /// What LeaderAndIsr told since the last UpdateMetadata, which follows it and may be the first that
    /// this broker ever gets.
    told: Arc<ArcSwap<BTreeMap<i32, Broker>>>,
    metadata: Arc<ArcSwap<MetadataImage>>,
}

impl Leaders {
    fn find(&self, leader: i32) -> Option<Broker> {
        let told = self.told.load().get(&leader).cloned();
        told.or_else(|| self.metadata.load().brokers().get(&leader).cloned())
    }
}

/// All fetchers of this broker.
#[derive(Debug)]
pub struct Fetchers {
    settings: FetcherSettings,
    leaders: Leaders,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// By leading broker and index.
    fetchers: HashMap<(i32, i32), Fetcher>,
    /// Which fetcher has a partition.
    partitions: HashMap<TopicPartition, (i32, i32)>,
    shut_down: bool,
}

impl Fetchers {
    pub(super) fn new(
        settings: FetcherSettings,
        metadata: Arc<ArcSwap<MetadataImage>>,
    ) -> Fetchers {
        Fetchers {
            settings,
            leaders: Leaders {
                told: Arc::default(),
                metadata,
            },
            running: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the leaders are, until the cluster's metadata tells it (an empty map).
    pub(super) fn set_leaders(&self, leaders: BTreeMap<i32, Broker>) {
        self.leaders.told.store(Arc::new(leaders));
    }

    /// Fetches a partition from this leader, and from no other any more.
    pub(super) fn start(&self, replica: Arc<Replica>, leader: i32, leader_epoch: i32) {
        let partition = replica.topic_partition().clone();
        let index = fetcher_index(&partition, self.settings.fetchers_per_broker);
        let mut running = self.running();
        if running.shut_down {
            return;
        }
        running.stop(&partition);
        let fetcher = running.fetchers.entry((leader, index)).or_insert_with(|| {
            let assignment = Arc::new(Assignment::default());
            let task = task::run(
                self.settings.clone(),
                leader,
                self.leaders.clone(),
                assignment.clone(),
            );
            Fetcher {
                assignment,
                task: tokio::spawn(task),
            }
        });
        fetcher.assignment.changing().started.insert(
            partition.clone(),
            Fetched {
                replica,
                leader_epoch,
            },
        );
        fetcher.assignment.changed.notify_one();
        running.partitions.insert(partition, (leader, index));
    }

    /// Fetches a partition no more. An answer that is on its way is dropped by the replica, for its
    /// epoch or its role is another then.
    pub(super) fn stop(&self, partition: &TopicPartition) {
        self.running().stop(partition);
    }

    /// Brokers came or went: fetchers of brokers that are gone are ended, if they have nothing to do.
    pub(super) fn brokers_changed(&self) {
        let image = self.leaders.metadata.load();
        let mut running = self.running();
        let Running {
            fetchers,
            partitions,
            ..
        } = &mut *running;
        fetchers.retain(|key, fetcher| {
            let keep =
                image.brokers().contains_key(&key.0) || partitions.values().any(|used| used == key);
            if !keep {
                fetcher.task.abort();
            }
            keep
        });
    }

    /// Ends all.
    pub(super) fn shut_down(&self) {
        let mut running = self.running();
        running.shut_down = true;
        running.partitions.clear();
        running
            .fetchers
            .drain()
            .for_each(|(_, fetcher)| fetcher.task.abort());
    }
}

impl Running {
    fn stop(&mut self, partition: &TopicPartition) {
        let Some(key) = self.partitions.remove(partition) else {
            return;
        };
        let Some(fetcher) = self.fetchers.get(&key) else {
            return;
        };
        let mut changing = fetcher.assignment.changing();
        changing.started.remove(partition);
        changing.stopped.push(partition.clone());
        drop(changing);
        fetcher.assignment.changed.notify_one();
    }
}

/// Java's `31 * topic.hashCode() + partition`, so that a partition has the fetcher that it has in Kafka.
fn fetcher_index(partition: &TopicPartition, fetchers: i32) -> i32 {
    let hash = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let topic = partition.topic.encode_utf16().fold(0, hash);
    let sum = topic.wrapping_mul(31).wrapping_add(partition.partition);
    sum.checked_abs().unwrap_or(0) % fetchers.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_the_fetcher_that_it_has_in_kafka() {
        // "t".hashCode() is 116.
        assert_eq!(
            fetcher_index(&TopicPartition::new("t", 3), 1000),
            (31 * 116 + 3) % 1000
        );
        assert_eq!(fetcher_index(&TopicPartition::new("t", 3), 1), 0);
    }
}
