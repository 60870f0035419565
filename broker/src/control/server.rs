//! What a broker serves on its control listener.

use std::sync::Arc;

use proto::control::broker_server::{Broker, BrokerServer};
use proto::control::controller_server::{Controller, ControllerServer};
use proto::control::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest,
    AlterPartitionResponse, ControlledShutdownRequest, ControlledShutdownResponse, ForwardRequest,
    ForwardResponse, LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest,
    StopReplicaResponse, UpdateMetadataRequest, UpdateMetadataResponse,
};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::MAX_MESSAGE_BYTES;
use crate::config_store::{ConfigListener, ConfigStore};
use crate::controller::{Admin, ControllerHandle};
use crate::replication::ReplicaManager;

/// Both services of one broker.
#[derive(Clone)]
pub(crate) struct ControlServices {
    pub(crate) replica_manager: Arc<ReplicaManager>,
    pub(crate) configs: Arc<ConfigStore>,
    pub(crate) config_listener: Arc<dyn ConfigListener>,
    pub(crate) controller: Arc<ControllerHandle>,
    pub(crate) admin: Arc<Admin>,
}

/// Serves both until the task is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    services: ControlServices,
) -> Result<(), tonic::transport::Error> {
    let services = Arc::new(services);
    let broker = BrokerServer::from_arc(services.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let controller = ControllerServer::from_arc(services)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(broker)
        .add_service(controller)
        .serve_with_incoming(incoming)
        .await
}

impl ControlServices {
    /// Before this broker is registered it cannot tell what is meant for it from what was queued for
    /// its former life. Whatever is meant for it comes again.
    fn check_registered(&self) -> Result<(), Status> {
        if self.replica_manager.is_registered() {
            Ok(())
        } else {
            Err(Status::unavailable("the broker is not registered yet"))
        }
    }

    /// Reads the overrides of topics that come to this broker, so that their logs begin with them.
    async fn load_configs(&self, request: &LeaderAndIsrRequest) -> Result<(), Status> {
        let is_unknown = |topic: &&proto::control::TopicState| {
            topic.partitions.iter().any(|partition| partition.is_new)
                || !self.configs.knows_topic(&topic.topic)
        };
        let topics = request
            .topics
            .iter()
            .filter(is_unknown)
            .map(|topic| topic.topic.as_str());
        self.configs
            .load_topics(topics, &*self.config_listener)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl Broker for ControlServices {
    async fn leader_and_isr(
        &self,
        request: Request<LeaderAndIsrRequest>,
    ) -> Result<Response<LeaderAndIsrResponse>, Status> {
        self.check_registered()?;
        let request = request.into_inner();
        self.load_configs(&request).await?;
        Ok(Response::new(
            self.replica_manager.leader_and_isr(request).await,
        ))
    }

    async fn update_metadata(
        &self,
        request: Request<UpdateMetadataRequest>,
    ) -> Result<Response<UpdateMetadataResponse>, Status> {
        self.check_registered()?;
        Ok(Response::new(
            self.replica_manager
                .update_metadata(request.into_inner())
                .await,
        ))
    }

    async fn stop_replica(
        &self,
        request: Request<StopReplicaRequest>,
    ) -> Result<Response<StopReplicaResponse>, Status> {
        self.check_registered()?;
        Ok(Response::new(
            self.replica_manager
                .stop_replica(request.into_inner())
                .await,
        ))
    }
}

#[tonic::async_trait]
impl Controller for ControlServices {
    async fn alter_partition(
        &self,
        request: Request<AlterPartitionRequest>,
    ) -> Result<Response<AlterPartitionResponse>, Status> {
        Ok(Response::new(
            self.controller.alter_partition(request.into_inner()).await,
        ))
    }

    async fn controlled_shutdown(
        &self,
        request: Request<ControlledShutdownRequest>,
    ) -> Result<Response<ControlledShutdownResponse>, Status> {
        Ok(Response::new(
            self.controller
                .controlled_shutdown(request.into_inner())
                .await,
        ))
    }

    async fn forward(
        &self,
        request: Request<ForwardRequest>,
    ) -> Result<Response<ForwardResponse>, Status> {
        Ok(Response::new(
            self.admin.forward(request.into_inner()).await,
        ))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<AllocateProducerIdsRequest>,
    ) -> Result<Response<AllocateProducerIdsResponse>, Status> {
        Ok(Response::new(
            self.controller
                .allocate_producer_ids(request.into_inner())
                .await,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arc_swap::ArcSwap;
    use broker_core::config::{BrokerConfig, TopicConfig};
    use broker_core::metadata::MetadataImage;
    use kafka_wire::{ByteString, ErrorCode};
    use log::{LoadProgress, LogManager, LogManagerConfig, StdFileSystem};
    use proto::control::ControllerStamp;
    use tokio::sync::watch;
    use tonic::Code;

    use super::*;
    use crate::control::ControllerChannel;
    use crate::replication::{ReplicaManagerParts, log_config};

    fn services(directory: &std::path::Path) -> ControlServices {
        let properties = [
            ("broker.id", "1"),
            ("zookeeper.connect", "localhost:1"),
            ("log.dirs", &directory.display().to_string()),
        ];
        let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Arc::new(BrokerConfig::from_properties(&properties.into()).unwrap().0);
        let topic_config = |_: &str| {
            let topic = TopicConfig::effective(&config, &BTreeMap::new()).unwrap();
            log_config(&topic, &config)
        };
        let logs = LogManagerConfig {
            log_dirs: vec![directory.to_owned()],
            broker_id: 1,
            cluster_id: "c".to_owned(),
            recovery_threads_per_data_dir: 1,
            topic_config: &topic_config,
            progress: &LoadProgress::default(),
        };
        let logs = LogManager::open(logs, Arc::new(StdFileSystem), 0).unwrap();
        let image = MetadataImage::new(ByteString::from_static("c"));
        let configs = ConfigStore::new(1, config.as_ref().clone(), Arc::default());
        let configs = Arc::new(configs);
        let controller = Arc::new(ControllerHandle::default());
        ControlServices {
            replica_manager: ReplicaManager::start(ReplicaManagerParts {
                config,
                logs: Arc::new(logs),
                metadata: Arc::new(ArcSwap::from_pointee(image)),
                controller: Arc::new(ControllerChannel::new(1, watch::channel(None).1)),
                topic_overrides: Arc::new(|_| Arc::default()),
            }),
            admin: Arc::new(Admin::new(controller.clone(), configs.clone())),
            configs,
            config_listener: controller.clone(),
            controller,
        }
    }

    #[tokio::test]
    async fn bug_kafka_7235_a_broker_that_starts_hears_nothing_that_was_meant_for_its_former_life()
    {
        let directory = tempfile::tempdir().unwrap();
        let services = services(directory.path());
        let stamp = Some(ControllerStamp {
            controller_id: 1,
            controller_epoch: 1,
            broker_epoch: 5,
        });
        let leader_and_isr = || {
            services.leader_and_isr(Request::new(LeaderAndIsrRequest {
                stamp,
                ..Default::default()
            }))
        };
        let update_metadata = || {
            services.update_metadata(Request::new(UpdateMetadataRequest {
                stamp,
                ..Default::default()
            }))
        };
        let stop_replica = || {
            services.stop_replica(Request::new(StopReplicaRequest {
                stamp,
                ..Default::default()
            }))
        };
        let codes = [
            leader_and_isr().await.unwrap_err().code(),
            update_metadata().await.unwrap_err().code(),
            stop_replica().await.unwrap_err().code(),
        ];
        assert_eq!(codes, [Code::Unavailable; 3], "it comes again");
        services.replica_manager.set_broker_epoch(7);
        let stale = i32::from(ErrorCode::StaleBrokerEpoch as i16);
        let response = update_metadata().await.unwrap().into_inner();
        assert_eq!(response.error_code, stale);
        let response = stop_replica().await.unwrap().into_inner();
        assert_eq!(response.error_code, stale);
    }
}
