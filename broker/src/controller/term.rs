//! One term of one controller: the task that owns the core and performs what it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{Action, Controller, Event, LiveBroker, Loaded, Reply, RequestId};
use broker_core::znode::{BROKER_IDS, DELETE_TOPICS, LOG_DIR_EVENTS, TOPICS};
use kafka_wire::{ByteString, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use zookeeper_client::{Error, OneshotWatcher};

use super::channels::Channels;
use super::coord_io::CoordIo;
use super::{ProducerIdsWanted, Signal};
use crate::clock::now_ms;
use crate::config_store::ConfigStore;

/// How long a client waits for the slowest broker to hear of what it asked for.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Resigned,
}

/// One term of one controller.
pub(super) struct Term {
    pub(super) io: CoordIo,
    pub(super) core: Controller,
    pub(super) channels: Channels,
    pub(super) configs: Arc<ConfigStore>,
    pub(super) signals: mpsc::WeakSender<Signal>,
    pub(super) callers: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    pub(super) next_request: u64,
}

impl Term {
    /// Sets the watches, reads all of coord, and lets the core begin.
    pub(super) async fn take_over(&mut self) -> Result<(), Error> {
        let brokers = self.read_brokers().await?;
        let topics = self.watch(TOPICS, || Signal::Topics).await?;
        let deletions = self.watch(DELETE_TOPICS, || Signal::Deletions).await?;
        // Every broker is told everything anew, and says what is offline.
        let events = self.watch(LOG_DIR_EVENTS, || Signal::LogDirEvents).await?;
        self.io.take_log_dir_events(events).await?;
        let loaded = Loaded {
            brokers,
            ..self.io.load(topics, deletions).await?
        };
        self.perform(Event::Elected(Box::new(loaded)))
            .await
            .map(drop)
    }

    /// The names below a node, with a watch that wakes the controller at the next change. The watch
    /// is set by the same request that reads, so no change falls between.
    async fn watch(&self, path: &str, signal: fn() -> Signal) -> Result<Vec<String>, Error> {
        let (names, watcher) = self.io.children(path).await?;
        self.wake_up(watcher, signal);
        Ok(names)
    }

    fn wake_up(&self, watcher: OneshotWatcher, signal: fn() -> Signal) {
        let signals = self.signals.clone();
        tokio::spawn(async move {
            watcher.changed().await;
            if let Some(signals) = signals.upgrade() {
                // An error says that the term is over.
                let _ = signals.send(signal()).await;
            }
        });
    }

    async fn read_brokers(&mut self) -> Result<BTreeMap<i32, LiveBroker>, Error> {
        let names = self.watch(BROKER_IDS, || Signal::Brokers).await?;
        let brokers = self.io.brokers(&names).await?;
        self.channels.retain(&brokers);
        Ok(brokers)
    }

    pub(super) async fn handle(&mut self, signal: Signal) -> Result<Outcome, Error> {
        let names = |names: Vec<String>| {
            names
                .into_iter()
                .map(ByteString::from)
                .collect::<BTreeSet<_>>()
        };
        let event = match signal {
            Signal::Brokers => Event::Brokers(self.read_brokers().await?),
            Signal::Topics => Event::Topics(names(self.watch(TOPICS, || Signal::Topics).await?)),
            Signal::Deletions => Event::DeletionsRequested(names(
                self.watch(DELETE_TOPICS, || Signal::Deletions).await?,
            )),
            Signal::LogDirEvents => {
                let events = self.watch(LOG_DIR_EVENTS, || Signal::LogDirEvents).await?;
                Event::LogDirsFailed(self.io.take_log_dir_events(events).await?)
            }
            Signal::Event(event) => event,
            Signal::Request(event, caller) => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                // Those whose caller stopped waiting are forgotten by the way.
                self.callers.retain(|_, caller| !caller.is_closed());
                self.callers.insert(request, caller);
                event(request)
            }
            Signal::ProducerIds(
                ProducerIdsWanted {
                    broker_id,
                    broker_epoch,
                },
                caller,
            ) => {
                let known = self
                    .core
                    .context()
                    .brokers
                    .get(&broker_id)
                    .map(|broker| broker.epoch);
                let block = if known == Some(broker_epoch) {
                    self.io
                        .next_producer_ids(broker_id)
                        .await?
                        .map_err(|cause| {
                            tracing::error!("no producer ids for broker {broker_id}: {cause}");
                            ErrorCode::UnknownServerError
                        })
                } else {
                    Err(ErrorCode::StaleBrokerEpoch)
                };
                // An error says that nobody waits any more.
                let _ = caller.send(block);
                return Ok(Outcome::Done);
            }
        };
        self.perform(event).await
    }

    /// Lets the core handle an event to its end.
    async fn perform(&mut self, event: Event) -> Result<Outcome, Error> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for action in self.core.handle(now_ms(), event) {
                match action {
                    Action::ReadUnclean(topics) => {
                        let default = self.configs.broker_config().unclean_leader_election_enable;
                        next = Some(Event::UncleanRead(self.io.unclean(topics, default).await?));
                    }
                    Action::WriteStates(writes) => {
                        next = Some(Event::StatesWritten(self.io.write_states(writes).await?));
                    }
                    Action::ReadStates(tps) => {
                        next = Some(Event::StatesRead(self.io.read_states(tps).await?))
                    }
                    Action::ReadTopics(names) => {
                        let (topics, unreadable) = self.io.read_topics(names).await?;
                        next = Some(Event::TopicsRead { topics, unreadable });
                    }
                    Action::WriteTopics(writes) => {
                        next = Some(Event::TopicsWritten(self.io.write_topics(writes).await?));
                    }
                    Action::RequestDeletions(names) => {
                        next = Some(Event::DeletionsWritten(
                            self.io.request_deletions(names).await?,
                        ));
                    }
                    Action::RemoveTopics(topics) => {
                        next = Some(Event::TopicsRemoved(self.io.remove_topics(topics).await?));
                    }
                    Action::Send { broker, batch } => self.channels.send(broker, batch),
                    Action::Reply { request, reply } => self.reply(request, reply),
                    Action::DropDeletions(names) => self.io.drop_deletions(names).await?,
                    Action::Notice(text) => tracing::warn!("{text}"),
                    Action::Resign => return Ok(Outcome::Resigned),
                }
            }
            if next.is_none() {
                next = self
                    .channels
                    .take_left_behind()
                    .map(Event::BrokerLeftBehind);
            }
        }
        Ok(Outcome::Done)
    }

    /// Answers a caller: a leader at once, others when every broker that responds knows what came of it.
    fn reply(&mut self, request: RequestId, reply: Reply) {
        let Some(caller) = self.callers.remove(&request) else {
            return;
        };
        if matches!(reply, Reply::PartitionsAltered(_)) {
            // An error says that nobody waits any more.
            let _ = caller.send(reply);
            return;
        }
        let acknowledged = self.channels.acknowledged();
        tokio::spawn(async move {
            // A broker that hangs does not keep a client waiting until its session is over.
            let _ = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, acknowledged).await;
            let _ = caller.send(reply);
        });
    }
}
