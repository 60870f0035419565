//! Every message in every version against the crate `kafka-protocol`, which was made from Kafka's schemas by others.
//!
//! Random messages of ours are written, read by the oracle, compared field by field (by name, so that two neighbours
//! of one type cannot be mixed up unseen), and written by the oracle: the bytes must be the same. So what either
//! side writes, the other reads. Versions that the oracle does not have are checked against themselves here and
//! against bytes written out by hand in `tests/old_versions.rs`.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::{Buf, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::sample::{self, Random, Sample};
use crate::{Message, Reader, Uuid, Writer};

/// Fields of versions after Kafka 3.9, which we do not have.
const LATER_FIELDS: &[&str] = &[
    "DescribeClusterBroker.is_fenced",
    "DescribeClusterRequest.include_fenced_brokers",
    "FetchPartition.high_watermark",
    "InitProducerIdRequest.enable_2_pc",
    "InitProducerIdRequest.keep_prepared_txn",
    "InitProducerIdResponse.ongoing_txn_producer_epoch",
    "InitProducerIdResponse.ongoing_txn_producer_id",
    "ListOffsetsRequest.timeout_ms",
    "MetadataResponse.error_code",
    "TopicProduceData.topic_id",
    "TopicProduceResponse.topic_id",
];

/// Fields of old versions, which the oracle does not have.
const OLD_FIELDS: &[&str] = &[
    "DescribeConfigsResourceResult.is_default",
    "ListOffsetsPartition.max_num_offsets",
];

fn encode<M: Message>(message: &M, version: i16) -> bytes::Bytes {
    let mut w = Writer::new();
    message.encode(&mut w, version);
    w.finish_contiguous().unwrap()
}

fn decode<M: Message>(bytes: bytes::Bytes, version: i16) -> M {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version).unwrap();
    assert_eq!(r.remaining(), 0, "version {version}");
    message
}

fn check<Ours, Theirs>()
where
    Ours: Message + Sample + Debug + PartialEq,
    Theirs: kafka_protocol::protocol::Message + Encodable + Decodable + Debug,
{
    for version in Ours::VERSIONS {
        let has_oracle = (Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version);
        let mut runner = TestRunner::new(Config {
            cases: 32,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&any::<u64>(), |seed| {
            let ours: Ours = sample::message(&mut Random::new(seed), version);
            let bytes = encode(&ours, version);
            prop_assert_eq!(&decode::<Ours>(bytes.clone(), version), &ours);
            if has_oracle {
                let mut left = bytes.clone();
                let read = Theirs::decode(&mut left, version)
                    .map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(left.remaining(), 0);
                compare(&ours, &read)?;
                let mut written = BytesMut::new();
                read.encode(&mut written, version)
                    .map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(written.freeze(), bytes);
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{} version {version}: {error}", Ours::NAME);
        }
    }
}

/// Both sides' fields by their paths, from their debug representations, which name each field.
fn compare(ours: &dyn Debug, theirs: &dyn Debug) -> Result<(), TestCaseError> {
    let (ours, theirs) = (fields(&format!("{ours:?}")), fields(&format!("{theirs:?}")));
    let known = |path: &str, list: &[&str]| list.iter().any(|field| path.ends_with(field));
    for (path, value) in ours.iter().filter(|(path, _)| !known(path, OLD_FIELDS)) {
        prop_assert_eq!(Some(value), theirs.get(path), "{}", path);
    }
    for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
        prop_assert!(known(path, LATER_FIELDS), "we do not know {}", path);
    }
    Ok(())
}

/// What differs by type, not by meaning, is made equal: newtypes and `Some` are taken off; null, empty and absent are
/// one (a version that lacks a field leaves it null here, empty there); ids get our spelling.
fn fields(debug: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut parser = Parser {
        rest: debug,
        fields: &mut fields,
    };
    parser.value("");
    assert_eq!(parser.rest, "", "{debug}");
    fields
}

struct Parser<'a> {
    rest: &'a str,
    fields: &'a mut BTreeMap<String, String>,
}

impl Parser<'_> {
    fn value(&mut self, path: &str) {
        let word = self.word();
        if self.eat('{') {
            while !self.eat('}') {
                let field = self.word();
                assert!(self.eat(':'), "{}", self.rest);
                self.value(&format!("{path}/{word}.{field}"));
                self.eat(',');
            }
        } else if self.eat('(') {
            self.value(path);
            self.eat(')');
        } else if self.eat('[') {
            for index in 0.. {
                if self.eat(']') {
                    break;
                }
                self.value(&format!("{path}[{index}]"));
                self.eat(',');
            }
        } else if !matches!(word.as_str(), "None" | "\"\"") && !path.ends_with(".records") {
            self.fields.insert(path.to_owned(), our_spelling(word));
        }
    }

    /// All up to the next delimiter; a string literal is one word.
    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let quote = if self.rest.starts_with("b\"") { 1 } else { 0 };
        let end = if self.rest[quote..].starts_with('"') {
            let mut escaped = false;
            let closing = self.rest[quote + 1..].find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            quote + 1 + closing.unwrap() + 1
        } else {
            self.rest
                .find(['{', '}', '(', ')', '[', ']', ',', ':'])
                .unwrap_or(self.rest.len())
        };
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.trim().to_owned()
    }

    fn eat(&mut self, delimiter: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest
            .strip_prefix(delimiter)
            .map(|rest| self.rest = rest)
            .is_some()
    }
}

fn our_spelling(word: String) -> String {
    let hex = word.replace('-', "");
    match u128::from_str_radix(&hex, 16) {
        Ok(id) if word.len() == 36 => Uuid::from_bytes(id.to_be_bytes()).to_string(),
        _ => word,
    }
}

macro_rules! messages {
    ($($module:ident: $request:ident, $response:ident;)+) => {
        $(
            #[test]
            fn $module() {
                check::<crate::$module::$request, theirs::$request>();
                check::<crate::$module::$response, theirs::$response>();
            }
        )+

        /// Bytes that are almost a message reach further into the decoders than random ones do.
        #[test]
        fn damaged_messages_never_panic() {
            let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
            runner
                .run(&any::<u64>(), |seed| {
                    $(
                        damage::<crate::$module::$request>(seed);
                        damage::<crate::$module::$response>(seed);
                    )+
                    Ok(())
                })
                .unwrap();
        }
    };
}

messages! {
    alter_replica_log_dirs: AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse;
    api_versions: ApiVersionsRequest, ApiVersionsResponse;
    create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    create_topics: CreateTopicsRequest, CreateTopicsResponse;
    delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    fetch: FetchRequest, FetchResponse;
    find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    metadata: MetadataRequest, MetadataResponse;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    produce: ProduceRequest, ProduceResponse;
}

/// Cuts, flips, or states an extreme length, in one version picked by the seed. What is still a message must be
/// written as one.
fn damage<M: Message + Sample + Debug + PartialEq>(seed: u64) {
    let mut random = Random::new(seed);
    let version = M::VERSIONS.start() + random.below(M::VERSIONS.count()) as i16;
    let mut bytes = encode(&sample::message::<M>(&mut random, version), version).to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => bytes[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
        }
    }
    if let Ok(message) = M::decode(&mut Reader::new(bytes.into()), version) {
        assert_eq!(decode::<M>(encode(&message, version), version), message);
    }
}

/// Our header and the oracle's, for all keys and versions that both have.
#[test]
fn request_headers() {
    for key in crate::ApiKey::ALL {
        let Ok(their_key) = theirs::ApiKey::try_from(key.code()) else {
            continue;
        };
        // Of versions that it no longer has, the oracle's answer means nothing.
        for version in their_key.valid_versions().min..=key.latest_version() {
            assert_eq!(
                key.request_header_version(version),
                their_key.request_header_version(version),
                "{key:?} {version}"
            );
            assert_eq!(
                key.response_header_version(version),
                their_key.response_header_version(version),
                "{key:?} {version}"
            );
        }
    }
}
