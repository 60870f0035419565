//! The operations that the broker's client does not have, byte by byte.

use bytes::Bytes;
use zookeeper_wire::{
    Acl, AddWatchMode, ClientInfo, CreateRequest, CreateTtlRequest, ErrorCode, MultiOp,
    MultiReadOp, OpCode, PathVersion, PathWatch, Request, Response, SetDataRequest, SetWatches,
    SetWatches2, Stat, WatchEventType, WatcherEvent, WatcherType, xid,
};

use crate::process::Coord;
use crate::raw::{RawClient, create};

const TIMEOUT_MS: i32 = 20_000;

/// Asks and reads the whole answer, or the error.
fn ask(client: &mut RawClient, request: Request) -> Result<Response, ErrorCode> {
    let reply = client.ask(1, &request);
    match ErrorCode::try_from(reply.error) {
        Ok(ErrorCode::Ok) => {
            let mut body = reply.body;
            let response = Response::decode(request.op_code(), &mut body);
            assert_eq!(body.remaining(), 0, "{response:?}");
            Ok(response.expect("an answer of its operation's shape"))
        }
        error => {
            assert_eq!(reply.body.remaining(), 0);
            Err(error.expect("a known error"))
        }
    }
}

fn entry(perms: i32, scheme: &'static str, id: &'static str) -> Acl {
    Acl {
        perms,
        scheme: scheme.into(),
        id: id.into(),
    }
}

fn creating(path: &'static str, flags: i32) -> CreateRequest {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::from_static(b"data")),
        acl: vec![entry(31, "world", "anyone")],
        flags,
    }
}

fn lasting(path: &'static str, flags: i32, ttl_ms: i64) -> Request {
    Request::CreateTtl(CreateTtlRequest {
        create: creating(path, flags),
        ttl_ms,
    })
}

fn auth(scheme: &'static str, credentials: &'static str) -> Request {
    Request::Auth {
        scheme: scheme.into(),
        credentials: Some(credentials.into()),
    }
}

fn stat(client: &mut RawClient, path: &'static str) -> Result<Stat, ErrorCode> {
    let exists = Request::Exists(PathWatch {
        path: path.into(),
        watch: false,
    });
    match ask(client, exists)? {
        Response::Stat(stat) => Ok(stat),
        other => panic!("{other:?}"),
    }
}

fn event(client: &mut RawClient) -> (i64, WatchEventType, String) {
    let mut event = client.receive().expect("an event");
    assert_eq!((event.xid, event.error), (xid::EVENT, 0));
    let WatcherEvent { event_type, path } = WatcherEvent::decode(&mut event.body).unwrap();
    (event.zxid, event_type, path.to_string())
}

#[test]
fn containers_and_times_to_live_have_op_codes_of_their_own_and_no_owner() {
    let coord = Coord::start_with(&["extendedTypesEnabled=true"]);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    let created = |answer: Result<Response, ErrorCode>| match answer {
        Ok(Response::PathStat(path, stat)) => (path.to_string(), stat.ephemeral_owner),
        other => panic!("{other:?}"),
    };
    let container = Request::CreateContainer(creating("/c", 4));
    let container = created(ask(&mut client, container));
    assert_eq!(container, ("/c".to_owned(), 0));
    let ttl = created(ask(&mut client, lasting("/c/t", 5, 0x1234)));
    assert_eq!(ttl, ("/c/t".to_owned(), 0));
    let (path, _) = created(ask(&mut client, lasting("/c/s-", 6, 1000)));
    assert_eq!(path, "/c/s-0000000001");
    for (flags, ttl_ms) in [(0, 1000), (4, 1000), (5, 0), (5, -1), (6, 1 << 40), (7, 1)] {
        let refused = ask(&mut client, lasting("/r", flags, ttl_ms));
        assert_eq!(refused, Err(ErrorCode::BadArguments), "{flags} {ttl_ms}");
    }
    let plain = Request::Create2(creating("/no-ttl", 5));
    assert_eq!(ask(&mut client, plain), Err(ErrorCode::BadArguments));
}

#[test]
fn the_old_create_makes_no_container_and_no_time_to_live_unless_switched_on() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    assert_eq!(
        ask(&mut client, create("/c", 4)),
        Ok(Response::Path("/c".into()))
    );
    assert_eq!(stat(&mut client, "/c").unwrap().ephemeral_owner, 0);
    for request in [create("/t", 5), create("/t", 6), lasting("/t", 5, 1000)] {
        assert_eq!(ask(&mut client, request), Err(ErrorCode::Unimplemented));
    }
    for flags in [-1, 7] {
        let answer = ask(&mut client, create("/t", flags));
        assert_eq!(answer, Err(ErrorCode::BadArguments));
    }
}

#[test]
fn an_empty_container_is_removed_at_its_check() {
    let coord = Coord::start_with(&["znode.container.checkIntervalMs=20"]);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    ask(&mut client, Request::CreateContainer(creating("/c", 4))).unwrap();
    ask(&mut client, create("/c/1", 0)).unwrap();
    let watch = PathWatch {
        path: "/c".into(),
        watch: true,
    };
    ask(&mut client, Request::GetData(watch)).unwrap();
    client.send(
        1,
        &Request::Delete(PathVersion {
            path: "/c/1".into(),
            version: -1,
        }),
    );
    assert_eq!(client.receive().unwrap().error, 0);
    let (_, event_type, path) = event(&mut client);
    assert_eq!(
        (event_type, path.as_str()),
        (WatchEventType::NodeDeleted, "/c")
    );
}

#[test]
fn a_multi_answers_creates_of_every_kind_as_create2_does() {
    let coord = Coord::start_with(&["extendedTypesEnabled=true"]);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    let ops = vec![
        MultiOp::Create(creating("/a", 0)),
        MultiOp::Create2(creating("/a/b", 0)),
        MultiOp::CreateContainer(creating("/c", 4)),
        MultiOp::CreateTtl(CreateTtlRequest {
            create: creating("/t", 5),
            ttl_ms: 60_000,
        }),
        MultiOp::Check(PathVersion {
            path: "/a".into(),
            version: 0,
        }),
        MultiOp::Delete(PathVersion {
            path: "/a/b".into(),
            version: 0,
        }),
    ];
    let Ok(Response::Multi(results)) = ask(&mut client, Request::Multi(ops)) else {
        panic!("an answer to each");
    };
    let codes: Vec<OpCode> = results.iter().map(|r| r.as_ref().unwrap().0).collect();
    assert_eq!(
        codes,
        [
            OpCode::Create,
            OpCode::Create2,
            OpCode::Create2,
            OpCode::Create2,
            OpCode::Check,
            OpCode::Delete
        ]
    );
    let unknown_flags = Request::Multi(vec![MultiOp::Create(creating("/x", 9))]);
    assert_eq!(
        ask(&mut client, unknown_flags),
        Err(ErrorCode::MarshallingError)
    );
}

#[test]
fn reads_beside_those_of_one_znode() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    ask(&mut client, Request::Create(creating("/a", 0))).unwrap();
    ask(&mut client, Request::Create(creating("/a/e", 1))).unwrap();
    let number = Request::GetAllChildrenNumber("/a".into());
    assert_eq!(ask(&mut client, number), Ok(Response::Count(1)));
    let ephemerals = Request::GetEphemerals { prefix: "/".into() };
    assert_eq!(
        ask(&mut client, ephemerals),
        Ok(Response::Paths(vec!["/a/e".into()]))
    );
    let reads = vec![
        MultiReadOp::GetData("/a".into()),
        MultiReadOp::GetData("/no".into()),
        MultiReadOp::GetChildren("/a".into()),
    ];
    let of_a = stat(&mut client, "/a").unwrap();
    assert_eq!(
        ask(&mut client, Request::MultiRead(reads)),
        Ok(Response::Multi(vec![
            Ok((
                OpCode::GetData,
                Response::Data(Some(Bytes::from_static(b"data")), of_a)
            )),
            Err(ErrorCode::NoNode),
            Ok((OpCode::GetChildren, Response::Paths(vec!["e".into()]))),
        ]))
    );
    let nothing = Request::Multi(Vec::new());
    assert_eq!(ask(&mut client, nothing), Ok(Response::Multi(Vec::new())));
}

#[test]
fn watches_that_stay_and_the_ones_that_are_removed() {
    let coord = Coord::start();
    let mut watcher = RawClient::connect(coord.address, TIMEOUT_MS);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    let add = |mode| Request::AddWatch {
        path: "/a".into(),
        mode,
    };
    assert_eq!(
        ask(&mut watcher, add(AddWatchMode::PersistentRecursive)),
        Ok(Response::Error(ErrorCode::Ok))
    );
    for path in ["/a", "/a/b"] {
        ask(&mut client, create(path, 0)).unwrap();
        let czxid = stat(&mut client, path).unwrap().czxid;
        let created = (czxid, WatchEventType::NodeCreated, path.to_owned());
        assert_eq!(event(&mut watcher), created);
    }
    let typed = |watcher_type| Request::CheckWatches {
        path: "/a".into(),
        watcher_type,
    };
    for (watcher_type, answer) in [
        (WatcherType::Any, Ok(Response::Empty)),
        (WatcherType::PersistentRecursive, Ok(Response::Empty)),
        (WatcherType::Persistent, Err(ErrorCode::NoWatcher)),
        (WatcherType::Data, Err(ErrorCode::NoWatcher)),
        (WatcherType::Children, Err(ErrorCode::NoWatcher)),
    ] {
        assert_eq!(ask(&mut watcher, typed(watcher_type)), answer);
    }
    let remove = || Request::RemoveWatches {
        path: "/a".into(),
        watcher_type: WatcherType::Any,
    };
    assert_eq!(ask(&mut watcher, remove()), Ok(Response::Empty));
    assert_eq!(ask(&mut watcher, remove()), Err(ErrorCode::NoWatcher));

    let again = Request::SetWatches2(SetWatches2 {
        one_shot: SetWatches {
            relative_zxid: 0,
            exist: vec!["/a/b".into()],
            ..SetWatches::default()
        },
        persistent: vec!["/a".into()],
        persistent_recursive: Vec::new(),
    });
    watcher.send(xid::SET_WATCHES, &again);
    let missed = (-1, WatchEventType::NodeCreated, "/a/b".to_owned());
    assert_eq!(event(&mut watcher), missed);
    let reply = watcher.receive().unwrap();
    assert_eq!((reply.xid, reply.error), (xid::SET_WATCHES, 0));
    let set = Request::SetData(SetDataRequest {
        path: "/a".into(),
        data: None,
        version: -1,
    });
    ask(&mut client, set).unwrap();
    let mzxid = stat(&mut client, "/a").unwrap().mzxid;
    let changed = (mzxid, WatchEventType::NodeDataChanged, "/a".to_owned());
    assert_eq!(event(&mut watcher), changed);
}

#[test]
fn credentials_add_identities_and_wrong_ones_end_the_connection() {
    let digest = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
    let coord = Coord::start_with(&[digest]);
    let mut bob = RawClient::connect(coord.address, TIMEOUT_MS);
    bob.send(xid::AUTH, &auth("digest", "bob:secret"));
    let reply = bob.receive().unwrap();
    assert_eq!((reply.xid, reply.error), (xid::AUTH, 0));
    let info = |scheme: &'static str, user: &'static str| ClientInfo {
        scheme: scheme.into(),
        user: user.into(),
    };
    assert_eq!(
        ask(&mut bob, Request::WhoAmI),
        Ok(Response::Identities(vec![
            info("ip", "127.0.0.1"),
            info("digest", "bob")
        ]))
    );
    let mut private = creating("/bob", 0);
    private.acl = vec![entry(31, "auth", ""), entry(1, "world", "anyone")];
    ask(&mut bob, Request::Create(private)).unwrap();

    let mut other = RawClient::connect(coord.address, TIMEOUT_MS);
    let Ok(Response::Acl(acl, _)) = ask(&mut other, Request::GetAcl("/bob".into())) else {
        panic!("an ACL");
    };
    assert_eq!(acl[0], entry(31, "digest", "bob:x"));
    let set = || {
        Request::SetData(SetDataRequest {
            path: "/bob".into(),
            data: None,
            version: -1,
        })
    };
    assert_eq!(ask(&mut other, set()), Err(ErrorCode::NoAuth));
    other.send(xid::AUTH, &auth("digest", "super:test"));
    assert_eq!(other.receive().unwrap().error, 0);
    ask(&mut other, set()).unwrap();

    for scheme in ["kerberos", "world", "auth", "super", ""] {
        let mut stranger = RawClient::connect(coord.address, TIMEOUT_MS);
        stranger.send(xid::AUTH, &auth(scheme, "x"));
        let reply = stranger.receive().unwrap();
        assert_eq!(
            (reply.xid, reply.error),
            (xid::AUTH, ErrorCode::AuthFailed.code()),
            "{scheme}"
        );
        assert!(stranger.receive().is_none(), "{scheme}");
    }
}

#[test]
fn acls_are_kept_but_not_looked_at_where_that_is_switched_on() {
    let coord = Coord::start_with(&["skipACL=yes"]);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    let mut closed = creating("/closed", 0);
    closed.acl = vec![entry(1, "ip", "10.0.0.1")];
    ask(&mut client, Request::Create(closed)).unwrap();
    let read = Request::GetData(PathWatch {
        path: "/closed".into(),
        watch: false,
    });
    ask(&mut client, read).unwrap();
    let mut of_nobody = creating("/a", 0);
    of_nobody.acl = vec![entry(31, "auth", "")];
    assert_eq!(
        ask(&mut client, Request::Create(of_nobody)),
        Err(ErrorCode::InvalidAcl)
    );
}

#[test]
fn a_quota_is_enforced_where_that_is_switched_on() {
    let coord = Coord::start_with(&["enforceQuota=true"]);
    let mut client = RawClient::connect(coord.address, TIMEOUT_MS);
    for path in ["/q", "/zookeeper/quota/q"] {
        ask(&mut client, create(path, 0)).unwrap();
    }
    let mut limits = creating("/zookeeper/quota/q/zookeeper_limits", 0);
    limits.data = Some(Bytes::from_static(b"count=-1,bytes=-1=;countHardLimit=2"));
    ask(&mut client, Request::Create(limits)).unwrap();
    let stats = create("/zookeeper/quota/q/zookeeper_stats", 0);
    ask(&mut client, stats).unwrap();
    ask(&mut client, create("/q/1", 0)).unwrap();
    assert_eq!(
        ask(&mut client, create("/q/2", 0)),
        Err(ErrorCode::QuotaExceeded)
    );
    let used = Request::GetData(PathWatch {
        path: "/zookeeper/quota/q/zookeeper_stats".into(),
        watch: false,
    });
    assert!(matches!(
        ask(&mut client, used),
        Ok(Response::Data(Some(data), _)) if data.as_ref() == b"count=2,bytes=0"
    ));
}
