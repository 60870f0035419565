//! Fetch sessions (KIP-227): a fetcher names only what changed since its last request, and is told
//! only what changed since its last answer.
//!
//! A session is taken out of the cache for the time of a request and put back with the answer, so a
//! cache behind a mutex is locked twice per fetch and never while data is read.

use std::collections::HashMap;

use kafka_wire::fetch::{FetchPartition, FetchRequest};
use kafka_wire::{ByteString, ErrorCode, Uuid};

/// The session epoch of a request outside of any session.
const FINAL_EPOCH: i32 = -1;
/// The session epoch of a request that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// A session that was idle for so long gives way to any other.
const EVICTION_MS: i64 = 120_000;

/// A partition as the fetcher names it: by id since version 13, by name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchKey {
    /// The topic's name; empty where ids are used.
    pub topic: ByteString,
    /// The topic's id; zero where names are used.
    pub topic_id: Uuid,
    /// The partition's index.
    pub partition: i32,
}

/// A partition that is fetched.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    /// Which.
    pub key: FetchKey,
    /// From where, and how much.
    pub request: FetchPartition,
    answered: Option<Bounds>,
}

/// What the fetcher was told of a partition besides its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// The leader's log start offset.
    pub log_start_offset: i64,
}

impl FetchedPartition {
    /// Whether an answer without records, error or divergence is news to the fetcher.
    pub fn is_news(&self, bounds: Bounds) -> bool {
        self.answered != Some(bounds)
    }

    /// Remembers what the fetcher is told; `None` after an error, which makes anything news.
    pub fn answered(&mut self, bounds: Option<Bounds>) {
        self.answered = bounds;
    }
}

/// The partitions of one fetch, in the order in which they are served.
#[derive(Debug, Default)]
pub struct FetchSession {
    partitions: Vec<FetchedPartition>,
    positions: HashMap<FetchKey, usize>,
    /// Where the next request begins, so that the byte limit of the answer starves nobody.
    start: usize,
}

impl FetchSession {
    /// The partitions, beginning with the one that waited longest for its turn.
    pub fn partitions_mut(&mut self) -> impl Iterator<Item = &mut FetchedPartition> {
        let (late, early) = self.partitions.split_at_mut(self.start);
        early.iter_mut().chain(late)
    }

    /// One of the partitions.
    pub fn partition_mut(&mut self, key: &FetchKey) -> Option<&mut FetchedPartition> {
        self.partitions.get_mut(*self.positions.get(key)?)
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The next request shall begin behind this partition.
    pub fn served_last(&mut self, key: &FetchKey) {
        if let Some(position) = self.positions.get(key) {
            self.start = (position + 1) % self.partitions.len();
        }
    }

    fn put(&mut self, key: FetchKey, request: FetchPartition) {
        match self
            .positions
            .get(&key)
            .and_then(|&position| self.partitions.get_mut(position))
        {
            Some(partition) => partition.request = request,
            None => {
                self.positions.insert(key.clone(), self.partitions.len());
                self.partitions.push(FetchedPartition {
                    key,
                    request,
                    answered: None,
                });
            }
        }
    }

    fn forget(&mut self, key: &FetchKey) {
        let Some(position) = self.positions.remove(key) else {
            return;
        };
        self.partitions.swap_remove(position);
        if let Some(moved) = self.partitions.get(position) {
            self.positions.insert(moved.key.clone(), position);
        }
        self.start = self.start.min(self.partitions.len().saturating_sub(1));
    }

    fn apply(&mut self, request: FetchRequest) {
        for topic in request.forgotten_topics_data {
            for partition in topic.partitions {
                self.forget(&FetchKey {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partition,
                });
            }
        }
        for topic in request.topics {
            for partition in topic.partitions {
                let (topic, topic_id) = (topic.topic.clone(), topic.topic_id);
                self.put(
                    FetchKey {
                        topic,
                        topic_id,
                        partition: partition.partition,
                    },
                    partition,
                );
            }
        }
    }
}

/// One fetch request, between [`FetchSessionCache::begin`] and [`FetchSessionCache::finish`].
#[derive(Debug)]
pub struct FetchContext {
    /// What is fetched.
    pub session: FetchSession,
    /// Whether the answer leaves out what is no news.
    pub incremental: bool,
    id: i32,
}

#[derive(Debug)]
struct Slot {
    /// `None` while a request uses it.
    session: Option<FetchSession>,
    next_epoch: i32,
    by_topic_id: bool,
    follower: bool,
    size: usize,
    last_used_ms: i64,
}

impl Slot {
    /// Followers come first, and who saves more.
    fn value(&self) -> (bool, usize) {
        (self.follower, self.size)
    }
}

/// The sessions of one broker.
#[derive(Debug)]
pub struct FetchSessionCache {
    slots: HashMap<i32, Slot>,
    max_slots: usize,
}

/// How a fetch request presents itself.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher {
    /// Whether the request names topics by id (version 13 and up).
    pub by_topic_id: bool,
    /// Whether it is a follower.
    pub follower: bool,
}

impl FetchSessionCache {
    /// A cache of so many sessions at most (`max.incremental.fetch.session.cache.slots`).
    pub fn new(max_slots: usize) -> FetchSessionCache {
        FetchSessionCache {
            slots: HashMap::new(),
            max_slots,
        }
    }

    /// What a request fetches. `draw` yields random numbers for the id of a new session.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR: the fetcher
    /// begins a new session.
    pub fn begin(
        &mut self,
        now_ms: i64,
        fetcher: Fetcher,
        request: FetchRequest,
        draw: impl FnMut() -> i32,
    ) -> Result<FetchContext, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.slots.remove(&id);
            let mut session = FetchSession::default();
            session.apply(request);
            let id = if epoch == INITIAL_EPOCH {
                self.reserve(now_ms, fetcher, session.len(), draw)
            } else {
                0
            };
            return Ok(FetchContext {
                session,
                incremental: false,
                id,
            });
        }
        let slot = self
            .slots
            .get_mut(&id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if slot.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if slot.by_topic_id != fetcher.by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let mut session = slot
            .session
            .take()
            .ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
        session.apply(request);
        slot.next_epoch = next_epoch(epoch);
        slot.last_used_ms = now_ms;
        slot.size = session.len();
        Ok(FetchContext {
            session,
            incremental: true,
            id,
        })
    }

    /// Puts the session back and says which id the answer carries; 0 for none.
    pub fn finish(&mut self, now_ms: i64, context: FetchContext) -> i32 {
        // A slot that was given away meanwhile: the fetcher begins anew with its next request.
        let Some(slot) = self.slots.get_mut(&context.id) else {
            return 0;
        };
        slot.session = Some(context.session);
        slot.last_used_ms = now_ms;
        context.id
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A slot for a new session, 0 if there is none to spare.
    fn reserve(
        &mut self,
        now_ms: i64,
        fetcher: Fetcher,
        size: usize,
        mut draw: impl FnMut() -> i32,
    ) -> i32 {
        let Fetcher {
            by_topic_id,
            follower,
        } = fetcher;
        let slot = Slot {
            session: None,
            next_epoch: 1,
            by_topic_id,
            follower,
            size,
            last_used_ms: now_ms,
        };
        if size == 0 || (self.slots.len() >= self.max_slots && !self.evict_for(now_ms, &slot)) {
            return 0;
        }
        // The cache is far smaller than the range: a few draws always find a free one.
        let id = (0..64)
            .map(|_| draw() & i32::MAX)
            .find(|id| *id != 0 && !self.slots.contains_key(id));
        let Some(id) = id else { return 0 };
        self.slots.insert(id, slot);
        id
    }

    fn evict_for(&mut self, now_ms: i64, newcomer: &Slot) -> bool {
        let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.last_used_ms);
        let idle =
            oldest.filter(|(_, slot)| now_ms.saturating_sub(slot.last_used_ms) > EVICTION_MS);
        let least = || self.slots.iter().min_by_key(|(_, slot)| slot.value());
        let victim = idle.or_else(|| least().filter(|(_, slot)| slot.value() < newcomer.value()));
        let Some(id) = victim.map(|(&id, _)| id) else {
            return false;
        };
        self.slots.remove(&id).is_some()
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use kafka_wire::fetch::{FetchTopic, ForgottenTopic};

    use super::*;

    const CONSUMER: Fetcher = Fetcher {
        by_topic_id: false,
        follower: false,
    };
    const FOLLOWER: Fetcher = Fetcher {
        by_topic_id: false,
        follower: true,
    };

    fn request(session: (i32, i32), partitions: &[i32], forgotten: &[i32]) -> FetchRequest {
        let topic = ByteString::from_static("t");
        let partition = |&partition: &i32| FetchPartition {
            partition,
            ..FetchPartition::default()
        };
        let partitions: Vec<_> = partitions.iter().map(partition).collect();
        FetchRequest {
            session_id: session.0,
            session_epoch: session.1,
            topics: vec![FetchTopic {
                topic: topic.clone(),
                partitions,
                ..FetchTopic::default()
            }],
            forgotten_topics_data: vec![ForgottenTopic {
                topic,
                partitions: forgotten.to_vec(),
                ..ForgottenTopic::default()
            }],
            ..FetchRequest::default()
        }
    }

    fn order(context: &mut FetchContext) -> Vec<i32> {
        context
            .session
            .partitions_mut()
            .map(|partition| partition.key.partition)
            .collect()
    }

    /// Opens a session with as many partitions as said.
    fn open(
        cache: &mut FetchSessionCache,
        now_ms: i64,
        fetcher: Fetcher,
        partitions: i32,
        id: i32,
    ) -> i32 {
        let all: Vec<i32> = (0..partitions).collect();
        let context = cache
            .begin(now_ms, fetcher, request((0, 0), &all, &[]), || id)
            .unwrap();
        assert!(!context.incremental);
        cache.finish(now_ms, context)
    }

    #[test]
    fn a_session_holds_what_the_fetcher_does_not_repeat() {
        let mut cache = FetchSessionCache::new(10);
        let id = open(&mut cache, 0, CONSUMER, 3, 5);
        assert_eq!(id, 5);
        let mut context = cache
            .begin(1, CONSUMER, request((id, 1), &[3], &[0]), || 0)
            .unwrap();
        assert!(context.incremental);
        let mut partitions = order(&mut context);
        partitions.sort();
        assert_eq!(partitions, [1, 2, 3]);
        assert_eq!(cache.finish(1, context), id);
    }

    #[test]
    fn epochs_follow_each_other_and_wrap_to_one() {
        assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));
        let mut cache = FetchSessionCache::new(10);
        let id = open(&mut cache, 0, CONSUMER, 1, 5);
        let error = |cache: &mut FetchSessionCache, session| {
            cache
                .begin(1, CONSUMER, request(session, &[], &[]), || 0)
                .map(|_| ())
                .unwrap_err()
        };
        assert_eq!(
            error(&mut cache, (id, 2)),
            ErrorCode::InvalidFetchSessionEpoch
        );
        assert_eq!(
            error(&mut cache, (id + 1, 1)),
            ErrorCode::FetchSessionIdNotFound
        );
        let by_id = Fetcher {
            by_topic_id: true,
            follower: false,
        };
        let context = cache.begin(1, by_id, request((id, 1), &[], &[]), || 0);
        assert_eq!(
            context.map(|_| ()).unwrap_err(),
            ErrorCode::FetchSessionTopicIdError
        );
    }

    #[test]
    fn a_session_serves_one_request_at_a_time() {
        let mut cache = FetchSessionCache::new(10);
        let id = open(&mut cache, 0, CONSUMER, 1, 5);
        let _first = cache
            .begin(1, CONSUMER, request((id, 1), &[], &[]), || 0)
            .unwrap();
        let second = cache.begin(1, CONSUMER, request((id, 2), &[], &[]), || 0);
        assert_eq!(
            second.map(|_| ()).unwrap_err(),
            ErrorCode::InvalidFetchSessionEpoch
        );
    }

    #[test]
    fn the_final_epoch_closes_the_session() {
        let mut cache = FetchSessionCache::new(10);
        let id = open(&mut cache, 0, CONSUMER, 1, 5);
        let context = cache
            .begin(1, CONSUMER, request((id, -1), &[0], &[]), || 0)
            .unwrap();
        assert_eq!(cache.finish(1, context), 0);
        assert!(cache.is_empty());
    }

    #[test]
    fn nothing_to_fetch_is_no_session() {
        assert_eq!(open(&mut FetchSessionCache::new(10), 0, CONSUMER, 0, 5), 0);
    }

    #[test]
    fn a_full_cache_gives_way_to_followers_to_larger_ones_and_to_all_after_two_minutes() {
        let mut cache = FetchSessionCache::new(1);
        assert_eq!(open(&mut cache, 0, CONSUMER, 2, 1), 1);
        assert_eq!(open(&mut cache, 0, CONSUMER, 2, 2), 0);
        assert_eq!(open(&mut cache, 0, CONSUMER, 3, 3), 3);
        assert_eq!(open(&mut cache, 0, FOLLOWER, 1, 4), 4);
        assert_eq!(open(&mut cache, EVICTION_MS, CONSUMER, 9, 5), 0);
        assert_eq!(open(&mut cache, EVICTION_MS + 1, CONSUMER, 1, 6), 6);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn news_is_what_differs_from_the_last_answer() {
        let mut cache = FetchSessionCache::new(1);
        let mut context = cache
            .begin(0, CONSUMER, request((0, 0), &[0], &[]), || 1)
            .unwrap();
        let partition = context.session.partitions_mut().next().unwrap();
        let bounds = Bounds {
            high_watermark: 5,
            log_start_offset: 0,
        };
        assert!(partition.is_news(bounds));
        partition.answered(Some(bounds));
        assert!(!partition.is_news(bounds));
        assert!(partition.is_news(Bounds {
            high_watermark: 6,
            ..bounds
        }));
        partition.answered(None);
        assert!(partition.is_news(bounds));
    }

    #[test]
    fn who_was_served_last_waits_longest() {
        let mut cache = FetchSessionCache::new(1);
        let mut context = cache
            .begin(0, CONSUMER, request((0, 0), &[0, 1, 2], &[]), || 1)
            .unwrap();
        assert_eq!(order(&mut context), [0, 1, 2]);
        let key = context.session.partitions_mut().nth(1).unwrap().key.clone();
        context.session.served_last(&key);
        assert_eq!(order(&mut context), [2, 0, 1]);
        context.session.forget(&key);
        assert_eq!(context.session.len(), 2);
        assert_eq!(order(&mut context).len(), 2);
    }
}
