//! What this broker holds: its replicas, what they fetch, and what the controller tells them.
//!
//! A replica decides in its core (`broker_core::partition`) under one short mutex, which is never held
//! over an await. Around them: the controller's requests (`control`), the fetchers of followers, the
//! ISR changes on their way to the controller, and what is done from time to time
//! (`checkpoints`).

mod alter_partition;
mod checkpoints;
mod cleaner;
mod clock;
mod control;
mod fetcher;
mod log_config;
mod log_dir_moves;
mod log_failure;
mod replica;
mod waiters;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_core::config::{BrokerConfig, Properties, TopicConfig};
use broker_core::metadata::MetadataImage;
use broker_core::partition::Event;
use kafka_wire::{ByteString, ErrorCode, TopicPartition};
use log::LogManager;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use alter_partition::{AlterPartition, AlterPartitionQueue};
pub use clock::Clock;
pub use fetcher::{FetcherSettings, Fetchers};
pub use log_config::log_config;
pub use log_failure::LogFailure;
pub use replica::Replica;
pub(crate) use replica::{
    DeleteRecordsError, FetchError, Offsets, ProduceError, Produced, ReadOutcome, ReadRecords,
    ReadRequest, Reader,
};
pub(crate) use waiters::{Reached, Readable};

use cleaner::{CleanerThreads, HighWatermarks};
use control::ControllerEpoch;
use log_dir_moves::LogDirMover;
use log_failure::LogFailures;
use replica::Effects;

/// The epoch of a broker that is not registered yet.
const NO_BROKER_EPOCH: i64 = -1;

/// What overrides a topic's configuration.
pub type TopicOverrides = dyn Fn(&str) -> Arc<Properties> + Send + Sync;

/// What a [`ReplicaManager`] is made of.
pub struct ReplicaManagerParts {
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// The logs, opened.
    pub logs: Arc<LogManager>,
    /// What is known of the cluster; this manager updates it.
    pub metadata: Arc<ArcSwap<MetadataImage>>,
    /// The way to the controller.
    pub controller: Arc<dyn AlterPartition>,
    /// The overrides of topics.
    pub topic_overrides: Arc<TopicOverrides>,
}

/// The replicas of this broker.
pub struct ReplicaManager {
    /// With what is dynamic in it.
    config: ArcSwap<BrokerConfig>,
    configuring: Mutex<()>,
    logs: Arc<LogManager>,
    metadata: Arc<ArcSwap<MetadataImage>>,
    topic_overrides: Arc<TopicOverrides>,
    /// The high watermarks that were on file when this broker started.
    checkpointed: BTreeMap<TopicPartition, i64>,
    replicas: RwLock<HashMap<ByteString, BTreeMap<i32, Arc<Replica>>>>,
    effects: Effects,
    log_failures: LogFailures,
    mover: LogDirMover,
    /// Partitions that have no replica here because a log directory is offline, which may hold it.
    unavailable: Mutex<HashSet<TopicPartition>>,
    broker_epoch: Arc<AtomicI64>,
    controller_epoch: Mutex<ControllerEpoch>,
    ready: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    cleaner: CleanerThreads,
}

impl std::fmt::Debug for ReplicaManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaManager")
            .field("broker_id", &self.config().broker_id)
            .finish_non_exhaustive()
    }
}

impl ReplicaManager {
    /// A manager without replicas, and the tasks that will look after them.
    pub fn start(parts: ReplicaManagerParts) -> Arc<ReplicaManager> {
        let ReplicaManagerParts {
            config,
            logs,
            metadata,
            controller,
            topic_overrides,
        } = parts;
        let settings = FetcherSettings {
            broker_id: config.broker_id,
            listener: config.inter_broker_listener_name().to_owned(),
            fetchers_per_broker: config.num_replica_fetchers,
            wait_max_ms: config.replica_fetch_wait_max_ms,
            min_bytes: config.replica_fetch_min_bytes,
            partition_max_bytes: config.replica_fetch_max_bytes,
            response_max_bytes: config.replica_fetch_response_max_bytes,
            socket_timeout_ms: config.replica_socket_timeout_ms,
        };
        let effects = Effects {
            clock: Clock::start(),
            fetchers: Arc::new(Fetchers::new(settings, metadata.clone())),
            alter_partition: Arc::default(),
        };
        let manager = Arc::new_cyclic(|manager: &Weak<ReplicaManager>| ReplicaManager {
            cleaner: CleanerThreads::new(logs.clone(), high_watermarks(manager.clone())),
            config: ArcSwap::new(config),
            configuring: Mutex::default(),
            checkpointed: logs.high_watermarks(),
            logs,
            metadata,
            topic_overrides,
            replicas: RwLock::default(),
            effects,
            log_failures: LogFailures::default(),
            mover: LogDirMover::default(),
            unavailable: Mutex::default(),
            broker_epoch: Arc::new(AtomicI64::new(NO_BROKER_EPOCH)),
            controller_epoch: Mutex::default(),
            ready: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        manager.start_tasks(controller);
        manager.cleaner.configure(&manager.config());
        manager.begin_moving();
        manager
    }

    fn start_tasks(self: &Arc<Self>, controller: Arc<dyn AlterPartition>) {
        let queue = self.effects.alter_partition.clone();
        let (broker_id, broker_epoch) = (self.config().broker_id, self.broker_epoch.clone());
        let alter_partition = async move {
            queue
                .run(
                    broker_id,
                    move || broker_epoch.load(Ordering::Acquire),
                    controller,
                )
                .await;
        };
        let check = Duration::from_millis(
            u64::try_from(self.config().replica_lag_time_max_ms / 2)
                .unwrap_or(1)
                .max(1),
        );
        let tasks = [
            tokio::spawn(alter_partition),
            self.follow_log_failures(),
            self.every(check, ReplicaManager::check_isr),
            self.start_high_watermark_checkpoints(),
            self.start_recovery_point_checkpoints(),
            self.start_log_start_checkpoints(),
            self.start_expiry_of_producers(),
            self.start_retention(),
            self.start_deletions(),
        ];
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tasks.into_iter().chain(self.start_flushes()));
    }

    /// Does this again and again, off the threads that serve, as long as the manager lives.
    fn every(self: &Arc<Self>, period: Duration, what: fn(&ReplicaManager)) -> JoinHandle<()> {
        self.every_after(period, period, what)
    }

    /// The same, with another time to wait before the first time.
    fn every_after(
        self: &Arc<Self>,
        first: Duration,
        period: Duration,
        what: fn(&ReplicaManager),
    ) -> JoinHandle<()> {
        let manager = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut interval =
                tokio::time::interval_at(tokio::time::Instant::now() + first, period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let Some(manager) = manager.upgrade() else {
                    return;
                };
                if let Err(error) = tokio::task::spawn_blocking(move || what(&manager)).await {
                    tracing::error!(%error, "a periodic task has failed");
                }
            }
        })
    }

    /// The replica of that partition, if there is one here.
    pub fn replica(&self, topic: &str, partition: i32) -> Option<Arc<Replica>> {
        self.replicas
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(topic)?
            .get(&partition)
            .cloned()
    }

    /// Why there is no replica of that partition here: it may lie in a directory that is offline, or others have it, or
    /// nobody.
    pub(crate) fn missing(&self, topic: &str, partition: i32) -> ErrorCode {
        let wanted = TopicPartition::new(topic, partition);
        if self.unavailable().contains(&wanted) {
            return ErrorCode::KafkaStorageError;
        }
        match self.metadata.load().partition(topic, partition) {
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }

    fn unavailable(&self) -> MutexGuard<'_, HashSet<TopicPartition>> {
        self.unavailable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All replicas.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        replicas
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    fn insert(&self, replica: Arc<Replica>) {
        let TopicPartition { topic, partition } = replica.topic_partition().clone();
        let mut replicas = self
            .replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        replicas
            .entry(topic)
            .or_default()
            .insert(partition, replica);
    }

    fn take_out(&self, partition: &TopicPartition) -> Option<Arc<Replica>> {
        let mut replicas = self
            .replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let of_topic = replicas.get_mut(&partition.topic)?;
        let replica = of_topic.remove(&partition.partition);
        if of_topic.is_empty() {
            replicas.remove(&partition.topic);
        }
        replica
    }

    /// What is known of the cluster.
    pub fn metadata(&self) -> &Arc<ArcSwap<MetadataImage>> {
        &self.metadata
    }

    /// True from the moment on at which this broker holds the whole of the controller's metadata. A client
    /// that is answered earlier hears of topics that are "unknown".
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The czxid of this broker's znode, after each registration.
    pub fn set_broker_epoch(&self, broker_epoch: i64) {
        self.broker_epoch.store(broker_epoch, Ordering::Release);
    }

    /// Whether this broker has an epoch, by which it knows what is meant for this life of it.
    pub(crate) fn is_registered(&self) -> bool {
        self.broker_epoch.load(Ordering::Acquire) != NO_BROKER_EPOCH
    }

    /// The broker's configuration that is in force.
    pub(crate) fn config(&self) -> Arc<BrokerConfig> {
        self.config.load_full()
    }

    /// A topic's overrides are others now, as `topic_overrides` tells.
    pub fn topic_config_changed(&self, topic: &str) {
        let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        let of_topic: Vec<Arc<Replica>> = replicas
            .get(topic)
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        drop(replicas);
        self.configure(topic, &of_topic);
    }

    /// The broker's own configuration is another now, and with it that of every topic which does not override it.
    pub fn broker_config_changed(&self, config: &Arc<BrokerConfig>) {
        self.config.store(config.clone());
        self.cleaner.configure(config);
        let topics: Vec<ByteString> = {
            let replicas = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
            replicas.keys().cloned().collect()
        };
        for topic in topics {
            self.topic_config_changed(&topic);
        }
    }

    /// Puts the topic's configuration in force that holds at this moment.
    fn configure(&self, topic: &str, replicas: &[Arc<Replica>]) {
        if replicas.is_empty() {
            return;
        }
        // Held from the look at the configuration on, so that what is put in force last was looked at last.
        let _configuring = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let config = self.topic_config(topic);
        for replica in replicas {
            let log_config = log_config(&config, &self.config());
            replica.log().update_config(log_config);
            replica.handle(Event::MinInsyncReplicasChanged(min_insync_replicas(
                &config,
            )));
        }
    }

    fn topic_config(&self, topic: &str) -> TopicConfig {
        let broker = self.config();
        let overrides = (self.topic_overrides)(topic);
        TopicConfig::effective(&broker, &overrides).unwrap_or_else(|error| {
            tracing::warn!(topic, %error, "the topic's configuration in coord is not valid, the broker's holds");
            broker.topic_defaults.clone()
        })
    }

    fn check_isr(&self) {
        for replica in self.replicas() {
            replica.handle(Event::CheckIsr);
        }
    }

    /// Ends all that goes on, and leaves the logs such that the next start need not mend them.
    pub async fn shutdown(self: &Arc<Self>) {
        self.effects.fetchers.shut_down();
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .for_each(|task| task.abort());
        let manager = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            manager.cleaner.shut_down();
            manager.mover.shut_down();
            manager.checkpoint_high_watermarks();
            for replica in manager.replicas() {
                replica.retire();
            }
            let broker_epoch = manager.broker_epoch.load(Ordering::Acquire);
            if let Err(error) = manager.logs.shutdown(broker_epoch) {
                tracing::error!(%error, "a log was not closed, the next start will mend it");
            }
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the logs were not closed");
        }
    }
}

/// The high watermark of a partition that this broker has a replica of.
fn high_watermarks(manager: Weak<ReplicaManager>) -> Arc<HighWatermarks> {
    Arc::new(move |partition| {
        let replica = manager
            .upgrade()?
            .replica(&partition.topic, partition.partition)?;
        Some(replica.inspect(|core| core.high_watermark()))
    })
}

fn min_insync_replicas(config: &TopicConfig) -> usize {
    usize::try_from(config.min_insync_replicas).unwrap_or(1)
}
