//! Brokers for tests: real sockets, and answers that the test decides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{
    ApiKey, ByteString, ErrorCode, Message, Reader, Request, RequestHeader, encode_response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{ClientConfig, Cluster};

/// What a broker does with a request.
pub(crate) enum Reply {
    /// It answers.
    Frame(Vec<Bytes>),
    /// It keeps the connection open and says nothing.
    Silence,
    /// It closes the connection.
    Close,
}

/// A request as it came.
pub(crate) struct Call {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    correlation_id: i32,
    body: Reader,
}

impl Call {
    /// The request itself.
    pub(crate) fn decode<R: Request>(&mut self) -> R {
        assert_eq!(R::KEY, self.key);
        R::decode(&mut self.body, self.version).expect("a client sends sound requests")
    }

    /// An answer to it.
    pub(crate) fn answer<M: Message>(&self, response: &M) -> Reply {
        self.answer_in(self.version, response)
    }

    fn answer_in<M: Message>(&self, version: i16, response: &M) -> Reply {
        let header_version = self.key.response_header_version(version);
        Reply::Frame(
            encode_response(header_version, self.correlation_id, version, response)
                .expect("a sound response"),
        )
    }
}

/// A broker that lives as long as this value.
pub(crate) struct FakeBroker {
    serving: JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeBroker {
    /// A free port, on which connections wait until somebody serves them.
    pub(crate) async fn listen() -> (TcpListener, i32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        (listener, port.into())
    }

    /// Serves the port. ApiVersions is answered here, as a broker whose newest version of it is 3.
    pub(crate) fn serve(
        listener: TcpListener,
        handler: impl FnMut(&mut Call) -> Reply + Send + 'static,
    ) -> Self {
        let handler = Arc::new(Mutex::new(handler));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, handler.clone()));
            }
        });
        Self { serving }
    }
}

async fn connection(
    mut stream: TcpStream,
    handler: Arc<Mutex<impl FnMut(&mut Call) -> Reply + Send>>,
) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; size as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let mut body = Reader::new(Bytes::from(frame));
        let header = RequestHeader::decode(&mut body).expect("a sound header");
        let key = ApiKey::try_from(header.api_key).expect("a known API");
        let mut call = Call {
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
            body,
        };
        let reply = match key {
            ApiKey::ApiVersions => api_versions(&mut call),
            _ => (handler.lock().expect("a handler that does not panic"))(&mut call),
        };
        match reply {
            Reply::Frame(pieces) => {
                for piece in pieces {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
            }
            Reply::Silence => {}
            Reply::Close => return,
        }
    }
}

fn api_versions(call: &mut Call) -> Reply {
    let served = |key: ApiKey| ApiVersion {
        api_key: key.code(),
        min_version: 0,
        max_version: if key == ApiKey::ApiVersions {
            3
        } else {
            key.latest_version()
        },
    };
    let keys = [
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::CreateTopics,
        ApiKey::InitProducerId,
    ];
    let mut response = ApiVersionsResponse {
        api_keys: keys.map(served).to_vec(),
        ..Default::default()
    };
    if call.version > 3 {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        response.api_keys.truncate(1);
        return call.answer_in(0, &response);
    }
    call.decode::<ApiVersionsRequest>();
    call.answer(&response)
}

/// Metadata of a cluster on this machine: brokers by id and port, and the leader of each partition of topic `t`.
pub(crate) fn metadata(
    brokers: &[(i32, i32)],
    controller_id: i32,
    leaders: &[i32],
) -> MetadataResponse {
    let broker = |(node_id, port): &(i32, i32)| MetadataResponseBroker {
        node_id: *node_id,
        host: ByteString::from_static("127.0.0.1"),
        port: *port,
        ..Default::default()
    };
    let partition = |(partition_index, leader_id): (i32, &i32)| MetadataResponsePartition {
        partition_index,
        leader_id: *leader_id,
        replica_nodes: vec![1, 2],
        isr_nodes: vec![1, 2],
        ..Default::default()
    };
    MetadataResponse {
        brokers: brokers.iter().map(broker).collect(),
        controller_id,
        topics: vec![MetadataResponseTopic {
            name: Some(ByteString::from_static("t")),
            partitions: (0..).zip(leaders).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A cluster behind these ports, whose client does not wait long.
pub(crate) fn cluster(ports: &[i32]) -> Cluster {
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let properties = [("retry.backoff.ms".to_owned(), "1".to_owned())].into();
    let config =
        ClientConfig::new(&servers.join(","), "test", &properties).expect("a sound configuration");
    Cluster::new(ClientConfig {
        try_timeout: Duration::from_millis(300),
        default_api_timeout: Duration::from_secs(5),
        ..config
    })
}
