//! What brokers ask the controller over the control plane.

use broker_core::controller::{Event, Reply};
use kafka_wire::ErrorCode;
use proto::control::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest,
    AlterPartitionResponse, ControlledShutdownRequest, ControlledShutdownResponse, TopicPartition,
};

use super::convert::{alter_item, alter_result, wire_code};
use super::{ControllerHandle, NotController, ProducerIdsWanted};

impl ControllerHandle {
    /// A leader wants other ISRs.
    pub(crate) async fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> AlterPartitionResponse {
        let refused = |code| AlterPartitionResponse {
            error_code: wire_code(code),
            partitions: Vec::new(),
        };
        let AlterPartitionRequest {
            broker_id,
            broker_epoch,
            partitions,
        } = request;
        let Some(items) = partitions
            .into_iter()
            .map(alter_item)
            .collect::<Option<Vec<_>>>()
        else {
            return refused(ErrorCode::InvalidRequest);
        };
        let event = move |request| Event::AlterPartition {
            request,
            broker_id,
            broker_epoch,
            items,
        };
        match self.ask(event).await {
            Ok(Reply::PartitionsAltered(Ok(results))) => AlterPartitionResponse {
                error_code: 0,
                partitions: results
                    .into_iter()
                    .map(|(tp, result)| alter_result(tp, result))
                    .collect(),
            },
            Ok(Reply::PartitionsAltered(Err(code))) => refused(code),
            Ok(_) => refused(ErrorCode::UnknownServerError),
            Err(NotController) => refused(ErrorCode::NotController),
        }
    }

    /// A broker wants to go.
    pub(crate) async fn controlled_shutdown(
        &self,
        request: ControlledShutdownRequest,
    ) -> ControlledShutdownResponse {
        let refused = |code| ControlledShutdownResponse {
            error_code: wire_code(code),
            remaining: Vec::new(),
        };
        let ControlledShutdownRequest {
            broker_id,
            broker_epoch,
        } = request;
        let event = move |request| Event::ControlledShutdown {
            request,
            broker_id,
            broker_epoch,
        };
        match self.ask(event).await {
            Ok(Reply::MayShutDown(Ok(remaining))) => ControlledShutdownResponse {
                error_code: 0,
                remaining: remaining
                    .into_iter()
                    .map(|tp| TopicPartition {
                        topic: tp.topic.to_string(),
                        partition: tp.partition,
                    })
                    .collect(),
            },
            Ok(Reply::MayShutDown(Err(code))) => refused(code),
            Ok(_) => refused(ErrorCode::UnknownServerError),
            Err(NotController) => refused(ErrorCode::NotController),
        }
    }

    /// A broker wants producer ids to give away.
    pub(crate) async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIdsRequest,
    ) -> AllocateProducerIdsResponse {
        let refused = |code| AllocateProducerIdsResponse {
            error_code: wire_code(code),
            first_producer_id: -1,
            count: 0,
        };
        let AllocateProducerIdsRequest {
            broker_id,
            broker_epoch,
        } = request;
        match self
            .producer_ids(ProducerIdsWanted {
                broker_id,
                broker_epoch,
            })
            .await
        {
            Ok(Ok(block)) => AllocateProducerIdsResponse {
                error_code: 0,
                first_producer_id: block.first_producer_id,
                count: block.count(),
            },
            Ok(Err(code)) => refused(code),
            Err(NotController) => refused(ErrorCode::NotController),
        }
    }
}
