//! The Kafka protocol as this broker answers it: one file for each API.
//!
//! A handler gets a decoded request and its [`RequestContext`], and yields the response in the same
//! version. Two are special: produce, whose append happens in the order of the connection's requests,
//! and fetch, whose records go from file to socket. What only the controller may do is forwarded to it.

pub(crate) mod alter_replica_log_dirs;
pub(crate) mod api_versions;
mod config_resource;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_log_dirs;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use broker_core::config::{BrokerConfig, PLAINTEXT};
use broker_core::fetch_session::FetchSessionCache;
use broker_core::metadata::{Broker, MetadataImage};
use bytes::Bytes;
use kafka_wire::{ApiKey, ByteString, Message, Reader, Request, RequestHeader, encode_response};
use log::FileRange;

use crate::config_store::ConfigStore;
use crate::control::ControllerChannel;
use crate::net::{Client, Frame, PendingReply, Reply, Requests, Response, Service};
use crate::replication::{Clock, ReplicaManager};
use init_producer_id::ProducerIds;

/// All that handlers work with.
pub struct Services {
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// The replicas of this broker, and what it knows of the cluster.
    pub replicas: Arc<ReplicaManager>,
    /// The way to the controller.
    pub controller: Arc<ControllerChannel>,
    /// Dynamic configurations.
    pub configs: Arc<ConfigStore>,
    clock: Clock,
    fetch_sessions: Mutex<FetchSessionCache>,
    producer_ids: ProducerIds,
    traffic: Traffic,
}

/// Bytes of records, since the start.
#[derive(Debug, Default)]
pub struct Traffic {
    produced: AtomicU64,
    fetched: AtomicU64,
}

impl Traffic {
    /// Appended for clients.
    pub fn produced_bytes(&self) -> u64 {
        self.produced.load(Ordering::Relaxed)
    }

    /// Sent to consumers and followers.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }
}

impl Services {
    /// What a broker of this configuration works with.
    pub fn new(
        config: Arc<BrokerConfig>,
        replicas: Arc<ReplicaManager>,
        controller: Arc<ControllerChannel>,
        configs: Arc<ConfigStore>,
    ) -> Services {
        let slots =
            usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or_default();
        Services {
            config,
            replicas,
            controller,
            configs,
            clock: Clock::start(),
            fetch_sessions: Mutex::new(FetchSessionCache::new(slots)),
            producer_ids: ProducerIds::default(),
            traffic: Traffic::default(),
        }
    }

    /// What went in and out.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What this broker knows of the cluster at this moment.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.replicas.metadata().load_full()
    }
}

/// Who asks, in which version, and all that is needed to answer.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) services: Arc<Services>,
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<ByteString>,
    pub(crate) client_address: IpAddr,
    /// The number of this request on its connection.
    request_number: u64,
    /// What else the client sends behind it.
    requests: Requests,
}

impl RequestContext {
    /// Sends the request to the controller and returns its answer; `refused` makes one of an error.
    pub(crate) async fn forward<R: Request>(
        &self,
        request: &R,
        refused: impl FnOnce(kafka_wire::ErrorCode) -> R::Response,
    ) -> R::Response {
        let mut body = kafka_wire::Writer::new();
        request.encode(&mut body, self.api_version);
        let answer = match body.finish_contiguous() {
            Ok(body) => {
                let (client_id, host) = (
                    self.client_id.as_deref().unwrap_or_default(),
                    self.client_address.to_string(),
                );
                self.services
                    .controller
                    .forward(R::KEY, self.api_version, client_id, &host, body)
                    .await
            }
            Err(_) => Err(kafka_wire::ErrorCode::InvalidRequest),
        };
        let decoded = answer.and_then(|body| {
            R::Response::decode(&mut Reader::new(body), self.api_version)
                .map_err(|_| kafka_wire::ErrorCode::UnknownServerError)
        });
        decoded.unwrap_or_else(refused)
    }

    /// The response as it goes to the socket; `ranges` fill its gaps.
    fn reply(&self, key: ApiKey, response: &impl Message, ranges: Vec<FileRange>) -> Reply {
        let header_version = key.response_header_version(self.api_version);
        match encode_response(
            header_version,
            self.correlation_id,
            self.api_version,
            response,
        ) {
            Ok(chunks) => Reply::Response(Response::new(chunks, ranges)),
            Err(error) => Reply::Close(format!(
                "a response to {} cannot be written: {error}",
                key.name()
            )),
        }
    }
}

/// Answers what comes in on a listener for clients and followers.
pub struct KafkaService {
    services: Arc<Services>,
}

impl KafkaService {
    /// Answers with these.
    pub fn new(services: Arc<Services>) -> KafkaService {
        KafkaService { services }
    }
}

impl Service for KafkaService {
    fn begin(&self, client: &Client, frame: Frame) -> PendingReply {
        match self.dispatch(client, frame) {
            Ok(reply) => reply,
            Err(reason) => Box::pin(std::future::ready(Reply::Close(reason))),
        }
    }
}

impl KafkaService {
    /// An error is the reason to close the connection.
    fn dispatch(&self, client: &Client, frame: Frame) -> Result<PendingReply, String> {
        let Frame { bytes, permit } = frame;
        let bytes = bytes.freeze();
        let mut reader = Reader::new(bytes.clone());
        let header = RequestHeader::decode(&mut reader)
            .map_err(|error| format!("no request header: {error}"))?;
        let RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id,
        } = header;
        let key = ApiKey::try_from(api_key).map_err(|_| format!("API {api_key} is unknown"))?;
        let context = RequestContext {
            services: self.services.clone(),
            api_version,
            correlation_id,
            client_id,
            client_address: client.address,
            request_number: client.requests.latest(),
            requests: client.requests.clone(),
        };
        if !key
            .versions()
            .is_some_and(|versions| versions.contains(&api_version))
        {
            if key == ApiKey::ApiVersions {
                return Ok(Box::pin(std::future::ready(api_versions::too_high(
                    &context,
                ))));
            }
            return Err(format!(
                "{} version {api_version} is not supported",
                key.name()
            ));
        }
        // A request that its handler answers when its turn has come.
        macro_rules! answer {
            ($api:ident) => {{
                let request = decode(reader, api_version)?;
                Box::pin(async move {
                    let response = $api::handle(&context, request).await;
                    context.reply(key, &response, Vec::new())
                })
            }};
        }
        let reply: PendingReply = match key {
            ApiKey::Produce => {
                let request = decode(reader, api_version)?;
                produce::begin(context, bytes, request)
            }
            ApiKey::Fetch => {
                let request = decode(reader, api_version)?;
                drop(bytes);
                Box::pin(fetch::answer(context, request))
            }
            ApiKey::ApiVersions => answer!(api_versions),
            ApiKey::Metadata => answer!(metadata),
            ApiKey::ListOffsets => answer!(list_offsets),
            ApiKey::OffsetForLeaderEpoch => {
                answer!(offset_for_leader_epoch)
            }
            ApiKey::DescribeCluster => answer!(describe_cluster),
            ApiKey::FindCoordinator => answer!(find_coordinator),
            ApiKey::InitProducerId => answer!(init_producer_id),
            ApiKey::CreateTopics => answer!(create_topics),
            ApiKey::DeleteRecords => answer!(delete_records),
            ApiKey::DeleteTopics => answer!(delete_topics),
            ApiKey::CreatePartitions => answer!(create_partitions),
            ApiKey::DescribeConfigs => answer!(describe_configs),
            ApiKey::DescribeLogDirs => answer!(describe_log_dirs),
            ApiKey::AlterReplicaLogDirs => answer!(alter_replica_log_dirs),
            ApiKey::IncrementalAlterConfigs => answer!(incremental_alter_configs),
            _ => return Err(format!("{} is not supported", key.name())),
        };
        // Whatever holds on to the request's bytes from here on is small: its records are appended.
        drop(permit);
        Ok(reply)
    }
}

fn decode<M: Message>(mut reader: Reader, version: i16) -> Result<M, String> {
    M::decode(&mut reader, version)
        .map_err(|error| format!("{} version {version}: {error}", M::NAME))
}

/// The host and port that clients reach a broker at; a broker without a listener for them is left out.
fn client_endpoint(broker: &Broker) -> Option<(ByteString, i32)> {
    let endpoint = broker.endpoint(PLAINTEXT)?;
    Some((endpoint.host.clone(), i32::from(endpoint.port)))
}

/// A slice of the frame becomes memory of its own, so that the frame can be given back.
fn owned(name: &ByteString) -> ByteString {
    ByteString::from(name.to_string())
}

/// Where in the frame a part of it lies.
fn range_within(frame: &Bytes, part: &Bytes) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(frame.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= frame.len()).then_some(start..end)
}
