//! Brokers' data planes in one process, with a controller that does what a test says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use broker::api::{KafkaService, Services};
use broker::config_store::ConfigStore;
use broker::control::ControllerChannel;
use broker::http;
use broker::net::{self, Limits};
use broker::replication::{
    AlterPartition, ReplicaManager, ReplicaManagerParts, TopicOverrides, log_config,
};
use broker_core::config::{BrokerConfig, Properties, TopicConfig};
use broker_core::metadata::MetadataImage;
use kafka_wire::{ByteString, ErrorCode};
use log::{LoadProgress, LogManager, LogManagerConfig};
use proto::control::{
    AlterPartitionRequest, AlterPartitionResponse, AlterPartitionResult, ControllerStamp, Endpoint,
    LeaderAndIsrRequest, LiveBroker, PartitionState, StopReplicaPartition, StopReplicaRequest,
    TopicState, UpdateMetadataRequest,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Client, TOPIC};
use crate::scarce_files::ScarceFiles;

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) port: u16,
    pub(crate) manager: Arc<ReplicaManager>,
    server: JoinHandle<()>,
    http_port: u16,
    http: JoinHandle<std::io::Result<()>>,
}

pub(crate) struct Cluster {
    directory: TempDir,
    properties: BTreeMap<String, String>,
    /// How many log directories a broker has.
    log_dirs: usize,
    /// What their logs lie on.
    pub(crate) fs: Arc<ScarceFiles>,
    /// What brokers that are started from now on read of topics' configuration.
    pub(crate) topic_overrides: Arc<TopicOverrides>,
    /// What they read unless a test says otherwise.
    overrides: Arc<Mutex<Arc<Properties>>>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) brokers: BTreeMap<i32, Broker>,
}

/// What the controller knows of the one partition that there is.
pub(crate) struct Controller {
    pub(crate) state: Mutex<PartitionState>,
    pub(crate) alive: Mutex<Vec<i32>>,
    pub(crate) topic_id: Mutex<[u8; 16]>,
}

impl AlterPartition for Controller {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, String>> + Send + '_>> {
        let mut state = self.state.lock().unwrap();
        let alive = self.alive.lock().unwrap();
        let item = &request.partitions[0];
        let error = if item.leader_epoch != state.leader_epoch {
            ErrorCode::FencedLeaderEpoch
        } else if item.partition_epoch != state.partition_epoch {
            ErrorCode::InvalidUpdateVersion
        } else if item.new_isr.iter().any(|id| !alive.contains(id)) {
            ErrorCode::IneligibleReplica
        } else {
            state.isr = item.new_isr.clone();
            state.partition_epoch += 1;
            ErrorCode::None
        };
        let result = AlterPartitionResult {
            topic: item.topic.clone(),
            partition: item.partition,
            error_code: i32::from(error as i16),
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            isr: state.isr.clone(),
            partition_epoch: state.partition_epoch,
            leader_recovery_state: 0,
        };
        Box::pin(std::future::ready(Ok(AlterPartitionResponse {
            error_code: 0,
            partitions: vec![result],
        })))
    }
}

impl Cluster {
    /// Brokers 1 to `brokers` with one topic of one partition that all of them hold, led by broker 1.
    pub(crate) async fn start(brokers: i32, properties: &[(&str, &str)]) -> Cluster {
        Cluster::start_with_log_dirs(1, brokers, properties).await
    }

    /// The same, each with so many log directories.
    pub(crate) async fn start_with_log_dirs(
        log_dirs: usize,
        brokers: i32,
        properties: &[(&str, &str)],
    ) -> Cluster {
        let ids: Vec<i32> = (1..=brokers).collect();
        let state = PartitionState {
            leader: 1,
            isr: ids.clone(),
            replicas: ids.clone(),
            ..PartitionState::default()
        };
        let controller = Arc::new(Controller {
            state: Mutex::new(state),
            alive: Mutex::default(),
            topic_id: Mutex::new([7; 16]),
        });
        let overrides: Arc<Mutex<Arc<Properties>>> = Arc::default();
        let read = overrides.clone();
        let mut cluster = Cluster {
            directory: TempDir::new().unwrap(),
            properties: owned(properties),
            log_dirs,
            fs: Arc::default(),
            topic_overrides: Arc::new(move |_| read.lock().unwrap().clone()),
            overrides,
            controller,
            brokers: BTreeMap::new(),
        };
        for id in ids {
            cluster.start_broker(id).await;
        }
        cluster.announce().await;
        cluster
    }

    pub(crate) fn log_directory(&self, id: i32) -> PathBuf {
        self.log_directories(id).remove(0)
    }

    pub(crate) fn log_directories(&self, id: i32) -> Vec<PathBuf> {
        let paths =
            (0..self.log_dirs).map(|index| self.directory.path().join(format!("{id}-{index}")));
        paths.collect()
    }

    pub(crate) async fn start_broker(&mut self, id: i32) {
        let config = Arc::new(config(&self.properties, id, &self.log_directories(id)));
        let topic_config = |_: &str| {
            log_config(
                &TopicConfig::effective(&config, &BTreeMap::new()).unwrap(),
                &config,
            )
        };
        let log_manager_config = LogManagerConfig {
            log_dirs: self.log_directories(id),
            broker_id: id,
            cluster_id: "c".to_owned(),
            recovery_threads_per_data_dir: 1,
            topic_config: &topic_config,
            progress: &LoadProgress::default(),
        };
        let logs = Arc::new(LogManager::open(log_manager_config, self.fs.clone(), 0).unwrap());
        let manager = ReplicaManager::start(ReplicaManagerParts {
            config: config.clone(),
            logs,
            metadata: Arc::new(ArcSwap::from_pointee(MetadataImage::new(
                ByteString::from_static("c"),
            ))),
            controller: self.controller.clone(),
            topic_overrides: self.topic_overrides.clone(),
        });
        let nobody = Arc::new(ControllerChannel::new(id, watch::channel(None).1));
        let configs = ConfigStore::new(id, config.as_ref().clone(), Arc::default());
        let services = Arc::new(Services::new(
            config.clone(),
            manager.clone(),
            nobody,
            Arc::new(configs),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let http_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_port = http_listener.local_addr().unwrap().port();
        let http = tokio::spawn(http::serve(http_listener, services.clone()));
        let server = tokio::spawn(net::serve(
            listener,
            Arc::new(KafkaService::new(services)),
            Limits::new(&config),
        ));
        self.controller.alive.lock().unwrap().push(id);
        self.brokers.insert(
            id,
            Broker {
                id,
                port,
                manager,
                server,
                http_port,
                http,
            },
        );
    }

    /// Gives the topic these overrides, and tells all brokers.
    pub(crate) fn configure_topic(&self, overrides: &[(&str, &str)]) {
        *self.overrides.lock().unwrap() = Arc::new(owned(overrides));
        for broker in self.brokers.values() {
            broker.manager.topic_config_changed(TOPIC);
        }
    }

    /// Gives all brokers this dynamic configuration.
    pub(crate) fn configure_brokers(&self, dynamic: &[(&str, &str)]) {
        for broker in self.brokers.values() {
            let fixed = config(
                &self.properties,
                broker.id,
                &self.log_directories(broker.id),
            );
            let config = fixed.with_dynamic(&owned(dynamic), &Properties::new());
            broker
                .manager
                .broker_config_changed(&Arc::new(config.unwrap()));
        }
    }

    /// Ends a broker; its logs stay.
    pub(crate) async fn stop_broker(&mut self, id: i32) {
        let broker = self.brokers.remove(&id).unwrap();
        self.controller
            .alive
            .lock()
            .unwrap()
            .retain(|other| *other != id);
        broker.server.abort();
        let _ = broker.server.await;
        broker.http.abort();
        let _ = broker.http.await;
        broker.manager.shutdown().await;
    }

    /// Another leader, and who is in sync with it.
    pub(crate) async fn elect(&self, leader: i32, isr: &[i32]) {
        {
            let mut state = self.controller.state.lock().unwrap();
            state.leader = leader;
            state.leader_epoch += 1;
            state.partition_epoch += 1;
            state.isr = isr.to_vec();
        }
        self.announce().await;
    }

    fn stamp(&self) -> Option<ControllerStamp> {
        Some(ControllerStamp {
            controller_id: 1,
            controller_epoch: 1,
            broker_epoch: 0,
        })
    }

    pub(crate) fn live_brokers(&self) -> Vec<LiveBroker> {
        let live = self.brokers.values().map(|broker| LiveBroker {
            id: broker.id,
            epoch: 0,
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".to_owned(),
                security_protocol: "PLAINTEXT".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: i32::from(broker.port),
            }],
            rack: None,
        });
        live.collect()
    }

    fn topic(&self) -> TopicState {
        TopicState {
            topic: TOPIC.to_owned(),
            topic_id: self.controller.topic_id.lock().unwrap().to_vec(),
            partitions: vec![self.controller.state.lock().unwrap().clone()],
        }
    }

    /// Tells all brokers what the controller knows.
    pub(crate) async fn announce(&self) {
        for broker in self.brokers.values() {
            let request = UpdateMetadataRequest {
                stamp: self.stamp(),
                topics: vec![self.topic()],
                live_brokers: self.live_brokers(),
                full: true,
            };
            assert_eq!(broker.manager.update_metadata(request).await.error_code, 0);
            self.leader_and_isr(broker.id, self.live_brokers()).await;
        }
    }

    /// Tells one broker whom to follow, and where that one is. What it says of the partition.
    pub(crate) async fn leader_and_isr(&self, id: i32, live_leaders: Vec<LiveBroker>) -> ErrorCode {
        let request = LeaderAndIsrRequest {
            stamp: self.stamp(),
            topics: vec![self.topic()],
            live_leaders,
            full: true,
            kept_topics: vec!["kept".to_owned()],
        };
        let manager = &self.brokers[&id].manager;
        let response = manager.leader_and_isr(request).await;
        assert_eq!(response.error_code, 0);
        ErrorCode::from_code(response.partitions[0].error_code as i16)
    }

    pub(crate) async fn stop_replica(&self, id: i32, leader_epoch: i32, delete: bool) -> ErrorCode {
        let partition = StopReplicaPartition {
            topic: TOPIC.to_owned(),
            partition: 0,
            leader_epoch,
            delete,
        };
        let request = StopReplicaRequest {
            stamp: self.stamp(),
            partitions: vec![partition],
        };
        let response = self.brokers[&id].manager.stop_replica(request).await;
        ErrorCode::from_code(response.partitions[0].error_code as i16)
    }

    pub(crate) async fn client(&self, id: i32) -> Client {
        Client::connect(self.brokers[&id].port).await
    }

    /// Status and body of an HTTP answer.
    pub(crate) async fn http(&self, id: i32, path: &str) -> (u16, String) {
        let address = ("127.0.0.1", self.brokers[&id].http_port);
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    pub(crate) fn isr(&self) -> Vec<i32> {
        self.controller.state.lock().unwrap().isr.clone()
    }

    pub(crate) async fn wait_for_isr(&self, isr: &[i32]) {
        eventually("the ISR", || self.isr() == isr).await;
    }
}

/// Waits until it holds, and fails if it never does.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not in time"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn owned(pairs: &[(&str, &str)]) -> Properties {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn config(
    properties: &BTreeMap<String, String>,
    id: i32,
    log_directories: &[PathBuf],
) -> BrokerConfig {
    let log_directories: Vec<_> = log_directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut all = properties.clone();
    let mut set = |key: &str, value: String| all.insert(key.to_owned(), value);
    set("broker.id", id.to_string());
    set("log.dirs", log_directories.join(","));
    set("zookeeper.connect", "localhost:1".to_owned());
    BrokerConfig::from_properties(&all).unwrap().0
}
