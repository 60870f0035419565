//! CreatePartitions (37): forwarded to the controller.

use kafka_wire::ErrorCode;
use kafka_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::RequestContext;

/// The controller's answer; its error for every topic where there is none.
pub(crate) async fn handle(
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let refused = |code: ErrorCode| {
        let failed = |topic: &kafka_wire::create_partitions::CreatePartitionsTopic| {
            CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code: code as i16,
                error_message: Some(code.message().into()),
            }
        };
        let results = request.topics.iter().map(failed).collect();
        CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        }
    };
    context.forward(&request, refused).await
}
