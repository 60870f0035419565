//! Fetch (1): records, for consumers and followers alike.
//!
//! The answer is a header with gaps and the ranges of files that fill them; no record comes to memory.
//! A fetch that finds too little waits for appends (a follower) or for the high watermark (a
//! consumer), and for at most `max_wait_ms`; it is never polled.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use broker_core::fetch_session::{
    Bounds, FetchContext, FetchKey, FetchSession, FetchedPartition, Fetcher,
};
use broker_core::metadata::MetadataImage;
use broker_core::partition::LeadershipError;
use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_wire::{ApiKey, ErrorCode, Records};
use log::{FileRange, LogError, ReadError, TopicCompression};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{RequestContext, Services, client_endpoint};
use crate::net::Reply;
use crate::replication::{
    FetchError, ReadOutcome, ReadRecords, ReadRequest, Readable, Reader, Replica,
};

/// From this version on a client reads zstd (KIP-110).
const FIRST_WITH_ZSTD: i16 = 10;
/// From this version on topics are named by id.
const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// From this version on a follower tells its broker epoch.
const FIRST_WITH_REPLICA_STATE: i16 = 15;
const READ_COMMITTED: i8 = 1;

/// What holds for a whole request.
struct Terms {
    reader: Reader,
    reads_zstd: bool,
    min_bytes: u32,
    max_bytes: u32,
}

/// What is told about one partition.
struct PartitionAnswer {
    key: FetchKey,
    data: PartitionData,
    range: Option<FileRange>,
    bounds: Option<Bounds>,
}

/// What one look at all partitions found.
#[derive(Default)]
struct Found {
    answers: Vec<PartitionAnswer>,
    bytes: u32,
    /// There is something that the fetcher should know at once.
    urgent: bool,
}

pub(super) async fn answer(mut ctx: RequestContext, mut request: FetchRequest) -> Reply {
    let terms = terms(&ctx, &request);
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
    let fetcher = Fetcher {
        by_topic_id: ctx.api_version >= FIRST_WITH_TOPIC_IDS,
        follower: matches!(terms.reader, Reader::Follower { .. }),
    };
    for topic in &mut request.topics {
        topic.topic = super::owned(&topic.topic);
    }
    let now_ms = ctx.services.clock.now_ms();
    let begun = {
        let mut sessions = ctx
            .services
            .fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.begin(now_ms, fetcher, request, rand::random)
    };
    let mut context = match begun {
        Ok(context) => context,
        Err(error) => {
            let response = FetchResponse {
                error_code: error as i16,
                ..FetchResponse::default()
            };
            return ctx.reply(ApiKey::Fetch, &response, Vec::new());
        }
    };
    let mut found = look(&ctx.services, &mut context, &terms);
    if !max_wait.is_zero() && !found.is_enough(&terms) && !context.session.is_empty() {
        found = wait(&mut ctx, &mut context, &terms, Instant::now() + max_wait).await;
    }
    respond(&ctx, context, found)
}

fn terms(ctx: &RequestContext, request: &FetchRequest) -> Terms {
    let (replica_id, replica_epoch) = if ctx.api_version >= FIRST_WITH_REPLICA_STATE {
        (
            request.replica_state.replica_id,
            request.replica_state.replica_epoch,
        )
    } else {
        (request.replica_id, -1)
    };
    let reader = if replica_id >= 0 {
        Reader::Follower {
            replica_id,
            replica_epoch: (replica_epoch >= 0).then_some(replica_epoch),
        }
    } else {
        Reader::Consumer {
            read_committed: request.isolation_level == READ_COMMITTED,
        }
    };
    let bytes = |bytes: i32| u32::try_from(bytes).unwrap_or_default();
    let max_bytes = match reader {
        Reader::Consumer { .. } => request.max_bytes.min(ctx.services.config.fetch_max_bytes),
        Reader::Follower { .. } => request.max_bytes,
    };
    Terms {
        reader,
        reads_zstd: ctx.api_version >= FIRST_WITH_ZSTD,
        min_bytes: bytes(request.min_bytes.min(max_bytes)),
        max_bytes: bytes(max_bytes),
    }
}

impl Found {
    fn is_enough(&self, terms: &Terms) -> bool {
        self.urgent || self.bytes >= terms.min_bytes
    }
}

/// Looks again whenever something happens, until there is enough, the time is over, or the client has
/// sent its next request, which waits for this one's answer.
async fn wait(
    ctx: &mut RequestContext,
    context: &mut FetchContext,
    terms: &Terms,
    deadline: Instant,
) -> Found {
    let waiter = Arc::new(Notify::new());
    let wanted = match terms.reader {
        // The last stable offset moves with the high watermark, too.
        Reader::Consumer { .. } => Readable::Committed,
        Reader::Follower { .. } => Readable::Appended,
    };
    loop {
        let image = ctx.services.image();
        for partition in context.session.partitions_mut() {
            if let Ok(replica) = resolve(&ctx.services, &image, &partition.key) {
                replica.wait_for_records(&waiter, wanted);
            }
        }
        // What came between the last look and the registration woke nobody.
        let found = look(&ctx.services, context, terms);
        if found.is_enough(terms) {
            return found;
        }
        tokio::select! {
            () = waiter.notified() => {}
            () = tokio::time::sleep_until(deadline) => return found,
            () = ctx.requests.beyond(ctx.request_number) => return found,
        }
    }
}

fn look(services: &Services, context: &mut FetchContext, terms: &Terms) -> Found {
    let image = services.image();
    let incremental = context.incremental;
    let mut found = Found::default();
    for partition in context.session.partitions_mut() {
        let read = resolve(services, &image, &partition.key).and_then(|replica| {
            check_codec(&replica, terms)?;
            read(&replica, partition, terms, &found).map_err(|error| error_code(&error))
        });
        let (data, range, bounds) = match read {
            Ok(outcome) => partition_data(&partition.key, outcome, &mut found),
            Err(error) => {
                found.urgent = true;
                (refusal(&image, &partition.key, error), None, None)
            }
        };
        let silent = range.is_none() && data.diverging_epoch.epoch < 0;
        let known = bounds.is_some_and(|bounds| !partition.is_news(bounds));
        if !(incremental && silent && known) {
            found.answers.push(PartitionAnswer {
                key: partition.key.clone(),
                data,
                range,
                bounds,
            });
        }
    }
    found
}

/// A topic that keeps its records in zstd has nothing for a client that does not know it. What producers chose for
/// themselves is not looked at, as it is not by Kafka.
fn check_codec(replica: &Replica, terms: &Terms) -> Result<(), ErrorCode> {
    if terms.reads_zstd {
        return Ok(());
    }
    match replica.log().config().compression {
        TopicCompression::Codec {
            codec: Compression::Zstd,
            ..
        } => Err(ErrorCode::UnsupportedCompressionType),
        _ => Ok(()),
    }
}

fn read(
    replica: &Arc<Replica>,
    partition: &FetchedPartition,
    terms: &Terms,
    found: &Found,
) -> Result<ReadOutcome, FetchError> {
    let asked = &partition.request;
    let left = terms.max_bytes.saturating_sub(found.bytes);
    replica.read(&ReadRequest {
        reader: terms.reader,
        current_leader_epoch: (asked.current_leader_epoch >= 0)
            .then_some(asked.current_leader_epoch),
        last_fetched_epoch: (asked.last_fetched_epoch >= 0).then_some(asked.last_fetched_epoch),
        fetch_offset: asked.fetch_offset,
        log_start_offset: asked.log_start_offset,
        max_bytes: left.min(u32::try_from(asked.partition_max_bytes).unwrap_or_default()),
        // KIP-74: whoever asks for less than a batch still gets on.
        min_one_batch: found.bytes == 0,
    })
}

fn partition_data(
    key: &FetchKey,
    outcome: ReadOutcome,
    found: &mut Found,
) -> (PartitionData, Option<FileRange>, Option<Bounds>) {
    let ReadOutcome {
        high_watermark,
        last_stable_offset,
        log_start_offset,
        records,
        aborted_transactions,
    } = outcome;
    let mut data = PartitionData {
        partition_index: key.partition,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        aborted_transactions: aborted_transactions.map(|all| {
            let told = all.iter().map(|transaction| AbortedTransaction {
                producer_id: transaction.producer_id,
                first_offset: transaction.first_offset,
            });
            told.collect()
        }),
        records: Records::Inline(Bytes::new()),
        ..PartitionData::default()
    };
    let range = match records {
        // A piece of a batch is of no use to anyone.
        ReadRecords::Found(read) => read.range.filter(|_| !read.first_batch_incomplete),
        ReadRecords::Diverging(end) => {
            found.urgent = true;
            data.diverging_epoch = EpochEndOffset {
                epoch: end.leader_epoch,
                end_offset: end.end_offset,
            };
            None
        }
    };
    if let Some(range) = &range {
        data.records = Records::Deferred { len: range.len };
        found.bytes = found.bytes.saturating_add(range.len);
    }
    (
        data,
        range,
        Some(Bounds {
            high_watermark,
            log_start_offset,
        }),
    )
}

fn resolve(
    services: &Services,
    image: &MetadataImage,
    key: &FetchKey,
) -> Result<Arc<Replica>, ErrorCode> {
    if key.topic_id.is_zero() {
        let replica = services.replicas.replica(&key.topic, key.partition);
        return replica.ok_or_else(|| services.replicas.missing(&key.topic, key.partition));
    }
    let topic = image
        .topic_by_id(key.topic_id)
        .ok_or(ErrorCode::UnknownTopicId)?;
    let replica = services.replicas.replica(&topic.name, key.partition);
    let replica = replica.ok_or_else(|| services.replicas.missing(&topic.name, key.partition))?;
    if replica.topic_id() == key.topic_id {
        Ok(replica)
    } else {
        Err(ErrorCode::InconsistentTopicId)
    }
}

pub(super) fn error_code(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::Leadership(LeadershipError::NotLeader) => ErrorCode::NotLeaderOrFollower,
        FetchError::Leadership(LeadershipError::FencedLeaderEpoch) => ErrorCode::FencedLeaderEpoch,
        // A broker that is no replica here knows of an assignment that has not arrived yet.
        FetchError::Leadership(LeadershipError::UnknownLeaderEpoch)
        | FetchError::NotAReplica(_) => ErrorCode::UnknownLeaderEpoch,
        FetchError::UnknownEpoch(_) | FetchError::Read(ReadError::OffsetOutOfRange { .. }) => {
            ErrorCode::OffsetOutOfRange
        }
        // Not a matter of this replica's disk being gone: to try again brings the same, and the client should say so.
        FetchError::Read(ReadError::Log(LogError::Damaged { .. })) => ErrorCode::CorruptMessage,
        FetchError::Read(ReadError::Log(LogError::UnsupportedFormat(_))) => {
            ErrorCode::UnsupportedForMessageFormat
        }
        FetchError::Read(ReadError::Log(_)) => ErrorCode::KafkaStorageError,
        FetchError::Ended(ended) => ended.code(),
    }
}

fn refusal(image: &MetadataImage, key: &FetchKey, error: ErrorCode) -> PartitionData {
    let mut data = PartitionData {
        partition_index: key.partition,
        error_code: error as i16,
        high_watermark: -1,
        records: Records::Inline(Bytes::new()),
        ..PartitionData::default()
    };
    if matches!(
        error,
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
    ) {
        let by_id = image.topic_by_id(key.topic_id);
        let topic = by_id.or_else(|| image.topic(&key.topic));
        if let Some(state) = topic.and_then(|topic| topic.partitions.get(&key.partition)) {
            let leader_id = state.leader.unwrap_or(-1);
            data.current_leader = LeaderIdAndEpoch {
                leader_id,
                leader_epoch: state.leader_epoch,
            };
        }
    }
    data
}

fn respond(ctx: &RequestContext, mut context: FetchContext, found: Found) -> Reply {
    ctx.services
        .traffic
        .fetched
        .fetch_add(u64::from(found.bytes), Ordering::Relaxed);
    note_answers(&mut context.session, &found.answers);
    let image = ctx.services.image();
    let mut node_endpoints: Vec<NodeEndpoint> = Vec::new();
    let mut topics: Vec<(FetchableTopicResponse, Vec<FileRange>)> = Vec::new();
    let mut positions = HashMap::new();
    for PartitionAnswer {
        key, data, range, ..
    } in found.answers
    {
        let leader = image.brokers().get(&data.current_leader.leader_id);
        if let Some(leader) = leader
            && let Some((host, port)) = client_endpoint(leader)
            && node_endpoints
                .iter()
                .all(|endpoint| endpoint.node_id != leader.id)
        {
            node_endpoints.push(NodeEndpoint {
                node_id: leader.id,
                host,
                port,
                rack: leader.rack.clone(),
            });
        }
        let FetchKey {
            topic, topic_id, ..
        } = key;
        let position = *positions
            .entry((topic.clone(), topic_id))
            .or_insert_with(|| {
                let response = FetchableTopicResponse {
                    topic,
                    topic_id,
                    ..FetchableTopicResponse::default()
                };
                topics.push((response, Vec::new()));
                topics.len() - 1
            });
        if let Some((response, ranges)) = topics.get_mut(position) {
            response.partitions.push(data);
            ranges.extend(range);
        }
    }
    let (responses, ranges): (Vec<_>, Vec<_>) = topics.into_iter().unzip();
    let now_ms = ctx.services.clock.now_ms();
    let session_id = {
        let mut sessions = ctx
            .services
            .fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sessions.finish(now_ms, context)
    };
    let response = FetchResponse {
        session_id,
        responses,
        node_endpoints,
        ..FetchResponse::default()
    };
    ctx.reply(
        ApiKey::Fetch,
        &response,
        ranges.into_iter().flatten().collect(),
    )
}

/// Remembers what the fetcher is told, so that only news is told next.
fn note_answers(session: &mut FetchSession, answers: &[PartitionAnswer]) {
    for answer in answers {
        if let Some(partition) = session.partition_mut(&answer.key) {
            partition.answered(answer.bounds);
        }
    }
    if let Some(last) = answers.iter().rfind(|answer| answer.range.is_some()) {
        session.served_last(&last.key);
    }
}
