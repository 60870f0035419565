//! CreateTopics (19): forwarded to the controller.

use kafka_wire::ErrorCode;
use kafka_wire::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};

use super::RequestContext;

/// The controller's answer; its error for every topic where there is none.
pub(crate) async fn handle(
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let refused = |code: ErrorCode| {
        let failed = |topic: &kafka_wire::create_topics::CreatableTopic| CreatableTopicResult {
            name: topic.name.clone(),
            error_code: code as i16,
            error_message: Some(code.message().into()),
            ..CreatableTopicResult::default()
        };
        let topics = request.topics.iter().map(failed).collect();
        CreateTopicsResponse {
            topics,
            ..CreateTopicsResponse::default()
        }
    };
    context.forward(&request, refused).await
}
