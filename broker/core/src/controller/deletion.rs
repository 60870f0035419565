//! The deletion of topics: their replicas first, then their znodes.
//!
//! The request lies in coord until the end, so a new controller begins again where it must. A
//! replica whose broker is not alive waits for it; the topic's name stays taken meanwhile.

use std::collections::BTreeSet;

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid};

use super::batch::{EPOCH_DURING_DELETION, StopReplica};
use super::event::{Action, AdminError, DeletedTopic, Reply, RequestId, TopicRef, Written};
use super::state::{PartitionState, ReplicaState};
use super::{Controller, Stage, Step};

/// A client that asked for topics to be deleted.
#[derive(Debug)]
pub(super) struct Deletion {
    request: RequestId,
    results: Vec<DeletedTopic>,
    /// The topics that are not gone yet.
    awaited: BTreeSet<ByteString>,
}

/// The clients that wait until topics are gone.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    waiting: Vec<Deletion>,
}

impl Controller {
    pub(super) fn delete_topics(&mut self, request: RequestId, topics: Vec<TopicRef>) {
        let mut results = Vec::new();
        let mut awaited = BTreeSet::new();
        for topic in topics {
            let found = self.find(&topic);
            if let Ok((name, _)) = &found {
                awaited.insert(name.clone());
            }
            results.push((topic, found));
        }
        let deletion = Deletion {
            request,
            results,
            awaited,
        };
        if deletion.awaited.is_empty() {
            self.steps
                .push_back(Step::Reply(request, Reply::TopicsDeleted(deletion.results)));
        } else {
            self.steps.push_back(Step::RequestDeletions(deletion));
        }
    }

    fn find(&self, topic: &TopicRef) -> Result<(ByteString, Uuid), AdminError> {
        let unknown = |code: ErrorCode| AdminError::new(code, code.message());
        let name = match topic {
            TopicRef::Name(name) => Some(name).ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => self
                .context
                .topic_by_id(*id)
                .ok_or(ErrorCode::UnknownTopicId),
        };
        let name = name.map_err(unknown)?;
        let known = self
            .context
            .topics
            .get(name)
            .ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?;
        if !self.settings.delete_topic_enable {
            return Err(AdminError::new(
                ErrorCode::TopicDeletionDisabled,
                "Topic deletion is disabled.",
            ));
        }
        Ok((name.clone(), known.id))
    }

    pub(super) fn request_deletions(&mut self, deletion: Deletion) {
        self.out.push(Action::RequestDeletions(
            deletion.awaited.iter().cloned().collect(),
        ));
        self.stage = Stage::RequestingDeletions(deletion);
    }

    pub(super) fn deletions_written(
        &mut self,
        mut deletion: Deletion,
        results: Vec<(ByteString, Written)>,
    ) {
        for (name, written) in results {
            // A conflict says that the topic was to be deleted already.
            if let Written::Failed(cause) = written {
                deletion.awaited.remove(&name);
                for (_, result) in &mut deletion.results {
                    if result.as_ref().is_ok_and(|(of, _)| *of == name) {
                        *result = Err(AdminError::new(
                            ErrorCode::UnknownServerError,
                            cause.clone(),
                        ));
                    }
                }
            }
        }
        let names: Vec<_> = deletion.awaited.iter().cloned().collect();
        self.deletions.waiting.push(deletion);
        self.mark_for_deletion(&names);
        self.steps.push_back(Step::AdvanceDeletions);
    }

    /// Requests as found in coord; those for topics that do not exist, or may not go, are dropped.
    pub(super) fn deletions_requested(&mut self, names: BTreeSet<ByteString>) {
        let may_go = |name: &ByteString| {
            self.settings.delete_topic_enable && self.context.topics.contains_key(name)
        };
        let (known, unknown): (Vec<_>, Vec<_>) = names.into_iter().partition(may_go);
        if !unknown.is_empty() {
            self.out.push(Action::DropDeletions(unknown));
        }
        self.mark_for_deletion(&known);
        self.steps.push_back(Step::AdvanceDeletions);
    }

    /// From here on nobody is elected for the topics, and clients forget them.
    fn mark_for_deletion(&mut self, names: &[ByteString]) {
        for name in names {
            let Some(topic) = self
                .context
                .topics
                .get_mut(name)
                .filter(|topic| !topic.deleting)
            else {
                continue;
            };
            topic.deleting = true;
            let mut partitions = Vec::new();
            for (index, partition) in &mut topic.partitions {
                partition.move_to(PartitionState::Offline);
                partition.move_to(PartitionState::NonExistent);
                for broker_id in partition.replicas.replicas.clone() {
                    partition.move_replica_to(broker_id, ReplicaState::Offline);
                }
                partitions.push(TopicPartition {
                    topic: name.clone(),
                    partition: *index,
                });
            }
            for tp in partitions {
                self.batch.partition_deleted(&self.context, &tp);
            }
        }
    }

    /// Tells the brokers that are alive to delete what they have, and removes what nobody has any more.
    pub(super) fn advance_deletions(&mut self) {
        let mut finished = Vec::new();
        for (name, topic) in self
            .context
            .topics
            .iter_mut()
            .filter(|(_, topic)| topic.deleting)
        {
            let mut is_finished = true;
            for (index, partition) in &mut topic.partitions {
                for broker_id in partition.replicas.replicas.clone() {
                    if partition.replica_states.get(&broker_id) == Some(&ReplicaState::Offline) {
                        if self.context.brokers.contains_key(&broker_id) {
                            partition.move_replica_to(broker_id, ReplicaState::DeletionStarted);
                            let tp = TopicPartition {
                                topic: name.clone(),
                                partition: *index,
                            };
                            let stop = StopReplica {
                                tp,
                                leader_epoch: EPOCH_DURING_DELETION,
                                delete: true,
                            };
                            self.batch.stop_replica(broker_id, stop);
                        } else {
                            partition.move_replica_to(broker_id, ReplicaState::DeletionIneligible);
                        }
                    }
                }
                is_finished &= partition
                    .replica_states
                    .values()
                    .all(|state| *state == ReplicaState::DeletionSuccessful);
            }
            if is_finished {
                finished.push(name.clone());
            }
        }
        if !finished.is_empty() {
            self.steps.push_back(Step::RemoveTopics(finished));
        }
        self.answer_deletions();
    }

    /// What a broker answered to the request to delete replicas.
    pub(super) fn replicas_deleted(&mut self, broker_id: i32, replicas: &[(TopicPartition, bool)]) {
        for (tp, is_gone) in replicas {
            let Some(partition) = self.context.partition_mut(tp) else {
                continue;
            };
            if partition.replica_states.get(&broker_id) == Some(&ReplicaState::DeletionStarted) {
                let state = if *is_gone {
                    ReplicaState::DeletionSuccessful
                } else {
                    ReplicaState::DeletionIneligible
                };
                partition.move_replica_to(broker_id, state);
            }
        }
        self.steps.push_back(Step::AdvanceDeletions);
    }

    pub(super) fn remove_topics(&mut self, names: Vec<ByteString>) {
        let partitions = |name: &ByteString| {
            let topic = self.context.topics.get(name);
            topic
                .map(|topic| topic.partitions.keys().copied().collect())
                .unwrap_or_default()
        };
        let removals = names
            .into_iter()
            .map(|name| (name.clone(), partitions(&name)))
            .collect();
        self.out.push(Action::RemoveTopics(removals));
        self.stage = Stage::RemovingTopics;
    }

    pub(super) fn topics_removed(&mut self, results: Vec<(ByteString, Written)>) {
        for (name, written) in results {
            match written {
                Written::Done(_) | Written::Conflict => self.context.remove_topic(&name),
                Written::Failed(cause) => {
                    self.out.push(Action::Notice(format!(
                        "topic {name} cannot be removed from coord: {cause}"
                    )));
                }
            }
        }
        self.answer_deletions();
    }

    /// Somebody else removed the topic's znode.
    pub(super) fn forget_topic(&mut self, name: &ByteString) {
        self.mark_for_deletion(std::slice::from_ref(name));
        self.context.remove_topic(name);
        self.answer_deletions();
    }

    /// Answers clients whose topics are gone, or wait for brokers that may never come back.
    fn answer_deletions(&mut self) {
        let topics = &self.context.topics;
        let is_awaited = |name: &ByteString| {
            topics.get(name).is_some_and(|topic| {
                let mut states = topic
                    .partitions
                    .values()
                    .flat_map(|partition| partition.replica_states.values());
                !states.any(|state| *state == ReplicaState::DeletionIneligible)
            })
        };
        for deletion in &mut self.deletions.waiting {
            deletion.awaited.retain(is_awaited);
        }
        for deletion in self
            .deletions
            .waiting
            .extract_if(.., |deletion| deletion.awaited.is_empty())
        {
            self.replies
                .push((deletion.request, Reply::TopicsDeleted(deletion.results)));
        }
    }
}
