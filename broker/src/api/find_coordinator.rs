//! FindCoordinator (10): there are no group or transaction coordinators yet, and so none is available.

use kafka_wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire::{ByteString, ErrorCode};

use super::RequestContext;

/// From this version on a request may name several keys.
const FIRST_WITH_KEYS: i16 = 4;
/// No broker.
const NO_NODE: i32 = -1;

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let error_code = ErrorCode::CoordinatorNotAvailable as i16;
    let error_message = Some(ByteString::from_static(
        ErrorCode::CoordinatorNotAvailable.message(),
    ));
    if ctx.api_version < FIRST_WITH_KEYS {
        return FindCoordinatorResponse {
            error_code,
            error_message,
            node_id: NO_NODE,
            port: NO_NODE,
            ..FindCoordinatorResponse::default()
        };
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id: NO_NODE,
        port: NO_NODE,
        error_code,
        error_message: error_message.clone(),
        ..Coordinator::default()
    });
    FindCoordinatorResponse {
        coordinators: coordinators.collect(),
        ..FindCoordinatorResponse::default()
    }
}
