//! Topics that are created, extended, or found.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid, valid_topic_name};

use super::context::{Partition, Topic};
use super::event::{
    Action, AdminError, CreatedTopic, MorePartitions, NewTopic, Reply, RequestId, TopicWrite,
    Written,
};
use super::state::ReplicaState;
use super::{Controller, Stage, Step, Strategy};
use crate::assignment::{AssignmentError, Candidate, Placement, assign};
use crate::znode::{PartitionReplicas, TopicNode};

/// A topic's znode that is to be written.
#[derive(Debug)]
pub(super) struct TopicPlan {
    name: ByteString,
    node: TopicNode,
    expected_version: Option<i32>,
    configs: BTreeMap<String, String>,
}

impl TopicPlan {
    /// Writes a known topic as the context has it.
    pub(super) fn known(name: ByteString, topic: &Topic) -> Self {
        Self {
            name,
            node: topic.node(),
            expected_version: Some(topic.version),
            configs: BTreeMap::new(),
        }
    }
}

/// Who is answered once topics are written, and what is known of the answer already.
#[derive(Debug)]
pub(super) enum Answer {
    Nobody,
    Created(
        RequestId,
        Vec<(ByteString, Result<CreatedTopic, AdminError>)>,
    ),
    Extended(RequestId, Vec<(ByteString, Result<(), AdminError>)>),
}

impl Answer {
    fn refuse(&mut self, name: &ByteString, error: AdminError) {
        match self {
            Self::Nobody => {}
            Self::Created(_, results) => {
                results
                    .iter_mut()
                    .filter(|(of, _)| of == name)
                    .for_each(|(_, result)| *result = Err(error.clone()));
            }
            Self::Extended(_, results) => {
                results
                    .iter_mut()
                    .filter(|(of, _)| of == name)
                    .for_each(|(_, result)| *result = Err(error.clone()));
            }
        }
    }

    fn into_step(self) -> Option<Step> {
        match self {
            Self::Nobody => None,
            Self::Created(request, results) => {
                Some(Step::Reply(request, Reply::TopicsCreated(results)))
            }
            Self::Extended(request, results) => {
                Some(Step::Reply(request, Reply::PartitionsCreated(results)))
            }
        }
    }
}

/// Topics that are written together.
#[derive(Debug)]
pub(super) struct TopicWave {
    pub(super) plans: Vec<TopicPlan>,
    pub(super) answer: Answer,
}

impl Controller {
    pub(super) fn create_topics(
        &mut self,
        request: RequestId,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) {
        let (mut plans, mut results) = (Vec::<TopicPlan>::new(), Vec::new());
        for topic in topics {
            let name = topic.name.clone();
            let planned = if plans.iter().any(|plan| plan.name == name) {
                Err(AdminError::new(
                    ErrorCode::InvalidRequest,
                    "Found multiple entries for this topic.",
                ))
            } else {
                self.plan_topic(topic)
            };
            results.push((name, planned.as_ref().map(created).map_err(Clone::clone)));
            plans.extend(planned);
        }
        self.write_or_answer(plans, Answer::Created(request, results), validate_only);
    }

    fn write_or_answer(&mut self, plans: Vec<TopicPlan>, answer: Answer, validate_only: bool) {
        if validate_only || plans.is_empty() {
            self.steps.extend(answer.into_step());
        } else {
            self.steps
                .push_back(Step::WriteTopics(TopicWave { plans, answer }));
        }
    }

    fn plan_topic(&mut self, topic: NewTopic) -> Result<TopicPlan, AdminError> {
        let NewTopic {
            name,
            num_partitions,
            replication_factor,
            assignments,
            configs,
        } = topic;
        valid_topic_name(&name).map_err(|error| {
            AdminError::new(ErrorCode::InvalidTopicException, error.to_string())
        })?;
        self.refuse_existing(&name)?;
        let partitions = if assignments.is_empty() {
            let num_partitions = if num_partitions == -1 {
                self.settings.num_partitions
            } else {
                num_partitions
            };
            let replication_factor = if replication_factor == -1 {
                self.settings.default_replication_factor
            } else {
                replication_factor
            };
            let brokers = self.context.brokers.len().max(1);
            let (start, shift) = (self.random.below(brokers), self.random.below(brokers));
            self.assign(Placement {
                first_partition: 0,
                num_partitions,
                replication_factor,
                start,
                shift,
            })?
        } else {
            if num_partitions != -1 || replication_factor != -1 {
                return Err(AdminError::new(
                    ErrorCode::InvalidRequest,
                    "Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same time.",
                ));
            }
            self.check_assignment(assignments.values())?;
            if !assignments
                .keys()
                .copied()
                .eq((0..).take(assignments.len()))
            {
                return Err(invalid_assignment(
                    "partitions should be a consecutive 0-based integer sequence",
                ));
            }
            assignments
        };
        let partitions = partitions
            .into_iter()
            .map(|(index, replicas)| (index, replicas.into()))
            .collect();
        let node = TopicNode {
            topic_id: Some(self.new_topic_id()),
            partitions,
        };
        Ok(TopicPlan {
            name,
            node,
            expected_version: None,
            configs,
        })
    }

    fn refuse_existing(&self, name: &ByteString) -> Result<(), AdminError> {
        if let Some(topic) = self.context.topics.get(name) {
            let why = if topic.deleting {
                "is marked for deletion"
            } else {
                "already exists"
            };
            return Err(AdminError::new(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' {why}."),
            ));
        }
        // Metrics' names know no '.', so names that differ only there are one.
        let collides = |other: &&ByteString| {
            name.contains(['.', '_']) && other.replace('.', "_") == name.replace('.', "_")
        };
        let colliding: Vec<_> = self
            .context
            .topics
            .keys()
            .filter(collides)
            .map(|other| other.to_string())
            .collect();
        if colliding.is_empty() {
            return Ok(());
        }
        let message = format!(
            "Topic '{name}' collides with existing topics: {}",
            colliding.join(", ")
        );
        Err(AdminError::new(ErrorCode::InvalidTopicException, message))
    }

    fn assign(&self, placement: Placement) -> Result<BTreeMap<i32, Vec<i32>>, AdminError> {
        let of = |(id, broker): (&i32, &super::LiveBroker)| Candidate {
            broker_id: *id,
            rack: broker.registration.rack.clone(),
        };
        let candidates: Vec<_> = self.context.brokers.iter().map(of).collect();
        assign(&candidates, placement).map_err(|error| {
            let code = match error {
                AssignmentError::NoPartitions => ErrorCode::InvalidPartitions,
                AssignmentError::NoReplicas | AssignmentError::TooFewBrokers { .. } => {
                    ErrorCode::InvalidReplicationFactor
                }
            };
            AdminError::new(code, error.to_string())
        })
    }

    /// Replicas that the client chose: distinct brokers that are alive, as many for each partition.
    fn check_assignment<'a>(
        &self,
        assignments: impl Iterator<Item = &'a Vec<i32>>,
    ) -> Result<(), AdminError> {
        let mut count = None;
        let mut unknown = BTreeSet::<i32>::new();
        for replicas in assignments {
            let distinct: BTreeSet<_> = replicas.iter().collect();
            if distinct.len() != replicas.len() {
                return Err(invalid_assignment(format!(
                    "Duplicate replica assignment found: {replicas:?}"
                )));
            }
            if replicas.is_empty() || *count.get_or_insert(replicas.len()) != replicas.len() {
                return Err(invalid_assignment(
                    "All partitions should have the same number of replicas.",
                ));
            }
            unknown.extend(
                replicas
                    .iter()
                    .filter(|id| !self.context.brokers.contains_key(id)),
            );
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<_> = unknown.iter().map(ToString::to_string).collect();
        Err(invalid_assignment(format!(
            "Unknown broker(s) in replica assignment: {}.",
            unknown.join(", ")
        )))
    }

    pub(super) fn create_partitions(
        &mut self,
        request: RequestId,
        topics: Vec<MorePartitions>,
        validate_only: bool,
    ) {
        let (mut plans, mut results) = (Vec::<TopicPlan>::new(), Vec::new());
        for more in topics {
            let name = more.name.clone();
            let planned = if plans.iter().any(|plan| plan.name == name) {
                Err(AdminError::new(
                    ErrorCode::InvalidRequest,
                    "Duplicate topic in request.",
                ))
            } else {
                self.plan_more_partitions(more)
            };
            results.push((name, planned.as_ref().map(|_| ()).map_err(Clone::clone)));
            plans.extend(planned);
        }
        self.write_or_answer(plans, Answer::Extended(request, results), validate_only);
    }

    fn plan_more_partitions(&self, more: MorePartitions) -> Result<TopicPlan, AdminError> {
        let MorePartitions {
            name,
            count,
            assignments,
        } = more;
        let Some(topic) = self.context.topics.get(&name) else {
            let message = format!("The topic '{name}' does not exist.");
            return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        if topic.deleting {
            return Err(AdminError::new(
                ErrorCode::InvalidTopicException,
                "The topic is queued for deletion.",
            ));
        }
        let is_moving = |replicas: &PartitionReplicas| {
            !replicas.adding_replicas.is_empty() || !replicas.removing_replicas.is_empty()
        };
        if topic
            .partitions
            .values()
            .any(|partition| is_moving(&partition.replicas))
        {
            let message =
                format!("A partition reassignment is in progress for the topic '{name}'.");
            return Err(AdminError::new(ErrorCode::ReassignmentInProgress, message));
        }
        let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count < present {
            let message = format!(
                "Topic currently has {present} partitions, which is higher than the requested {count}."
            );
            return Err(AdminError::new(ErrorCode::InvalidPartitions, message));
        }
        if count == present {
            return Err(AdminError::new(
                ErrorCode::InvalidPartitions,
                format!("Topic already has {present} partitions."),
            ));
        }
        let num_partitions = count - present;
        let first = topic
            .partitions
            .values()
            .next()
            .map(|partition| partition.replicas.replicas.clone());
        let first = first.unwrap_or_default();
        let added = match assignments {
            Some(assignments) => {
                if i32::try_from(assignments.len()) != Ok(num_partitions) {
                    return Err(invalid_assignment(format!(
                        "Increasing the number of partitions by {num_partitions} but {} assignments provided.",
                        assignments.len()
                    )));
                }
                self.check_assignment(assignments.iter().chain(std::iter::once(&first)))?;
                (present..).zip(assignments).collect()
            }
            None => {
                // The round goes on where partition 0 began it.
                let start = first
                    .first()
                    .and_then(|leader| self.context.brokers.keys().position(|id| id == leader))
                    .unwrap_or_default();
                let replication_factor = i16::try_from(first.len()).unwrap_or(i16::MAX);
                let first_partition = present;
                self.assign(Placement {
                    first_partition,
                    num_partitions,
                    replication_factor,
                    start,
                    shift: start,
                })?
            }
        };
        let mut plan = TopicPlan::known(name, topic);
        plan.node.partitions.extend(
            added
                .into_iter()
                .map(|(index, replicas)| (index, replicas.into())),
        );
        Ok(plan)
    }

    pub(super) fn write_topics(&mut self, wave: TopicWave) {
        let write = |plan: &TopicPlan| TopicWrite {
            name: plan.name.clone(),
            node: plan.node.clone(),
            expected_version: plan.expected_version,
            configs: plan.configs.clone(),
        };
        self.out
            .push(Action::WriteTopics(wave.plans.iter().map(write).collect()));
        self.stage = Stage::WritingTopics(wave);
    }

    pub(super) fn topics_written(&mut self, wave: TopicWave, results: Vec<(ByteString, Written)>) {
        let TopicWave { plans, mut answer } = wave;
        let mut results: BTreeMap<_, _> = results.into_iter().collect();
        let mut read_again = Vec::new();
        let mut added = BTreeSet::new();
        for plan in plans {
            match results.remove(&plan.name) {
                Some(Written::Done(version)) => {
                    added.extend(self.adopt_topic(&plan.name, plan.node, version))
                }
                Some(Written::Conflict) => {
                    let error = if plan.expected_version.is_none() {
                        let message = format!("Topic '{}' already exists.", plan.name);
                        AdminError::new(ErrorCode::TopicAlreadyExists, message)
                    } else {
                        let message = format!(
                            "Topic '{}' was changed by somebody else: try again.",
                            plan.name
                        );
                        AdminError::new(ErrorCode::InvalidUpdateVersion, message)
                    };
                    answer.refuse(&plan.name, error);
                    read_again.push(plan.name);
                }
                Some(Written::Failed(cause)) => {
                    answer.refuse(
                        &plan.name,
                        AdminError::new(ErrorCode::UnknownServerError, cause.clone()),
                    );
                    self.out.push(Action::Notice(format!(
                        "topic {} cannot be written: {cause}",
                        plan.name
                    )));
                }
                None => {
                    answer.refuse(
                        &plan.name,
                        AdminError::new(ErrorCode::UnknownServerError, "The write was lost."),
                    );
                }
            }
        }
        if !read_again.is_empty() {
            self.steps.push_back(Step::ReadTopics(read_again));
        }
        self.plan_round(Strategy::Heal, added);
        self.steps.extend(answer.into_step());
    }

    /// Takes a topic over as coord holds it; the partitions that were not known.
    fn adopt_topic(
        &mut self,
        name: &ByteString,
        node: TopicNode,
        version: i32,
    ) -> BTreeSet<TopicPartition> {
        let alive = self.context.alive();
        let fresh = || Topic {
            id: Uuid::ZERO,
            version,
            partitions: BTreeMap::new(),
            deleting: false,
        };
        let topic = self
            .context
            .topics
            .entry(name.clone())
            .or_insert_with(fresh);
        topic.version = version;
        topic.id = node.topic_id.unwrap_or(topic.id);
        let mut added = BTreeSet::new();
        for (index, replicas) in node.partitions {
            topic.partitions.entry(index).or_insert_with(|| {
                added.insert(TopicPartition {
                    topic: name.clone(),
                    partition: index,
                });
                let mut partition = Partition::new(replicas);
                for broker_id in partition.replicas.replicas.clone() {
                    let is_alive = alive.registered.contains(&broker_id);
                    let state = if is_alive {
                        ReplicaState::Online
                    } else {
                        ReplicaState::Offline
                    };
                    partition.move_replica_to(broker_id, state);
                }
                partition
            });
        }
        added
    }

    /// The topics that exist: others are read, or forgotten.
    pub(super) fn topic_names_read(&mut self, names: &BTreeSet<ByteString>) {
        let gone: Vec<_> = self
            .context
            .topics
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.forget_topic(&name);
        }
        self.context.unreadable.retain(|name| names.contains(name));
        let found: Vec<_> = names
            .iter()
            .filter(|name| !self.context.topics.contains_key(*name))
            .cloned()
            .collect();
        if !found.is_empty() {
            self.steps.push_back(Step::ReadTopics(found));
        }
    }

    pub(super) fn topics_read(
        &mut self,
        topics: BTreeMap<ByteString, (TopicNode, i32)>,
        unreadable: BTreeSet<ByteString>,
    ) {
        self.context
            .unreadable
            .retain(|name| !topics.contains_key(name));
        self.context.unreadable.extend(unreadable);
        let (mut added, mut nameless) = (BTreeSet::new(), Vec::new());
        for (name, (node, version)) in topics {
            if node.topic_id.is_none() {
                nameless.push(name.clone());
            }
            added.extend(self.adopt_topic(&name, node, version));
        }
        self.give_topic_ids(nameless);
        self.plan_round(Strategy::Heal, added);
    }

    /// Topics that a broker before 2.8 created have no id: they get one.
    pub(super) fn give_topic_ids(&mut self, names: Vec<ByteString>) {
        let mut plans = Vec::new();
        for name in names {
            let id = self.new_topic_id();
            if let Some(topic) = self.context.topics.get_mut(&name) {
                topic.id = id;
                plans.push(TopicPlan::known(name, topic));
            }
        }
        if !plans.is_empty() {
            self.steps.push_back(Step::WriteTopics(TopicWave {
                plans,
                answer: Answer::Nobody,
            }));
        }
    }

    fn new_topic_id(&mut self) -> Uuid {
        let bytes = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        // A random UUID: version 4, variant 1; the top bit stays 0, so that its text never begins with '-'.
        let id = bytes & !(1 << 127) & !(0xf << 76) | 4 << 76;
        let id = id & !(0b11 << 62) | 0b10 << 62;
        Uuid::from_bytes(id.to_be_bytes())
    }
}

fn created(plan: &TopicPlan) -> CreatedTopic {
    let replicas = plan
        .node
        .partitions
        .values()
        .next()
        .map_or(0, |partition| partition.replicas.len());
    CreatedTopic {
        id: plan.node.topic_id.unwrap_or(Uuid::ZERO),
        num_partitions: i32::try_from(plan.node.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
    }
}

fn invalid_assignment(message: impl Into<String>) -> AdminError {
    AdminError::new(ErrorCode::InvalidReplicaAssignment, message)
}
