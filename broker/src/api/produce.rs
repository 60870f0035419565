//! Produce (0): appends record batches.
//!
//! The records are glanced at and never copied, unless the topic keeps them in another codec: they are
//! patched where they were read to and written from there. All appends of a request happen when it is
//! begun, so that the requests of a connection are appended in their order; only the wait for the in-sync
//! replicas comes later.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::compression::Compression;
use kafka_wire::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use kafka_wire::record_batch::{BatchError, BatchHeader};
use kafka_wire::{ApiKey, ByteString, ErrorCode, Records, valid_topic_name};
use log::{AppendError, LogError, ProducerError, RefusedRecord};
use tokio::time::Instant;

use super::{RequestContext, Services, client_endpoint, owned, range_within};
use crate::net::{PendingReply, Reply};
use crate::replication::{ProduceError, Produced, Replica};

/// Wait for all in-sync replicas.
const ACKS_ALL: i16 = -1;
/// Answer when the leader has appended.
const ACKS_LEADER: i16 = 1;
/// Do not answer.
const ACKS_NONE: i16 = 0;
/// From this version on, message sets of format 0 or 1 are refused.
const FIRST_WITH_BATCHES_ONLY: i16 = 3;
/// Before this version zstd is refused.
const FIRST_WITH_ZSTD: i16 = 7;

/// Records for one partition, and where they go.
struct Target {
    index: i32,
    records: Range<usize>,
    replica: Result<Arc<Replica>, ErrorCode>,
}

struct Refused {
    error: ErrorCode,
    message: Option<String>,
    records: Vec<RefusedRecord>,
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Refused {
        Refused {
            error,
            message: None,
            records: Vec::new(),
        }
    }
}

struct Outcome {
    index: i32,
    produced: Result<Produced, Refused>,
}

type ByTopic<T> = Vec<(ByteString, Vec<T>)>;

/// Appends now, and answers when the acks that were asked for are there.
pub(super) fn begin(
    mut context: RequestContext,
    frame: Bytes,
    request: ProduceRequest,
) -> PendingReply {
    let (acks, timeout_ms) = (request.acks, request.timeout_ms);
    let transactional = request.transactional_id.is_some();
    let targets = targets(&context.services, &frame, request);
    // With the last other handle to the frame gone, it can be written to.
    context.client_id = None;
    let mut frame = frame
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let append = |target: Target| {
        let produced = if !matches!(acks, ACKS_ALL | ACKS_LEADER | ACKS_NONE) {
            Err(ErrorCode::InvalidRequiredAcks.into())
        } else if transactional {
            // No partition is part of a transaction before there are transactions.
            Err(ErrorCode::InvalidTxnState.into())
        } else {
            append(
                &context.services,
                &mut frame,
                &target,
                acks == ACKS_ALL,
                context.api_version,
            )
        };
        Outcome {
            index: target.index,
            produced,
        }
    };
    let outcomes = map(targets, append);
    drop(frame);
    if acks == ACKS_NONE {
        return Box::pin(std::future::ready(silence(&outcomes)));
    }
    let deadline =
        Instant::now() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default());
    Box::pin(answer(context, outcomes, deadline))
}

fn map<T, U>(by_topic: ByTopic<T>, mut each: impl FnMut(T) -> U) -> ByTopic<U> {
    by_topic
        .into_iter()
        .map(|(topic, all)| (topic, all.into_iter().map(&mut each).collect()))
        .collect()
}

fn targets(services: &Services, frame: &Bytes, request: ProduceRequest) -> ByTopic<Target> {
    let by_topic = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.into_iter().map(|data| {
            let records = match &data.records {
                Records::Inline(records) => range_within(frame, records).unwrap_or_default(),
                Records::Null | Records::Deferred { .. } => 0..0,
            };
            let replica = services.replicas.replica(&topic.name, data.index);
            let replica = replica.ok_or_else(|| match valid_topic_name(&topic.name) {
                Ok(()) => services.replicas.missing(&topic.name, data.index),
                Err(_) => ErrorCode::InvalidTopicException,
            });
            Target {
                index: data.index,
                records,
                replica,
            }
        });
        (owned(&topic.name), partitions.collect())
    });
    by_topic.collect()
}

fn append(
    services: &Services,
    frame: &mut BytesMut,
    target: &Target,
    acks_all: bool,
    api_version: i16,
) -> Result<Produced, Refused> {
    let replica = target.replica.as_ref().map_err(|error| *error)?;
    let records = frame.get_mut(target.records.clone()).unwrap_or_default();
    check_header(records, api_version)?;
    let produced = replica
        .append_as_leader(records, acks_all)
        .map_err(|error| {
            let code = error_code(&error);
            let partition = replica.topic_partition();
            if code == ErrorCode::KafkaStorageError {
                tracing::error!(%partition, %error, "records were not appended");
            } else {
                tracing::debug!(%partition, %error, "records were not appended");
            }
            Refused {
                error: code,
                message: Some(error.to_string()),
                records: match error {
                    ProduceError::Append(AppendError::RefusedRecords(refused)) => refused.told,
                    _ => Vec::new(),
                },
            }
        })?;
    services
        .traffic
        .produced
        .fetch_add(produced.info.size as u64, Ordering::Relaxed);
    Ok(produced)
}

/// What the version of the request, or the lack of a transactional id, does not allow. What is no batch at all is told by
/// the log.
fn check_header(records: &[u8], api_version: i16) -> Result<(), ErrorCode> {
    match BatchHeader::parse(records) {
        // Whoever may not say whose transaction it is does not open one either (CVE-2018-17196).
        Ok(header) if header.attributes.is_transactional() => {
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        }
        // KIP-110: its consumers may be as old as the producer.
        Ok(header)
            if api_version < FIRST_WITH_ZSTD
                && header.attributes.compression() == Ok(Compression::Zstd) =>
        {
            Err(ErrorCode::UnsupportedCompressionType)
        }
        Err(BatchError::UnsupportedMagic(_)) if api_version >= FIRST_WITH_BATCHES_ONLY => {
            Err(ErrorCode::InvalidRecord)
        }
        _ => Ok(()),
    }
}

fn error_code(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::Leadership(_) => ErrorCode::NotLeaderOrFollower,
        ProduceError::Ended(ended) => ended.code(),
        ProduceError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        ProduceError::Append(error) => match error {
            AppendError::Corrupt(_) => ErrorCode::CorruptMessage,
            AppendError::InvalidRecord(_) => ErrorCode::InvalidRecord,
            AppendError::RefusedRecords(refused) if !refused.by_timestamp => {
                ErrorCode::InvalidRecord
            }
            AppendError::RefusedRecords(_) | AppendError::InvalidTimestamp => {
                ErrorCode::InvalidTimestamp
            }
            AppendError::UnsupportedForMessageFormat { .. }
            | AppendError::Log(LogError::UnsupportedFormat(_)) => {
                ErrorCode::UnsupportedForMessageFormat
            }
            AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
            AppendError::Producer(error) => match error {
                ProducerError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
                ProducerError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                ProducerError::OutsideTransaction { .. } => ErrorCode::InvalidTxnState,
                ProducerError::StaleCoordinator { .. } => ErrorCode::TransactionCoordinatorFenced,
            },
            AppendError::UnexpectedOffset { .. } => ErrorCode::UnknownServerError,
            AppendError::Log(_) => ErrorCode::KafkaStorageError,
        },
    }
}

/// A producer that wants no answer learns of an error by the end of its connection.
fn silence(outcomes: &ByTopic<Outcome>) -> Reply {
    let mut failed = outcomes
        .iter()
        .flat_map(|(topic, of_topic)| of_topic.iter().map(move |outcome| (topic, outcome)));
    let failed = failed.find_map(|(topic, outcome)| {
        Some((topic, outcome.index, outcome.produced.as_ref().err()?))
    });
    match failed {
        None => Reply::Silence,
        Some((topic, index, refused)) => Reply::Close(format!(
            "a produce request with acks=0 to {topic}-{index}: {}",
            refused.error.name()
        )),
    }
}

async fn answer(context: RequestContext, outcomes: ByTopic<Outcome>, deadline: Instant) -> Reply {
    let mut response = ProduceResponse::default();
    for (topic, of_topic) in outcomes {
        let mut partition_responses = Vec::with_capacity(of_topic.len());
        for Outcome { index, produced } in of_topic {
            let outcome = match produced {
                Ok(produced) => committed(produced, deadline).await,
                Err(refused) => Err(refused),
            };
            partition_responses.push(match outcome {
                Ok(produced) => PartitionProduceResponse {
                    index,
                    base_offset: produced.info.first_offset,
                    log_append_time_ms: produced.info.log_append_time_ms.unwrap_or(-1),
                    log_start_offset: produced.log_start_offset,
                    ..PartitionProduceResponse::default()
                },
                Err(refused) => refusal(
                    &context,
                    &topic,
                    index,
                    refused,
                    &mut response.node_endpoints,
                ),
            });
        }
        response.responses.push(TopicProduceResponse {
            name: topic,
            partition_responses,
        });
    }
    context.reply(ApiKey::Produce, &response, Vec::new())
}

async fn committed(mut produced: Produced, deadline: Instant) -> Result<Produced, Refused> {
    let Some(committed) = produced.committed.take() else {
        return Ok(produced);
    };
    match tokio::time::timeout_at(deadline, committed).await {
        Ok(Ok(Ok(()))) => Ok(produced),
        Ok(Ok(Err(error))) => Err(error.into()),
        Ok(Err(_gone)) => Err(ErrorCode::NotLeaderOrFollower.into()),
        Err(_elapsed) => Err(ErrorCode::RequestTimedOut.into()),
    }
}

fn record_errors(refused: Vec<RefusedRecord>) -> Vec<BatchIndexAndErrorMessage> {
    let told = refused.into_iter().map(|record| BatchIndexAndErrorMessage {
        batch_index: record.batch_index,
        batch_index_error_message: Some(ByteString::from(record.message)),
    });
    told.collect()
}

fn refusal(
    context: &RequestContext,
    topic: &str,
    index: i32,
    refused: Refused,
    endpoints: &mut Vec<NodeEndpoint>,
) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse {
        index,
        error_code: refused.error as i16,
        base_offset: -1,
        log_start_offset: -1,
        record_errors: record_errors(refused.records),
        error_message: refused.message.map(ByteString::from),
        ..PartitionProduceResponse::default()
    };
    if refused.error == ErrorCode::NotLeaderOrFollower {
        // KIP-951: so that the producer need not ask for metadata.
        let image = context.services.image();
        let state = image.partition(topic, index);
        if let Some((state, leader)) =
            state.and_then(|state| Some((state, image.brokers().get(&state.leader?)?)))
        {
            response.current_leader = LeaderIdAndEpoch {
                leader_id: leader.id,
                leader_epoch: state.leader_epoch,
            };
            if let Some((host, port)) = client_endpoint(leader)
                && endpoints
                    .iter()
                    .all(|endpoint| endpoint.node_id != leader.id)
            {
                endpoints.push(NodeEndpoint {
                    node_id: leader.id,
                    host,
                    port,
                    rack: leader.rack.clone(),
                });
            }
        }
    }
    response
}
