//! DeleteRecords (21): nothing below an offset is to be read any more (KIP-107).
//!
//! The leader moves the start of its log at once; the answer waits until the followers have done so too, for one that is
//! elected meanwhile would bring the records back. The segments go with the next look at retention.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tokio::time::Instant;

use super::RequestContext;
use super::metadata::INTERNAL_TOPICS;
use crate::replication::{DeleteRecordsError, Reached, Replica};

const NO_LOW_WATERMARK: i64 = -1;

/// A log whose start was moved, and what to wait for.
struct Begun {
    replica: Arc<Replica>,
    offset: i64,
    reached: Reached,
}

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let deadline = Instant::now() + timeout;
    let begun: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.iter();
            let begun: Vec<_> = partitions
                .map(|asked| (asked.partition_index, begin(ctx, &topic.name, asked)))
                .collect();
            (topic.name, begun)
        })
        .collect();
    let mut response = DeleteRecordsResponse::default();
    for (name, of_topic) in begun {
        let mut partitions = Vec::with_capacity(of_topic.len());
        for (partition_index, begun) in of_topic {
            let outcome = match begun {
                Ok(begun) => low_watermark(begun, deadline).await,
                Err(error) => Err(error),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index,
                low_watermark: outcome.unwrap_or(NO_LOW_WATERMARK),
                error_code: outcome.err().unwrap_or(ErrorCode::None) as i16,
            });
        }
        response
            .topics
            .push(DeleteRecordsTopicResult { name, partitions });
    }
    response
}

fn begin(
    ctx: &RequestContext,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<Begun, ErrorCode> {
    if INTERNAL_TOPICS.contains(&topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let index = asked.partition_index;
    let replica = ctx.services.replicas.replica(topic, index);
    let replica = replica.ok_or_else(|| ctx.services.replicas.missing(topic, index))?;
    let begun = replica.delete_records(asked.offset);
    let (offset, reached) = begun.map_err(|error| match error {
        DeleteRecordsError::Ended(ended) => ended.code(),
        DeleteRecordsError::Leadership(_) => ErrorCode::NotLeaderOrFollower,
        DeleteRecordsError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::PolicyViolation => ErrorCode::PolicyViolation,
        DeleteRecordsError::Log(_) => ErrorCode::KafkaStorageError,
    })?;
    Ok(Begun {
        replica,
        offset,
        reached,
    })
}

async fn low_watermark(begun: Begun, deadline: Instant) -> Result<i64, ErrorCode> {
    let Begun {
        replica,
        offset,
        reached,
    } = begun;
    match tokio::time::timeout_at(deadline, reached).await {
        Ok(Ok(outcome)) => outcome?,
        Ok(Err(_gone)) => return Err(ErrorCode::NotLeaderOrFollower),
        Err(_elapsed) => return Err(ErrorCode::RequestTimedOut),
    }
    // Where it has lost its leadership since, it was at least there.
    let low_watermark = replica.inspect(|core| core.low_watermark());
    Ok(low_watermark.map_or(offset, |low_watermark| low_watermark.max(offset)))
}
