//! What goes into the controller and what comes out of it: plain data.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid};

use super::batch::BrokerBatch;
use super::context::LiveBroker;
use crate::znode::{PartitionStateNode, TopicNode};

/// Names a caller that waits for a [`Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(
    /// Chosen by the shell.
    pub u64,
);

/// What coord held when the controller was elected.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// By id.
    pub brokers: BTreeMap<i32, LiveBroker>,
    /// The topics with the versions of their znodes.
    pub topics: BTreeMap<ByteString, (TopicNode, i32)>,
    /// The topics whose znodes exist and make no sense.
    pub unreadable: BTreeSet<ByteString>,
    /// The partitions' states with the versions of their znodes.
    pub states: BTreeMap<TopicPartition, (PartitionStateNode, i32)>,
    /// The topics that were asked to be deleted.
    pub deletions: BTreeSet<ByteString>,
}

/// A topic that a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: ByteString,
    /// How many partitions; -1: the default, or as many as are assigned.
    pub num_partitions: i32,
    /// How many replicas; -1: the default, or as many as are assigned.
    pub replication_factor: i16,
    /// The replicas by partition, where the client chose them.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    /// Its overrides, valid.
    pub configs: BTreeMap<String, String>,
}

/// Partitions that a client wants more of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic.
    pub name: ByteString,
    /// How many it shall have.
    pub count: i32,
    /// The replicas of the new ones, where the client chose them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// A topic that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(ByteString),
    /// By id.
    Id(Uuid),
}

/// The ISR that a leader wants for one partition (KIP-497).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterItem {
    /// The partition.
    pub tp: TopicPartition,
    /// The topic's id; zero where the leader does not know it.
    pub topic_id: Uuid,
    /// The epoch under which the leader leads.
    pub leader_epoch: i32,
    /// The version of the state that the leader knows.
    pub partition_epoch: i32,
    /// The ISR that it wants.
    pub new_isr: Vec<i32>,
    /// Whether it is still recovering from an unclean election.
    pub recovering: bool,
}

/// How a write of one znode ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Done; the znode's version now.
    Done(i32),
    /// The znode is not what the controller thought.
    Conflict,
    /// It cannot be written.
    Failed(String),
}

/// Coord refused a write because there is a newer controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// This broker was elected; comes first, and once.
    Elected(Box<Loaded>),
    /// The brokers that are alive, as just read.
    Brokers(BTreeMap<i32, LiveBroker>),
    /// The topics that exist, as just read.
    Topics(BTreeSet<ByteString>),
    /// The topics that were asked to be deleted, as just read.
    DeletionsRequested(BTreeSet<ByteString>),
    /// Unclean elections were allowed, for one topic or (None) by default.
    UncleanElectionEnabled(Option<ByteString>),
    /// A broker answered a request to delete replicas: for each, whether it is gone.
    ReplicasDeleted {
        /// Which broker.
        broker_id: i32,
        /// Which replicas.
        replicas: Vec<(TopicPartition, bool)>,
    },
    /// A log directory of each of these brokers failed; which replicas were in it is for them to say.
    LogDirsFailed(BTreeSet<i32>),
    /// A broker answered LeaderAndIsr: these replicas lie in a log directory that is offline.
    ReplicasOffline {
        /// Which broker.
        broker_id: i32,
        /// Its life.
        broker_epoch: i64,
        /// Which replicas.
        replicas: Vec<TopicPartition>,
    },
    /// Too much waited for that broker, and all of it was given up.
    BrokerLeftBehind(i32),
    /// [`poll_timeout`](super::Controller::poll_timeout) was reached.
    Tick,

    /// A client wants topics.
    CreateTopics {
        /// Who is answered.
        request: RequestId,
        /// The topics.
        topics: Vec<NewTopic>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// A client wants more partitions.
    CreatePartitions {
        /// Who is answered.
        request: RequestId,
        /// The topics.
        topics: Vec<MorePartitions>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// A client wants topics gone.
    DeleteTopics {
        /// Who is answered.
        request: RequestId,
        /// The topics.
        topics: Vec<TopicRef>,
    },
    /// A leader wants other ISRs.
    AlterPartition {
        /// Who is answered.
        request: RequestId,
        /// The leader.
        broker_id: i32,
        /// Its life.
        broker_epoch: i64,
        /// The partitions.
        items: Vec<AlterItem>,
    },
    /// A broker wants to go.
    ControlledShutdown {
        /// Who is answered.
        request: RequestId,
        /// Which one.
        broker_id: i32,
        /// Its life.
        broker_epoch: i64,
    },

    /// Completes [`Action::ReadUnclean`]: the topics that allow it.
    UncleanRead(BTreeSet<ByteString>),
    /// Completes [`Action::WriteStates`].
    StatesWritten(Result<Vec<(TopicPartition, Written)>, Fenced>),
    /// Completes [`Action::ReadStates`].
    StatesRead(BTreeMap<TopicPartition, (PartitionStateNode, i32)>),
    /// Completes [`Action::ReadTopics`].
    TopicsRead {
        /// The topics with the versions of their znodes.
        topics: BTreeMap<ByteString, (TopicNode, i32)>,
        /// Those whose znodes exist and make no sense.
        unreadable: BTreeSet<ByteString>,
    },
    /// Completes [`Action::WriteTopics`].
    TopicsWritten(Result<Vec<(ByteString, Written)>, Fenced>),
    /// Completes [`Action::RequestDeletions`].
    DeletionsWritten(Result<Vec<(ByteString, Written)>, Fenced>),
    /// Completes [`Action::RemoveTopics`].
    TopicsRemoved(Result<Vec<(ByteString, Written)>, Fenced>),
}

/// A partition's state that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// Which partition.
    pub tp: TopicPartition,
    /// Its state.
    pub node: PartitionStateNode,
    /// The version that it must have; None: the znode does not exist yet.
    pub expected_version: Option<i32>,
}

/// A topic that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicWrite {
    /// Its name.
    pub name: ByteString,
    /// Its id and assignment.
    pub node: TopicNode,
    /// The version that it must have; None: the znode does not exist yet.
    pub expected_version: Option<i32>,
    /// The overrides that are written with a new topic.
    pub configs: BTreeMap<String, String>,
}

/// What the shell is to do. Each of the first group is answered by one completion before anything
/// else is handled; each write carries the check of the controller's epoch.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read whether these topics allow unclean elections.
    ReadUnclean(BTreeSet<ByteString>),
    /// Write the states of partitions.
    WriteStates(Vec<StateWrite>),
    /// Read the states of partitions anew.
    ReadStates(Vec<TopicPartition>),
    /// Read these topics.
    ReadTopics(Vec<ByteString>),
    /// Write these topics.
    WriteTopics(Vec<TopicWrite>),
    /// Write the requests to delete these topics, so that the next controller knows of them.
    RequestDeletions(Vec<ByteString>),
    /// Remove these topics (with their number of partitions), their configs and the requests.
    RemoveTopics(Vec<(ByteString, Vec<i32>)>),

    /// Tell one broker, in the order of these actions, until it is told or gone.
    Send {
        /// Which broker, and which life of it.
        broker: LiveBroker,
        /// What.
        batch: BrokerBatch,
    },
    /// Answer a caller, once every broker has acknowledged what was sent so far.
    Reply {
        /// Whom.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Remove the requests to delete topics that do not exist or may not be deleted.
    DropDeletions(Vec<ByteString>),
    /// Tell the operator.
    Notice(String),
    /// There is a newer controller: this one ends.
    Resign,
}

/// Why an admin request was refused for one topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the user reads.
    pub message: String,
}

impl AdminError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// A topic that was created, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub num_partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// The state of a partition, as its leader is told after AlterPartition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlteredPartition {
    /// Leader, ISR and epochs.
    pub node: PartitionStateNode,
    /// The version of the state's znode.
    pub partition_epoch: i32,
}

/// A topic that was to be deleted: as the client named it, and its name and id where it was found.
pub type DeletedTopic = (TopicRef, Result<(ByteString, Uuid), AdminError>);

/// The outcome of AlterPartition for one partition.
pub type AlterResult = (TopicPartition, Result<AlteredPartition, ErrorCode>);

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To CreateTopics, in the order asked.
    TopicsCreated(Vec<(ByteString, Result<CreatedTopic, AdminError>)>),
    /// To CreatePartitions, in the order asked.
    PartitionsCreated(Vec<(ByteString, Result<(), AdminError>)>),
    /// To DeleteTopics, in the order asked: name and id where known.
    TopicsDeleted(Vec<DeletedTopic>),
    /// To AlterPartition.
    PartitionsAltered(Result<Vec<AlterResult>, ErrorCode>),
    /// To ControlledShutdown: the partitions that the broker still leads.
    MayShutDown(Result<Vec<TopicPartition>, ErrorCode>),
}
