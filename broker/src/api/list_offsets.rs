//! ListOffsets (2): the offset at a timestamp, or at an end of the log.

use kafka_wire::ErrorCode;
use kafka_wire::list_offsets::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP,
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, MAX_TIMESTAMP,
};

use super::{RequestContext, fetch};
use crate::replication::{FetchError, Offsets, Replica};

const UNKNOWN: i64 = -1;
/// KIP-734.
const FIRST_WITH_MAX_TIMESTAMP: i16 = 7;
/// KIP-405.
const FIRST_WITH_LOCAL_TIMESTAMP: i16 = 8;
/// KIP-1005.
const FIRST_WITH_TIERED_TIMESTAMP: i16 = 9;
const READ_COMMITTED: i8 = 1;

/// Who asks, which decides where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Follower,
    Uncommitted,
    Committed,
}

struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: Option<i32>,
}

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let reader = match (request.replica_id, request.isolation_level) {
        (0.., _) => Reader::Follower,
        (_, READ_COMMITTED) => Reader::Committed,
        _ => Reader::Uncommitted,
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| answer(ctx, &topic.name, asked, reader))
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
    reader: Reader,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    match find(ctx, topic, asked, reader) {
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
    reader: Reader,
) -> Result<Found, ErrorCode> {
    if !is_known(asked.timestamp, ctx.api_version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let replica = ctx.services.replicas.replica(topic, asked.partition_index);
    let replica =
        replica.ok_or_else(|| ctx.services.replicas.missing(topic, asked.partition_index))?;
    let epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    let offsets = replica
        .offsets(epoch)
        .map_err(|error| fetch::error_code(&error))?;
    let end = match reader {
        Reader::Follower => offsets.log_end_offset,
        Reader::Uncommitted => offsets.high_watermark,
        Reader::Committed => offsets.last_stable_offset,
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
            check_settled(&offsets, reader)?;
            at(end)
        }
        LATEST_TIERED_TIMESTAMP => Ok(Found {
            timestamp: UNKNOWN,
            offset: UNKNOWN,
            leader_epoch: None,
        }),
        timestamp => {
            let log = replica.log();
            let found = if timestamp == MAX_TIMESTAMP {
                log.max_timestamp_offset()
            } else {
                log.offset_for_timestamp(timestamp)
            };
            let found = found.map_err(|error| {
                tracing::error!(partition = %replica.topic_partition(), %error, "a timestamp was not found");
                fetch::error_code(&FetchError::Read(error.into()))
            })?;
            match found.filter(|found| found.offset < end) {
                Some(found) => Ok(Found {
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: log.epoch_of(found.offset),
                }),
                None => {
                    check_settled(&offsets, reader)?;
                    Ok(Found {
                        timestamp: UNKNOWN,
                        offset: UNKNOWN,
                        leader_epoch: None,
                    })
                }
            }
        }
    }
}

/// Whether this version knows what the timestamp stands for; any that is not negative stands for itself.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        EARLIEST_TIMESTAMP | LATEST_TIMESTAMP | 0.. => true,
        MAX_TIMESTAMP => version >= FIRST_WITH_MAX_TIMESTAMP,
        EARLIEST_LOCAL_TIMESTAMP => version >= FIRST_WITH_LOCAL_TIMESTAMP,
        LATEST_TIERED_TIMESTAMP => version >= FIRST_WITH_TIERED_TIMESTAMP,
        _ => false,
    }
}

/// A new leader whose high watermark has not reached its own epoch might state an end that lies before one
/// that was stated already (KIP-207).
fn check_settled(offsets: &Offsets, reader: Reader) -> Result<(), ErrorCode> {
    if reader != Reader::Follower && offsets.high_watermark < offsets.epoch_start_offset {
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
