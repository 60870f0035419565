//! A broker's start and stop, in order.
//!
//! Start: coord → the cluster's id → the broker's id → dynamic configuration → logs → sockets
//! (bound, not served) → replicas → control plane → the broker's node → the controller's election →
//! once the controller has told everything: clients. Stop is the reverse, and begins with asking the
//! controller to move this broker's leaderships.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_core::config::{BrokerConfig, Listener, Properties, TopicConfig};
use broker_core::metadata::MetadataImage;
use broker_core::znode::{BrokerEndpoint, BrokerRegistration, LOG_DIR_EVENT_PREFIX, LogDirEvent};
use log::{LoadProgress, LogManager, LogManagerConfig, OpenError, StdFileSystem};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use zookeeper_client::{Client, Error, SessionState};

use crate::api::{KafkaService, Services};
use crate::clock::now_ms;
use crate::config_store::{ConfigListener, ConfigStore, ConfigStoreError};
use crate::control::{self, ControlServices, ControllerChannel};
use crate::controller::{Admin, ControllerHandle, Electorate};
use crate::http;
use crate::load_progress;
use crate::membership::{
    Coord, IdentityError, JoinError, Joining, Membership, cluster_id, generate_broker_id,
    persistent_sequential,
};
use crate::net::{self, Limits};
use crate::replication::{LogFailure, ReplicaManager, ReplicaManagerParts, log_config};

/// How long to wait before coord is asked again for a session after one ended.
const REJOIN_RETRY: Duration = Duration::from_secs(1);
/// How long coord may take to end the session of a broker that stops; it ends by itself later.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a broker does not start. The message is one line: what, why, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It has no place in the cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It, or the cluster, has no id.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The dynamic configuration cannot be read.
    #[error(transparent)]
    Configuration(#[from] ConfigStoreError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// `broker.id` is not the one that the log directories carry.
    #[error(
        "broker.id={configured}, but {directory} belongs to broker {found}: set broker.id={found}, or another log.dirs"
    )]
    OtherBroker {
        /// What is configured.
        configured: i32,
        /// What the directory says.
        found: i32,
        /// Which directory.
        directory: String,
    },
    /// A listener cannot be bound.
    #[error("listener {listener} cannot be bound to {address}: {source}")]
    Listen {
        /// Its name.
        listener: String,
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A task of the start ended in a panic.
    #[error("the start was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A broker that runs.
pub struct Broker {
    config: Arc<BrokerConfig>,
    replicas: Arc<ReplicaManager>,
    channel: Arc<ControllerChannel>,
    /// Everything that serves clients.
    serving: JoinSet<()>,
    /// The control plane, and the broker's place in the cluster.
    cluster: JoinSet<()>,
    coord: Arc<Coord>,
}

impl Broker {
    /// Starts a broker. It returns when the broker is registered; clients are served a moment later.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let log_dirs: Vec<PathBuf> = config.log_dirs.iter().map(absolute).collect();
        let joining = Joining::new(&config);
        let client = joining.open_session().await?;
        let cluster_id = cluster_id(&client).await?;
        let broker_id = broker_id(&config, &client, &log_dirs).await?;
        let config = Arc::new(BrokerConfig {
            broker_id,
            ..config
        });

        let coord = Arc::new(Coord::default());
        let configs = Arc::new(ConfigStore::new(
            broker_id,
            config.as_ref().clone(),
            coord.clone(),
        ));
        configs.load(&client).await?;
        let config = configs.broker_config();
        let logs = open_logs(&config, log_dirs, cluster_id.clone(), configs.clone()).await?;
        let listeners = bind(&config).await?;
        let http_socket = bind_http(&config).await?;

        let metadata = Arc::new(ArcSwap::from_pointee(MetadataImage::new(cluster_id.into())));
        let (address, controller) = watch::channel(None);
        let channel = Arc::new(ControllerChannel::new(broker_id, controller));
        let overrides = configs.clone();
        let replicas = ReplicaManager::start(ReplicaManagerParts {
            config: config.clone(),
            logs,
            metadata,
            controller: channel.clone(),
            topic_overrides: Arc::new(move |topic: &str| overrides.topic_overrides(topic)),
        });
        let handle = Arc::new(ControllerHandle::default());
        let followers = Arc::new(Followers {
            replicas: replicas.clone(),
            handle: handle.clone(),
        });
        let services = ControlServices {
            replica_manager: replicas.clone(),
            configs: configs.clone(),
            config_listener: followers.clone(),
            controller: handle.clone(),
            admin: Arc::new(Admin::new(handle.clone(), configs.clone())),
        };
        let registration = registration(&config, &listeners);
        let (controls, clients): (Vec<_>, Vec<_>) = listeners
            .into_iter()
            .partition(|(listener, _)| listener.name == config.control_listener_name());
        let mut cluster = JoinSet::new();
        for (_, socket) in controls {
            let services = services.clone();
            cluster.spawn(async move {
                if let Err(error) = control::serve(socket, services).await {
                    tracing::error!("the control plane failed: {error}");
                }
            });
        }

        let membership = joining.register(client, broker_id, &registration).await?;
        tracing::info!(
            "registered as broker {broker_id}, epoch {}",
            membership.broker_epoch
        );
        let electorate = Electorate {
            broker_id,
            configs: configs.clone(),
            handle: handle.clone(),
            address,
        };
        let member = Member {
            joining,
            registration,
            broker_id,
            coord: coord.clone(),
            channel: channel.clone(),
            configs: configs.clone(),
            electorate,
            followers,
        };
        cluster.spawn(member.run(membership));
        cluster.spawn(announce_log_failures(
            replicas.clone(),
            coord.clone(),
            broker_id,
        ));

        let mut serving = JoinSet::new();
        let services = Arc::new(Services::new(
            config.clone(),
            replicas.clone(),
            channel.clone(),
            configs.clone(),
        ));
        if let Some(socket) = http_socket {
            let services = services.clone();
            serving.spawn(async move {
                if let Err(error) = http::serve(socket, services).await {
                    tracing::error!("the HTTP endpoints failed: {error}");
                }
            });
        }
        let limits = Limits::new(&config);
        for (_, socket) in clients {
            let service = Arc::new(KafkaService::new(services.clone()));
            let (limits, mut ready) = (limits.clone(), replicas.ready());
            serving.spawn(async move {
                // An error says that the replicas are gone, and so is the broker.
                if ready.wait_for(|ready| *ready).await.is_ok() {
                    net::serve(socket, service, limits).await;
                }
            });
        }
        Ok(Self {
            config,
            replicas,
            channel,
            serving,
            cluster,
            coord,
        })
    }

    /// Returns once no log directory is left. Who runs the broker drops it then and ends, and does not shut it down.
    pub async fn log_failure(&self) -> LogFailure {
        self.replicas.log_failure().await
    }

    /// Stops: hands over leaderships, serves nobody any more, closes the logs, leaves the cluster.
    pub async fn shut_down(mut self) {
        if self.config.controlled_shutdown_enable {
            self.hand_over().await;
        }
        self.serving.shutdown().await;
        self.replicas.shutdown().await;
        let client = self.coord.client().ok();
        self.cluster.shutdown().await;
        drop(self.replicas);
        if let Some(client) = client {
            self.coord.leave();
            leave(client).await;
        }
    }

    /// Asks the controller to move this broker's leaderships; a few times, for it may be changing.
    async fn hand_over(&self) {
        let backoff = Duration::from_millis(
            u64::try_from(self.config.controlled_shutdown_retry_backoff_ms).unwrap_or_default(),
        );
        let tries = self.config.controlled_shutdown_max_retries.max(1);
        for attempt in 1..=tries {
            match self.channel.controlled_shutdown().await {
                Ok(response) if response.error_code == 0 && response.remaining.is_empty() => {
                    tracing::info!("all leaderships are handed over");
                    return;
                }
                Ok(response) if response.error_code == 0 => {
                    tracing::warn!(
                        "{} partitions have no other replica in sync",
                        response.remaining.len()
                    );
                }
                Ok(response) => tracing::warn!(
                    "the controller refuses a controlled shutdown: error {}",
                    response.error_code
                ),
                Err(error) => tracing::warn!("no controlled shutdown: {error}"),
            }
            if attempt < tries {
                tokio::time::sleep(backoff).await;
            }
        }
        tracing::warn!("stopping although leaderships remain");
    }
}

/// Ends the session, and with it the broker's node.
async fn leave(client: Client) {
    let mut states = client.state_watcher();
    drop(client);
    let ended = async { while !states.changed().await.is_terminated() {} };
    if tokio::time::timeout(LEAVE_TIMEOUT, ended).await.is_err() {
        tracing::warn!("coord has not ended the session: it will, when its timeout is over");
    }
}

/// The broker's place in the cluster, for as long as it runs.
struct Member {
    joining: Joining,
    registration: BrokerRegistration,
    broker_id: i32,
    coord: Arc<Coord>,
    channel: Arc<ControllerChannel>,
    configs: Arc<ConfigStore>,
    electorate: Electorate,
    followers: Arc<Followers>,
}

impl Member {
    /// Lives in one session after another.
    async fn run(self, mut membership: Membership) {
        loop {
            let Membership {
                client,
                broker_epoch,
            } = membership;
            self.followers.replicas.set_broker_epoch(broker_epoch);
            self.channel.set_broker_epoch(broker_epoch);
            self.coord.set(client.clone());
            let error = tokio::select! {
                error = self.electorate.run(&client) => error,
                error = self.follow_configs(&client) => error,
                error = watch_connection(&client) => error,
            };
            self.coord.leave();
            drop(client);
            tracing::warn!("the session with coord ended ({error}): opening another");
            membership = self.rejoin().await;
            tracing::info!("registered again, epoch {}", membership.broker_epoch);
        }
    }

    async fn follow_configs(&self, client: &Client) -> Error {
        loop {
            match self.configs.follow(client, &*self.followers).await {
                Ok(()) => return Error::SessionExpired,
                Err(error) => tracing::warn!("cannot follow the configuration: {error}"),
            }
            if client.state().is_terminated() {
                return Error::SessionExpired;
            }
            tokio::time::sleep(REJOIN_RETRY).await;
        }
    }

    async fn rejoin(&self) -> Membership {
        loop {
            let joined = async {
                let client = self.joining.open_session().await?;
                self.joining
                    .register(client, self.broker_id, &self.registration)
                    .await
            };
            match joined.await {
                Ok(membership) => return membership,
                Err(error) => tracing::error!("{error}"),
            }
            tokio::time::sleep(REJOIN_RETRY).await;
        }
    }
}

/// Tells the operator when coord is out of reach and back. Returns when the session is over.
async fn watch_connection(client: &Client) -> Error {
    let mut states = client.state_watcher();
    loop {
        match states.changed().await {
            SessionState::Disconnected => tracing::warn!("coord is out of reach: reconnecting"),
            SessionState::SyncConnected => tracing::info!("connected with coord again"),
            state if state.is_terminated() => return Error::SessionExpired,
            _ => {}
        }
    }
}

/// Who follows changes of configuration.
struct Followers {
    replicas: Arc<ReplicaManager>,
    handle: Arc<ControllerHandle>,
}

impl ConfigListener for Followers {
    fn topic_changed(&self, topic: &str, overrides: &Arc<Properties>) {
        self.replicas.topic_config_changed(topic);
        self.handle.topic_changed(topic, overrides);
    }

    fn broker_changed(&self, config: &Arc<BrokerConfig>) {
        self.replicas.broker_config_changed(config);
        self.handle.broker_changed(config);
    }
}

/// As clients know the directory.
fn absolute(directory: &String) -> PathBuf {
    std::path::absolute(directory).unwrap_or_else(|_| PathBuf::from(directory))
}

/// Tells the controller of each log directory that fails, until it is told.
async fn announce_log_failures(replicas: Arc<ReplicaManager>, coord: Arc<Coord>, broker_id: i32) {
    let mut offline = replicas.offline_log_dirs();
    let event = LogDirEvent { broker_id }.encode();
    while offline.changed().await.is_ok() {
        while let Err(error) = announce_log_failure(&coord, &event).await {
            tracing::warn!("the controller is not told of the failed log directory yet: {error}");
            tokio::time::sleep(REJOIN_RETRY).await;
        }
    }
}

async fn announce_log_failure(coord: &Coord, event: &[u8]) -> Result<(), String> {
    let client = coord.client().map_err(|error| error.to_string())?;
    let created = client.create(LOG_DIR_EVENT_PREFIX, event, &persistent_sequential());
    created.await.map(drop).map_err(|error| error.to_string())
}

/// The configured id, or the one that the log directories carry, or a new one. A directory that cannot be read is passed
/// over: it will be offline.
async fn broker_id(
    config: &BrokerConfig,
    client: &Client,
    log_dirs: &[PathBuf],
) -> Result<i32, StartError> {
    for directory in log_dirs {
        let carried = match log::read_meta_properties(&StdFileSystem, directory) {
            Err(OpenError::Storage(_)) => None,
            carried => carried?,
        };
        if let Some(found) = carried.and_then(|properties| properties.broker_id) {
            if config.broker_id >= 0 && config.broker_id != found {
                return Err(StartError::OtherBroker {
                    configured: config.broker_id,
                    found,
                    directory: directory.display().to_string(),
                });
            }
            return Ok(found);
        }
    }
    match config.broker_id {
        id if id >= 0 => Ok(id),
        _ => Ok(generate_broker_id(client, config.reserved_broker_max_id).await?),
    }
}

async fn open_logs(
    config: &Arc<BrokerConfig>,
    log_dirs: Vec<PathBuf>,
    cluster_id: String,
    configs: Arc<ConfigStore>,
) -> Result<Arc<LogManager>, StartError> {
    let config = config.clone();
    let progress = Arc::new(LoadProgress::default());
    let counted = progress.clone();
    let open = move || {
        let topic_config = |topic: &str| {
            let overrides = configs.topic_overrides(topic);
            let topic = TopicConfig::effective(&config, &overrides).unwrap_or_else(|error| {
                tracing::warn!("the overrides of topic {topic} are not applied: {error}");
                config.topic_defaults.clone()
            });
            log_config(&topic, &config)
        };
        let log_manager_config = LogManagerConfig {
            log_dirs,
            broker_id: config.broker_id,
            cluster_id,
            recovery_threads_per_data_dir: usize::try_from(
                config.num_recovery_threads_per_data_dir,
            )
            .unwrap_or(1),
            topic_config: &topic_config,
            progress: &counted,
        };
        LogManager::open(log_manager_config, Arc::new(StdFileSystem), now_ms())
    };
    let opening = tokio::task::spawn_blocking(open);
    Ok(Arc::new(load_progress::show(&progress, opening).await??))
}

/// Binds every listener, so that a port that is taken is known before anything else begins.
async fn bind(config: &BrokerConfig) -> Result<Vec<(Listener, TcpListener)>, StartError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let address = listener.bind_address();
        let socket = TcpListener::bind(&address)
            .await
            .map_err(|source| StartError::Listen {
                listener: listener.name.clone(),
                address,
                source,
            })?;
        bound.push((listener.clone(), socket));
    }
    Ok(bound)
}

async fn bind_http(config: &BrokerConfig) -> Result<Option<TcpListener>, StartError> {
    let Some(port) = config.http_port else {
        return Ok(None);
    };
    let listener = Listener {
        name: "HTTP".to_owned(),
        host: config.http_host.clone(),
        port,
    };
    let address = listener.bind_address();
    match TcpListener::bind(&address).await {
        Ok(socket) => Ok(Some(socket)),
        Err(source) => Err(StartError::Listen {
            listener: listener.name,
            address,
            source,
        }),
    }
}

/// What the broker's node says: the advertised listeners, with what was only known when they were bound.
fn registration(config: &BrokerConfig, bound: &[(Listener, TcpListener)]) -> BrokerRegistration {
    let port_of = |name: &str| {
        let socket = bound
            .iter()
            .find(|(listener, _)| listener.name == name)
            .map(|(_, socket)| socket);
        socket
            .and_then(|socket| socket.local_addr().ok())
            .map_or(0, |address: SocketAddr| address.port())
    };
    let endpoint = |listener: &Listener| BrokerEndpoint {
        listener: listener.name.clone(),
        security_protocol: "PLAINTEXT".to_owned(),
        host: if listener.host.is_empty() {
            host_name()
        } else {
            listener.host.clone()
        },
        port: if listener.port == 0 {
            port_of(&listener.name)
        } else {
            listener.port
        },
    };
    BrokerRegistration {
        endpoints: config.advertised_listeners.iter().map(endpoint).collect(),
        rack: config.broker_rack.clone(),
        timestamp_ms: now_ms(),
    }
}

/// This machine's own name.
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
