//! The fetcher's side of a fetch session (KIP-227): what the leader knows, and what to tell it next.

use std::collections::{HashMap, HashSet};

use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use kafka_wire::{ErrorCode, TopicPartition, Uuid};

use crate::replication::replica::FetchPosition;

/// A session with one leader.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    /// How many requests were made, over all sessions.
    requests: u64,
    /// The epoch of the next request; 0 opens a session.
    epoch: i32,
    /// What the leader holds of each partition, once it was asked.
    sent: HashMap<TopicPartition, Sent>,
    by_id: HashMap<(Uuid, i32), TopicPartition>,
    /// What the next request has to say.
    dirty: HashSet<TopicPartition>,
    forgotten: HashMap<Uuid, Vec<i32>>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    topic_id: Uuid,
    position: Option<FetchPosition>,
    /// The request that said so.
    request: u64,
}

impl FetchSession {
    /// Adds a partition, or says that its position has changed.
    pub(super) fn put(&mut self, partition: TopicPartition, topic_id: Uuid) {
        self.by_id
            .insert((topic_id, partition.partition), partition.clone());
        let sent = self.sent.entry(partition.clone()).or_insert(Sent {
            topic_id,
            position: None,
            request: 0,
        });
        if sent.topic_id != topic_id {
            let old = std::mem::replace(
                sent,
                Sent {
                    topic_id,
                    position: None,
                    request: 0,
                },
            );
            self.by_id.remove(&(old.topic_id, partition.partition));
            self.forgotten
                .entry(old.topic_id)
                .or_default()
                .push(partition.partition);
        }
        self.dirty.insert(partition);
    }

    /// Takes a partition out.
    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.dirty.remove(partition);
        let Some(sent) = self.sent.remove(partition) else {
            return;
        };
        self.by_id.remove(&(sent.topic_id, partition.partition));
        if sent.position.is_some() {
            self.forgotten
                .entry(sent.topic_id)
                .or_default()
                .push(partition.partition);
        }
    }

    /// Which partition an answer speaks of.
    pub(super) fn partition(&self, topic_id: Uuid, index: i32) -> Option<&TopicPartition> {
        self.by_id.get(&(topic_id, index))
    }

    /// From where the request of that number asked for a partition. `None` if a later request has asked
    /// anew: the answer is about another epoch or log then, and the later one will be answered too.
    pub(super) fn position(
        &self,
        partition: &TopicPartition,
        request: u64,
    ) -> Option<FetchPosition> {
        let sent = self.sent.get(partition)?;
        sent.position.filter(|_| sent.request <= request)
    }

    /// The number of the request that was made last.
    pub(super) fn last_request(&self) -> u64 {
        self.requests
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether a request has something to say that the leader does not know.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether the leader has opened the session, so that requests need not wait for each other.
    pub(super) fn is_open(&self) -> bool {
        self.id != 0
    }

    /// The next request names everything and opens a new session.
    pub(super) fn reset(&mut self) {
        (self.id, self.epoch) = (0, 0);
        self.forgotten.clear();
        self.dirty = self.sent.keys().cloned().collect();
        self.sent.values_mut().for_each(|sent| sent.position = None);
    }

    /// The partitions and the session of the next request. `position` tells from where to fetch, or
    /// nothing, if a partition is not to be fetched any more.
    pub(super) fn next_request(
        &mut self,
        partition_max_bytes: i32,
        mut position: impl FnMut(&TopicPartition) -> Option<FetchPosition>,
    ) -> FetchRequest {
        self.requests += 1;
        let mut topics: HashMap<Uuid, Vec<FetchPartition>> = HashMap::new();
        for partition in std::mem::take(&mut self.dirty) {
            let Some(now) = position(&partition) else {
                self.remove(&partition);
                continue;
            };
            let Some(sent) = self.sent.get_mut(&partition) else {
                continue;
            };
            (sent.position, sent.request) = (Some(now), self.requests);
            topics
                .entry(sent.topic_id)
                .or_default()
                .push(FetchPartition {
                    partition: partition.partition,
                    current_leader_epoch: now.leader_epoch,
                    fetch_offset: now.fetch_offset,
                    last_fetched_epoch: now.last_fetched_epoch.unwrap_or(-1),
                    log_start_offset: now.log_start_offset,
                    partition_max_bytes,
                    ..FetchPartition::default()
                });
        }
        let topics = topics.into_iter();
        let topics = topics.map(|(topic_id, partitions)| FetchTopic {
            topic_id,
            partitions,
            ..FetchTopic::default()
        });
        let forgotten = std::mem::take(&mut self.forgotten).into_iter();
        let forgotten = forgotten.map(|(topic_id, partitions)| ForgottenTopic {
            topic_id,
            partitions,
            ..ForgottenTopic::default()
        });
        let request = FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
            ..FetchRequest::default()
        };
        if self.is_open() {
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        }
        request
    }

    /// Takes in the session part of an answer.
    ///
    /// # Errors
    /// The leader does not know the session any more; the next request opens another.
    pub(super) fn answered(&mut self, error_code: i16, session_id: i32) -> Result<(), ErrorCode> {
        let error = ErrorCode::from_code(error_code);
        if !error.is_none() {
            self.reset();
            return Err(error);
        }
        if session_id == 0 {
            // No room for a session at the leader: every request names everything.
            (self.id, self.epoch) = (0, 0);
            self.dirty = self.sent.keys().cloned().collect();
        } else if !self.is_open() {
            (self.id, self.epoch) = (session_id, 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_bytes([1; 16]);

    fn at(fetch_offset: i64) -> FetchPosition {
        FetchPosition {
            leader_epoch: 1,
            fetch_offset,
            last_fetched_epoch: None,
            log_start_offset: 0,
        }
    }

    fn partition(index: i32) -> TopicPartition {
        TopicPartition::new("t", index)
    }

    fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
        let mut asked: Vec<_> = request
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .collect();
        asked.sort_by_key(|partition| partition.partition);
        asked
            .into_iter()
            .map(|partition| (partition.partition, partition.fetch_offset))
            .collect()
    }

    fn open() -> FetchSession {
        let mut session = FetchSession::default();
        session.put(partition(0), ID);
        session.put(partition(1), ID);
        let request = session.next_request(100, |_| Some(at(5)));
        assert_eq!((request.session_id, request.session_epoch), (0, 0));
        assert_eq!(asked(&request), [(0, 5), (1, 5)]);
        session.answered(0, 77).unwrap();
        session
    }

    #[test]
    fn an_open_session_is_told_what_changed() {
        let mut session = open();
        session.put(partition(1), ID);
        let request = session.next_request(100, |_| Some(at(9)));
        assert_eq!((request.session_id, request.session_epoch), (77, 1));
        assert_eq!(asked(&request), [(1, 9)]);
        let request = session.next_request(100, |_| None);
        assert_eq!(request.session_epoch, 2);
        assert!(request.topics.is_empty() && request.forgotten_topics_data.is_empty());
    }

    #[test]
    fn what_is_removed_is_forgotten_by_the_leader() {
        let mut session = open();
        session.remove(&partition(0));
        let request = session.next_request(100, |_| Some(at(9)));
        assert_eq!(request.forgotten_topics_data[0].partitions, [0]);
        assert!(session.partition(ID, 0).is_none());
    }

    #[test]
    fn an_answer_to_an_earlier_request_does_not_pass_for_one_to_a_later() {
        let mut session = open();
        session.put(partition(0), ID);
        session.next_request(100, |_| Some(at(9)));
        assert_eq!(session.last_request(), 2);
        assert_eq!(session.position(&partition(0), 1), None);
        assert_eq!(session.position(&partition(0), 2), Some(at(9)));
        assert_eq!(session.position(&partition(1), 2), Some(at(5)));
    }

    #[test]
    fn what_is_not_followed_any_more_is_not_asked_for() {
        let mut session = open();
        session.put(partition(0), ID);
        let request = session.next_request(100, |_| None);
        assert!(request.topics.is_empty());
        assert_eq!(session.position(&partition(0), 9), None);
    }

    #[test]
    fn a_lost_session_begins_anew_with_everything() {
        let mut session = open();
        let lost = ErrorCode::FetchSessionIdNotFound;
        assert_eq!(session.answered(lost as i16, 0), Err(lost));
        let request = session.next_request(100, |_| Some(at(5)));
        assert_eq!((request.session_id, request.session_epoch), (0, 0));
        assert_eq!(asked(&request).len(), 2);
    }

    #[test]
    fn without_a_session_every_request_names_everything() {
        let mut session = open();
        session.answered(0, 0).unwrap();
        let request = session.next_request(100, |_| Some(at(5)));
        assert_eq!((request.session_id, request.session_epoch), (0, 0));
        assert_eq!(asked(&request).len(), 2);
    }
}
