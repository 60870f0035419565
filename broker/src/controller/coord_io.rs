//! The controller's reads and writes of coord.
//!
//! Requests go out as they are made and are answered in their order, so a set of partitions costs
//! one trip. Every write is a multi that first checks the version of `/controller_epoch` as it was
//! when this controller was elected: a later controller has raised it, and the write is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use broker_core::controller::{Fenced, LiveBroker, Loaded, StateWrite, TopicWrite, Written};
use broker_core::znode::{
    CONTROLLER, CONTROLLER_EPOCH, ConfigEntity, EntityConfig, PRODUCER_ID_BLOCK,
    PartitionStateNode, ProducerIdBlock, TopicNode, delete_topic_path, partition_path,
    partition_state_path, partitions_path, topic_path,
};
use kafka_wire::{ByteString, TopicPartition};
use zookeeper_client::{
    CheckWriteError, CheckWriter, Client, Error, MultiWriteResult, OneshotWatcher, Stat,
};

use crate::membership::{persistent, read_brokers};

/// How many requests are made before the first of them is awaited.
const WINDOW: usize = 1024;

/// Coord as one controller uses it, for the length of its term.
#[derive(Debug, Clone)]
pub(super) struct CoordIo {
    pub(super) client: Client,
    /// The version of `/controller_epoch` in this term.
    pub(super) epoch_version: i32,
}

type ReadNode = Result<(Vec<u8>, Stat), Error>;

impl CoordIo {
    /// The names below a node, and the watch of the next change.
    pub(super) async fn children(
        &self,
        path: &str,
    ) -> Result<(Vec<String>, OneshotWatcher), Error> {
        loop {
            match self.client.get_and_watch_children(path).await {
                Ok((names, _, watcher)) => return Ok((names, watcher)),
                Err(Error::ConnectionLoss) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads nodes in one go; lost connections are made good.
    async fn read_all(&self, paths: &[String]) -> Result<Vec<ReadNode>, Error> {
        let mut results = Vec::with_capacity(paths.len());
        for window in paths.chunks(WINDOW) {
            let reads: Vec<_> = window
                .iter()
                .map(|path| self.client.get_data(path))
                .collect();
            for (path, read) in window.iter().zip(reads) {
                let mut result = read.await;
                while matches!(result, Err(Error::ConnectionLoss)) {
                    result = self.client.get_data(path).await;
                }
                match result {
                    Err(error) if is_final(&error) => return Err(error),
                    result => results.push(result),
                }
            }
        }
        Ok(results)
    }

    /// Those brokers as their nodes describe them.
    pub(super) async fn brokers(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<i32, LiveBroker>, Error> {
        loop {
            match read_brokers(&self.client, names).await {
                Err(Error::ConnectionLoss) => {}
                result => {
                    let live = |(id, registration, epoch)| {
                        (
                            id,
                            LiveBroker {
                                id,
                                epoch,
                                registration,
                            },
                        )
                    };
                    return Ok(result?.into_iter().map(live).collect());
                }
            }
        }
    }

    /// Everything but the brokers. A node that cannot be read is reported and left out: one broken
    /// topic must not stop the cluster.
    pub(super) async fn load(
        &self,
        topics: Vec<String>,
        deletions: Vec<String>,
    ) -> Result<Loaded, Error> {
        let names = topics.into_iter().map(ByteString::from).collect();
        let topics = self.read_topics(names).await?;
        let tps = topics.iter().flat_map(|(name, (node, _))| {
            node.partitions
                .keys()
                .map(|index| TopicPartition::new(name.clone(), *index))
        });
        let states = self.read_states(tps.collect()).await?;
        let deletions = deletions.into_iter().map(ByteString::from).collect();
        Ok(Loaded {
            brokers: BTreeMap::new(),
            topics,
            states,
            deletions,
        })
    }

    pub(super) async fn read_topics(
        &self,
        names: Vec<ByteString>,
    ) -> Result<BTreeMap<ByteString, (TopicNode, i32)>, Error> {
        let paths: Vec<_> = names.iter().map(|name| topic_path(name)).collect();
        let mut topics = BTreeMap::new();
        for (name, result) in names.into_iter().zip(self.read_all(&paths).await?) {
            match result.map(|(data, stat)| (TopicNode::decode(&name, &data), stat.version)) {
                Ok((Ok(node), version)) => drop(topics.insert(name, (node, version))),
                Ok((Err(error), _)) => tracing::error!("topic {name} is left out: {error}"),
                Err(Error::NoNode) => {}
                Err(error) => tracing::error!("topic {name} is left out: {error}"),
            }
        }
        Ok(topics)
    }

    pub(super) async fn read_states(
        &self,
        tps: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, (PartitionStateNode, i32)>, Error> {
        let paths: Vec<_> = tps
            .iter()
            .map(|tp| partition_state_path(&tp.topic, tp.partition))
            .collect();
        let mut states = BTreeMap::new();
        for (tp, result) in tps.into_iter().zip(self.read_all(&paths).await?) {
            match result.map(|(data, stat)| {
                (
                    PartitionStateNode::decode(&tp.topic, tp.partition, &data),
                    stat.version,
                )
            }) {
                Ok((Ok(node), version)) => drop(states.insert(tp, (node, version))),
                Ok((Err(error), _)) => tracing::error!("{error}"),
                Err(Error::NoNode) => {}
                Err(error) => tracing::error!("the state of {tp} cannot be read: {error}"),
            }
        }
        Ok(states)
    }

    /// Which of these topics allow unclean elections; `default` where a topic does not say.
    pub(super) async fn unclean(
        &self,
        topics: BTreeSet<ByteString>,
        default: bool,
    ) -> Result<BTreeSet<ByteString>, Error> {
        let entities: Vec<_> = topics
            .iter()
            .map(|topic| ConfigEntity::Topic(topic.to_string()))
            .collect();
        let paths: Vec<_> = entities.iter().map(ConfigEntity::path).collect();
        let mut allowed = BTreeSet::new();
        for ((topic, entity), result) in topics
            .into_iter()
            .zip(&entities)
            .zip(self.read_all(&paths).await?)
        {
            let config = match result {
                Ok((data, _)) => {
                    EntityConfig::decode(entity, &data).map_err(|error| error.to_string())
                }
                Err(Error::NoNode) => Ok(EntityConfig::default()),
                Err(error) => Err(error.to_string()),
            };
            let is_allowed = match config
                .as_ref()
                .map(|config| config.config.get("unclean.leader.election.enable"))
            {
                Ok(Some(value)) => value.trim().eq_ignore_ascii_case("true"),
                Ok(None) => default,
                Err(error) => {
                    tracing::error!("topic {topic} elects nobody uncleanly: {error}");
                    false
                }
            };
            if is_allowed {
                allowed.insert(topic);
            }
        }
        Ok(allowed)
    }

    /// Writes states, all in one go.
    pub(super) async fn write_states(
        &self,
        writes: Vec<StateWrite>,
    ) -> Result<Result<Vec<(TopicPartition, Written)>, Fenced>, Error> {
        let topics: BTreeSet<_> = writes
            .iter()
            .filter(|write| write.expected_version.is_none())
            .map(|write| &write.tp.topic)
            .collect();
        for topic in topics {
            let path = partitions_path(topic);
            let created = self.once_connected(|| self.create(&[(&path, &[])])).await?;
            if created == Err(WriteFailure::Fenced) {
                return Ok(Err(Fenced));
            }
        }
        let mut results = Vec::with_capacity(writes.len());
        for window in writes.chunks(WINDOW) {
            let sent: Vec<_> = window.iter().map(|write| self.write_state(write)).collect();
            for (write, sent) in window.iter().zip(sent) {
                let mut outcome = sent.await;
                while matches!(
                    outcome,
                    Err(CheckWriteError::RequestFailed {
                        source: Error::ConnectionLoss
                    })
                ) {
                    outcome = self.write_state(write).await;
                }
                let written = match judge(outcome)? {
                    Ok(version) => Written::Done(version),
                    Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                    Err(WriteFailure::Conflict) => self.settle_conflict(write).await?,
                    Err(WriteFailure::Other(cause)) => Written::Failed(cause),
                };
                results.push((write.tp.clone(), written));
            }
        }
        Ok(Ok(results))
    }

    fn write_state(&self, write: &StateWrite) -> Sent<'_> {
        let path = partition_state_path(&write.tp.topic, write.tp.partition);
        let parent = partition_path(&write.tp.topic, write.tp.partition);
        let data = write.node.encode();
        match write.expected_version {
            Some(version) => self.set(&path, &data, Some(version)),
            None => self.create(&[(&parent, &[]), (&path, &data)]),
        }
    }

    /// A conflict may be this controller's own write, whose answer was lost with a connection; or the
    /// partition's node exists without a state, as a controller that died may leave it.
    async fn settle_conflict(&self, write: &StateWrite) -> Result<Written, Error> {
        let path = partition_state_path(&write.tp.topic, write.tp.partition);
        let data = write.node.encode();
        match self.read_all(std::slice::from_ref(&path)).await?.pop() {
            Some(Ok((found, stat))) if found == data => Ok(Written::Done(stat.version)),
            Some(Err(Error::NoNode)) if write.expected_version.is_none() => {
                match self
                    .once_connected(|| self.create(&[(&path, &data)]))
                    .await?
                {
                    Ok(version) => Ok(Written::Done(version)),
                    Err(_) => Ok(Written::Conflict),
                }
            }
            _ => Ok(Written::Conflict),
        }
    }

    /// Writes topics: their overrides first, so that nobody sees a topic without them.
    pub(super) async fn write_topics(
        &self,
        writes: Vec<TopicWrite>,
    ) -> Result<Result<Vec<(ByteString, Written)>, Fenced>, Error> {
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let path = topic_path(&write.name);
            let data = write.node.encode();
            let written = match write.expected_version {
                Some(version) => {
                    self.once_connected(|| self.set(&path, &data, Some(version)))
                        .await?
                }
                None => {
                    let entity = ConfigEntity::Topic(write.name.to_string()).path();
                    let config = EntityConfig {
                        config: write.configs.clone(),
                    }
                    .encode();
                    let both = self
                        .once_connected(|| self.create(&[(&entity, &config), (&path, &data)]))
                        .await?;
                    match both {
                        // Overrides of that name are left from before: they are replaced.
                        Err(WriteFailure::Conflict) => {
                            let exists = self.read_all(std::slice::from_ref(&path)).await?.pop();
                            match exists {
                                Some(Ok((found, stat))) if found == data => Ok(stat.version),
                                Some(Err(Error::NoNode)) => {
                                    match self
                                        .once_connected(|| self.set(&entity, &config, None))
                                        .await?
                                    {
                                        Ok(_) => {
                                            self.once_connected(|| self.create(&[(&path, &data)]))
                                                .await?
                                        }
                                        failure => failure,
                                    }
                                }
                                _ => Err(WriteFailure::Conflict),
                            }
                        }
                        result => result,
                    }
                }
            };
            match written {
                Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                result => results.push((write.name, outcome(result))),
            }
        }
        Ok(Ok(results))
    }

    pub(super) async fn request_deletions(
        &self,
        names: Vec<ByteString>,
    ) -> Result<Result<Vec<(ByteString, Written)>, Fenced>, Error> {
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let path = delete_topic_path(&name);
            match self.once_connected(|| self.create(&[(&path, &[])])).await? {
                Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                result => results.push((name, outcome(result))),
            }
        }
        Ok(Ok(results))
    }

    /// Removes all that coord holds of topics; the request to delete goes last, so that a controller
    /// that dies meanwhile leaves it to the next.
    pub(super) async fn remove_topics(
        &self,
        topics: Vec<(ByteString, Vec<i32>)>,
    ) -> Result<Result<Vec<(ByteString, Written)>, Fenced>, Error> {
        let mut results = Vec::with_capacity(topics.len());
        for (name, partitions) in topics {
            let mut paths: Vec<String> = Vec::new();
            for index in partitions {
                paths.extend([
                    partition_state_path(&name, index),
                    partition_path(&name, index),
                ]);
            }
            paths.extend([partitions_path(&name), topic_path(&name)]);
            paths.extend([
                ConfigEntity::Topic(name.to_string()).path(),
                delete_topic_path(&name),
            ]);
            let mut written = Written::Done(0);
            for window in paths.chunks(WINDOW) {
                let sent: Vec<_> = window.iter().map(|path| self.remove(path)).collect();
                for (path, sent) in window.iter().zip(sent) {
                    let mut outcome = sent.await;
                    while matches!(
                        outcome,
                        Err(CheckWriteError::RequestFailed {
                            source: Error::ConnectionLoss
                        })
                    ) {
                        outcome = self.remove(path).await;
                    }
                    match judge(outcome)? {
                        // What is gone already is no conflict.
                        Ok(_) | Err(WriteFailure::Conflict) => {}
                        Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                        Err(WriteFailure::Other(cause)) => {
                            written = Written::Failed(format!("{path}: {cause}"))
                        }
                    }
                }
            }
            results.push((name, written));
        }
        Ok(Ok(results))
    }

    /// Removes requests to delete topics.
    pub(super) async fn drop_deletions(&self, names: Vec<ByteString>) -> Result<(), Error> {
        for name in names {
            let path = delete_topic_path(&name);
            if let Err(WriteFailure::Other(cause)) =
                self.once_connected(|| self.remove(&path)).await?
            {
                tracing::warn!("{path} cannot be removed: {cause}");
            }
        }
        Ok(())
    }

    /// Gives up the controllership: removes `/controller`, unless a newer controller wrote it.
    pub(super) async fn remove_controller(&self) -> Result<bool, Error> {
        Ok(self
            .once_connected(|| self.remove(CONTROLLER))
            .await?
            .is_ok())
    }

    /// Gives that broker the next block of producer ids.
    pub(super) async fn next_producer_ids(
        &self,
        broker_id: i32,
    ) -> Result<Result<ProducerIdBlock, String>, Error> {
        loop {
            let read = self.read_all(&[PRODUCER_ID_BLOCK.to_owned()]).await?.pop();
            let (last, version) = match read {
                Some(Ok((data, stat))) => match ProducerIdBlock::decode(&data) {
                    Ok(last) => (last, stat.version),
                    Err(error) => return Ok(Err(error.to_string())),
                },
                Some(Err(error)) => return Ok(Err(error.to_string())),
                None => return Ok(Err("not read".to_owned())),
            };
            let block = match ProducerIdBlock::after(last, broker_id) {
                Ok(block) => block,
                Err(error) => return Ok(Err(error.to_string())),
            };
            match judge(
                self.set(PRODUCER_ID_BLOCK, &block.encode(), Some(version))
                    .await,
            ) {
                Ok(Ok(_)) => return Ok(Ok(block)),
                // A block whose write was not acknowledged is given to nobody.
                Ok(Err(WriteFailure::Conflict)) | Err(Error::ConnectionLoss) => {}
                Ok(Err(WriteFailure::Fenced)) => {
                    return Ok(Err("there is a newer controller".to_owned()));
                }
                Ok(Err(WriteFailure::Other(cause))) => return Ok(Err(cause)),
                Err(error) => return Err(error),
            }
        }
    }

    fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Sent<'_> {
        self.checked(|writer| writer.add_set_data(path, data, version))
    }

    fn create(&self, nodes: &[(&str, &[u8])]) -> Sent<'_> {
        self.checked(|writer| {
            nodes
                .iter()
                .try_for_each(|(path, data)| writer.add_create(path, data, &persistent()))
        })
    }

    fn remove(&self, path: &str) -> Sent<'_> {
        self.checked(|writer| writer.add_delete(path, None))
    }

    /// Sends a multi that begins with the check of the controller's epoch.
    fn checked(&self, add: impl FnOnce(&mut CheckWriter<'_>) -> Result<(), Error>) -> Sent<'_> {
        let writer = self
            .client
            .new_check_writer(CONTROLLER_EPOCH, Some(self.epoch_version));
        let writer = writer.and_then(|mut writer| add(&mut writer).map(|()| writer));
        match writer {
            Ok(writer) => Box::pin(writer.commit()),
            Err(source) => Box::pin(std::future::ready(Err(CheckWriteError::RequestFailed {
                source,
            }))),
        }
    }

    /// Sends a write, again where its connection is lost.
    async fn once_connected<'a>(
        &'a self,
        send: impl Fn() -> Sent<'a>,
    ) -> Result<Result<i32, WriteFailure>, Error> {
        loop {
            match judge(send().await) {
                Err(Error::ConnectionLoss) => {}
                result => return result,
            }
        }
    }
}

/// A multi that was sent.
type Sent<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<MultiWriteResult>, CheckWriteError>> + Send + 'a>>;

/// Why one write was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum WriteFailure {
    /// There is a newer controller.
    Fenced,
    /// The node has another version, or exists, or does not.
    Conflict,
    /// Anything else, in words.
    Other(String),
}

/// What became of a multi: the version of its last node; or an error that concerns the session.
fn judge(
    outcome: Result<Vec<MultiWriteResult>, CheckWriteError>,
) -> Result<Result<i32, WriteFailure>, Error> {
    match outcome {
        Ok(results) => Ok(Ok(match results.last() {
            Some(MultiWriteResult::SetData { stat }) => stat.version,
            _ => 0,
        })),
        Err(CheckWriteError::CheckFailed { .. }) => Ok(Err(WriteFailure::Fenced)),
        Err(CheckWriteError::OperationFailed {
            source: Error::BadVersion | Error::NodeExists | Error::NoNode,
            ..
        }) => Ok(Err(WriteFailure::Conflict)),
        Err(CheckWriteError::OperationFailed { source, .. }) => {
            Ok(Err(WriteFailure::Other(source.to_string())))
        }
        Err(CheckWriteError::RequestFailed { source })
            if source == Error::ConnectionLoss || is_final(&source) =>
        {
            Err(source)
        }
        Err(CheckWriteError::RequestFailed { source }) => {
            Ok(Err(WriteFailure::Other(source.to_string())))
        }
    }
}

/// Whether the session is over.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::SessionExpired | Error::SessionMoved | Error::ClientClosed | Error::AuthFailed
    )
}

fn outcome(result: Result<i32, WriteFailure>) -> Written {
    match result {
        Ok(version) => Written::Done(version),
        Err(WriteFailure::Conflict | WriteFailure::Fenced) => Written::Conflict,
        Err(WriteFailure::Other(cause)) => Written::Failed(cause),
    }
}
