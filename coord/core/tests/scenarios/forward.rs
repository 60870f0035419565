//! What members send each other survives its bytes, and other bytes do no harm.

use bytes::Bytes;
use coord_core::acl::{Acl, Identity};
use coord_core::forward::{Ask, Outcome, Touch};
use coord_core::reconfig::Reconfig;
use coord_core::request::{CreateMode, NodeType, Write};
use coord_core::{Forward, ForwardAnswer, OpError, RequestId, SessionId, Zxid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = bytestring::ByteString> {
    "[a-zé/]{0,8}".prop_map(Into::into)
}

fn identity() -> impl Strategy<Value = Identity> {
    (text(), text()).prop_map(|(scheme, id)| Identity { scheme, id })
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), identity()).prop_map(|(perms, identity)| Acl { perms, identity });
    vec(entry, 0..3)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..8).prop_map(Bytes::from))
}

fn write() -> impl Strategy<Value = Write> {
    let node_type = prop_oneof![
        Just(NodeType::Persistent),
        Just(NodeType::Ephemeral),
        Just(NodeType::Container),
        any::<i64>().prop_map(|ttl_ms| NodeType::Ttl { ttl_ms }),
    ];
    let mode = (node_type, any::<bool>()).prop_map(|(node_type, sequential)| CreateMode {
        node_type,
        sequential,
    });
    prop_oneof![
        (text(), data(), acl(), mode, any::<bool>()).prop_map(
            |(path, data, acl, mode, with_stat)| Write::Create {
                path,
                data,
                acl,
                mode,
                with_stat
            }
        ),
        (text(), any::<i32>()).prop_map(|(path, version)| Write::Delete { path, version }),
        (text(), data(), any::<i32>()).prop_map(|(path, data, version)| Write::SetData {
            path,
            data,
            version
        }),
        (text(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Write::SetAcl {
            path,
            acl,
            version
        }),
        (text(), any::<i32>()).prop_map(|(path, version)| Write::Check { path, version }),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let session = || any::<([u8; 16], u32)>();
    prop_oneof![
        session().prop_map(|(password, timeout_ms)| Ask::CreateSession {
            password,
            timeout_ms
        }),
        session().prop_map(|(password, timeout_ms)| Ask::ResumeSession {
            password,
            timeout_ms
        }),
        Just(Ask::CloseSession),
        write().prop_map(Ask::Write),
        vec(write(), 0..4).prop_map(Ask::Multi),
        Just(Ask::Sync),
        (option::of(text()), option::of(text()), any::<i64>()).prop_map(
            |(joining, new_members, config_version)| Ask::Reconfig(Reconfig {
                joining,
                leaving: None,
                new_members,
                config_version,
            })
        ),
    ]
}

fn forward() -> impl Strategy<Value = Forward> {
    let request = (
        any::<[u64; 2]>(),
        any::<[i64; 2]>(),
        vec(identity(), 0..3),
        ask(),
    )
        .prop_map(
            |([epoch, request], [session, claim], identities, ask)| Forward::Request {
                epoch: RequestId(epoch),
                request: RequestId(request),
                session: SessionId(session),
                claim: Zxid(claim),
                identities: identities.into(),
                ask,
            },
        );
    let touch = any::<(i64, i64)>().prop_map(|(session, claim)| Touch {
        session: SessionId(session),
        claim: Zxid(claim),
    });
    prop_oneof![request, vec(touch, 0..4).prop_map(Forward::Touch)]
}

fn answer() -> impl Strategy<Value = ForwardAnswer> {
    let error = prop_oneof![
        Just(OpError::NoNode),
        Just(OpError::SessionMoved),
        Just(OpError::RuntimeInconsistency)
    ];
    let outcome = prop_oneof![
        Just(Outcome::Expired),
        error.clone().prop_map(Outcome::Refused),
        (any::<u32>(), error).prop_map(|(at, error)| Outcome::MultiRefused { at, error }),
        Just(Outcome::Synced),
        Just(Outcome::Unknown),
    ];
    prop_oneof![
        (any::<u64>(), any::<i64>(), outcome).prop_map(|(request, after, outcome)| {
            ForwardAnswer::Settled {
                request: RequestId(request),
                after: Zxid(after),
                outcome,
            }
        }),
        any::<u64>().prop_map(|epoch| ForwardAnswer::Lost {
            epoch: RequestId(epoch)
        }),
    ]
}

proptest! {
    #[test]
    fn a_forward_survives_its_bytes_and_none_that_is_cut_is_one(forward in forward()) {
        let mut bytes = Vec::new();
        forward.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(Forward::decode(bytes.clone()), Ok(forward));
        for len in 0..bytes.len() {
            prop_assert!(Forward::decode(bytes.slice(..len)).is_err(), "cut at {}", len);
        }
    }

    #[test]
    fn an_answer_survives_its_bytes_and_none_that_is_cut_is_one(answer in answer()) {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(ForwardAnswer::decode(bytes.clone()), Ok(answer));
        for len in 0..bytes.len() {
            prop_assert!(ForwardAnswer::decode(bytes.slice(..len)).is_err(), "cut at {}", len);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in vec(prop_oneof![Just(0u8), 0..8u8, any::<u8>()], 0..120)) {
        let _ = Forward::decode(bytes.clone().into());
        let _ = ForwardAnswer::decode(bytes.into());
    }
}
