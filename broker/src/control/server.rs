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
use crate::config_store::ConfigStore;
use crate::controller::{Admin, ControllerHandle};
use crate::replication::ReplicaManager;

/// Both services of one broker.
#[derive(Clone)]
pub(crate) struct ControlServices {
    pub(crate) replica_manager: Arc<ReplicaManager>,
    pub(crate) configs: Arc<ConfigStore>,
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
            .load_topics(topics)
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
