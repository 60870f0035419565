//! The APIs of the protocol and what their headers look like.

use std::ops::RangeInclusive;

use crate::Message;

/// Not the key of any API that Kafka 3.9 serves in ZooKeeper mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no API has the key {0}")]
pub struct UnknownApiKey(pub i16);

macro_rules! api_keys {
    ($($name:ident = $key:literal, latest $latest:literal, flexible $flexible:expr;)+) => {
        /// An API of Kafka 3.9 in ZooKeeper mode. Not all of them are served here: see [`ApiKey::versions`].
        #[allow(missing_docs, reason = "the names are Kafka's and say all there is")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)+
        }

        impl ApiKey {
            /// All keys, in the order of their numbers.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name,)+];

            /// The API's name in Kafka's documentation.
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)+
                }
            }

            /// The latest version in Kafka 3.9; the first is always 0.
            pub fn latest_version(self) -> i16 {
                match self {
                    $(ApiKey::$name => $latest,)+
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482), if any has them.
            pub fn first_flexible(self) -> Option<i16> {
                match self {
                    $(ApiKey::$name => $flexible,)+
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = UnknownApiKey;

            fn try_from(key: i16) -> Result<Self, UnknownApiKey> {
                match key {
                    $($key => Ok(ApiKey::$name),)+
                    _ => Err(UnknownApiKey(key)),
                }
            }
        }
    };
}

api_keys! {
    Produce = 0, latest 11, flexible Some(9);
    Fetch = 1, latest 17, flexible Some(12);
    ListOffsets = 2, latest 9, flexible Some(6);
    Metadata = 3, latest 12, flexible Some(9);
    LeaderAndIsr = 4, latest 7, flexible Some(4);
    StopReplica = 5, latest 4, flexible Some(2);
    UpdateMetadata = 6, latest 8, flexible Some(6);
    ControlledShutdown = 7, latest 3, flexible Some(3);
    OffsetCommit = 8, latest 9, flexible Some(8);
    OffsetFetch = 9, latest 9, flexible Some(6);
    FindCoordinator = 10, latest 6, flexible Some(3);
    JoinGroup = 11, latest 9, flexible Some(6);
    Heartbeat = 12, latest 4, flexible Some(4);
    LeaveGroup = 13, latest 5, flexible Some(4);
    SyncGroup = 14, latest 5, flexible Some(4);
    DescribeGroups = 15, latest 5, flexible Some(5);
    ListGroups = 16, latest 5, flexible Some(3);
    SaslHandshake = 17, latest 1, flexible None;
    ApiVersions = 18, latest 4, flexible Some(3);
    CreateTopics = 19, latest 7, flexible Some(5);
    DeleteTopics = 20, latest 6, flexible Some(4);
    DeleteRecords = 21, latest 2, flexible Some(2);
    InitProducerId = 22, latest 5, flexible Some(2);
    OffsetForLeaderEpoch = 23, latest 4, flexible Some(4);
    AddPartitionsToTxn = 24, latest 5, flexible Some(3);
    AddOffsetsToTxn = 25, latest 4, flexible Some(3);
    EndTxn = 26, latest 4, flexible Some(3);
    WriteTxnMarkers = 27, latest 1, flexible Some(1);
    TxnOffsetCommit = 28, latest 4, flexible Some(3);
    DescribeAcls = 29, latest 3, flexible Some(2);
    CreateAcls = 30, latest 3, flexible Some(2);
    DeleteAcls = 31, latest 3, flexible Some(2);
    DescribeConfigs = 32, latest 4, flexible Some(4);
    AlterConfigs = 33, latest 2, flexible Some(2);
    AlterReplicaLogDirs = 34, latest 2, flexible Some(2);
    DescribeLogDirs = 35, latest 4, flexible Some(2);
    SaslAuthenticate = 36, latest 2, flexible Some(2);
    CreatePartitions = 37, latest 3, flexible Some(2);
    CreateDelegationToken = 38, latest 3, flexible Some(2);
    RenewDelegationToken = 39, latest 2, flexible Some(2);
    ExpireDelegationToken = 40, latest 2, flexible Some(2);
    DescribeDelegationToken = 41, latest 3, flexible Some(2);
    DeleteGroups = 42, latest 2, flexible Some(2);
    ElectLeaders = 43, latest 2, flexible Some(2);
    IncrementalAlterConfigs = 44, latest 1, flexible Some(1);
    AlterPartitionReassignments = 45, latest 0, flexible Some(0);
    ListPartitionReassignments = 46, latest 0, flexible Some(0);
    OffsetDelete = 47, latest 0, flexible None;
    DescribeClientQuotas = 48, latest 1, flexible Some(1);
    AlterClientQuotas = 49, latest 1, flexible Some(1);
    DescribeUserScramCredentials = 50, latest 0, flexible Some(0);
    AlterUserScramCredentials = 51, latest 0, flexible Some(0);
    AlterPartition = 56, latest 3, flexible Some(0);
    UpdateFeatures = 57, latest 1, flexible Some(0);
    Envelope = 58, latest 0, flexible Some(0);
    DescribeCluster = 60, latest 1, flexible Some(0);
    DescribeProducers = 61, latest 0, flexible Some(0);
    DescribeTransactions = 65, latest 0, flexible Some(0);
    ListTransactions = 66, latest 1, flexible Some(0);
    AllocateProducerIds = 67, latest 0, flexible Some(0);
    ConsumerGroupHeartbeat = 68, latest 0, flexible Some(0);
    ConsumerGroupDescribe = 69, latest 0, flexible Some(0);
}

impl ApiKey {
    /// The key's number.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The versions that this crate reads and writes; `None` if it has no messages of this API.
    pub fn versions(self) -> Option<RangeInclusive<i16>> {
        Some(match self {
            ApiKey::Produce => crate::produce::ProduceRequest::VERSIONS,
            ApiKey::Fetch => crate::fetch::FetchRequest::VERSIONS,
            ApiKey::ListOffsets => crate::list_offsets::ListOffsetsRequest::VERSIONS,
            ApiKey::Metadata => crate::metadata::MetadataRequest::VERSIONS,
            ApiKey::FindCoordinator => crate::find_coordinator::FindCoordinatorRequest::VERSIONS,
            ApiKey::ApiVersions => crate::api_versions::ApiVersionsRequest::VERSIONS,
            ApiKey::CreateTopics => crate::create_topics::CreateTopicsRequest::VERSIONS,
            ApiKey::DeleteRecords => crate::delete_records::DeleteRecordsRequest::VERSIONS,
            ApiKey::DeleteTopics => crate::delete_topics::DeleteTopicsRequest::VERSIONS,
            ApiKey::InitProducerId => crate::init_producer_id::InitProducerIdRequest::VERSIONS,
            ApiKey::OffsetForLeaderEpoch => {
                crate::offset_for_leader_epoch::OffsetForLeaderEpochRequest::VERSIONS
            }
            ApiKey::DescribeConfigs => crate::describe_configs::DescribeConfigsRequest::VERSIONS,
            ApiKey::AlterReplicaLogDirs => {
                crate::alter_replica_log_dirs::AlterReplicaLogDirsRequest::VERSIONS
            }
            ApiKey::DescribeLogDirs => crate::describe_log_dirs::DescribeLogDirsRequest::VERSIONS,
            ApiKey::CreatePartitions => crate::create_partitions::CreatePartitionsRequest::VERSIONS,
            ApiKey::IncrementalAlterConfigs => {
                crate::incremental_alter_configs::IncrementalAlterConfigsRequest::VERSIONS
            }
            ApiKey::DescribeCluster => crate::describe_cluster::DescribeClusterRequest::VERSIONS,
            _ => return None,
        })
    }

    /// Whether messages of this version have compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.first_flexible().is_some_and(|first| version >= first)
    }

    /// The version of the header before a request of this version: 0 has no client id, 2 has tagged fields.
    pub fn request_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ControlledShutdown if version == 0 => 0,
            _ if self.is_flexible(version) => 2,
            _ => 1,
        }
    }

    /// The version of the header before a response of this version: 1 has tagged fields. That of ApiVersions is
    /// always 0, since its reader may not know yet which versions the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ => i16::from(self.is_flexible(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_numbers_are_one_to_one() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::try_from(key.code()), Ok(*key));
        }
        assert_eq!(ApiKey::try_from(-1), Err(UnknownApiKey(-1)));
        assert_eq!(ApiKey::try_from(52), Err(UnknownApiKey(52)));
    }

    #[test]
    fn served_versions_end_where_kafkas_do() {
        for key in ApiKey::ALL {
            if let Some(versions) = key.versions() {
                assert_eq!(*versions.end(), key.latest_version(), "{key:?}");
                assert_eq!(
                    *versions.start(),
                    if *key == ApiKey::Fetch { 4 } else { 0 },
                    "{key:?}"
                );
            }
        }
    }

    #[test]
    fn header_versions_follow_flexibility() {
        assert_eq!(ApiKey::ControlledShutdown.request_header_version(0), 0);
        assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
        assert_eq!(ApiKey::Fetch.request_header_version(12), 2);
        assert_eq!(ApiKey::Fetch.response_header_version(11), 0);
        assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
