//! The controller's shell: elects, loads, and for the length of its term performs what the core decides.
//!
//! Every broker runs [`run`] in every session. It watches `/controller`; where nobody is the
//! controller it tries to be. The winner's term is one task that owns the core: it takes one signal
//! at a time from a bounded queue, reads what the signal is about (watches say that something
//! changed, never what), and performs the core's actions until the core is idle. The term ends with
//! the session, with `/controller`, or with the first write that coord refuses because of a newer
//! controller; whoever waits for an answer then hears NOT_CONTROLLER.

mod admin;
mod channels;
mod convert;
mod coord_io;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker_core::config::{BrokerConfig, Properties};
use broker_core::controller::{Action, Controller, Event, Loaded, Reply, RequestId, Settings};
use broker_core::znode::{
    BROKER_IDS, CONTROLLER, CONTROLLER_EPOCH, ControllerEpoch, ControllerRegistration,
    DELETE_TOPICS, ProducerIdBlock, TOPICS,
};
use kafka_wire::{ByteString, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};
use zookeeper_client::{Client, Error, OneshotWatcher};

pub(crate) use self::admin::Admin;
use self::channels::Channels;
use self::coord_io::CoordIo;
use crate::clock::now_ms;
use crate::config_store::{ConfigListener, ConfigStore};
use crate::control::ControllerAddress;
use crate::membership::{ephemeral, persistent, read_brokers};

/// How many signals may wait for the controller; more are refused.
const QUEUE: usize = 1024;
/// How long a client waits for the slowest broker to hear of what it asked for.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after coord refused something on the way to an election.
const RETRY: Duration = Duration::from_millis(100);

/// What wakes the controller.
enum Signal {
    /// The children of `/brokers/ids` changed.
    Brokers,
    /// The children of `/brokers/topics` changed.
    Topics,
    /// The children of `/admin/delete_topics` changed.
    Deletions,
    /// Something that needs no reading.
    Event(Event),
    /// Somebody asks, and waits.
    Request(
        Box<dyn FnOnce(RequestId) -> Event + Send>,
        oneshot::Sender<Reply>,
    ),
    /// A broker wants producer ids: `(first, count)`, or why not.
    ProducerIds(
        ProducerIdsWanted,
        oneshot::Sender<Result<ProducerIdBlock, ErrorCode>>,
    ),
}

impl Signal {
    /// For the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Brokers => "brokers changed",
            Self::Topics => "topics changed",
            Self::Deletions => "deletions were requested",
            Self::Event(_) => "event",
            Self::Request(..) => "request",
            Self::ProducerIds(..) => "producer ids",
        }
    }
}

/// Which life of which broker wants producer ids.
#[derive(Debug, Clone, Copy)]
struct ProducerIdsWanted {
    broker_id: i32,
    broker_epoch: i64,
}

/// This broker is not the controller, or ceased to be while it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this broker is not the controller")]
pub(crate) struct NotController;

/// The way to the controller, while this broker is it. Also follows the configuration for it.
#[derive(Default)]
pub(crate) struct ControllerHandle {
    term: Mutex<Option<mpsc::Sender<Signal>>>,
}

impl ControllerHandle {
    fn signals(&self) -> Option<mpsc::Sender<Signal>> {
        self.term
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, term: Option<mpsc::Sender<Signal>>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    async fn ask(
        &self,
        event: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Reply, NotController> {
        let (answer, answered) = oneshot::channel();
        let signals = self.signals().ok_or(NotController)?;
        signals
            .send(Signal::Request(Box::new(event), answer))
            .await
            .map_err(|_| NotController)?;
        answered.await.map_err(|_| NotController)
    }

    async fn producer_ids(
        &self,
        wanted: ProducerIdsWanted,
    ) -> Result<Result<ProducerIdBlock, ErrorCode>, NotController> {
        let (answer, answered) = oneshot::channel();
        let signals = self.signals().ok_or(NotController)?;
        signals
            .send(Signal::ProducerIds(wanted, answer))
            .await
            .map_err(|_| NotController)?;
        answered.await.map_err(|_| NotController)
    }

    fn unclean_enabled(&self, topic: Option<ByteString>) {
        if let Some(signals) = self.signals()
            && signals
                .try_send(Signal::Event(Event::UncleanElectionEnabled(topic)))
                .is_err()
        {
            tracing::warn!(
                "the controller is too busy to elect uncleanly at once: set the configuration again"
            );
        }
    }
}

impl ConfigListener for ControllerHandle {
    fn topic_changed(&self, topic: &str, overrides: &Arc<Properties>) {
        if overrides
            .get("unclean.leader.election.enable")
            .is_some_and(|value| value == "true")
        {
            self.unclean_enabled(Some(topic.into()));
        }
    }

    fn broker_changed(&self, config: &Arc<BrokerConfig>) {
        if config.unclean_leader_election_enable {
            self.unclean_enabled(None);
        }
    }
}

/// What every term of this broker needs.
pub(crate) struct Electorate {
    /// This broker.
    pub(crate) broker_id: i32,
    /// Its configuration.
    pub(crate) configs: Arc<ConfigStore>,
    /// Where those who ask find the controller.
    pub(crate) handle: Arc<ControllerHandle>,
    /// Who the controller is, for all who ask.
    pub(crate) address: watch::Sender<Option<ControllerAddress>>,
}

impl Electorate {
    /// Follows `/controller`, and is the controller where it can be, until the session ends.
    pub(crate) async fn run(&self, client: &Client) -> Error {
        loop {
            match self.follow(client).await {
                Ok(()) | Err(Error::ConnectionLoss) => {}
                Err(
                    error @ (Error::SessionExpired
                    | Error::ClientClosed
                    | Error::SessionMoved
                    | Error::AuthFailed),
                ) => {
                    self.address.send_replace(None);
                    return error;
                }
                Err(error) => {
                    tracing::warn!("cannot follow the election of the controller: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One controller, from its election to its end.
    async fn follow(&self, client: &Client) -> Result<(), Error> {
        let (data, stat, watcher) = match client.get_and_watch_data(CONTROLLER).await {
            Err(Error::NoNode) => return self.stand(client).await,
            result => result?,
        };
        let registration = match ControllerRegistration::decode(&data) {
            Ok(registration) => registration,
            Err(error) => {
                tracing::error!("{error}");
                watcher.changed().await;
                return Ok(());
            }
        };
        self.publish(client, registration.broker_id).await?;
        if stat.ephemeral_owner != client.session_id().0 {
            watcher.changed().await;
            self.address.send_replace(None);
            return Ok(());
        }
        let (epoch, epoch_stat) = client.get_data(CONTROLLER_EPOCH).await?;
        let io = CoordIo {
            client: client.clone(),
            epoch_version: epoch_stat.version,
        };
        let ended = match ControllerEpoch::decode(&epoch) {
            Ok(ControllerEpoch(epoch)) => tokio::select! {
                ended = self.serve_term(io.clone(), epoch) => ended,
                event = watcher.changed() => {
                    tracing::info!("no longer the controller: {CONTROLLER} {}", event.event_type);
                    Ok(())
                }
            },
            Err(error) => {
                tracing::error!("{error}");
                Ok(())
            }
        };
        self.handle.set(None);
        self.address.send_replace(None);
        // Where the node is still there, another broker shall try.
        if io.remove_controller().await? {
            tokio::time::sleep(RETRY).await;
        }
        ended
    }

    /// Tries to become the controller. Whether it did shows in `/controller`.
    async fn stand(&self, client: &Client) -> Result<(), Error> {
        let (epoch, version) = match client.get_data(CONTROLLER_EPOCH).await {
            Ok((data, stat)) => match ControllerEpoch::decode(&data) {
                Ok(epoch) => (epoch.0, stat.version),
                Err(error) => return Err(Error::UnexpectedError(error.to_string())),
            },
            Err(Error::NoNode) => {
                match client
                    .create(
                        CONTROLLER_EPOCH,
                        &ControllerEpoch(0).encode(),
                        &persistent(),
                    )
                    .await
                {
                    Ok(_) | Err(Error::NodeExists) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let node = ControllerRegistration {
            broker_id: self.broker_id,
            timestamp_ms: now_ms(),
        };
        let next = ControllerEpoch(epoch.saturating_add(1));
        let mut writer = client.new_multi_writer();
        writer.add_create(CONTROLLER, &node.encode(), &ephemeral())?;
        writer.add_set_data(CONTROLLER_EPOCH, &next.encode(), Some(version))?;
        match writer.commit().await.map_err(Error::from) {
            Ok(_) => {
                tracing::info!("elected as controller of epoch {}", next.0);
                Ok(())
            }
            Err(Error::NodeExists | Error::BadVersion) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells everybody here where the controller is.
    async fn publish(&self, client: &Client, broker_id: i32) -> Result<(), Error> {
        let brokers = read_brokers(client, &[broker_id.to_string()]).await?;
        let config = self.configs.broker_config();
        let endpoint = brokers
            .first()
            .and_then(|(_, broker, _)| broker.endpoint(config.control_listener_name()));
        let address = endpoint.map(|endpoint| ControllerAddress {
            broker_id,
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
        if address.is_none() {
            tracing::warn!("the controller {broker_id} has no control listener");
        }
        self.address.send_replace(address);
        Ok(())
    }

    /// Is the controller. Returns when it is fenced.
    async fn serve_term(&self, io: CoordIo, epoch: i32) -> Result<(), Error> {
        let config = self.configs.broker_config();
        let (signals, mut queue) = mpsc::channel(QUEUE);
        let timeout = Duration::from_millis(
            u64::try_from(config.controller_socket_timeout_ms).unwrap_or_default(),
        );
        let listener = config.control_listener_name().to_owned();
        let core = Controller::new(settings(&config), epoch, rand::random());
        let mut term = Term {
            channels: Channels::new(
                self.broker_id,
                epoch,
                listener,
                timeout,
                signals.downgrade(),
            ),
            signals: signals.downgrade(),
            configs: self.configs.clone(),
            io,
            core,
            callers: BTreeMap::new(),
            next_request: 0,
        };
        // Requests that come while it loads wait in the queue.
        self.handle.set(Some(signals));
        term.take_over().await?;
        tracing::info!("controller of epoch {epoch} has taken over");
        loop {
            let due = term
                .core
                .poll_timeout()
                .map(|due| due.saturating_sub(now_ms()).max(0));
            let due = due
                .and_then(|ms| u64::try_from(ms).ok())
                .map_or(Duration::MAX, Duration::from_millis);
            let signal = match tokio::time::timeout(due, queue.recv()).await {
                Ok(Some(signal)) => signal,
                Ok(None) => return Ok(()),
                Err(_) => Signal::Event(Event::Tick),
            };
            let what = signal.name();
            let begun = std::time::Instant::now();
            let outcome = term.handle(signal).await?;
            tracing::debug!(elapsed = ?begun.elapsed(), "{what}");
            if outcome == Outcome::Resigned {
                tracing::warn!("resigned as controller of epoch {epoch}: there is a newer one");
                return Ok(());
            }
        }
    }
}

fn settings(config: &BrokerConfig) -> Settings {
    let interval_ms = config
        .leader_imbalance_check_interval_seconds
        .saturating_mul(1000);
    Settings {
        num_partitions: config.num_partitions,
        default_replication_factor: i16::try_from(config.default_replication_factor)
            .unwrap_or(i16::MAX),
        delete_topic_enable: config.delete_topic_enable,
        rebalance_interval_ms: config.auto_leader_rebalance_enable.then_some(interval_ms),
        imbalance_per_broker_percentage: u32::try_from(
            config.leader_imbalance_per_broker_percentage,
        )
        .unwrap_or(0),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Resigned,
}

/// One term of one controller.
struct Term {
    io: CoordIo,
    core: Controller,
    channels: Channels,
    configs: Arc<ConfigStore>,
    signals: mpsc::WeakSender<Signal>,
    callers: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
}

impl Term {
    /// Sets the watches, reads all of coord, and lets the core begin.
    async fn take_over(&mut self) -> Result<(), Error> {
        let brokers = self.read_brokers().await?;
        let topics = self.watch(TOPICS, || Signal::Topics).await?;
        let deletions = self.watch(DELETE_TOPICS, || Signal::Deletions).await?;
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

    async fn read_brokers(
        &mut self,
    ) -> Result<BTreeMap<i32, broker_core::controller::LiveBroker>, Error> {
        let names = self.watch(BROKER_IDS, || Signal::Brokers).await?;
        let brokers = self.io.brokers(&names).await?;
        self.channels.retain(&brokers);
        Ok(brokers)
    }

    async fn handle(&mut self, signal: Signal) -> Result<Outcome, Error> {
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
                        next = Some(Event::TopicsRead(self.io.read_topics(names).await?))
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
