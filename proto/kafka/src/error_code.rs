//! The protocol's error codes.

use std::fmt;

macro_rules! error_codes {
    ($($name:ident $kafka_name:ident = $code:literal $($retriable:ident)?, $message:literal;)+) => {
        /// What an error code means. Codes that later versions of Kafka added are read as
        /// [`ErrorCode::UnknownServerError`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $name = $code,
            )+
        }

        impl ErrorCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)+];

            /// The meaning of a code from the wire.
            pub fn from_code(code: i16) -> Self {
                match code {
                    $($code => ErrorCode::$name,)+
                    _ => ErrorCode::UnknownServerError,
                }
            }

            /// Kafka's name, such as `NOT_CONTROLLER`.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => stringify!($kafka_name),)+
                }
            }

            /// What went wrong, as a sentence.
            pub fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)+
                }
            }

            /// Whether the same request may succeed later, or elsewhere after a look at fresh metadata.
            pub fn retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => retriable!($($retriable)?),)+
                }
            }
        }
    };
}

macro_rules! retriable {
    () => {
        false
    };
    (retriable) => {
        true
    };
}

error_codes! {
    UnknownServerError UNKNOWN_SERVER_ERROR = -1, "The server failed in a way that it did not foresee.";
    None NONE = 0, "No error.";
    OffsetOutOfRange OFFSET_OUT_OF_RANGE = 1, "The requested offset is outside of the partition's log.";
    CorruptMessage CORRUPT_MESSAGE = 2 retriable, "The records are corrupt: checksum, size or format is wrong, or a compacted topic's record has no key.";
    UnknownTopicOrPartition UNKNOWN_TOPIC_OR_PARTITION = 3 retriable, "This server does not host this topic-partition.";
    InvalidFetchSize INVALID_FETCH_SIZE = 4, "The fetch size is not valid.";
    LeaderNotAvailable LEADER_NOT_AVAILABLE = 5 retriable, "The partition has no leader at present.";
    NotLeaderOrFollower NOT_LEADER_OR_FOLLOWER = 6 retriable, "The broker is not the leader (or not a replica) of the partition.";
    RequestTimedOut REQUEST_TIMED_OUT = 7 retriable, "The request timed out.";
    BrokerNotAvailable BROKER_NOT_AVAILABLE = 8, "The broker is not available.";
    ReplicaNotAvailable REPLICA_NOT_AVAILABLE = 9 retriable, "The partition's replica is not available on this broker.";
    MessageTooLarge MESSAGE_TOO_LARGE = 10, "The request holds a record batch larger than the server accepts (max.message.bytes).";
    StaleControllerEpoch STALE_CONTROLLER_EPOCH = 11, "The request comes from a controller that was replaced.";
    OffsetMetadataTooLarge OFFSET_METADATA_TOO_LARGE = 12, "The metadata beside a committed offset is too large.";
    NetworkException NETWORK_EXCEPTION = 13 retriable, "The connection was lost before the response came.";
    CoordinatorLoadInProgress COORDINATOR_LOAD_IN_PROGRESS = 14 retriable, "The coordinator is still loading its state.";
    CoordinatorNotAvailable COORDINATOR_NOT_AVAILABLE = 15 retriable, "The coordinator is not available.";
    NotCoordinator NOT_COORDINATOR = 16 retriable, "The broker is not the coordinator of this group or transaction.";
    InvalidTopicException INVALID_TOPIC_EXCEPTION = 17, "The topic's name is not valid, or the operation is not allowed on this topic.";
    RecordListTooLarge RECORD_LIST_TOO_LARGE = 18, "The record batch is larger than the topic's segments (segment.bytes).";
    NotEnoughReplicas NOT_ENOUGH_REPLICAS = 19 retriable, "Fewer replicas are in sync than min.insync.replicas asks for; nothing was written.";
    NotEnoughReplicasAfterAppend NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20 retriable, "The records were written, but to fewer in-sync replicas than min.insync.replicas asks for.";
    InvalidRequiredAcks INVALID_REQUIRED_ACKS = 21, "acks is none of -1, 0 and 1.";
    IllegalGeneration ILLEGAL_GENERATION = 22, "The group's generation is not the one given.";
    InconsistentGroupProtocol INCONSISTENT_GROUP_PROTOCOL = 23, "The member shares no protocol with the other members of its group, or names none.";
    InvalidGroupId INVALID_GROUP_ID = 24, "The group id is not valid.";
    UnknownMemberId UNKNOWN_MEMBER_ID = 25, "The coordinator does not know this member.";
    InvalidSessionTimeout INVALID_SESSION_TIMEOUT = 26, "The session timeout is outside of what the broker allows (group.min.session.timeout.ms, group.max.session.timeout.ms).";
    RebalanceInProgress REBALANCE_IN_PROGRESS = 27, "The group is rebalancing; the member must rejoin.";
    InvalidCommitOffsetSize INVALID_COMMIT_OFFSET_SIZE = 28, "The committed offsets do not fit into one record batch.";
    TopicAuthorizationFailed TOPIC_AUTHORIZATION_FAILED = 29, "Topic authorization failed.";
    GroupAuthorizationFailed GROUP_AUTHORIZATION_FAILED = 30, "Group authorization failed.";
    ClusterAuthorizationFailed CLUSTER_AUTHORIZATION_FAILED = 31, "Cluster authorization failed.";
    InvalidTimestamp INVALID_TIMESTAMP = 32, "A record's timestamp is outside of what the topic allows.";
    UnsupportedSaslMechanism UNSUPPORTED_SASL_MECHANISM = 33, "The broker does not offer this SASL mechanism.";
    IllegalSaslState ILLEGAL_SASL_STATE = 34, "The request does not fit the state of the SASL exchange.";
    UnsupportedVersion UNSUPPORTED_VERSION = 35, "The version of this API is not supported.";
    TopicAlreadyExists TOPIC_ALREADY_EXISTS = 36, "A topic with this name exists already.";
    InvalidPartitions INVALID_PARTITIONS = 37, "The number of partitions is not valid.";
    InvalidReplicationFactor INVALID_REPLICATION_FACTOR = 38, "The replication factor is below 1 or above the number of available brokers.";
    InvalidReplicaAssignment INVALID_REPLICA_ASSIGNMENT = 39, "The replica assignment is not valid.";
    InvalidConfig INVALID_CONFIG = 40, "The configuration is not valid.";
    NotController NOT_CONTROLLER = 41 retriable, "The broker is not the controller.";
    InvalidRequest INVALID_REQUEST = 42, "The request is malformed or contradicts itself; the broker's log says how.";
    UnsupportedForMessageFormat UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, "The topic's message format does not allow the request.";
    PolicyViolation POLICY_VIOLATION = 44, "The request breaks a policy of the cluster.";
    OutOfOrderSequenceNumber OUT_OF_ORDER_SEQUENCE_NUMBER = 45, "The batch's sequence number does not follow the producer's last one.";
    DuplicateSequenceNumber DUPLICATE_SEQUENCE_NUMBER = 46, "The batch was appended before.";
    InvalidProducerEpoch INVALID_PRODUCER_EPOCH = 47, "The producer's epoch is older than the current one.";
    InvalidTxnState INVALID_TXN_STATE = 48, "The transaction's state does not allow the operation.";
    InvalidProducerIdMapping INVALID_PRODUCER_ID_MAPPING = 49, "The producer id is not the one that belongs to the transactional id.";
    InvalidTransactionTimeout INVALID_TRANSACTION_TIMEOUT = 50, "The transaction timeout is larger than the broker allows (transaction.max.timeout.ms).";
    ConcurrentTransactions CONCURRENT_TRANSACTIONS = 51 retriable, "Another operation on this transaction is still under way.";
    TransactionCoordinatorFenced TRANSACTION_COORDINATOR_FENCED = 52, "The transaction coordinator was replaced by a newer one.";
    TransactionalIdAuthorizationFailed TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, "Transactional id authorization failed.";
    SecurityDisabled SECURITY_DISABLED = 54, "Security is not enabled.";
    OperationNotAttempted OPERATION_NOT_ATTEMPTED = 55, "The operation was not tried, because another one of its request failed.";
    KafkaStorageError KAFKA_STORAGE_ERROR = 56 retriable, "The disk that holds the log failed.";
    LogDirNotFound LOG_DIR_NOT_FOUND = 57, "The broker has no such log directory.";
    SaslAuthenticationFailed SASL_AUTHENTICATION_FAILED = 58, "SASL authentication failed.";
    UnknownProducerId UNKNOWN_PRODUCER_ID = 59, "The broker no longer knows this producer id, since its records are gone.";
    ReassignmentInProgress REASSIGNMENT_IN_PROGRESS = 60, "The partition is being reassigned.";
    DelegationTokenAuthDisabled DELEGATION_TOKEN_AUTH_DISABLED = 61, "Delegation tokens are not enabled.";
    DelegationTokenNotFound DELEGATION_TOKEN_NOT_FOUND = 62, "The server has no such delegation token.";
    DelegationTokenOwnerMismatch DELEGATION_TOKEN_OWNER_MISMATCH = 63, "The delegation token belongs to someone else.";
    DelegationTokenRequestNotAllowed DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, "Delegation tokens cannot be asked for on this kind of connection.";
    DelegationTokenAuthorizationFailed DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, "Delegation token authorization failed.";
    DelegationTokenExpired DELEGATION_TOKEN_EXPIRED = 66, "The delegation token has expired.";
    InvalidPrincipalType INVALID_PRINCIPAL_TYPE = 67, "This type of principal is not supported.";
    NonEmptyGroup NON_EMPTY_GROUP = 68, "The group is not empty.";
    GroupIdNotFound GROUP_ID_NOT_FOUND = 69, "The group id does not exist.";
    FetchSessionIdNotFound FETCH_SESSION_ID_NOT_FOUND = 70 retriable, "The broker has no such fetch session.";
    InvalidFetchSessionEpoch INVALID_FETCH_SESSION_EPOCH = 71 retriable, "The fetch session expects another epoch.";
    ListenerNotFound LISTENER_NOT_FOUND = 72 retriable, "The leader has no listener of the name on which the request came.";
    TopicDeletionDisabled TOPIC_DELETION_DISABLED = 73, "Topics cannot be deleted (delete.topic.enable).";
    FencedLeaderEpoch FENCED_LEADER_EPOCH = 74 retriable, "The leader epoch given is older than the broker's.";
    UnknownLeaderEpoch UNKNOWN_LEADER_EPOCH = 75 retriable, "The leader epoch given is newer than the broker's.";
    UnsupportedCompressionType UNSUPPORTED_COMPRESSION_TYPE = 76, "The client's version cannot read the partition's compression.";
    StaleBrokerEpoch STALE_BROKER_EPOCH = 77, "The broker was registered anew since.";
    OffsetNotAvailable OFFSET_NOT_AVAILABLE = 78 retriable, "The new leader does not know yet how far the log is committed.";
    MemberIdRequired MEMBER_ID_REQUIRED = 79, "The member must join again, with the member id given.";
    PreferredLeaderNotAvailable PREFERRED_LEADER_NOT_AVAILABLE = 80 retriable, "The preferred leader is not available.";
    GroupMaxSizeReached GROUP_MAX_SIZE_REACHED = 81, "The group has as many members as it may have.";
    FencedInstanceId FENCED_INSTANCE_ID = 82, "Another member has taken this group.instance.id.";
    EligibleLeadersNotAvailable ELIGIBLE_LEADERS_NOT_AVAILABLE = 83 retriable, "No replica that may become leader is available.";
    ElectionNotNeeded ELECTION_NOT_NEEDED = 84 retriable, "The partition needs no election.";
    NoReassignmentInProgress NO_REASSIGNMENT_IN_PROGRESS = 85, "The partition is not being reassigned.";
    GroupSubscribedToTopic GROUP_SUBSCRIBED_TO_TOPIC = 86, "The group's offsets of this topic are in use, for its members subscribe to it.";
    InvalidRecord INVALID_RECORD = 87, "A record breaks a rule of the topic, so its batch was refused.";
    UnstableOffsetCommit UNSTABLE_OFFSET_COMMIT = 88 retriable, "Offsets are part of a transaction that is not decided yet.";
    ThrottlingQuotaExceeded THROTTLING_QUOTA_EXCEEDED = 89 retriable, "The quota is used up.";
    ProducerFenced PRODUCER_FENCED = 90, "A newer producer has taken this transactional id.";
    ResourceNotFound RESOURCE_NOT_FOUND = 91, "The resource does not exist.";
    DuplicateResource DUPLICATE_RESOURCE = 92, "The request names a resource twice.";
    UnacceptableCredential UNACCEPTABLE_CREDENTIAL = 93, "The credential is not acceptable.";
    InconsistentVoterSet INCONSISTENT_VOTER_SET = 94, "The sender or the receiver is not one of the expected voters.";
    InvalidUpdateVersion INVALID_UPDATE_VERSION = 95, "The update is based on an old version.";
    FeatureUpdateFailed FEATURE_UPDATE_FAILED = 96, "The features could not be updated.";
    PrincipalDeserializationFailure PRINCIPAL_DESERIALIZATION_FAILURE = 97, "The principal of a forwarded request could not be read.";
    SnapshotNotFound SNAPSHOT_NOT_FOUND = 98, "There is no such snapshot.";
    PositionOutOfRange POSITION_OUT_OF_RANGE = 99, "The position is outside of the snapshot.";
    UnknownTopicId UNKNOWN_TOPIC_ID = 100 retriable, "This server does not host this topic id.";
    DuplicateBrokerRegistration DUPLICATE_BROKER_REGISTRATION = 101, "The broker id is in use already.";
    BrokerIdNotRegistered BROKER_ID_NOT_REGISTERED = 102, "The broker id is not registered.";
    InconsistentTopicId INCONSISTENT_TOPIC_ID = 103 retriable, "The log belongs to another topic id.";
    InconsistentClusterId INCONSISTENT_CLUSTER_ID = 104, "The server belongs to another cluster.";
    TransactionalIdNotFound TRANSACTIONAL_ID_NOT_FOUND = 105, "There is no such transactional id.";
    FetchSessionTopicIdError FETCH_SESSION_TOPIC_ID_ERROR = 106 retriable, "The fetch session mixes topic names and topic ids.";
    IneligibleReplica INELIGIBLE_REPLICA = 107, "The new ISR holds a replica that may not be in it.";
    NewLeaderElected NEW_LEADER_ELECTED = 108, "The partition was changed, and got another leader.";
    OffsetMovedToTieredStorage OFFSET_MOVED_TO_TIERED_STORAGE = 109, "The offset is in tiered storage by now.";
    FencedMemberEpoch FENCED_MEMBER_EPOCH = 110, "The coordinator fenced the member's epoch; the member must give up its partitions and rejoin.";
    UnreleasedInstanceId UNRELEASED_INSTANCE_ID = 111, "The instance id is still another member's.";
    UnsupportedAssignor UNSUPPORTED_ASSIGNOR = 112, "The group does not support this assignor.";
    StaleMemberEpoch STALE_MEMBER_EPOCH = 113, "The member's epoch is old; it must learn the new one first.";
    MismatchedEndpointType MISMATCHED_ENDPOINT_TYPE = 114, "The request came to an endpoint of the wrong kind.";
    UnsupportedEndpointType UNSUPPORTED_ENDPOINT_TYPE = 115, "This kind of endpoint is not supported.";
    UnknownControllerId UNKNOWN_CONTROLLER_ID = 116, "There is no such controller.";
    UnknownSubscriptionId UNKNOWN_SUBSCRIPTION_ID = 117, "The telemetry subscription is unknown or outdated.";
    TelemetryTooLarge TELEMETRY_TOO_LARGE = 118, "The telemetry is larger than the broker accepts.";
    InvalidRegistration INVALID_REGISTRATION = 119, "The controller refuses the broker's registration.";
    TransactionAbortable TRANSACTION_ABORTABLE = 120, "The transaction failed; abort it to go on with this transactional id.";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is no error.
    pub fn is_none(self) -> bool {
        self == ErrorCode::None
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 {
        error.code()
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self::from_code(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_run_from_minus_one_without_a_gap() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
        assert_eq!(codes, (-1..=120).collect::<Vec<_>>());
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), *error);
        }
    }

    #[test]
    fn codes_of_the_future_are_unknown_errors() {
        assert_eq!(ErrorCode::from_code(121), ErrorCode::UnknownServerError);
        assert_eq!(
            ErrorCode::from_code(i16::MIN),
            ErrorCode::UnknownServerError
        );
    }

    #[test]
    fn names_and_retries_are_kafkas() {
        assert_eq!(ErrorCode::NotController.name(), "NOT_CONTROLLER");
        assert_eq!(
            ErrorCode::InvalidTopicException.name(),
            "INVALID_TOPIC_EXCEPTION"
        );
        let retriable: Vec<i16> = ErrorCode::ALL
            .iter()
            .filter(|e| e.retriable())
            .map(|e| e.code())
            .collect();
        assert_eq!(
            retriable,
            [
                2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80,
                83, 84, 88, 89, 100, 103, 106
            ]
        );
    }
}
