//! ListOffsets (2): the offset at a timestamp, or at an end of the log.

use kafka_wire::ErrorCode;
use kafka_wire::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

use super::{RequestContext, fetch};
use crate::replication::{Offsets, Replica};

const UNKNOWN: i64 = -1;

struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: Option<i32>,
}

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let follower = request.replica_id >= 0;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| answer(ctx, &topic.name, asked, follower))
            .collect();
        ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        }
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..ListOffsetsResponse::default()
    }
}

fn answer(
    ctx: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    follower: bool,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    match find(ctx, topic, asked, follower) {
        Ok(found) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: found.leader_epoch.unwrap_or(-1),
            old_style_offsets: if ctx.api_version == 0 {
                vec![found.offset]
            } else {
                Vec::new()
            },
            ..response
        },
        Err(error) => ListOffsetsPartitionResponse {
            error_code: error as i16,
            ..response
        },
    }
}

fn find(
    ctx: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    follower: bool,
) -> Result<Found, ErrorCode> {
    let replica = ctx.services.replicas.replica(topic, asked.partition_index);
    let replica = replica
        .ok_or_else(|| fetch::missing(&ctx.services.image(), topic, asked.partition_index))?;
    let epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    let offsets = replica
        .offsets(epoch)
        .map_err(|error| fetch::error_code(&error))?;
    let end = if follower {
        offsets.log_end_offset
    } else {
        offsets.high_watermark
    };
    let at = |offset| {
        let leader_epoch = epoch_before(&replica, offset);
        Ok(Found {
            timestamp: UNKNOWN,
            offset,
            leader_epoch,
        })
    };
    match asked.timestamp {
        EARLIEST_TIMESTAMP | EARLIEST_LOCAL_TIMESTAMP => at(offsets.log_start_offset),
        LATEST_TIMESTAMP => {
            check_settled(&offsets, follower)?;
            at(end)
        }
        LATEST_TIERED_TIMESTAMP => Ok(Found {
            timestamp: UNKNOWN,
            offset: UNKNOWN,
            leader_epoch: None,
        }),
        timestamp => {
            check_settled(&offsets, follower)?;
            let log = replica.log();
            let found = if timestamp == MAX_TIMESTAMP {
                log.max_timestamp_offset()
            } else {
                log.offset_for_timestamp(timestamp)
            };
            let found = found.map_err(|error| {
                tracing::error!(partition = %replica.topic_partition(), %error, "a timestamp was not found");
                ErrorCode::KafkaStorageError
            })?;
            Ok(match found.filter(|found| found.offset < end) {
                Some(found) => Found {
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: log.epoch_of(found.offset),
                },
                None => Found {
                    timestamp: UNKNOWN,
                    offset: UNKNOWN,
                    leader_epoch: None,
                },
            })
        }
    }
}

/// A new leader whose high watermark has not reached its own epoch might state an end that lies before one
/// that was stated already (KIP-207).
fn check_settled(offsets: &Offsets, follower: bool) -> Result<(), ErrorCode> {
    if !follower && offsets.high_watermark < offsets.epoch_start_offset {
        return Err(ErrorCode::OffsetNotAvailable);
    }
    Ok(())
}

/// The epoch of the record at that offset, or, at the end, of the last one.
fn epoch_before(replica: &Replica, offset: i64) -> Option<i32> {
    let log = replica.log();
    if offset < log.log_end_offset() {
        log.epoch_of(offset)
    } else {
        log.latest_epoch()
    }
}
