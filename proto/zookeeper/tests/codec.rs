//! The codec as a whole: round trips, and hostile bytes.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::prelude::*;
use zookeeper_wire::{
    Acl, ConnectRequest, CreateRequest, DecodeError, ErrorCode, MultiOp, OpCode, PathVersion,
    PathWatch, Reader, Request, RequestHeader, Response, SetAclRequest, SetDataRequest, SetWatches,
    Stat, Writer,
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
        path_version().prop_map(MultiOp::Delete),
        set_data().prop_map(MultiOp::SetData),
        path_version().prop_map(MultiOp::Check),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let paths = || vec(string(), 0..4);
    prop_oneof![
        create().prop_map(Request::Create),
        create().prop_map(Request::Create2),
        path_version().prop_map(Request::Delete),
        path_watch().prop_map(Request::Exists),
        path_watch().prop_map(Request::GetData),
        set_data().prop_map(Request::SetData),
        string().prop_map(Request::GetAcl),
        (string(), acl(), any::<i32>())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest { path, acl, version })),
        path_watch().prop_map(Request::GetChildren),
        path_watch().prop_map(Request::GetChildren2),
        string().prop_map(Request::Sync),
        Just(Request::Ping),
        path_version().prop_map(Request::Check),
        vec(multi_op(), 0..5).prop_map(Request::Multi),
        (string(), vec(any::<u8>(), 0..9)).prop_map(|(scheme, credentials)| Request::Auth {
            scheme,
            credentials: credentials.into()
        }),
        (any::<i64>(), paths(), paths(), paths()).prop_map(
            |(relative_zxid, data, exist, child)| {
                Request::SetWatches(SetWatches {
                    relative_zxid,
                    data,
                    exist,
                    child,
                })
            }
        ),
        Just(Request::CloseSession),
    ]
}

fn encoded(request: &Request) -> Bytes {
    let mut w = Writer::new();
    request.encode(&mut w);
    w.take()
}

const OP_CODES: [OpCode; 17] = [
    OpCode::Create,
    OpCode::Delete,
    OpCode::Exists,
    OpCode::GetData,
    OpCode::SetData,
    OpCode::GetAcl,
    OpCode::SetAcl,
    OpCode::GetChildren,
    OpCode::Sync,
    OpCode::Ping,
    OpCode::GetChildren2,
    OpCode::Check,
    OpCode::Multi,
    OpCode::Create2,
    OpCode::Auth,
    OpCode::SetWatches,
    OpCode::CloseSession,
];

proptest! {
    #[test]
    fn requests_round_trip(request in request()) {
        let bytes = encoded(&request);
        let mut r = Reader::new(bytes);
        prop_assert_eq!(Request::decode(request.op_code(), &mut r), Ok(request));
        prop_assert_eq!(r.remaining(), 0);
    }

    #[test]
    fn a_request_cut_anywhere_is_an_error(request in request()) {
        let bytes = encoded(&request);
        for len in 0..bytes.len() {
            let cut = Request::decode(request.op_code(), &mut Reader::new(bytes.slice(..len)));
            prop_assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{:?} of {}", cut, len);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..80)) {
        let bytes = Bytes::from(bytes);
        for op in OP_CODES {
            let _ = Request::decode(op, &mut Reader::new(bytes.clone()));
        }
        let _ = ConnectRequest::decode(bytes.clone());
        let _ = RequestHeader::decode(&mut Reader::new(bytes));
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
fn a_multi_response_names_each_result() {
    let mut w = Writer::new();
    Response::Multi(&[
        (OpCode::Delete, Ok(Response::Empty)),
        (OpCode::Check, Err(ErrorCode::BadVersion)),
    ])
    .encode(&mut w);
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
