//! OffsetForLeaderEpoch (23): where a leader epoch ends in the leader's log (KIP-101, KIP-279, KIP-320).

use kafka_wire::ErrorCode;
use kafka_wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use super::{RequestContext, fetch};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            find(ctx, &topic.topic, asked).unwrap_or_else(|error| EpochEndOffset {
                error_code: error as i16,
                partition: asked.partition,
                ..EpochEndOffset::default()
            })
        });
        OffsetForLeaderTopicResult {
            partitions: partitions.collect(),
            topic: topic.topic,
        }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn find(
    ctx: &RequestContext,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let replica = ctx.services.replicas.replica(topic, asked.partition);
    let replica = replica.ok_or_else(|| ctx.services.replicas.missing(topic, asked.partition))?;
    let epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    replica
        .offsets(epoch)
        .map_err(|error| fetch::error_code(&error))?;
    let end = replica.log().end_offset_for_epoch(asked.leader_epoch);
    let (leader_epoch, end_offset) = end.unwrap_or((-1, -1));
    Ok(EpochEndOffset {
        error_code: 0,
        partition: asked.partition,
        leader_epoch,
        end_offset,
    })
}
