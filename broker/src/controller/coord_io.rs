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
    CONTROLLER, CONTROLLER_EPOCH, ConfigEntity, EntityConfig, LogDirEvent, PRODUCER_ID_BLOCK,
    PartitionStateNode, ProducerIdBlock, TopicNode, delete_topic_path, log_dir_event_path,
    partition_path, partition_state_path, partitions_path, topic_path,
};
use kafka_wire::{ByteString, TopicPartition};
use zookeeper_client::{
    CheckWriteError, CheckWriter, Client, Error, MultiWriteResult, OneshotWatcher, Stat,
};

use crate::membership::{is_connection_loss, persistent, read_brokers};

/// How many requests are made before the first of them is awaited.
const WINDOW: usize = 1024;

/// Coord as one controller uses it, for the length of its term.
#[derive(Debug, Clone)]
pub(super) struct CoordIo {
    pub(super) client: Client,
    /// The version of `/controller_epoch` in this term.
    pub(super) epoch_version: i32,
}

/// A node as it was read; None where there is none.
type ReadNode = Option<(Vec<u8>, Stat)>;

/// By name with the versions of their nodes; and the names of those that make no sense.
type ReadTopics = (BTreeMap<ByteString, (TopicNode, i32)>, BTreeSet<ByteString>);

impl CoordIo {
    /// The names below a node, and the watch of the next change.
    pub(super) async fn children(
        &self,
        path: &str,
    ) -> Result<(Vec<String>, OneshotWatcher), Error> {
        loop {
            match self.client.get_and_watch_children(path).await {
                Ok((names, _, watcher)) => return Ok((names, watcher)),
                Err(error) if is_connection_loss(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads nodes in one go; lost connections are made good. Any other error ends the term: what
    /// exists must not be taken for what does not.
    async fn read_all(&self, paths: &[String]) -> Result<Vec<ReadNode>, Error> {
        let mut results = Vec::with_capacity(paths.len());
        for window in paths.chunks(WINDOW) {
            let reads: Vec<_> = window
                .iter()
                .map(|path| self.client.get_data(path))
                .collect();
            for (path, read) in window.iter().zip(reads) {
                let mut result = read.await;
                while result.as_ref().is_err_and(is_connection_loss) {
                    result = self.client.get_data(path).await;
                }
                match result {
                    Ok(node) => results.push(Some(node)),
                    Err(Error::NoNode) => results.push(None),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(results)
    }

    async fn read_one(&self, path: &str) -> Result<ReadNode, Error> {
        let nodes = self.read_all(&[path.to_owned()]).await?;
        Ok(nodes.into_iter().next().flatten())
    }

    /// Those brokers as their nodes describe them.
    pub(super) async fn brokers(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<i32, LiveBroker>, Error> {
        loop {
            match read_brokers(&self.client, names).await {
                Err(error) if is_connection_loss(&error) => {}
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

    /// Everything but the brokers. A node that makes no sense is reported and left out: one broken
    /// topic must not stop the cluster.
    pub(super) async fn load(
        &self,
        topics: Vec<String>,
        deletions: Vec<String>,
    ) -> Result<Loaded, Error> {
        let names = topics.into_iter().map(ByteString::from).collect();
        let (topics, unreadable) = self.read_topics(names).await?;
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
            unreadable,
            states,
            deletions,
        })
    }

    /// Those topics as their nodes describe them, and those whose nodes make no sense.
    pub(super) async fn read_topics(&self, names: Vec<ByteString>) -> Result<ReadTopics, Error> {
        let paths: Vec<_> = names.iter().map(|name| topic_path(name)).collect();
        let (mut topics, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for (name, node) in names.into_iter().zip(self.read_all(&paths).await?) {
            let Some((data, stat)) = node else { continue };
            match TopicNode::decode(&name, &data) {
                Ok(node) => drop(topics.insert(name, (node, stat.version))),
                Err(error) => {
                    tracing::error!("topic {name} is left out: {error}");
                    unreadable.insert(name);
                }
            }
        }
        Ok((topics, unreadable))
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
        for (tp, node) in tps.into_iter().zip(self.read_all(&paths).await?) {
            let Some((data, stat)) = node else { continue };
            match PartitionStateNode::decode(&tp.topic, tp.partition, &data) {
                Ok(node) => drop(states.insert(tp, (node, stat.version))),
                Err(error) => tracing::error!("{error}"),
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
        for ((topic, entity), node) in topics
            .into_iter()
            .zip(&entities)
            .zip(self.read_all(&paths).await?)
        {
            let config = node.map_or_else(
                || Ok(EntityConfig::default()),
                |(data, _)| EntityConfig::decode(entity, &data),
            );
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
                while is_lost(&outcome) {
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
        match self.read_one(&path).await? {
            Some((found, stat)) if found == data => Ok(Written::Done(stat.version)),
            None if write.expected_version.is_none() => {
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
            match self.write_topic(&write).await? {
                Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                result => results.push((write.name, outcome(result))),
            }
        }
        Ok(Ok(results))
    }

    async fn write_topic(&self, write: &TopicWrite) -> Result<Result<i32, WriteFailure>, Error> {
        let path = topic_path(&write.name);
        let data = write.node.encode();
        if let Some(version) = write.expected_version {
            let set = self.once_connected(|| self.set(&path, &data, Some(version)));
            return match set.await? {
                Err(WriteFailure::Conflict) => self.own_write(&path, &data).await,
                result => Ok(result),
            };
        }
        let entity = ConfigEntity::Topic(write.name.to_string()).path();
        let config = EntityConfig {
            config: write.configs.clone(),
        }
        .encode();
        let both = self.once_connected(|| self.create(&[(&entity, &config), (&path, &data)]));
        match both.await? {
            Err(WriteFailure::Conflict) if self.read_one(&path).await?.is_none() => {}
            Err(WriteFailure::Conflict) => return self.own_write(&path, &data).await,
            result => return Ok(result),
        }
        // Overrides of that name are left from before: they are replaced.
        let replaced = self.once_connected(|| self.set(&entity, &config, None));
        if let Err(failure) = replaced.await? {
            return Ok(Err(failure));
        }
        let created = self.once_connected(|| self.create(&[(&path, &data)]));
        match created.await? {
            Err(WriteFailure::Conflict) => self.own_write(&path, &data).await,
            result => Ok(result),
        }
    }

    /// A conflict may be this controller's own write, whose answer was lost with a connection: then the
    /// node holds just that, and this is its version.
    async fn own_write(&self, path: &str, data: &[u8]) -> Result<Result<i32, WriteFailure>, Error> {
        Ok(match self.read_one(path).await? {
            Some((found, stat)) if found == data => Ok(stat.version),
            _ => Err(WriteFailure::Conflict),
        })
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

    /// Removes all that coord holds of topics.
    pub(super) async fn remove_topics(
        &self,
        topics: Vec<(ByteString, Vec<i32>)>,
    ) -> Result<Result<Vec<(ByteString, Written)>, Fenced>, Error> {
        let mut results = Vec::with_capacity(topics.len());
        for (name, partitions) in topics {
            match self.remove_steps(removal_steps(&name, &partitions)).await? {
                Err(WriteFailure::Fenced) => return Ok(Err(Fenced)),
                result => results.push((name, outcome(result.map(|()| 0)))),
            }
        }
        Ok(Ok(results))
    }

    /// Removes nodes step by step; after a failure what follows is left alone. What is gone already is
    /// no failure.
    async fn remove_steps(
        &self,
        steps: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<Result<(), WriteFailure>, Error> {
        for step in steps {
            for window in step.chunks(WINDOW) {
                let sent: Vec<_> = window.iter().map(|path| self.remove(path)).collect();
                for (path, sent) in window.iter().zip(sent) {
                    let mut outcome = sent.await;
                    while is_lost(&outcome) {
                        outcome = self.remove(path).await;
                    }
                    match judge(outcome)? {
                        Ok(_) | Err(WriteFailure::Conflict) => {}
                        Err(WriteFailure::Fenced) => return Ok(Err(WriteFailure::Fenced)),
                        Err(WriteFailure::Other(cause)) => {
                            return Ok(Err(WriteFailure::Other(format!("{path}: {cause}"))));
                        }
                    }
                }
            }
        }
        Ok(Ok(()))
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

    /// Reads which brokers lost a log directory, and removes what was read.
    pub(super) async fn take_log_dir_events(
        &self,
        names: Vec<String>,
    ) -> Result<BTreeSet<i32>, Error> {
        let paths: Vec<_> = names.iter().map(|name| log_dir_event_path(name)).collect();
        let mut brokers = BTreeSet::new();
        for (path, node) in paths.iter().zip(self.read_all(&paths).await?) {
            let Some((data, _)) = node else { continue };
            match LogDirEvent::decode(path, &data) {
                Ok(event) => drop(brokers.insert(event.broker_id)),
                Err(error) => tracing::warn!("{error}"),
            }
            if let Err(WriteFailure::Other(cause)) =
                self.once_connected(|| self.remove(path)).await?
            {
                tracing::warn!("{path} cannot be removed: {cause}");
            }
        }
        Ok(brokers)
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
            let Some((data, stat)) = self.read_one(PRODUCER_ID_BLOCK).await? else {
                return Ok(Err(format!("{PRODUCER_ID_BLOCK} does not exist")));
            };
            let (last, version) = match ProducerIdBlock::decode(&data) {
                Ok(last) => (last, stat.version),
                Err(error) => return Ok(Err(error.to_string())),
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
                Ok(Err(WriteFailure::Conflict)) => {}
                Err(error) if is_connection_loss(&error) => {}
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
                Err(error) if is_connection_loss(&error) => {}
                result => return result,
            }
        }
    }
}

/// What coord holds of a topic, children first. The request to delete it is a step of its own, so that it
/// stays where anything else did, for the next attempt or the next controller.
fn removal_steps(name: &ByteString, partitions: &[i32]) -> [Vec<String>; 2] {
    let of_partition = |index: &i32| {
        [
            partition_state_path(name, *index),
            partition_path(name, *index),
        ]
    };
    let mut paths: Vec<_> = partitions.iter().flat_map(of_partition).collect();
    paths.extend([
        partitions_path(name),
        topic_path(name),
        ConfigEntity::Topic(name.to_string()).path(),
    ]);
    [paths, vec![delete_topic_path(name)]]
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

fn is_lost(outcome: &Result<Vec<MultiWriteResult>, CheckWriteError>) -> bool {
    matches!(outcome, Err(CheckWriteError::RequestFailed { source }) if is_connection_loss(source))
}

/// What became of a multi: the version of its last node; or an error that leaves open whether it was
/// done, which is never taken for a failure.
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
        // It was never sent.
        Err(CheckWriteError::RequestFailed {
            source: source @ Error::BadArguments(_),
        }) => Ok(Err(WriteFailure::Other(source.to_string()))),
        Err(CheckWriteError::RequestFailed { source }) => Err(source),
    }
}

fn outcome(result: Result<i32, WriteFailure>) -> Written {
    match result {
        Ok(version) => Written::Done(version),
        Err(WriteFailure::Conflict | WriteFailure::Fenced) => Written::Conflict,
        Err(WriteFailure::Other(cause)) => Written::Failed(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_to_delete_a_topic_goes_when_all_else_is_gone() {
        let [topic, request] = removal_steps(&"t".into(), &[0]);
        assert_eq!(
            topic,
            [
                "/brokers/topics/t/partitions/0/state",
                "/brokers/topics/t/partitions/0",
                "/brokers/topics/t/partitions",
                "/brokers/topics/t",
                "/config/topics/t",
            ]
        );
        assert_eq!(request, ["/admin/delete_topics/t"]);
    }

    #[test]
    fn a_write_that_may_have_been_done_is_not_a_failure() {
        let request = |source| judge(Err(CheckWriteError::RequestFailed { source }));
        for source in [
            Error::ConnectionLoss,
            Error::Timeout,
            Error::SessionExpired,
            Error::UnexpectedError("the answer makes no sense".to_owned()),
        ] {
            assert_eq!(request(source.clone()), Err(source));
        }
        let unsent = request(Error::BadArguments(&"a path"));
        assert!(
            matches!(unsent, Ok(Err(WriteFailure::Other(_)))),
            "{unsent:?}"
        );
        let operation = |source| {
            judge(Err(CheckWriteError::OperationFailed { index: 0, source }))
                .unwrap()
                .unwrap_err()
        };
        assert_eq!(operation(Error::BadVersion), WriteFailure::Conflict);
        assert!(matches!(
            operation(Error::QuotaExceeded),
            WriteFailure::Other(_)
        ));
        let fenced = judge(Err(CheckWriteError::CheckFailed {
            source: Error::BadVersion,
        }));
        assert_eq!(fenced, Ok(Err(WriteFailure::Fenced)));
    }
}
