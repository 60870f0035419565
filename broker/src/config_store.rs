//! Dynamic configuration: the overrides of topics and brokers as coord holds them.
//!
//! Any broker writes them; a notification below `/config/changes` makes every broker read the
//! entity again. What is kept here is for the hot paths; who must know what holds right now (an
//! unclean election, DescribeConfigs) reads coord.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_core::config::{BrokerConfig, Properties};
use broker_core::znode::{
    CONFIG_CHANGE_PREFIX, CONFIG_CHANGES, ConfigChange, ConfigEntity, DecodeError, EntityConfig,
};
use zookeeper_client::{Acls, Client, CreateMode, Error};

use crate::membership::{Coord, NoSession, is_connection_loss, persistent};

/// How old a notification is when it is removed; a broker that was away longer reads all anew.
const NOTIFICATION_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How often a change gives way to somebody else's before it is refused.
const MAX_CONFLICTS: u32 = 100;

/// Why a configuration cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigStoreError {
    /// Not now.
    #[error(transparent)]
    NoSession(#[from] NoSession),
    /// Coord refuses.
    #[error("coord refuses {path}: {source}")]
    Refused {
        /// Which node.
        path: String,
        /// Its answer.
        source: Error,
    },
    /// The node cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Something that follows changes of configuration.
pub trait ConfigListener: Send + Sync {
    /// That topic's overrides are now these.
    fn topic_changed(&self, topic: &str, overrides: &Arc<Properties>);
    /// The broker's configuration is now this.
    fn broker_changed(&self, config: &Arc<BrokerConfig>);
}

/// The dynamic configurations that this broker knows.
pub struct ConfigStore {
    broker_id: i32,
    coord: Arc<Coord>,
    topics: RwLock<HashMap<String, Arc<Properties>>>,
    /// The file's configuration under the dynamic ones.
    broker: ArcSwap<BrokerConfig>,
    /// Held while coord is read and what it said is stored, so that what is stored last was read last:
    /// two tasks read, the one that follows the notifications and the one that takes on partitions.
    reading: tokio::sync::Mutex<()>,
    none: Arc<Properties>,
}

impl ConfigStore {
    /// A store that knows of no overrides yet.
    pub fn new(broker_id: i32, config: BrokerConfig, coord: Arc<Coord>) -> Self {
        Self {
            broker_id,
            coord,
            topics: RwLock::default(),
            broker: ArcSwap::from_pointee(config),
            reading: tokio::sync::Mutex::default(),
            none: Arc::default(),
        }
    }

    /// This broker's id.
    pub fn broker_id(&self) -> i32 {
        self.broker_id
    }

    /// Reads everything, before there is anybody to be told of changes.
    pub async fn load(&self, client: &Client) -> Result<(), ConfigStoreError> {
        self.read_all(client, &Nobody).await
    }

    /// The overrides of that topic.
    pub fn topic_overrides(&self, topic: &str) -> Arc<Properties> {
        let topics = self
            .topics
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        topics.get(topic).unwrap_or(&self.none).clone()
    }

    /// The broker's configuration, dynamic ones included.
    pub fn broker_config(&self) -> Arc<BrokerConfig> {
        self.broker.load_full()
    }

    /// What coord holds for that entity now.
    pub async fn read(&self, entity: &ConfigEntity) -> Result<EntityConfig, ConfigStoreError> {
        Ok(read(&self.coord.client()?, entity).await?.0)
    }

    /// Writes what `change` makes of what holds for that entity, and notifies every broker. Where
    /// somebody else wrote in between, what they wrote is changed: nothing that was acknowledged is
    /// lost. `change` may be asked about what it has changed already.
    pub async fn alter<E: From<ConfigStoreError>>(
        &self,
        entity: &ConfigEntity,
        change: impl Fn(Properties) -> Result<Properties, E>,
    ) -> Result<(), E> {
        let client = self.coord.client().map_err(ConfigStoreError::from)?;
        let path = entity.path();
        let mut conflicts = 0;
        loop {
            let (present, version) = read(&client, entity).await?;
            let value = EntityConfig {
                config: change(present.config)?,
            }
            .encode();
            let result = match version {
                Some(version) => client
                    .set_data(&path, &value, Some(version))
                    .await
                    .map(drop),
                None => client.create(&path, &value, &persistent()).await.map(drop),
            };
            match result {
                Ok(()) => break,
                Err(error) if is_connection_loss(&error) => {}
                Err(error) if is_outdated(&error) && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(source) => return Err(ConfigStoreError::Refused { path, source }.into()),
            }
        }
        Ok(notify(&client, entity).await?)
    }

    /// Reads the overrides of topics that are new to this broker; a topic that is created anew may
    /// have others than one of the same name had. A topic whose node makes no sense has none: it is
    /// served all the same.
    pub async fn load_topics(
        &self,
        topics: impl IntoIterator<Item = &str>,
        listener: &dyn ConfigListener,
    ) -> Result<(), ConfigStoreError> {
        let _reading = self.reading.lock().await;
        let client = self.coord.client()?;
        let entities: Vec<_> = topics
            .into_iter()
            .map(|topic| ConfigEntity::Topic(topic.to_owned()))
            .collect();
        let paths: Vec<_> = entities.iter().map(ConfigEntity::path).collect();
        let reads: Vec<_> = paths.iter().map(|path| client.get_data(path)).collect();
        for (entity, result) in entities.iter().zip(reads) {
            let config = none_if_senseless(decode(entity, result.await))?;
            self.store(entity, config, listener);
        }
        Ok(())
    }

    /// Whether that topic's overrides were read since this broker began.
    pub fn knows_topic(&self, topic: &str) -> bool {
        self.topics
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .contains_key(topic)
    }

    /// Reads everything, then follows the notifications of that session until it ends.
    pub async fn follow(
        &self,
        client: &Client,
        listener: &dyn ConfigListener,
    ) -> Result<(), ConfigStoreError> {
        let mut last_seen: Option<String> = None;
        loop {
            let refused = |source| ConfigStoreError::Refused {
                path: CONFIG_CHANGES.to_owned(),
                source,
            };
            let (mut names, _, watcher) = match client.get_and_watch_children(CONFIG_CHANGES).await
            {
                Err(error) if is_connection_loss(&error) => continue,
                result => result.map_err(refused)?,
            };
            names.sort_unstable();
            match &last_seen {
                // What was written before the watch was set is in what is read after it.
                None => self.read_all(client, listener).await?,
                Some(last) => {
                    let fresh: Vec<_> = names.iter().filter(|name| *name > last).collect();
                    self.read_changes(client, listener, &fresh).await?;
                }
            }
            remove_old(client, &names).await;
            last_seen = names.pop().or(last_seen).or_else(|| Some(String::new()));
            let event = watcher.changed().await;
            if event.session_state.is_terminated() {
                return Ok(());
            }
        }
    }

    async fn read_all(
        &self,
        client: &Client,
        listener: &dyn ConfigListener,
    ) -> Result<(), ConfigStoreError> {
        for kind in ["topics", "brokers"] {
            let path = format!("/config/{kind}");
            let names = client.list_children(&path).await;
            let names = names.map_err(|source| ConfigStoreError::Refused { path, source })?;
            let entities = names
                .iter()
                .filter_map(|name| ConfigEntity::parse(&format!("{kind}/{name}")));
            self.read_entities(client, listener, entities.collect())
                .await?;
        }
        Ok(())
    }

    async fn read_changes(
        &self,
        client: &Client,
        listener: &dyn ConfigListener,
        names: &[&String],
    ) -> Result<(), ConfigStoreError> {
        let paths: Vec<_> = names
            .iter()
            .map(|name| format!("{CONFIG_CHANGES}/{name}"))
            .collect();
        let reads: Vec<_> = paths.iter().map(|path| client.get_data(path)).collect();
        let mut entities = Vec::new();
        for (path, read) in paths.iter().zip(reads) {
            match read.await {
                Ok((data, _)) => match ConfigChange::decode(path, &data) {
                    Ok(change) => entities.extend(ConfigEntity::parse(&change.entity_path)),
                    Err(error) => tracing::warn!("{error}"),
                },
                Err(Error::NoNode) => {}
                Err(source) => {
                    return Err(ConfigStoreError::Refused {
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
        entities.sort_unstable();
        entities.dedup();
        self.read_entities(client, listener, entities).await
    }

    async fn read_entities(
        &self,
        client: &Client,
        listener: &dyn ConfigListener,
        entities: Vec<ConfigEntity>,
    ) -> Result<(), ConfigStoreError> {
        let _reading = self.reading.lock().await;
        let paths: Vec<_> = entities.iter().map(ConfigEntity::path).collect();
        let reads: Vec<_> = paths.iter().map(|path| client.get_data(path)).collect();
        for (entity, result) in entities.iter().zip(reads) {
            match decode(entity, result.await) {
                Ok(config) => self.store(entity, config, listener),
                Err(ConfigStoreError::Decode(error)) => tracing::warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn store(&self, entity: &ConfigEntity, config: EntityConfig, listener: &dyn ConfigListener) {
        match entity {
            ConfigEntity::Topic(topic) => {
                let overrides = Arc::new(config.config);
                let mut topics = self
                    .topics
                    .write()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let former = topics.insert(topic.clone(), overrides.clone());
                drop(topics);
                if former.as_ref() != Some(&overrides) {
                    listener.topic_changed(topic, &overrides);
                }
            }
            ConfigEntity::DefaultBroker => {
                let own = self.broker.load().layers.dynamic_broker.clone();
                self.store_broker(&config.config, &own, listener);
            }
            ConfigEntity::Broker(id) if *id == self.broker_id => {
                let default = self.broker.load().layers.dynamic_default.clone();
                self.store_broker(&default, &config.config, listener);
            }
            ConfigEntity::Broker(_) => {}
        }
    }

    fn store_broker(&self, default: &Properties, own: &Properties, listener: &dyn ConfigListener) {
        let present = self.broker.load_full();
        match present.with_dynamic(default, own) {
            Ok(config) if config == *present => {}
            Ok(config) => {
                let config = Arc::new(config);
                self.broker.store(config.clone());
                listener.broker_changed(&config);
            }
            Err(error) => tracing::error!("a dynamic configuration is not applied: {error}"),
        }
    }
}

struct Nobody;

impl ConfigListener for Nobody {
    fn topic_changed(&self, _: &str, _: &Arc<Properties>) {}
    fn broker_changed(&self, _: &Arc<BrokerConfig>) {}
}

/// What holds for an entity, and the version of its node; None where there is none.
async fn read(
    client: &Client,
    entity: &ConfigEntity,
) -> Result<(EntityConfig, Option<i32>), ConfigStoreError> {
    loop {
        match client.get_data(&entity.path()).await {
            Err(error) if is_connection_loss(&error) => {}
            result => {
                let version = result.as_ref().ok().map(|(_, stat)| stat.version);
                return Ok((decode(entity, result)?, version));
            }
        }
    }
}

/// Whether a write was refused because somebody else wrote, created or removed the node since it was read.
fn is_outdated(error: &Error) -> bool {
    matches!(error, Error::BadVersion | Error::NodeExists | Error::NoNode)
}

/// Makes every broker read that entity again.
async fn notify(client: &Client, entity: &ConfigEntity) -> Result<(), ConfigStoreError> {
    let change = ConfigChange {
        entity_path: entity.to_string(),
    }
    .encode();
    let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    loop {
        match client
            .create(CONFIG_CHANGE_PREFIX, &change, &sequential)
            .await
        {
            Ok(_) => return Ok(()),
            // A second notification does no harm.
            Err(error) if is_connection_loss(&error) => {}
            Err(source) => {
                return Err(ConfigStoreError::Refused {
                    path: CONFIG_CHANGE_PREFIX.to_owned(),
                    source,
                });
            }
        }
    }
}

type ReadNode = Result<(Vec<u8>, zookeeper_client::Stat), Error>;

/// A node that does not exist is no overrides.
fn decode(entity: &ConfigEntity, result: ReadNode) -> Result<EntityConfig, ConfigStoreError> {
    match result {
        Ok((data, _)) => Ok(EntityConfig::decode(entity, &data)?),
        Err(Error::NoNode) => Ok(EntityConfig {
            config: BTreeMap::new(),
        }),
        Err(source) => Err(ConfigStoreError::Refused {
            path: entity.path(),
            source,
        }),
    }
}

/// A node that makes no sense is reported, and is no overrides.
fn none_if_senseless(
    result: Result<EntityConfig, ConfigStoreError>,
) -> Result<EntityConfig, ConfigStoreError> {
    match result {
        Err(ConfigStoreError::Decode(error)) => {
            tracing::warn!("{error}");
            Ok(EntityConfig::default())
        }
        result => result,
    }
}

/// Whoever comes by removes the notifications that everybody has read; it is no harm if that fails.
async fn remove_old(client: &Client, names: &[String]) {
    let now_ms = crate::clock::now_ms();
    let lifetime_ms = i64::try_from(NOTIFICATION_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    // Sorted by age: the first one that is young ends the search.
    for name in names {
        let path = format!("{CONFIG_CHANGES}/{name}");
        match client.check_stat(&path).await {
            Ok(Some(stat)) if now_ms.saturating_sub(stat.ctime) > lifetime_ms => {
                let _ = client.delete(&path, None).await;
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use zookeeper_client::Stat;

    use super::*;

    fn read(result: Result<&str, Error>) -> Result<EntityConfig, ConfigStoreError> {
        let stat = Stat {
            czxid: 1,
            mzxid: 1,
            pzxid: 1,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: 0,
            num_children: 0,
        };
        let topic = ConfigEntity::Topic("t".to_owned());
        decode(&topic, result.map(|text| (text.into(), stat)))
    }

    #[test]
    fn a_topic_whose_overrides_make_no_sense_is_served_without() {
        let read = |result| none_if_senseless(read(result));
        let none = EntityConfig::default();
        for broken in ["", "{", "[]", r#"{"version":1,"config":7}"#] {
            assert_eq!(read(Ok(broken)).unwrap(), none, "{broken}");
        }
        assert_eq!(read(Err(Error::NoNode)).unwrap(), none);
        let sound = read(Ok(r#"{"version":1,"config":{"retention.ms":"7"}}"#)).unwrap();
        assert_eq!(sound.config["retention.ms"], "7");
        let error = read(Err(Error::ConnectionLoss)).unwrap_err();
        assert!(matches!(error, ConfigStoreError::Refused { .. }));
    }
}
