//! The two hot paths, over a real socket and real files.
//!
//! - `fetch 1 MiB`: from request to last byte at the client, and beside it the bare writing of such an
//!   answer by `sendfile(2)` and by reading the file and writing it to the socket.
//! - `produce`: from the request to the answer of the leader (acks=1).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use broker::api::{KafkaService, Services};
use broker::config_store::ConfigStore;
use broker::control::ControllerChannel;
use broker::membership::Coord;
use broker::net::{self, Limits, Response};
use broker::replication::{AlterPartition, ReplicaManager, ReplicaManagerParts, log_config};
use broker_core::config::{BrokerConfig, TopicConfig};
use broker_core::metadata::MetadataImage;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_wire::compression::Compression;
use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use kafka_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_wire::record_batch::RecordBatchBuilder;
use kafka_wire::{ByteString, Records, encode_request};
use log::{FileRange, FileSystem, LoadProgress, LogManager, LogManagerConfig, StdFileSystem};
use proto::control::{
    AlterPartitionRequest, AlterPartitionResponse, ControllerStamp, LeaderAndIsrRequest,
    PartitionState, TopicState,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const TOPIC: &str = "t";
const MIB: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

struct NoController;

impl AlterPartition for NoController {
    fn alter_partition(
        &self,
        _: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, String>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// A broker's data plane that leads one partition.
struct Broker {
    address: SocketAddr,
    _directory: TempDir,
    manager: Arc<ReplicaManager>,
}

async fn broker() -> Broker {
    let directory = TempDir::new().unwrap();
    let log_dir = directory.path().join("log");
    let properties = [
        ("broker.id", "1".to_owned()),
        ("log.dirs", log_dir.display().to_string()),
        ("zookeeper.connect", "localhost:1".to_owned()),
    ];
    let properties = properties
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let config = Arc::new(BrokerConfig::from_properties(&properties).unwrap().0);
    let topic_config = |_: &str| {
        log_config(
            &TopicConfig::effective(&config, &BTreeMap::new()).unwrap(),
            &config,
        )
    };
    let logs = LogManagerConfig {
        log_dirs: vec![log_dir],
        broker_id: 1,
        cluster_id: "c".to_owned(),
        recovery_threads_per_data_dir: 1,
        topic_config: &topic_config,
        progress: &LoadProgress::default(),
    };
    let manager = ReplicaManager::start(ReplicaManagerParts {
        config: config.clone(),
        logs: Arc::new(LogManager::open(logs, Arc::new(StdFileSystem), 0).unwrap()),
        metadata: Arc::new(ArcSwap::from_pointee(MetadataImage::new(
            ByteString::from_static("c"),
        ))),
        controller: Arc::new(NoController),
        topic_overrides: Arc::new(|_| Arc::default()),
    });
    let state = PartitionState {
        leader: 1,
        isr: vec![1],
        replicas: vec![1],
        ..PartitionState::default()
    };
    let topic = TopicState {
        topic: TOPIC.to_owned(),
        topic_id: vec![7; 16],
        partitions: vec![state],
    };
    let stamp = Some(ControllerStamp {
        controller_id: 1,
        controller_epoch: 1,
        broker_epoch: 0,
    });
    let request = LeaderAndIsrRequest {
        stamp,
        topics: vec![topic],
        ..LeaderAndIsrRequest::default()
    };
    assert_eq!(
        manager.leader_and_isr(request).await.partitions[0].error_code,
        0
    );
    let nobody = Arc::new(ControllerChannel::new(1, watch::channel(None).1));
    let configs = Arc::new(ConfigStore::new(
        1,
        config.as_ref().clone(),
        Arc::new(Coord::default()),
    ));
    let services = Arc::new(Services::new(
        config.clone(),
        manager.clone(),
        nobody,
        configs,
    ));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(net::serve(
        listener,
        Arc::new(KafkaService::new(services)),
        Limits::new(&config),
    ));
    Broker {
        address,
        _directory: directory,
        manager,
    }
}

fn produce_frame(bytes: usize) -> Bytes {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let value = vec![b'x'; 1000];
    while builder.uncompressed_size() + value.len() < bytes {
        builder.append(1, None, Some(&value), &[]).unwrap();
    }
    let partition = PartitionProduceData {
        index: 0,
        records: Records::Inline(builder.build().unwrap()),
    };
    let topic = TopicProduceData {
        name: ByteString::from_static(TOPIC),
        partition_data: vec![partition],
    };
    let request = ProduceRequest {
        acks: 1,
        timeout_ms: 1000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    encode_request(1, Some("bench"), 9, &request).unwrap()
}

fn fetch_frame(bytes: usize) -> Bytes {
    let max = bytes as i32;
    let partition = FetchPartition {
        partition_max_bytes: max,
        ..FetchPartition::default()
    };
    let topic = ByteString::from_static(TOPIC);
    let topic = FetchTopic {
        topic,
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    let request = FetchRequest {
        max_bytes: max,
        min_bytes: 1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    encode_request(1, Some("bench"), 11, &request).unwrap()
}

async fn ask(socket: &mut TcpStream, frame: &[u8], buffer: &mut [u8]) -> usize {
    socket.write_all(frame).await.unwrap();
    let size = socket.read_u32().await.unwrap() as usize;
    socket.read_exact(&mut buffer[..size]).await.unwrap();
    size
}

fn fetch(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (broker, mut socket) = runtime.block_on(async {
        let broker = broker().await;
        let socket = TcpStream::connect(broker.address).await.unwrap();
        (broker, socket)
    });
    let mut buffer = vec![0; 2 * MIB];
    let produce = produce_frame(64 * 1024);
    runtime.block_on(async {
        for _ in 0..64 {
            ask(&mut socket, &produce, &mut buffer).await;
        }
    });
    let mut group = c.benchmark_group("fetch 1 MiB");
    group.throughput(Throughput::Bytes(MIB as u64));
    let request = fetch_frame(MIB);
    group.bench_function("request to last byte", |b| {
        b.iter(|| {
            let size = runtime.block_on(ask(&mut socket, &request, &mut buffer));
            assert!(size > MIB);
        });
    });
    runtime.block_on(broker.manager.shutdown());

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("segment");
    std::fs::write(&path, vec![b'x'; MIB]).unwrap();
    let file = StdFileSystem.open(&path).unwrap();
    let (server, client) = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (listener.accept().await.unwrap().0, client)
    });
    let mut client = client;
    let mut write = |b: &mut criterion::Bencher<'_>, answer: &dyn Fn() -> Response| {
        b.iter(|| {
            runtime.block_on(async {
                let (sent, received) = tokio::join!(
                    answer().write_to(&server, PATIENCE),
                    client.read_exact(&mut buffer[..MIB])
                );
                sent.unwrap();
                received.unwrap();
            });
        });
    };
    group.bench_function("answer by sendfile", |b| {
        write(b, &|| {
            let range = FileRange {
                file: file.clone(),
                position: 0,
                len: MIB as u32,
            };
            Response::new(vec![Bytes::new(), Bytes::new()], vec![range])
        });
    });
    group.bench_function("answer by read and write", |b| {
        write(b, &|| {
            let mut copy = vec![0; MIB];
            assert_eq!(file.read_at(&mut copy, 0).unwrap(), MIB);
            Response::new(vec![copy.into()], Vec::new())
        });
    });
    group.finish();
}

fn produce(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("produce");
    for (name, bytes) in [
        ("1 KiB", 1100),
        ("16 KiB", 16 * 1024),
        ("1 MiB", MIB - 1024),
    ] {
        let (broker, mut socket) = runtime.block_on(async {
            let broker = broker().await;
            let socket = TcpStream::connect(broker.address).await.unwrap();
            (broker, socket)
        });
        let frame = produce_frame(bytes);
        let mut buffer = vec![0; 1024];
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("batch of {name}, request to answer"), |b| {
            b.iter(|| runtime.block_on(ask(&mut socket, &frame, &mut buffer)));
        });
        runtime.block_on(broker.manager.shutdown());
    }
    group.finish();
}

criterion_group!(benches, fetch, produce);
criterion_main!(benches);
