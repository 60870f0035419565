//! Who may do what, who is who, and who hears of what.

use coord_core::acl::{ALL, CREATE, DELETE, Identity, READ, WRITE, digest_identities};
use coord_core::coordinator::CloseReason;
use coord_core::request::{Read, Request, Response, Write};
use coord_core::required_schemes::RequiredSchemes;
use coord_core::watch::WatchEventType;
use coord_core::{Action, ConnectionId, OpError, State, Zxid};

use crate::harness::{
    Harness, PERSISTENT, children, close, create, create_with, delete_write, entry, events, exists,
    get, identity, open_acl, set_write, settings,
};

const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
const BOB: &[u8] = b"bob:secret";

/// Shows the credentials on a connection.
fn log_in(h: &mut Harness, connection: ConnectionId, credentials: &[u8]) {
    let identities = digest_identities(credentials, Some(SUPER_DIGEST));
    let answer = h.answer(connection, Request::Authenticated(identities));
    assert_eq!(answer, Ok(Response::Empty));
}

fn only(perms: i32, credentials: &[u8]) -> Vec<coord_core::acl::Acl> {
    let identity = digest_identities(credentials, None).remove(0);
    vec![coord_core::acl::Acl { perms, identity }]
}

fn acl_of(h: &mut Harness, connection: ConnectionId, path: &str) -> Vec<coord_core::acl::Acl> {
    let request = Request::Read(Read::GetAcl { path: path.into() });
    match h.answer(connection, request) {
        Ok(Response::Acl(acl, _)) => acl.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_may_be_several_and_is_told_whom() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create_with("/bob", b"", only(ALL, BOB)))
        .unwrap();
    assert_eq!(h.answer(a, get("/bob", false)), Err(OpError::NoAuth));
    for credentials in [BOB, b"amy:x", BOB] {
        log_in(&mut h, a, credentials);
    }
    h.answer(a, get("/bob", false)).unwrap();
    assert_eq!(
        h.answer(a, Request::Read(Read::WhoAmI)),
        Ok(Response::Identities(vec![
            identity("ip", "127.0.0.1"),
            identity("digest", "bob"),
            identity("digest", "amy"),
        ]))
    );
    let auth = vec![entry(READ, "auth", "")];
    h.answer(a, create_with("/both", b"", auth)).unwrap();
    let mut both = only(READ, BOB);
    both.extend(only(READ, b"amy:x"));
    let (b, _) = h.open();
    log_in(&mut h, b, b"super:test");
    assert_eq!(acl_of(&mut h, b, "/both"), both);
}

#[test]
fn what_a_client_has_shown_itself_to_be_holds_from_then_on() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create_with("/bob", b"", only(WRITE, BOB)))
        .unwrap();
    let set = || Request::Write(set_write("/bob", b"1", -1));
    h.ask(a, set());
    h.ask(a, Request::Authenticated(digest_identities(BOB, None)));
    h.ask(a, set());
    let answers = crate::harness::answers(h.commit());
    assert!(
        matches!(answers[..], [.., Ok(Response::Stat(_))]),
        "{answers:?}"
    );
    assert_eq!(h.answer(a, get("/bob", false)), Err(OpError::NoAuth));
}

#[test]
fn identities_that_are_too_long_to_go_with_each_request_are_refused() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let long = |byte: &str| Identity {
        scheme: "digest".into(),
        id: byte.repeat(40_000).into(),
    };
    let shown = |identity| Request::Authenticated(vec![identity]);
    assert_eq!(h.answer(a, shown(long("a"))), Ok(Response::Empty));
    assert_eq!(h.answer(a, shown(long("b"))), Err(OpError::AuthFailed));
}

#[test]
fn the_super_user_may_do_everything() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create_with("/bob", b"", only(READ, BOB)))
        .unwrap();
    log_in(&mut h, a, b"super:test");
    let set_acl = Request::Write(Write::SetAcl {
        path: "/bob".into(),
        acl: open_acl(),
        version: 0,
    });
    h.answer(a, create("/bob/child", PERSISTENT)).unwrap();
    h.answer(a, set_acl).unwrap();
    let config = Request::Write(set_write("/zookeeper/config", b"x", -1));
    h.answer(a, config).unwrap();
}

#[test]
fn sasl_is_answered_with_the_servers_token_and_adds_an_identity_at_its_end() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let amy = vec![entry(ALL, "sasl", "amy")];
    h.answer(a, create_with("/amy", b"", amy)).unwrap();
    let token = Some(bytes::Bytes::from_static(b"rspauth"));
    for (identities, may) in [
        (Vec::new(), Err(OpError::NoAuth)),
        (vec![identity("sasl", "amy")], Ok(())),
    ] {
        let token = token.clone();
        let step = Request::Sasl {
            token: token.clone(),
            identities,
        };
        assert_eq!(h.answer(a, step), Ok(Response::Token(token)));
        assert_eq!(h.answer(a, get("/amy", false)).map(|_| ()), may);
    }
}

#[test]
fn a_session_that_has_to_show_who_it_is_does_nothing_before() {
    let mut required = settings(1);
    required.required_schemes = RequiredSchemes::any_of(["sasl", "digest"]).unwrap();
    let mut h = Harness::with(required, State::default());
    for request in [
        Request::Read(Read::WhoAmI),
        create("/a", PERSISTENT),
        Request::CloseSession,
    ] {
        let (a, _) = h.open();
        // As clients do that ping at once.
        let ping = Request::Read(Read::Ping);
        assert_eq!(h.answer(a, ping), Ok(Response::Empty));
        let actions = h.ask(a, request);
        let [Action::Reply { result, .. }, closed] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(result, &Err(OpError::SaslRequired));
        assert_eq!(closed, &close(a, CloseReason::Refused));
    }
    let (a, _) = h.open();
    log_in(&mut h, a, BOB);
    h.answer(a, create("/a", PERSISTENT)).unwrap();
}

#[test]
fn a_short_multi_makes_no_long_transaction() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for user in 0..50 {
        log_in(&mut h, a, format!("{user}:").as_bytes());
    }
    let auth: Vec<_> = (0..20).map(|perms| entry(perms, "auth", "")).collect();
    let writes = |count: usize| {
        let create = |number: usize| Write::Create {
            path: format!("/{count}-{number}").into(),
            data: None,
            acl: auth.clone(),
            mode: PERSISTENT,
            with_stat: false,
        };
        Request::Multi((0..count).map(create).collect())
    };
    assert!(matches!(h.answer(a, writes(10)), Ok(Response::Multi(_))));
    assert!(matches!(
        h.answer(a, writes(11)),
        Ok(Response::MultiFailed(errors)) if errors[10] == Some(OpError::InvalidAcl)
    ));
}

#[test]
fn too_many_identities_end_the_connection() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for user in 0..63 {
        log_in(&mut h, a, format!("{user}:").as_bytes());
    }
    let one_more = Request::Authenticated(digest_identities(BOB, None));
    let actions = h.ask(a, one_more);
    assert!(matches!(
        &actions[..],
        [Action::Reply { result: Err(OpError::AuthFailed), .. }, last]
            if *last == close(a, CloseReason::Refused)
    ));
}

#[test]
fn a_refusal_for_good_ends_the_connection_in_its_turn() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    assert_eq!(h.ask(a, create("/a", PERSISTENT)), []);
    let refused = Request::Refused {
        error: OpError::AuthFailed,
        close: true,
    };
    assert_eq!(h.ask(a, refused), []);
    h.ask(a, get("/a", false));
    let actions = h.commit();
    assert!(
        matches!(
            &actions[..],
            [
                Action::Reply { result: Ok(_), .. },
                Action::Reply { result: Err(OpError::AuthFailed), .. },
                last,
            ] if *last == close(a, CloseReason::Refused)
        ),
        "{actions:?}"
    );
}

#[test]
fn each_operation_asks_for_its_own_permission() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let closed = vec![entry(ALL, "ip", "10.0.0.0/8")];
    h.answer(a, create_with("/closed", b"", closed)).unwrap();
    let check = Write::Check {
        path: "/closed".into(),
        version: 0,
    };
    let count = Read::GetAllChildrenNumber {
        path: "/closed".into(),
    };
    for request in [
        get("/closed", true),
        exists("/closed", true),
        children("/closed", true),
        Request::Read(count),
        Request::Read(Read::GetAcl {
            path: "/closed".into(),
        }),
        create("/closed/a", PERSISTENT),
        // Whether a child exists is told only to those who may delete it.
        Request::Write(delete_write("/closed/no", -1)),
        Request::Write(set_write("/closed", b"", 9)),
        Request::Write(check.clone()),
    ] {
        let answer = h.answer(a, request.clone());
        assert_eq!(answer, Err(OpError::NoAuth), "{request:?}");
    }
    let (b, _) = h.open();
    assert_eq!(
        h.coordinator.watch_len(),
        0,
        "a refused read leaves no watch"
    );
    assert_eq!(
        h.answer(b, Request::Multi(vec![check])),
        Ok(Response::MultiFailed(vec![Some(OpError::NoAuth)]))
    );
}

#[test]
fn a_create_is_refused_for_zookeepers_first_reason() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(
        a,
        create_with("/closed", b"", vec![entry(READ, "world", "anyone")]),
    )
    .unwrap();
    let no_acl = |path: &str| create_with(path, b"", Vec::new());
    for (request, error) in [
        (no_acl("a"), OpError::BadArguments),
        (no_acl("/no/a"), OpError::InvalidAcl),
        (create("/a//b", PERSISTENT), OpError::NoNode),
        (create("/closed/..", PERSISTENT), OpError::NoAuth),
        (create("/..", PERSISTENT), OpError::BadArguments),
        (create("/\u{1f600}", PERSISTENT), OpError::BadArguments),
    ] {
        assert_eq!(h.answer(a, request.clone()), Err(error), "{request:?}");
    }
    h.answer(
        a,
        create_with(
            "/drop",
            b"",
            vec![entry(CREATE | DELETE, "world", "anyone")],
        ),
    )
    .unwrap();
    h.answer(a, create("/drop/a", PERSISTENT)).unwrap();
    h.answer(a, Request::Write(delete_write("/drop/a", 0)))
        .unwrap();
}

#[test]
fn cve_2019_0201_digests_are_for_those_who_may_set_the_acl() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let mut acl = only(ALL, BOB);
    acl.push(entry(READ, "world", "anyone"));
    h.answer(a, create_with("/a", b"", acl.clone())).unwrap();
    let shown = acl_of(&mut h, a, "/a");
    assert_eq!(shown, [entry(ALL, "digest", "bob:x"), acl[1].clone()]);
    log_in(&mut h, a, BOB);
    assert_eq!(acl_of(&mut h, a, "/a"), acl);
}

#[test]
fn cve_2024_23944_a_persistent_watch_tells_nothing_of_what_may_not_be_read() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (bob, _) = h.open();
    log_in(&mut h, bob, BOB);
    for connection in [a, bob] {
        let watch = Read::AddWatch {
            path: "/".into(),
            recursive: true,
        };
        h.answer(connection, Request::Read(watch)).unwrap();
    }
    h.ask(bob, create_with("/secret", b"", only(ALL, BOB)));
    h.ask(bob, Request::Write(set_write("/secret", b"1", -1)));
    h.ask(bob, create("/secret/open", PERSISTENT));
    h.ask(bob, Request::Write(delete_write("/secret/open", -1)));
    h.ask(bob, Request::Write(delete_write("/secret", -1)));
    let actions = h.commit();
    let told = events(&actions);
    let to = |connection| told.iter().filter(move |(to, ..)| *to == connection);
    assert_eq!(to(bob).count(), 5, "{told:?}");
    let of_open: Vec<_> = to(a).map(|(_, event, path)| (*event, *path)).collect();
    assert_eq!(
        of_open,
        [
            (WatchEventType::NodeCreated, "/secret/open"),
            (WatchEventType::NodeDeleted, "/secret/open")
        ]
    );
}

#[test]
fn cve_2024_23944_the_acl_is_that_of_the_moment() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    log_in(&mut h, b, BOB);
    h.answer(b, create("/p", PERSISTENT)).unwrap();
    h.answer(a, get("/p", true)).unwrap();
    h.answer(a, children("/p", true)).unwrap();
    let multi = vec![
        Write::SetAcl {
            path: "/p".into(),
            acl: only(ALL, BOB),
            version: -1,
        },
        set_write("/p", b"1", -1),
    ];
    h.ask(b, Request::Multi(multi));
    h.ask(b, create("/p/c", PERSISTENT));
    assert_eq!(events(&h.commit()), []);
    assert_eq!(h.coordinator.watch_len(), 0, "spent all the same");
}

#[test]
fn cve_2024_23944_nor_does_a_watch_that_is_set_again() {
    let mut h = Harness::new();
    let (_, session) = h.open();
    let (b, _) = h.open();
    log_in(&mut h, b, BOB);
    h.answer(b, create_with("/secret", b"", only(ALL, BOB)))
        .unwrap();
    let a = h.resume(session, Zxid(0));
    let set = Read::SetWatches {
        since: Zxid(0),
        data: vec!["/secret".into()],
        exist: vec!["/secret".into()],
        child: vec!["/secret".into(), "/gone".into()],
        persistent: Vec::new(),
        persistent_recursive: Vec::new(),
    };
    let actions = h.ask(a, Request::Read(set));
    assert_eq!(
        events(&actions),
        [(a, WatchEventType::NodeDeleted, "/gone")]
    );
    assert_eq!(h.coordinator.watch_len(), 0, "spent all the same");
}
