//! DescribeCluster (60): the brokers, and who controls them.

use kafka_wire::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use kafka_wire::{ByteString, ErrorCode};

use super::{RequestContext, client_endpoint};

/// The request asks for brokers, and not for the controllers of a later Kafka.
const ENDPOINT_TYPE_BROKERS: i8 = 1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_TYPE_BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::UnsupportedVersion as i16,
            error_message: Some(ByteString::from_static(
                "this cluster has no controllers but its brokers",
            )),
            ..DescribeClusterResponse::default()
        };
    }
    let image = ctx.services.image();
    let brokers = image.brokers().values().filter_map(|broker| {
        let (host, port) = client_endpoint(broker)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host,
            port,
            rack: broker.rack.clone(),
        })
    });
    DescribeClusterResponse {
        cluster_id: image.cluster_id().clone(),
        controller_id: image.controller_id().unwrap_or(-1),
        brokers: brokers.collect(),
        ..DescribeClusterResponse::default()
    }
}
