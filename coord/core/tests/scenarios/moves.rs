//! Sessions that go on over another connection, whichever members it and the former one are to.

use crate::ensemble::*;
use crate::harness::*;
use bytes::Bytes;
use coord_core::decide::{Outstanding, Rules};
use coord_core::forward::Outcome;
use coord_core::request::Request;
use coord_core::{
    Action, CloseReason, Connect, ConnectionId, Event, Forward, ForwardAnswer, OpError, SessionId,
    State, Zxid,
};

fn set(path: &str, data: &[u8]) -> Request {
    Request::Write(set_write(path, data, -1))
}

/// A session that its client knows of, though the leader has not applied yet that it begins.
fn ahead_of_the_leader(e: &mut Ensemble) -> SessionId {
    let client = e.connect(2, SessionId::NONE, Zxid(0));
    e.pass_forwards();
    e.commit();
    e.apply(2);
    e.apply(3);
    let session = e.accepted(client).unwrap();
    assert!(!e.state(1).sessions.contains_key(&session));
    session
}

#[test]
fn a_session_moves_before_the_leader_has_applied_that_it_begins() {
    for node in 1..=3 {
        let mut e = Ensemble::new(3);
        let session = ahead_of_the_leader(&mut e);
        let client = e.connect(node, session, Zxid(0));
        e.run();
        assert_eq!(e.accepted(client), Some(session), "at member {node}");
    }
}

#[test]
fn then_too_it_is_given_to_nobody_without_its_password() {
    let mut e = Ensemble::new(3);
    let session = ahead_of_the_leader(&mut e);
    let connection = ConnectionId(100);
    let connect = Connect {
        connection,
        last_zxid_seen: Zxid(0),
        timeout_ms: 1_000,
        session,
        password: Bytes::from_static(&[8; 16]),
        new_password: PASSWORD,
        read_only: false,
        identities: Vec::new(),
    };
    e.handle(3, Event::Connect(connect));
    e.run();
    assert_eq!(e.sent(3)[0], Action::Expired { connection });
}

#[test]
fn then_too_it_is_over_once_its_end_is_decided() {
    let mut e = Ensemble::new(3);
    let session = ahead_of_the_leader(&mut e);
    let holder = e.connect(3, session, Zxid(0));
    e.pass_forwards();
    e.commit();
    e.apply(3);
    assert_eq!(e.accepted(holder), Some(session));
    assert!(!e.state(1).sessions.contains_key(&session));
    e.ask(holder, Request::CloseSession);
    e.pass_forwards();
    let late = e.connect(2, session, Zxid(0));
    e.run();
    let connection = late.connection;
    assert!(e.sent(2).contains(&Action::Expired { connection }));
}

#[test]
fn what_resumes_a_session_is_kept_twice_only_until_it_is_applied() {
    let mut outstanding = Outstanding::new(Rules::default());
    let (mut state, session) = (State::default(), SessionId(1));
    let txn = outstanding.decide_open(session, PASSWORD, 1_000, 0);
    assert_eq!(outstanding.password(&state, session), Some(&PASSWORD));
    state.apply(Zxid(1), &txn).unwrap();
    outstanding.applied(Zxid(1), &txn);
    assert_eq!(outstanding.password(&state, session), Some(&PASSWORD));
    assert_eq!(outstanding.password(&State::default(), session), None);
}

#[test]
fn a_session_moves_and_its_former_connection_is_closed() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.answer(a, create("/a", EPHEMERAL)).unwrap();
    let b = e.connect(3, session, Zxid(0));
    e.run();
    assert_eq!(e.closed(a), Some(CloseReason::SessionMoved));
    assert_eq!(e.accepted(b), Some(session));
    assert!(e.answer(b, set("/a", b"1")).is_ok());
    // And back, over the member that leads.
    let c = e.connect(1, session, Zxid(0));
    e.run();
    assert_eq!(e.closed(b), Some(CloseReason::SessionMoved));
    let d = e.connect(1, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(d), Some(session));
    assert_eq!(e.connection_len(1), 1);
    assert_eq!(e.state(1).sessions.len(), 1, "{c:?}");
}

#[test]
fn a_write_of_a_session_that_has_moved_is_refused() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    let b = e.connect(3, session, Zxid(0));
    e.pass_forwards();
    // The former holder's member has not heard of it.
    e.ask(a, create("/a", PERSISTENT));
    e.pass_forwards();
    e.commit();
    // It hears of the refusal last.
    for node in 1..=3 {
        e.apply(node);
    }
    e.run();
    assert_eq!(e.closed(a), Some(CloseReason::SessionMoved));
    assert_eq!(e.accepted(b), Some(session));
    assert!(e.state(1).tree.get("/a").is_none());
}

#[test]
fn a_refused_write_of_a_moved_session_is_answered_so_and_the_connection_closed() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    e.ask(a, create("/a", PERSISTENT));
    let Forward::Request { request, .. } = e.lose_forward(2) else {
        panic!("it is a request")
    };
    let outcome = Outcome::Refused(OpError::SessionMoved);
    let after = Zxid(0);
    let settled = ForwardAnswer::Settled {
        request,
        after,
        outcome,
    };
    e.handle(2, Event::Answered(settled));
    let sent = e.sent(2);
    assert!(
        matches!(
            sent[..],
            [
                Action::Reply {
                    result: Err(OpError::SessionMoved),
                    ..
                },
                Action::Close {
                    reason: CloseReason::SessionMoved,
                    ..
                },
            ]
        ),
        "{sent:?}"
    );
}

#[test]
fn a_session_that_moves_sees_what_it_wrote_before() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(1);
    e.ask(a, create("/a", PERSISTENT));
    e.commit();
    e.apply(1);
    let b = e.connect(3, session, Zxid(0));
    e.pass_forwards();
    e.commit();
    e.apply(1);
    assert_eq!(e.accepted(b), None, "its member is behind");
    e.ask(b, exists("/a", false));
    e.apply(3);
    let sent = e.sent(3);
    assert!(
        matches!(
            sent[..],
            [Action::Accept { .. }, Action::Reply { result: Ok(_), .. }]
        ),
        "{sent:?}"
    );
}

#[test]
fn what_a_member_held_back_is_too_late_if_its_session_spoke_elsewhere_meanwhile_whoever_leads_by_then()
 {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.elect(3);
    // The client has given up on member 2, which notices nothing.
    let others = |e: &mut Ensemble| {
        e.pass_forwards();
        e.commit();
        e.apply(1);
        e.apply(3);
    };
    let b = e.connect(3, session, Zxid(0));
    others(&mut e);
    assert_eq!(e.accepted(b), Some(session));
    e.ask(b, create("/b", PERSISTENT));
    others(&mut e);
    assert!(matches!(e.answers(b)[..], [Ok(_)]));
    e.lose_leader();
    e.ask(a, create("/stale", PERSISTENT));
    e.elect(1);
    e.pass_forwards();
    assert_eq!(e.proposed_len(), 0);
    e.run();
    assert_eq!(e.closed(a), Some(CloseReason::SessionMoved));
    assert!(e.answer(b, create("/c", PERSISTENT)).is_ok());
}
