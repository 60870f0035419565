//! InitProducerId (22): an id for an idempotent producer. Ids come from the controller in blocks.

use std::ops::Range;

use kafka_wire::ErrorCode;
use kafka_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::RequestContext;
use crate::control::ControllerChannel;

/// The rest of the block that this broker has.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    block: tokio::sync::Mutex<Range<i64>>,
}

impl ProducerIds {
    async fn next(&self, controller: &ControllerChannel) -> Result<i64, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = controller.allocate_producer_ids().await?;
        }
        block.next().ok_or(ErrorCode::UnknownServerError)
    }
}

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |error: ErrorCode| InitProducerIdResponse {
        error_code: error as i16,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    match request.transactional_id.as_deref() {
        None => {}
        Some("") => return refused(ErrorCode::InvalidRequest),
        // Transactions come with their coordinator.
        Some(_) => return refused(ErrorCode::CoordinatorNotAvailable),
    }
    match ctx
        .services
        .producer_ids
        .next(&ctx.services.controller)
        .await
    {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(error) => {
            tracing::info!(error = error.name(), "no producer ids from the controller");
            // What a producer retries until the controller is there.
            refused(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}
