//! Scenarios: what clients see, in which order, and when.

use crate::harness::*;
use bytes::Bytes;
use coord_core::request::{Read, Request, Response, Write};
use coord_core::watch::WatchEventType::{
    NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted,
};
use coord_core::{Action, CloseReason, Event, OpError, SessionId, Zxid};

#[test]
fn nothing_is_answered_before_it_is_committed() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    assert_eq!(h.ask(a, create("/a", PERSISTENT)), []);
    // Another session sees the state before, at once.
    assert_eq!(
        answers(h.ask(b, exists("/a", false))),
        [Err(OpError::NoNode)]
    );
    assert_eq!(answers(h.commit()), [Ok(Response::Path("/a".into()))]);
    assert!(matches!(
        h.answer(b, exists("/a", false)),
        Ok(Response::Stat(_))
    ));
}

#[test]
fn a_session_reads_its_own_writes_and_is_answered_in_order() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    assert_eq!(h.ask(a, create("/a", PERSISTENT)), []);
    assert_eq!(h.ask(a, get("/a", false)), []);
    assert_eq!(h.ask(a, Request::Write(set_write("/a", b"1", 0))), []);
    assert_eq!(h.ask(a, get("/a", false)), []);
    let all = h.log.len();
    let first = answers(h.commit_to(all - 1));
    assert!(
        matches!(&first[..], [Ok(Response::Path(_)), Ok(Response::Data(Some(data), _))] if data.is_empty())
    );
    let second = answers(h.commit());
    assert!(
        matches!(&second[..], [Ok(Response::Stat(_)), Ok(Response::Data(Some(data), _))] if data == "1")
    );
}

#[test]
fn writes_are_decided_against_what_is_outstanding() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    for request in [
        create("/a", PERSISTENT),
        create("/a/c", PERSISTENT),
        create("/a/s-", SEQUENTIAL),
        Request::Write(set_write("/a", b"x", 0)),
        Request::Write(set_write("/a", b"y", 1)),
    ] {
        assert_eq!(h.ask(a, request), []);
    }
    // These errors tell of changes that a crash could still take back, so they wait for them.
    assert_eq!(h.ask(b, create("/a", PERSISTENT)), []);
    assert_eq!(h.ask(b, Request::Write(delete_write("/a", -1))), []);
    assert_eq!(h.ask(b, Request::Write(set_write("/a", b"z", 1))), []);
    let answers = answers(h.commit());
    assert_eq!(answers[2], Ok(Response::Path("/a/s-0000000001".into())));
    assert_eq!(
        answers[5..],
        [
            Err(OpError::NodeExists),
            Err(OpError::NotEmpty),
            Err(OpError::BadVersion)
        ]
    );
}

#[test]
fn a_watch_event_comes_before_the_answer_that_shows_the_change() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    h.answer(a, create("/a", PERSISTENT)).unwrap();
    h.answer(a, get("/a", true)).unwrap();
    h.ask(b, Request::Write(set_write("/a", b"1", -1)));
    h.ask(a, create("/b", PERSISTENT));
    h.ask(a, get("/a", false));
    let zxid = h.log[h.log.len() - 2].0;
    let actions = h.commit();
    let event = Action::Notify {
        connection: a,
        zxid,
        event: NodeDataChanged,
        path: "/a".into(),
    };
    assert_eq!(actions[0], event, "{actions:#?}");
    let shows = |action: &Action| matches!(action, Action::Reply { connection, result: Ok(Response::Data(..)), .. } if *connection == a);
    assert!(actions[1..].iter().any(shows), "{actions:#?}");
}

#[test]
fn watches_of_every_kind_fire_once() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    let events_of = |h: &mut Harness, request| {
        let mut actions = h.ask(b, request);
        actions.extend(h.commit());
        let event = |action| match action {
            Action::Notify {
                connection,
                event,
                path,
                ..
            } if connection == a => Some((event, path.to_string())),
            _ => None,
        };
        actions.into_iter().filter_map(event).collect::<Vec<_>>()
    };
    h.answer(a, exists("/n", true)).unwrap_err();
    h.answer(a, children("/", true)).unwrap();
    let events = events_of(&mut h, create("/n", PERSISTENT));
    assert_eq!(
        events,
        [
            (NodeCreated, "/n".to_owned()),
            (NodeChildrenChanged, "/".to_owned())
        ]
    );
    assert_eq!(
        events_of(&mut h, Request::Write(set_write("/n", b"", -1))),
        []
    );

    h.answer(a, get("/n", true)).unwrap();
    h.answer(a, children("/n", true)).unwrap();
    assert_eq!(
        events_of(&mut h, create("/n/c", PERSISTENT)),
        [(NodeChildrenChanged, "/n".to_owned())]
    );
    assert_eq!(
        events_of(&mut h, Request::Write(set_write("/n", b"", -1))),
        [(NodeDataChanged, "/n".to_owned())]
    );

    h.answer(a, exists("/n/c", true)).unwrap();
    h.answer(a, children("/n/c", true)).unwrap();
    let deletion = Request::Write(delete_write("/n/c", -1));
    assert_eq!(
        events_of(&mut h, deletion),
        [(NodeDeleted, "/n/c".to_owned())],
        "told once, not per watch"
    );
    assert_eq!(h.coordinator.watch_len(), 0);
}

#[test]
fn a_read_that_fails_leaves_no_watch() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    assert_eq!(h.answer(a, get("/n", true)), Err(OpError::NoNode));
    assert_eq!(h.answer(a, children("/n", true)), Err(OpError::NoNode));
    assert_eq!(h.coordinator.watch_len(), 0);
}

#[test]
fn a_connection_that_watches_too_much_is_closed_and_its_session_lives() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    let long = "n".repeat(65_536);
    let closed = (0..2_000).any(|number| {
        let replies = h.ask(a, exists(&format!("/{long}{number}"), true));
        replies.contains(&close(a, CloseReason::TooManyWatches))
    });
    assert!(closed);
    assert_eq!(h.coordinator.watch_len(), 0);
    let b = h.resume(session, Zxid(0));
    assert_eq!(h.answer(b, exists("/n", true)), Err(OpError::NoNode));
}

#[test]
fn set_watches_tells_what_was_missed_and_sets_the_rest() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    for path in ["/same", "/changed", "/deleted", "/parent", "/quiet"] {
        h.answer(a, create(path, PERSISTENT)).unwrap();
    }
    let since = h.coordinator.state().last_zxid;
    h.handle(Event::Disconnected { connection: a });
    let (b, _) = h.open();
    h.answer(b, Request::Write(set_write("/changed", b"", -1)))
        .unwrap();
    h.answer(b, Request::Write(delete_write("/deleted", -1)))
        .unwrap();
    h.answer(b, create("/parent/c", PERSISTENT)).unwrap();
    h.answer(b, create("/created", PERSISTENT)).unwrap();

    let a = h.resume(session, since);
    let actions = h.ask(
        a,
        Request::Read(Read::SetWatches {
            since,
            data: vec!["/same".into(), "/changed".into(), "/deleted".into()],
            exist: vec!["/created".into(), "/absent".into()],
            child: vec!["/parent".into(), "/quiet".into(), "/deleted".into()],
            persistent: Vec::new(),
            persistent_recursive: Vec::new(),
        }),
    );
    let missed = |event, path: &str| Action::Notify {
        connection: a,
        zxid: Zxid(-1),
        event,
        path: path.into(),
    };
    assert_eq!(
        actions[..5],
        [
            missed(NodeDataChanged, "/changed"),
            missed(NodeDeleted, "/deleted"),
            missed(NodeCreated, "/created"),
            missed(NodeChildrenChanged, "/parent"),
            missed(NodeDeleted, "/deleted"),
        ]
    );
    assert!(matches!(
        actions[5],
        Action::Reply {
            result: Ok(Response::Empty),
            ..
        }
    ));
    assert_eq!(h.coordinator.watch_len(), 3);
}

#[test]
fn a_session_ends_with_its_timeout_and_takes_its_ephemerals_along() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    let (b, _) = h.open();
    h.answer(a, create("/e", EPHEMERAL)).unwrap();
    h.answer(b, exists("/e", true)).unwrap();
    assert_eq!(h.advance(999), []);
    h.ask(b, Request::Read(Read::Ping));
    assert_eq!(h.advance(1), [], "decided, but not before it is durable");
    let actions = h.commit();
    let zxid = h.coordinator.state().last_zxid;
    assert_eq!(
        actions,
        [
            Action::Notify {
                connection: b,
                zxid,
                event: NodeDeleted,
                path: "/e".into()
            },
            close(a, CloseReason::SessionEnded),
        ]
    );
    let (c, replies) = h.connect_as(session, &[7; 16], Zxid(0));
    assert_eq!(
        replies,
        [
            Action::Expired { connection: c },
            close(c, CloseReason::SessionExpired)
        ]
    );
}

#[test]
fn any_request_keeps_a_session_alive() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for _ in 0..5 {
        assert_eq!(h.advance(600), []);
        assert_eq!(
            answers(h.ask(a, Request::Read(Read::Ping))),
            [Ok(Response::Empty)]
        );
    }
    assert_eq!(h.coordinator.state().sessions.len(), 1);
}

#[test]
fn bug_zookeeper_1208_no_ephemeral_outlives_its_session() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    h.ask(a, create("/before", EPHEMERAL));
    h.ask(a, Request::CloseSession);
    h.ask(a, create("/after", EPHEMERAL));
    let actions = h.commit();
    let answers = answers(actions.clone());
    assert_eq!(
        answers[1..],
        [Ok(Response::Empty), Err(OpError::SessionExpired)]
    );
    assert_eq!(actions.last(), Some(&close(a, CloseReason::SessionEnded)));
    assert!(h.coordinator.state().tree.get("/before").is_none());
    assert!(h.coordinator.state().tree.get("/after").is_none());
    assert!(!h.coordinator.state().sessions.contains_key(&session));
}

#[test]
fn an_ephemeral_deleted_before_the_close_is_not_deleted_twice() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create("/e", EPHEMERAL)).unwrap();
    h.ask(a, Request::Write(delete_write("/e", -1)));
    h.ask(a, Request::CloseSession);
    assert_eq!(
        answers(h.commit()),
        [Ok(Response::Empty), Ok(Response::Empty)]
    );
}

#[test]
fn resuming_moves_the_session() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    h.ask(a, create("/a", PERSISTENT));
    let (b, replies) = h.connect_as(session, &[7; 16], Zxid(0));
    // The former connection's write is outstanding, and has to be visible on the new one.
    assert_eq!(replies, []);
    h.ask(b, get("/a", false));
    let actions = h.commit();
    assert!(matches!(actions[0], Action::Reply { connection, .. } if connection == a));
    assert_eq!(actions[1], close(a, CloseReason::SessionMoved));
    assert!(
        matches!(actions[2], Action::Accept { connection, session: of, .. } if connection == b && of == session)
    );
    assert!(matches!(answers(actions)[1], Ok(Response::Data(..))));
    assert_eq!(
        h.ask(a, get("/a", false)),
        [],
        "the old connection is not heard any more"
    );
    h.handle(Event::Disconnected { connection: a });
    assert!(matches!(
        h.answer(b, get("/a", false)),
        Ok(Response::Data(..))
    ));
}

#[test]
fn a_wrong_password_is_answered_as_an_unknown_session() {
    let mut h = Harness::new();
    let (_, session) = h.open();
    for (session, password) in [(session, [8; 16]), (SessionId(42), [7; 16])] {
        let (c, replies) = h.connect_as(session, &password, Zxid(0));
        assert_eq!(
            replies,
            [
                Action::Expired { connection: c },
                close(c, CloseReason::SessionExpired)
            ]
        );
    }
}

#[test]
fn a_client_that_has_seen_more_is_refused() {
    let mut h = Harness::new();
    let (_, session) = h.open();
    let last = h.coordinator.state().last_zxid;
    let (c, replies) = h.connect_as(session, &[7; 16], last.next());
    assert_eq!(replies, [close(c, CloseReason::LaterStateSeen)]);
    h.resume(session, last);
}

#[test]
fn sessions_live_on_with_a_full_timeout_after_a_restart() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    h.answer(a, create("/e", EPHEMERAL)).unwrap();
    h.advance(900);
    h.restart();
    h.advance(900);
    h.commit();
    assert!(h.coordinator.state().tree.get("/e").is_some());
    // Zxids grow over restarts: the term is in their upper half.
    let before = h.coordinator.state().last_zxid;
    let b = h.resume(session, Zxid(0));
    h.answer(b, create("/a", PERSISTENT)).unwrap();
    let after = h.coordinator.state().last_zxid;
    assert!(after > before && after.term() > before.term());
}

#[test]
fn session_ids_are_unique_even_if_the_clock_goes_back() {
    let mut h = Harness::new();
    let (_, first) = h.open();
    h.now.wall_ms -= 500;
    h.restart();
    let (_, second) = h.open();
    let (c, _) = h.connect_as(SessionId::NONE, b"", Zxid(0));
    let (_, fourth) = h.open();
    assert!(second > first && fourth > second);
    assert_eq!(h.coordinator.state().sessions.len(), 4, "{c:?}");
}

#[test]
fn what_was_not_committed_is_forgotten_by_a_crash() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    h.answer(a, create("/kept", PERSISTENT)).unwrap();
    h.ask(a, create("/lost", PERSISTENT));
    h.restart();
    let b = h.resume(session, Zxid(0));
    assert!(h.answer(b, exists("/kept", false)).is_ok());
    assert_eq!(h.answer(b, exists("/lost", false)), Err(OpError::NoNode));
    assert!(h.answer(b, create("/lost", PERSISTENT)).is_ok());
}

#[test]
fn a_multi_happens_as_a_whole() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let multi = Request::Multi(vec![
        create_write("/a", PERSISTENT),
        create_write("/a/b", PERSISTENT),
        set_write("/a", b"1", 0),
        Write::Check {
            path: "/a".into(),
            version: 1,
        },
        delete_write("/a/b", -1),
    ]);
    let Ok(Response::Multi(results)) = h.answer(a, multi) else {
        panic!("the multi is refused")
    };
    assert_eq!(results.len(), 5);
    assert_eq!(results[1].1, Response::Path("/a/b".into()));
    let node = h.coordinator.state().tree.get("/a").unwrap();
    assert_eq!(
        (node.version, node.children.len(), node.child_creates),
        (1, 0, 1)
    );
    assert_eq!(
        (node.czxid, node.pzxid),
        (node.mzxid, node.mzxid),
        "one transaction"
    );
}

#[test]
fn a_refused_multi_leaves_no_trace_also_on_what_is_outstanding() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.ask(a, create("/a", PERSISTENT));
    h.ask(a, Request::Write(set_write("/a", b"", 0)));
    h.ask(
        a,
        Request::Multi(vec![
            set_write("/a", b"", 1),
            create_write("/a/s-", SEQUENTIAL),
            create_write("/b", PERSISTENT),
            Write::Check {
                path: "/a".into(),
                version: 9,
            },
            delete_write("/a", -1),
        ]),
    );
    h.ask(a, create("/a/s-", SEQUENTIAL));
    h.ask(a, Request::Write(set_write("/a", b"", 1)));
    h.ask(a, create("/b", PERSISTENT));
    let answers = answers(h.commit());
    let errors = vec![
        None,
        None,
        None,
        Some(OpError::BadVersion),
        Some(OpError::RuntimeInconsistency),
    ];
    assert_eq!(answers[2], Ok(Response::MultiFailed(errors)));
    assert_eq!(answers[3], Ok(Response::Path("/a/s-0000000000".into())));
    assert!(answers[4].is_ok() && answers[5].is_ok(), "{answers:?}");
}

#[test]
fn errors_are_zookeepers() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create("/e", EPHEMERAL)).unwrap();
    h.answer(a, create("/p", PERSISTENT)).unwrap();
    h.answer(a, create("/p/c", PERSISTENT)).unwrap();
    let no_acl = Write::Create {
        path: "/x".into(),
        data: None,
        acl: vec![],
        mode: PERSISTENT,
        with_stat: false,
    };
    for (request, error) in [
        (create("/p", PERSISTENT), OpError::NodeExists),
        (create("/no/x", PERSISTENT), OpError::NoNode),
        (create("/e/x", PERSISTENT), OpError::NoChildrenForEphemerals),
        (create("/p/", PERSISTENT), OpError::BadArguments),
        (create("x", SEQUENTIAL), OpError::BadArguments),
        (create("/", PERSISTENT), OpError::NodeExists),
        (Request::Write(no_acl), OpError::InvalidAcl),
        (Request::Write(delete_write("/p", -1)), OpError::NotEmpty),
        (Request::Write(delete_write("/p/c", 3)), OpError::BadVersion),
        (Request::Write(delete_write("/no", -1)), OpError::NoNode),
        (
            Request::Write(delete_write("/zookeeper/quota", -1)),
            OpError::BadArguments,
        ),
        (Request::Write(set_write("/no", b"", -1)), OpError::NoNode),
        (
            Request::Write(set_write("/zookeeper/config", b"", -1)),
            OpError::NoAuth,
        ),
        (get("/no", false), OpError::NoNode),
        (get("bad", false), OpError::NoNode),
        (exists("/a\0", false), OpError::BadArguments),
        (
            Request::Refused {
                error: OpError::Marshalling,
                close: false,
            },
            OpError::Marshalling,
        ),
    ] {
        assert_eq!(h.answer(a, request.clone()), Err(error), "{request:?}");
    }
}

#[test]
fn sync_waits_for_what_was_proposed_before() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    h.ask(a, create("/a", PERSISTENT));
    let actions = h.ask(b, Request::Sync { path: "/a".into() });
    let [Action::ConfirmLeadership { token }] = actions[..] else {
        panic!("{actions:?}")
    };
    h.ask(b, exists("/a", false));
    assert_eq!(h.handle(Event::LeadershipConfirmed { token }), []);
    let to_b = |action: &Action| matches!(action, Action::Reply { connection, result: Ok(_), .. } if *connection == b);
    assert_eq!(h.commit().iter().filter(|action| to_b(action)).count(), 2);
}

#[test]
fn the_end_of_a_session_is_a_short_transaction_whatever_it_owns() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    for node in 0..8 {
        let path = format!("/{}{node}", "a".repeat(100_000));
        h.answer(a, create(&path, EPHEMERAL)).unwrap();
    }
    h.ask(a, create("/on-its-way", EPHEMERAL));
    h.ask(a, Request::CloseSession);
    let (zxid, txn) = h.log.last().unwrap();
    let mut bytes = Vec::new();
    coord_core::txn::encode(*zxid, txn, &mut bytes);
    assert!(bytes.len() < 100, "{}", bytes.len());
    h.commit();
    assert_eq!(h.coordinator.state().tree.ephemerals_len(), 0);
    assert!(h.answer(b, create("/on-its-way", PERSISTENT)).is_ok());
}

#[test]
fn writes_that_do_not_fit_into_a_transaction_are_refused() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let long = Bytes::from(vec![0; coord_core::txn::MAX_LEN / 2]);
    let create = |path: &'static str| Write::Create {
        path: path.into(),
        data: Some(long.clone()),
        acl: open_acl(),
        mode: PERSISTENT,
        with_stat: false,
    };
    let both = Request::Multi(vec![create("/a"), create("/b")]);
    assert_eq!(
        h.answer(a, both),
        Ok(Response::MultiFailed(vec![
            None,
            Some(OpError::BadArguments)
        ]))
    );
    // Nothing of it was decided.
    let one = Request::Multi(vec![create("/a")]);
    assert!(matches!(h.answer(a, one), Ok(Response::Multi(_))));
}
