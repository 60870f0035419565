//! The cluster behind the bootstrap servers: whom to ask what.

use std::collections::{BTreeMap, HashMap};

use kafka_wire::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use kafka_wire::{ByteString, ErrorCode, Request};
use tokio::time::{Instant, sleep_until};

use super::config::ClientConfig;
use super::connection::{Connection, ConnectionError};
use crate::terminal::{Level, log};

/// Why the cluster gave no answer. The message is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Nobody answered in time; what the last one that was tried said.
    #[error("Timed out waiting for a node assignment: {last}")]
    NobodyAnswered {
        /// The last failure.
        last: ConnectionError,
    },
    /// The broker that alone can answer did not.
    #[error("Broker {broker_id} did not answer: {source}")]
    BrokerSilent {
        /// The broker.
        broker_id: i32,
        /// What happened.
        source: ConnectionError,
    },
    /// No broker of this id is in the cluster.
    #[error("Broker {broker_id} is not known to the cluster or not alive")]
    UnknownBroker {
        /// The id.
        broker_id: i32,
    },
    /// The brokers answered, and said no until the deadline, or for good.
    #[error("{message}")]
    Refused {
        /// What they said.
        code: ErrorCode,
        /// In words.
        message: String,
    },
}

impl ClusterError {
    /// What a broker's error code and its words, if it added some, say.
    pub(crate) fn refused(code: i16, message: Option<&ByteString>) -> Self {
        let code = ErrorCode::from_code(code);
        let message = message.map_or_else(|| code.message().to_owned(), ToString::to_string);
        Self::Refused { code, message }
    }
}

/// A cluster as far as this client knows it.
pub(crate) struct Cluster {
    config: ClientConfig,
    /// Addresses of the brokers that the last metadata named, by id.
    brokers: BTreeMap<i32, String>,
    controller_id: i32,
    /// Open connections, by address.
    connections: HashMap<String, Connection>,
    /// When the command gives up.
    deadline: Instant,
}

impl Cluster {
    /// A cluster of which only the bootstrap servers are known. The command's time runs from here.
    pub(crate) fn new(config: ClientConfig) -> Self {
        let deadline = Instant::now() + config.default_api_timeout;
        Self {
            config,
            brokers: BTreeMap::new(),
            controller_id: -1,
            connections: HashMap::new(),
            deadline,
        }
    }

    /// How the client behaves.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Gives the next question the whole time again: for tools that run long.
    pub(crate) fn restart_clock(&mut self) {
        self.deadline = Instant::now() + self.config.default_api_timeout;
    }

    /// The ids of the brokers that the last metadata named.
    pub(crate) fn broker_ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.brokers.keys().copied()
    }

    /// The address of a broker that the last metadata named.
    pub(crate) fn address(&self, broker_id: i32) -> Option<&str> {
        self.brokers.get(&broker_id).map(String::as_str)
    }

    /// Asks for brokers and topics (`None`: all topics), and remembers the brokers.
    ///
    /// # Errors
    /// If nobody answers.
    pub(crate) async fn metadata(
        &mut self,
        topics: Option<&[ByteString]>,
        allow_auto_topic_creation: bool,
    ) -> Result<MetadataResponse, ClusterError> {
        let named = |name: &ByteString| MetadataRequestTopic {
            name: Some(name.clone()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(named).collect()),
            allow_auto_topic_creation,
            ..Default::default()
        };
        let response = self.any(&request).await?;
        // A broker that has just started may not know the others yet; what was known before is better than nothing.
        if !response.brokers.is_empty() {
            let address = |host: &str, port: i32| match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            self.brokers = response
                .brokers
                .iter()
                .map(|broker| (broker.node_id, address(&broker.host, broker.port)))
                .collect();
        }
        self.controller_id = response.controller_id;
        Ok(response)
    }

    /// Asks whichever broker answers. The request must be one that may be sent twice.
    ///
    /// # Errors
    /// If nobody answers by the command's deadline.
    pub(crate) async fn any<R: Request>(
        &mut self,
        request: &R,
    ) -> Result<R::Response, ClusterError> {
        let mut rounds: u32 = 0;
        loop {
            let mut last = None;
            // An answer that takes its time, since it is long or the brokers are slow, gets more of it each round.
            let patience = self.config.try_timeout.saturating_mul(1 << rounds.min(4));
            for address in self.candidates() {
                let try_until = self.deadline.min(Instant::now() + patience);
                match self.ask(&address, request, try_until).await {
                    Ok(response) => return Ok(response),
                    Err(error) => last = Some(error),
                }
                if Instant::now() >= self.deadline {
                    break;
                }
            }
            let next = Instant::now() + self.config.backoff(rounds);
            if let Some(last) = last {
                if next >= self.deadline {
                    return Err(ClusterError::NobodyAnswered { last });
                }
                if rounds == 0 {
                    let seconds = self
                        .deadline
                        .saturating_duration_since(Instant::now())
                        .as_secs();
                    let message =
                        format!("No broker answers ({last}); trying for {seconds} seconds");
                    log(
                        Level::Warn,
                        &message,
                        "org.apache.kafka.clients.NetworkClient",
                    );
                }
            }
            rounds += 1;
            sleep_until(next).await;
        }
    }

    /// Asks the controller, which Apache's brokers want for what changes topics; brokers that pass such requests on
    /// are asked where it can not be reached. `refusal` finds an error code in a response.
    ///
    /// # Errors
    /// If no controller takes the request by the command's deadline. A request that was sent and not answered is not
    /// sent again, since it may have been done.
    pub(crate) async fn controller<R: Request>(
        &mut self,
        request: &R,
        refusal: impl Fn(&R::Response) -> Option<i16>,
    ) -> Result<R::Response, ClusterError> {
        let mut rounds = 0;
        loop {
            if rounds > 0 || self.address(self.controller_id).is_none() {
                self.metadata(Some(&[]), false).await?;
            }
            // Without a controller any broker will do: it passes the request on, or says that it can not.
            let broker_id = match self.address(self.controller_id) {
                Some(_) => self.controller_id,
                None => self.broker_ids().next().unwrap_or(-1),
            };
            let next = Instant::now() + self.config.backoff(rounds);
            rounds += 1;
            let failure = match self.open(broker_id).await {
                Err(error) => error,
                Ok(()) => {
                    let response = self.broker(broker_id, request).await?;
                    match refusal(&response) {
                        Some(code) if ErrorCode::from_code(code) == ErrorCode::NotController => {
                            self.controller_id = -1;
                            ClusterError::refused(code, None)
                        }
                        _ => return Ok(response),
                    }
                }
            };
            if next >= self.deadline {
                return Err(failure);
            }
            sleep_until(next).await;
        }
    }

    /// Asks one broker, once.
    ///
    /// # Errors
    /// If it is unknown or does not answer.
    pub(crate) async fn broker<R: Request>(
        &mut self,
        broker_id: i32,
        request: &R,
    ) -> Result<R::Response, ClusterError> {
        self.open(broker_id).await?;
        let address = self.address(broker_id).unwrap_or_default().to_owned();
        let until = self
            .deadline
            .min(Instant::now() + self.config.request_timeout);
        self.ask(&address, request, until)
            .await
            .map_err(|source| ClusterError::BrokerSilent { broker_id, source })
    }

    /// Opens the connection to a broker, unless it is open.
    async fn open(&mut self, broker_id: i32) -> Result<(), ClusterError> {
        let address = self
            .address(broker_id)
            .ok_or(ClusterError::UnknownBroker { broker_id })?
            .to_owned();
        if self.connections.contains_key(&address) {
            return Ok(());
        }
        let try_until = self.deadline.min(Instant::now() + self.config.try_timeout);
        let connection = Connection::open(&address, &self.config.client_id, try_until)
            .await
            .map_err(|source| ClusterError::BrokerSilent { broker_id, source })?;
        self.connections.insert(address, connection);
        Ok(())
    }

    /// One try at one address. The connection is kept if it worked.
    async fn ask<R: Request>(
        &mut self,
        address: &str,
        request: &R,
        until: Instant,
    ) -> Result<R::Response, ConnectionError> {
        let mut connection = match self.connections.remove(address) {
            Some(connection) => connection,
            None => Connection::open(address, &self.config.client_id, until).await?,
        };
        let response = connection.request(request, until).await?;
        self.connections.insert(address.to_owned(), connection);
        Ok(response)
    }

    /// Whom to ask, in this order: where a connection is open, the bootstrap servers, the other brokers.
    fn candidates(&self) -> Vec<String> {
        let mut candidates: Vec<String> = self.connections.keys().cloned().collect();
        for address in self
            .config
            .bootstrap_servers
            .iter()
            .chain(self.brokers.values())
        {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use kafka_wire::ApiKey;
    use kafka_wire::create_topics::{
        CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
    };

    use super::super::fake_broker::{Call, FakeBroker, Reply, cluster, metadata};
    use super::*;

    /// A broker that says this metadata, and nothing else.
    fn knows(response: MetadataResponse) -> impl FnMut(&mut Call) -> Reply + Send + 'static {
        move |call| match call.key {
            ApiKey::Metadata => call.answer(&response),
            _ => Reply::Close,
        }
    }

    /// A port where nobody listens.
    async fn dead_port() -> i32 {
        FakeBroker::listen().await.1
    }

    #[tokio::test]
    async fn dead_and_silent_brokers_cost_little() {
        let dead = dead_port().await;
        // Connections to a port that is not served are accepted by the system, and never answered.
        let (_silent, silent_port) = FakeBroker::listen().await;
        let (listener, port) = FakeBroker::listen().await;
        let _broker = FakeBroker::serve(listener, knows(metadata(&[(1, port)], 1, &[1])));
        let mut cluster = cluster(&[dead, silent_port, port]);
        let asked = Instant::now();
        let response = cluster.metadata(None, false).await.unwrap();
        assert_eq!(response.topics.len(), 1);
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(cluster.broker_ids().collect::<Vec<_>>(), [1]);
    }

    #[tokio::test]
    async fn nobody_there_is_said_by_the_deadline() {
        let mut cluster = cluster(&[dead_port().await]);
        cluster.deadline = Instant::now() + Duration::from_millis(50);
        let error = cluster.metadata(None, false).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Timed out waiting for a node assignment: 127.0.0.1:"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_controller_is_looked_for_until_one_takes_the_request() {
        let (first, first_port) = FakeBroker::listen().await;
        let (second, second_port) = FakeBroker::listen().await;
        let brokers = [(1, first_port), (2, second_port)];
        let result = |error_code: i16| CreateTopicsResponse {
            topics: vec![CreatableTopicResult {
                error_code,
                ..Default::default()
            }],
            ..Default::default()
        };
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        // The first is the controller no more, which the metadata says only once it has refused.
        let _first = FakeBroker::serve(first, move |call| match call.key {
            ApiKey::Metadata => {
                let controller = if *count.lock().unwrap() == 0 { 1 } else { 2 };
                call.answer(&metadata(&brokers, controller, &[]))
            }
            _ => {
                *count.lock().unwrap() += 1;
                call.answer(&result(ErrorCode::NotController.code()))
            }
        });
        let _second = FakeBroker::serve(second, move |call| match call.key {
            ApiKey::CreateTopics => call.answer(&result(0)),
            _ => Reply::Close,
        });
        let mut cluster = cluster(&[first_port]);
        let request = CreateTopicsRequest::default();
        let response = cluster
            .controller(&request, |response| {
                response.topics.first().map(|topic| topic.error_code)
            })
            .await
            .unwrap();
        assert_eq!(response.topics[0].error_code, 0);
        assert_eq!(*asked.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn what_changes_something_is_not_sent_twice() {
        let (listener, port) = FakeBroker::listen().await;
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let _broker = FakeBroker::serve(listener, move |call| match call.key {
            ApiKey::Metadata => call.answer(&metadata(&[(1, port)], 1, &[])),
            _ => {
                *count.lock().unwrap() += 1;
                Reply::Close
            }
        });
        let mut cluster = cluster(&[port]);
        let error = cluster
            .controller(&CreateTopicsRequest::default(), |_| None)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the broker closed the connection"),
            "{error}"
        );
        assert_eq!(*asked.lock().unwrap(), 1);
    }
}
