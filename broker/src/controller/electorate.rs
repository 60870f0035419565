//! Who is the controller: every broker follows `/controller`, and tries to be it where nobody is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::config::BrokerConfig;
use broker_core::controller::{Controller, Event, Settings};
use broker_core::znode::{CONTROLLER, CONTROLLER_EPOCH, ControllerEpoch, ControllerRegistration};
use tokio::sync::{mpsc, watch};
use zookeeper_client::{Client, Error};

use super::channels::Channels;
use super::coord_io::CoordIo;
use super::term::{Outcome, Term};
use super::{ControllerHandle, Signal};
use crate::clock::now_ms;
use crate::config_store::ConfigStore;
use crate::control::ControllerAddress;
use crate::membership::{ephemeral, is_connection_loss, persistent, read_brokers};

/// How many signals may wait for the controller; who sends more waits.
const QUEUE: usize = 1024;
/// How long to wait after coord refused something on the way to an election.
const RETRY: Duration = Duration::from_millis(100);

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
                Ok(()) => {}
                Err(error) if is_connection_loss(&error) => {}
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
        // Read first: where a newer controller is elected in between, this version is its predecessor's,
        // and all writes of a term that begins by mistake are refused.
        let epoch = client.get_data(CONTROLLER_EPOCH).await;
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
        let (epoch, epoch_stat) = epoch?;
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
