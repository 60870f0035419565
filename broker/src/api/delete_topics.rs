//! DeleteTopics (20): forwarded to the controller.

use kafka_wire::ErrorCode;
use kafka_wire::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use super::RequestContext;

/// The controller's answer; its error for every topic where there is none.
pub(crate) async fn handle(
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let refused = |code: ErrorCode| {
        let failed = |name, topic_id| DeletableTopicResult {
            name,
            topic_id,
            error_code: code as i16,
            error_message: Some(code.message().into()),
        };
        let by_state = request
            .topics
            .iter()
            .map(|topic| failed(topic.name.clone(), topic.topic_id));
        let by_name = request
            .topic_names
            .iter()
            .map(|name| failed(Some(name.clone()), kafka_wire::Uuid::ZERO));
        DeleteTopicsResponse {
            responses: by_state.chain(by_name).collect(),
            ..DeleteTopicsResponse::default()
        }
    };
    context.forward(&request, refused).await
}
