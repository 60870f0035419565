//! A broker's place in the cluster: its session with coord, the cluster's id, its own id, and its
//! ephemeral node, which says that it lives and where it is reached.
//!
//! A session that ends is followed by another, with a new node and hence a new broker epoch (the
//! node's czxid): to everybody else the broker has died and started again.

mod identity;
mod session;

use std::time::Duration;

use broker_core::config::BrokerConfig;
use broker_core::znode::{
    BrokerEndpoint, BrokerRegistration, CONTROLLER, CONTROLLER_EPOCH, PERSISTENT_PATHS,
    broker_id_path,
};
use tokio::time::Instant;
use zookeeper_client::{Client, Error, EventType};

pub use identity::{IdentityError, cluster_id, generate_broker_id};
use session::SessionFiles;
pub use session::{ConnectError, Coord, NoSession};
pub(crate) use session::{ephemeral, is_connection_loss, persistent, persistent_sequential};

/// Why a broker cannot join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Coord does not answer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Coord refuses a request.
    #[error("coord refuses {what}: {source}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its answer.
        source: Error,
    },
    /// Another live broker has the same id.
    #[error(
        "broker.id={broker_id} is taken by a live broker at {endpoints}: give each broker its own id"
    )]
    IdTaken {
        /// The id.
        broker_id: i32,
        /// Where the other one is.
        endpoints: String,
    },
    /// Another live broker is reached at the same address.
    #[error(
        "{endpoint} is already registered by broker {broker_id}: give each broker its own advertised.listeners"
    )]
    EndpointTaken {
        /// The address.
        endpoint: String,
        /// Whose it is.
        broker_id: i32,
    },
}

impl JoinError {
    fn refused(what: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let what = what.into();
        |source| Self::Refused { what, source }
    }
}

/// One session and the broker's node in it.
#[derive(Debug)]
pub struct Membership {
    /// The session's client.
    pub client: Client,
    /// The czxid of the broker's node.
    pub broker_epoch: i64,
}

/// How a broker joins.
#[derive(Debug, Clone)]
pub struct Joining {
    connect: String,
    session_timeout: Duration,
    connection_timeout: Duration,
    session_files: SessionFiles,
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or_default())
}

impl Joining {
    /// By this configuration; the session's id is kept in the log directories.
    pub fn new(config: &BrokerConfig) -> Self {
        let session_timeout = millis(config.zookeeper_session_timeout_ms);
        Self {
            connect: config.zookeeper_connect.clone(),
            session_timeout,
            connection_timeout: config
                .zookeeper_connection_timeout_ms
                .map_or(session_timeout, millis),
            session_files: SessionFiles::in_directories(&config.log_dirs),
        }
    }

    /// Opens a session and creates the nodes that every cluster has.
    pub async fn open_session(&self) -> Result<Client, JoinError> {
        let client =
            session::connect(&self.connect, self.session_timeout, self.connection_timeout).await?;
        let options = persistent();
        // Requests go out in this order when they are made, so parents come first; one trip for all.
        let creations: Vec<_> = PERSISTENT_PATHS
            .iter()
            .map(|path| client.create(path, b"", &options))
            .collect();
        for (path, creation) in PERSISTENT_PATHS.iter().zip(creations) {
            match creation.await {
                Ok(_) | Err(Error::NodeExists) => {}
                Err(error) => return Err(JoinError::refused(format!("to create {path}"))(error)),
            }
        }
        Ok(client)
    }

    /// Registers the broker in that session.
    ///
    /// What a former life of this broker left behind is removed at once: its session's id is in the
    /// session file. A node of that name whose session is unknown is waited for, one session timeout.
    pub async fn register(
        &self,
        client: Client,
        broker_id: i32,
        registration: &BrokerRegistration,
    ) -> Result<Membership, JoinError> {
        let own = client.session_id().0;
        for former in self.session_files.read() {
            if former != own {
                self.bury(&client, former, broker_id).await?;
            }
        }
        self.session_files.write(own);
        refuse_taken_endpoints(&client, broker_id, registration).await?;

        let path = broker_id_path(broker_id);
        let value = registration.encode();
        let deadline = Instant::now()
            + self.session_timeout.max(client.session_timeout())
            + Duration::from_secs(2);
        loop {
            match client.create(&path, &value, &ephemeral()).await {
                Ok((stat, _)) => {
                    return Ok(Membership {
                        broker_epoch: stat.czxid,
                        client,
                    });
                }
                Err(Error::NodeExists) => {}
                Err(error) if is_connection_loss(&error) => continue,
                Err(error) => return Err(JoinError::refused(format!("to create {path}"))(error)),
            }
            let (data, stat, watcher) = match client.get_and_watch_data(&path).await {
                Ok(read) => read,
                Err(Error::NoNode) => continue,
                Err(error) if is_connection_loss(&error) => continue,
                Err(error) => return Err(JoinError::refused(format!("to read {path}"))(error)),
            };
            if stat.ephemeral_owner == own {
                // The answer to the first attempt was lost with its connection.
                return Ok(Membership {
                    broker_epoch: stat.czxid,
                    client,
                });
            }
            let endpoints =
                BrokerRegistration::decode(broker_id, &data).map(|other| addresses(&other));
            tracing::warn!(
                "broker.id={broker_id} is registered by another session: waiting for its end"
            );
            let event = tokio::time::timeout_at(deadline, watcher.changed()).await;
            if event.is_err() || event.is_ok_and(|event| event.event_type == EventType::Session) {
                let endpoints = endpoints.unwrap_or_else(|error| error.to_string());
                return Err(JoinError::IdTaken {
                    broker_id,
                    endpoints,
                });
            }
        }
    }

    /// Removes the ephemeral nodes of a former life of this broker.
    async fn bury(&self, client: &Client, former: i64, broker_id: i32) -> Result<(), JoinError> {
        // Read first: whoever is elected controller in between raises it, and their node stays.
        let epoch_version = match client.get_data(CONTROLLER_EPOCH).await {
            Ok((_, stat)) => Some(stat.version),
            Err(Error::NoNode) => None,
            Err(error) => {
                return Err(JoinError::refused(format!("to read {CONTROLLER_EPOCH}"))(
                    error,
                ));
            }
        };
        let broker = broker_id_path(broker_id);
        if let Some(version) = left_by(client, former, &broker).await? {
            buried(&broker, client.delete(&broker, Some(version)).await)?;
        }
        if let (Some(version), Some(epoch_version)) =
            (left_by(client, former, CONTROLLER).await?, epoch_version)
        {
            let mut writer = client.new_multi_writer();
            let add = writer
                .add_check_version(CONTROLLER_EPOCH, epoch_version)
                .and_then(|()| writer.add_delete(CONTROLLER, Some(version)));
            add.map_err(JoinError::refused(format!("to remove {CONTROLLER}")))?;
            buried(
                CONTROLLER,
                writer.commit().await.map(drop).map_err(Error::from),
            )?;
        }
        Ok(())
    }
}

/// The version of a node that belongs to that session.
async fn left_by(client: &Client, session: i64, path: &str) -> Result<Option<i32>, JoinError> {
    match client.get_data(path).await {
        Ok((_, stat)) => Ok((stat.ephemeral_owner == session).then_some(stat.version)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(JoinError::refused(format!("to read {path}"))(error)),
    }
}

/// What became of the removal of a former life's node; it may be gone already, or be another's now.
fn buried(path: &str, removed: Result<(), Error>) -> Result<(), JoinError> {
    match removed {
        Ok(()) => {
            tracing::info!("{path}, left by a former life of this broker, is removed");
            Ok(())
        }
        Err(Error::NoNode | Error::BadVersion) => Ok(()),
        Err(error) => Err(JoinError::refused(format!("to remove {path}"))(error)),
    }
}

fn addresses(registration: &BrokerRegistration) -> String {
    let address = |endpoint: &BrokerEndpoint| format!("{}:{}", endpoint.host, endpoint.port);
    registration
        .endpoints
        .iter()
        .map(address)
        .collect::<Vec<_>>()
        .join(", ")
}

async fn refuse_taken_endpoints(
    client: &Client,
    broker_id: i32,
    registration: &BrokerRegistration,
) -> Result<(), JoinError> {
    for (other_id, other, _) in live_brokers(client)
        .await
        .map_err(JoinError::refused("to list the brokers"))?
    {
        let is_same = |mine: &&BrokerEndpoint| {
            other
                .endpoints
                .iter()
                .any(|theirs| (&theirs.host, theirs.port) == (&mine.host, mine.port))
        };
        if let Some(endpoint) = registration
            .endpoints
            .iter()
            .find(is_same)
            .filter(|_| other_id != broker_id)
        {
            let endpoint = format!("{}:{}", endpoint.host, endpoint.port);
            return Err(JoinError::EndpointTaken {
                endpoint,
                broker_id: other_id,
            });
        }
    }
    Ok(())
}

/// The brokers that are registered, with the czxids of their nodes. Nodes that cannot be read, and
/// those that vanish meanwhile, are left out.
pub(crate) async fn live_brokers(
    client: &Client,
) -> Result<Vec<(i32, BrokerRegistration, i64)>, Error> {
    let names = client.list_children(broker_core::znode::BROKER_IDS).await?;
    read_brokers(client, &names).await
}

/// Reads the nodes of those brokers.
pub(crate) async fn read_brokers(
    client: &Client,
    names: &[String],
) -> Result<Vec<(i32, BrokerRegistration, i64)>, Error> {
    let ids: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let reads: Vec<_> = ids
        .iter()
        .map(|id| client.get_data(&broker_id_path(*id)))
        .collect();
    let mut brokers = Vec::with_capacity(ids.len());
    for (id, read) in ids.into_iter().zip(reads) {
        match read.await {
            Ok((data, stat)) => match BrokerRegistration::decode(id, &data) {
                Ok(registration) => brokers.push((id, registration, stat.czxid)),
                Err(error) => tracing::warn!("{error}"),
            },
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(brokers)
}
