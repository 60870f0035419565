//! The codec as a whole: round trips, and hostile bytes.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::prelude::*;
use zookeeper_wire::{
    Acl, AddWatchMode, ClientInfo, ConnectRequest, ConnectResponse, CreateRequest,
    CreateTtlRequest, DecodeError, ErrorCode, MultiOp, MultiReadOp, OpCode, PathVersion, PathWatch,
    Reader, ReconfigRequest, ReplyHeader, Request, RequestHeader, Response, SetAclRequest,
    SetDataRequest, SetWatches, SetWatches2, Stat, WatchEventType, WatcherEvent, WatcherType,
    Writer, xid,
};

fn string() -> impl Strategy<Value = ByteString> {
    "[/a-zé0]{0,12}".prop_map(ByteString::from)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    vec(
        (any::<i32>(), string(), string()).prop_map(|(perms, scheme, id)| Acl {
            perms,
            scheme,
            id,
        }),
        0..3,
    )
}

fn create() -> impl Strategy<Value = CreateRequest> {
    (string(), data(), acl(), any::<i32>()).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}

fn create_ttl() -> impl Strategy<Value = CreateTtlRequest> {
    (create(), any::<i64>()).prop_map(|(create, ttl_ms)| CreateTtlRequest { create, ttl_ms })
}

fn path_version() -> impl Strategy<Value = PathVersion> {
    (string(), any::<i32>()).prop_map(|(path, version)| PathVersion { path, version })
}

fn path_watch() -> impl Strategy<Value = PathWatch> {
    (string(), any::<bool>()).prop_map(|(path, watch)| PathWatch { path, watch })
}

fn set_data() -> impl Strategy<Value = SetDataRequest> {
    (string(), data(), any::<i32>()).prop_map(|(path, data, version)| SetDataRequest {
        path,
        data,
        version,
    })
}

fn multi_op() -> impl Strategy<Value = MultiOp> {
    prop_oneof![
        create().prop_map(MultiOp::Create),
        create().prop_map(MultiOp::Create2),
        create().prop_map(MultiOp::CreateContainer),
        create_ttl().prop_map(MultiOp::CreateTtl),
        path_version().prop_map(MultiOp::Delete),
        set_data().prop_map(MultiOp::SetData),
        path_version().prop_map(MultiOp::Check),
    ]
}

fn paths() -> impl Strategy<Value = Vec<ByteString>> {
    vec(string(), 0..4)
}

fn set_watches() -> impl Strategy<Value = SetWatches> {
    (any::<i64>(), paths(), paths(), paths()).prop_map(|(relative_zxid, data, exist, child)| {
        SetWatches {
            relative_zxid,
            data,
            exist,
            child,
        }
    })
}

fn watcher_type() -> impl Strategy<Value = WatcherType> {
    prop_oneof![
        Just(WatcherType::Children),
        Just(WatcherType::Data),
        Just(WatcherType::Any),
        Just(WatcherType::Persistent),
        Just(WatcherType::PersistentRecursive),
    ]
}

fn write_request() -> impl Strategy<Value = Request> {
    let nullable = || proptest::option::of(string());
    prop_oneof![
        create().prop_map(Request::Create),
        create().prop_map(Request::Create2),
        create().prop_map(Request::CreateContainer),
        create_ttl().prop_map(Request::CreateTtl),
        path_version().prop_map(Request::Delete),
        set_data().prop_map(Request::SetData),
        (string(), acl(), any::<i32>())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest { path, acl, version })),
        path_version().prop_map(Request::Check),
        vec(multi_op(), 0..5).prop_map(Request::Multi),
        (nullable(), nullable(), nullable(), any::<i64>()).prop_map(
            |(joining, leaving, new_members, config_version)| {
                Request::Reconfig(ReconfigRequest {
                    joining,
                    leaving,
                    new_members,
                    config_version,
                })
            }
        ),
        string().prop_map(Request::Sync),
        Just(Request::CloseSession),
    ]
}

fn read_request() -> impl Strategy<Value = Request> {
    let read_op = prop_oneof![
        string().prop_map(MultiReadOp::GetData),
        string().prop_map(MultiReadOp::GetChildren),
    ];
    prop_oneof![
        path_watch().prop_map(Request::Exists),
        path_watch().prop_map(Request::GetData),
        string().prop_map(Request::GetAcl),
        path_watch().prop_map(Request::GetChildren),
        path_watch().prop_map(Request::GetChildren2),
        string().prop_map(Request::GetAllChildrenNumber),
        string().prop_map(|prefix| Request::GetEphemerals { prefix }),
        vec(read_op, 0..5).prop_map(Request::MultiRead),
        Just(Request::Ping),
        Just(Request::WhoAmI),
    ]
}

fn connection_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (string(), vec(any::<u8>(), 0..9)).prop_map(|(scheme, credentials)| Request::Auth {
            scheme,
            credentials: Some(credentials.into())
        }),
        data().prop_map(Request::Sasl),
        set_watches().prop_map(Request::SetWatches),
        (set_watches(), paths(), paths()).prop_map(
            |(one_shot, persistent, persistent_recursive)| {
                Request::SetWatches2(SetWatches2 {
                    one_shot,
                    persistent,
                    persistent_recursive,
                })
            }
        ),
        (string(), any::<bool>()).prop_map(|(path, recursive)| {
            let mode = match recursive {
                true => AddWatchMode::PersistentRecursive,
                false => AddWatchMode::Persistent,
            };
            Request::AddWatch { path, mode }
        }),
        (string(), watcher_type())
            .prop_map(|(path, watcher_type)| Request::CheckWatches { path, watcher_type }),
        (string(), watcher_type())
            .prop_map(|(path, watcher_type)| Request::RemoveWatches { path, watcher_type }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![write_request(), read_request(), connection_request()]
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(longs, ints)| Stat {
        czxid: longs[0],
        mzxid: longs[1],
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: longs[4],
        data_length: ints[3],
        num_children: ints[4],
        pzxid: longs[5],
    })
}

fn error() -> impl Strategy<Value = ErrorCode> {
    proptest::sample::select(ErrorCode::ALL)
}

/// An answer that can stand in a multi's too, with an operation that it answers.
fn single_response() -> impl Strategy<Value = (OpCode, Response)> {
    let info = (string(), string()).prop_map(|(scheme, user)| ClientInfo { scheme, user });
    prop_oneof![
        Just((OpCode::Delete, Response::Empty)),
        string().prop_map(|path| (OpCode::Create, Response::Path(path))),
        (string(), stat())
            .prop_map(|(path, stat)| (OpCode::Create2, Response::PathStat(path, stat))),
        stat().prop_map(|stat| (OpCode::SetData, Response::Stat(stat))),
        (data(), stat()).prop_map(|(data, stat)| (OpCode::GetData, Response::Data(data, stat))),
        paths().prop_map(|paths| (OpCode::GetChildren, Response::Paths(paths))),
        (paths(), stat())
            .prop_map(|(names, stat)| (OpCode::GetChildren2, Response::Children2(names, stat))),
        (acl(), stat()).prop_map(|(acl, stat)| (OpCode::GetAcl, Response::Acl(acl, stat))),
        any::<i32>().prop_map(|count| (OpCode::GetAllChildrenNumber, Response::Count(count))),
        vec(info, 0..3).prop_map(|infos| (OpCode::WhoAmI, Response::Identities(infos))),
        data().prop_map(|token| (OpCode::Sasl, Response::Token(token))),
        error().prop_map(|error| (OpCode::AddWatch, Response::Error(error))),
    ]
}

fn response() -> impl Strategy<Value = (OpCode, Response)> {
    let result = prop_oneof![single_response().prop_map(Ok), error().prop_map(Err)];
    prop_oneof![
        4 => single_response(),
        1 => vec(result, 0..4).prop_map(|results| (OpCode::Multi, Response::Multi(results))),
    ]
}

fn bytes_of(encode: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    encode(&mut w);
    w.take()
}

proptest! {
    #[test]
    fn requests_round_trip(request in request()) {
        let bytes = bytes_of(|w| request.encode(w));
        let mut r = Reader::new(bytes);
        prop_assert_eq!(Request::decode(request.op_code(), &mut r), Ok(request));
        prop_assert_eq!(r.remaining(), 0);
    }

    #[test]
    fn a_request_cut_anywhere_is_an_error(request in request()) {
        let bytes = bytes_of(|w| request.encode(w));
        for len in 0..bytes.len() {
            let cut = Request::decode(request.op_code(), &mut Reader::new(bytes.slice(..len)));
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{:?} of {}", cut, len);
        }
    }

    #[test]
    fn responses_round_trip((op, response) in response()) {
        let mut r = Reader::new(bytes_of(|w| response.encode(w)));
        prop_assert_eq!(Response::decode(op, &mut r), Ok(response));
        prop_assert_eq!(r.remaining(), 0);
    }

    #[test]
    fn a_response_cut_anywhere_is_an_error((op, response) in response()) {
        let bytes = bytes_of(|w| response.encode(w));
        for len in 0..bytes.len() {
            let cut = Response::decode(op, &mut Reader::new(bytes.slice(..len)));
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{:?} of {}", cut, len);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..80)) {
        let bytes = Bytes::from(bytes);
        let reader = || Reader::new(bytes.clone());
        for &op in OpCode::ALL {
            let _ = Request::decode(op, &mut reader());
            let _ = Response::decode(op, &mut reader());
        }
        let _ = ConnectRequest::decode(bytes.clone());
        let _ = ConnectResponse::decode(bytes.clone());
        let _ = RequestHeader::decode(&mut reader());
        let _ = ReplyHeader::decode(&mut reader());
        let _ = WatcherEvent::decode(&mut reader());
    }
}

#[test]
fn an_unknown_op_in_a_multi_is_named() {
    let mut w = Writer::new();
    w.i32(3);
    w.bool(false);
    w.i32(-1);
    assert_eq!(
        Request::decode(OpCode::Multi, &mut Reader::new(w.take())),
        Err(DecodeError::NotInMulti(3))
    );
}

#[test]
fn reads_and_writes_do_not_mix() {
    let writes = Request::Multi(vec![MultiOp::Delete(PathVersion {
        path: "/a".into(),
        version: 0,
    })]);
    let reads = Request::MultiRead(vec![MultiReadOp::GetData("/a".into())]);
    for (request, other) in [(writes, OpCode::MultiRead), (reads, OpCode::Multi)] {
        let mut r = Reader::new(bytes_of(|w| request.encode(w)));
        let decoded = Request::decode(other, &mut r);
        assert!(
            matches!(decoded, Err(DecodeError::NotInMulti(_))),
            "{decoded:?}"
        );
    }
}

#[test]
fn a_multi_within_a_multis_answer_is_refused() {
    let nested: Response = Response::Multi(vec![Ok((OpCode::Multi, Response::Multi(Vec::new())))]);
    let mut r = Reader::new(bytes_of(|w| nested.encode(w)));
    assert_eq!(
        Response::decode(OpCode::Multi, &mut r),
        Err(DecodeError::NotInMulti(14))
    );
}

#[test]
fn numbers_that_stand_for_nothing_are_named() {
    let mode = bytes_of(|w| {
        w.string("/a");
        w.i32(2);
    });
    let add_watch = Request::decode(OpCode::AddWatch, &mut Reader::new(mode));
    assert_eq!(add_watch, Err(DecodeError::Unknown(2)));
    let watcher_type = bytes_of(|w| {
        w.string("/a");
        w.i32(6);
    });
    for op in [OpCode::CheckWatches, OpCode::RemoveWatches] {
        let request = Request::decode(op, &mut Reader::new(watcher_type.clone()));
        assert_eq!(request, Err(DecodeError::Unknown(6)));
    }
}

#[test]
fn a_client_reads_replies_and_events() {
    let header = ReplyHeader {
        xid: 4,
        zxid: 7,
        error: ErrorCode::NoWatcher,
    };
    let bytes = bytes_of(|w| header.encode(w));
    assert_eq!(ReplyHeader::decode(&mut Reader::new(bytes)), Ok(header));

    let event = WatcherEvent {
        event_type: WatchEventType::NodeDataChanged,
        path: "/a",
    };
    let bytes = bytes_of(|w| {
        let header = ReplyHeader {
            xid: xid::EVENT,
            zxid: 9,
            error: ErrorCode::Ok,
        };
        header.encode(w);
        event.encode(w);
    });
    let mut r = Reader::new(bytes);
    let header = ReplyHeader::decode(&mut r).unwrap();
    assert_eq!((header.xid, header.zxid), (xid::EVENT, 9));
    let read = WatcherEvent::decode(&mut r).unwrap();
    assert_eq!((read.event_type, &*read.path), (event.event_type, "/a"));
}

#[test]
fn a_multi_response_names_each_result() {
    let mut w = Writer::new();
    let response: Response = Response::Multi(vec![
        Ok((OpCode::Delete, Response::Empty)),
        Err(ErrorCode::BadVersion),
    ]);
    response.encode(&mut w);
    let mut expected = vec![0, 0, 0, 2, 0, 0, 0, 0, 0];
    let bad_version = (-103i32).to_be_bytes();
    expected.extend([0xff, 0xff, 0xff, 0xff, 0]);
    expected.extend(bad_version);
    expected.extend(bad_version);
    expected.extend([0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(w.take().as_ref(), expected);
}

#[test]
fn a_stat_takes_68_bytes() {
    let stat = Stat {
        czxid: 1,
        mzxid: 2,
        num_children: 3,
        pzxid: 4,
        ..Stat::default()
    };
    let mut w = Writer::new();
    stat.encode(&mut w);
    let bytes = w.take();
    assert_eq!(bytes.len(), 68);
    assert_eq!(Stat::decode(&mut Reader::new(bytes)), Ok(stat));
}
