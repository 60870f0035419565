//! Scenarios of an ensemble: what clients see through any member, whoever leads.

use std::sync::Arc;

use crate::ensemble::*;
use crate::harness::*;
use coord_core::request::{Read, Request, Response};
use coord_core::txn::{Change, Txn};
use coord_core::watch::WatchEventType::NodeDataChanged;
use coord_core::{
    Action, CloseReason, Event, Forward, NodeId, OpError, RequestId, SessionId, Settings, Standing,
    Zxid,
};

fn set(path: &str, data: &[u8]) -> Request {
    Request::Write(set_write(path, data, -1))
}

fn sync() -> Request {
    Request::Sync { path: "/".into() }
}

fn shows(answer: &Result<Response, OpError>, expected: &str) -> bool {
    matches!(answer, Ok(Response::Data(Some(data), _)) if data == expected)
}

#[test]
fn a_client_of_a_follower_writes_and_reads_its_own_writes() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    e.ask(a, create("/a", PERSISTENT));
    e.ask(a, set("/a", b"1"));
    e.ask(a, get("/a", false));
    e.pass_forwards();
    e.commit();
    assert_eq!(e.answers(a), []);
    e.apply(1);
    assert_eq!(e.answers(a), [], "its own member has not applied it");
    e.apply(2);
    let answers = e.answers(a);
    assert!(matches!(answers[0], Ok(Response::Path(_))), "{answers:?}");
    assert!(matches!(answers[1], Ok(Response::Stat(_))), "{answers:?}");
    assert!(shows(&answers[2], "1"), "{answers:?}");
    let (c, _) = e.open(3);
    assert!(shows(&e.answer(c, get("/a", false)), "1"));
}

#[test]
fn a_refusal_waits_until_its_member_shows_why() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(3);
    e.ask(a, create("/a", PERSISTENT));
    e.ask(b, create("/a", PERSISTENT));
    e.pass_forwards();
    e.pass_answers();
    assert_eq!(e.answers(b), []);
    e.commit();
    e.apply(3);
    assert_eq!(e.answers(b), [Err(OpError::NodeExists)]);
    assert!(e.answer(b, exists("/a", false)).is_ok());
}

#[test]
fn a_late_refusal_is_not_overtaken_by_what_its_session_wrote_after() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    e.ask(a, create("/a", PERSISTENT));
    e.ask(a, get("/a", false));
    e.ask(a, set("/a", b"later"));
    e.pass_forwards();
    e.commit();
    e.apply(2);
    // The refusal comes last of all, and the read behind it must not see the write that came after.
    e.pass_answers();
    e.run();
    let answers = e.answers(a);
    assert_eq!(answers[0], Err(OpError::NodeExists));
    assert!(shows(&answers[1], ""), "{answers:?}");
    assert!(matches!(answers[2], Ok(Response::Stat(_))), "{answers:?}");
}

#[test]
fn on_a_follower_too_a_watch_event_comes_before_the_answer_that_shows_the_change() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(3);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    e.answer(a, get("/a", true)).unwrap();
    e.ask(b, set("/a", b"1"));
    e.pass_forwards();
    e.ask(a, create("/b", PERSISTENT));
    e.ask(a, get("/a", false));
    e.run();
    let sent = e.sent(2);
    let event = sent.iter().position(
        |action| matches!(action, Action::Notify { event: NodeDataChanged, connection, .. } if *connection == a.connection),
    );
    let shown = sent.iter().position(|action| {
        matches!(
            action,
            Action::Reply {
                result: Ok(Response::Data(..)),
                ..
            }
        )
    });
    assert!(event.unwrap() < shown.unwrap(), "{sent:#?}");
}

#[test]
fn a_sync_shows_all_that_was_committed_when_it_came() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(1);
    e.ask(b, create("/a", PERSISTENT));
    e.commit();
    e.apply(1);
    assert_eq!(e.answers(b).len(), 1, "acknowledged to its client");
    e.ask(a, sync());
    e.ask(a, exists("/a", false));
    e.pass_forwards();
    e.pass_answers();
    assert_eq!(e.answers(a), [], "another may lead by now");
    let token = e.tokens.pop().unwrap();
    e.handle(1, Event::LeadershipConfirmed { token });
    e.pass_answers();
    assert_eq!(e.answers(a), [], "it is not applied here");
    e.apply(2);
    let answers = e.answers(a);
    assert_eq!(answers.len(), 2);
    assert!(answers[1].is_ok(), "{answers:?}");
}

#[test]
fn a_read_behind_a_sync_does_not_show_what_its_session_wrote_after_it() {
    for node in [1, 2] {
        let mut e = Ensemble::new(3);
        let (a, _) = e.open(node);
        e.answer(a, create("/a", PERSISTENT)).unwrap();
        e.ask(a, sync());
        e.ask(a, get("/a", false));
        e.ask(a, set("/a", b"later"));
        e.pass_forwards();
        e.commit();
        e.apply(node);
        e.run();
        let answers = e.answers(a);
        assert_eq!(answers.len(), 3, "{answers:?}");
        assert!(shows(&answers[1], ""), "{answers:?}");
        assert!(shows(&e.answer(a, get("/a", false)), "later"));
    }
}

#[test]
fn a_leader_that_may_not_decide_says_so_to_whom_it_is_asked_by() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (_, idle) = e.open(2);
    e.handle(1, Event::QuorumLost);
    e.ask(a, create("/a", PERSISTENT));
    e.pass_forwards();
    e.pass_answers();
    assert_eq!(e.closed(a), Some(CloseReason::OutcomeUnknown));
    // What comes once it leads again is taken.
    e.handle(1, Event::Leading { term: 1 });
    let b = e.connect(2, idle, Zxid(0));
    e.run();
    assert_eq!(e.accepted(b), Some(idle));
    assert!(e.answer(b, create("/b", PERSISTENT)).is_ok());
    assert!(e.state(1).tree.get("/a").is_none());
}

#[test]
fn a_sync_that_meets_no_leader_is_not_answered() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(1);
    e.ask(a, sync());
    e.ask(b, sync());
    e.pass_forwards();
    let token = e.tokens.pop().unwrap();
    assert_eq!(e.tokens, [], "one question at a time");
    e.handle(1, Event::LeadershipLost { token });
    e.pass_answers();
    assert_eq!(e.closed(b), Some(CloseReason::OutcomeUnknown));
    let token = e.tokens.pop().unwrap();
    e.handle(1, Event::LeadershipConfirmed { token });
    e.pass_answers();
    assert_eq!(e.answers(a), [Ok(Response::Path("/".into()))]);
}

#[test]
fn a_lost_leader_takes_along_only_the_connections_that_wait_for_it() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    let (b, _) = e.open(2);
    let (c, _) = e.open(1);
    e.ask(a, create("/lost", PERSISTENT));
    e.ask(c, create("/lost-too", PERSISTENT));
    e.pass_forwards();
    assert_eq!(e.proposed_len(), 2);
    e.lose_leader();
    assert_eq!(e.closed(a), Some(CloseReason::OutcomeUnknown));
    assert_eq!(e.closed(c), Some(CloseReason::OutcomeUnknown));
    // The other one does not even notice: what it asks for meanwhile goes to the next leader.
    e.ask(b, exists("/lost", false));
    assert_eq!(e.answers(b), [Err(OpError::NoNode)]);
    e.ask(b, create("/kept", PERSISTENT));
    e.elect(3);
    e.run();
    assert_eq!(e.answers(b), [Ok(Response::Path("/kept".into()))]);
    for node in 1..=3 {
        assert!(e.state(node).tree.get("/lost").is_none());
        assert!(e.state(node).tree.get("/lost-too").is_none());
    }
    // The session is there still, with its id.
    let seen = e.state(3).last_zxid;
    let a = e.connect(3, session, seen);
    e.run();
    assert_eq!(e.accepted(a), Some(session));
    assert!(e.answer(a, create("/lost", PERSISTENT)).is_ok());
}

#[test]
fn what_the_next_leader_has_is_applied_though_nobody_is_answered() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.ask(a, create("/a", EPHEMERAL));
    e.pass_forwards();
    e.lose_leader_alone();
    e.elect(2);
    e.run();
    assert!(e.state(2).tree.get("/a").is_some());
    assert!(e.answers(a).is_empty());
    let a = e.connect(2, session, Zxid(0));
    e.run();
    assert_eq!(
        e.answer(a, create("/a", EPHEMERAL)),
        Err(OpError::NodeExists)
    );
}

#[test]
fn an_answer_that_rests_on_a_lost_write_is_not_given() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(1);
    e.ask(b, create("/a", PERSISTENT));
    e.ask(a, create("/a", PERSISTENT));
    e.pass_forwards();
    e.pass_answers();
    e.lose_leader();
    let sent = e.sent(2);
    assert!(
        matches!(
            sent[..],
            [Action::Close {
                reason: CloseReason::OutcomeUnknown,
                ..
            }]
        ),
        "{sent:?}"
    );
}

#[test]
fn a_leader_that_was_replaced_unheard_gives_no_answer_that_rests_on_what_it_decided() {
    for node in [1, 2] {
        let mut e = Ensemble::new(3);
        let (a, _) = e.open(node);
        let (b, _) = e.open(1);
        e.ask(b, create("/a", PERSISTENT));
        e.ask(a, create("/a", PERSISTENT));
        e.pass_forwards();
        e.pass_answers();
        let txn = Txn {
            session: SessionId::NONE,
            time_ms: 0,
            origin: None,
            change: Change::Effects(Vec::new()),
        };
        let zxid = Zxid::start_of(2).next();
        let txns = vec![(zxid, Arc::new(txn))];
        e.handle(node, Event::Committed { txns });
        assert_eq!(e.closed(a), Some(CloseReason::OutcomeUnknown));
        assert!(e.state(node).tree.get("/a").is_none());
    }
}

/// An ensemble whose members know of each other, as all but a server by itself do.
fn acquainted() -> Ensemble {
    let mut e = Ensemble::new(3);
    let spec = |node| format!("host{node}:2888:3888").parse().unwrap();
    e.tell_members(&(1..=3).map(|node| (NodeId(node), spec(node))).collect());
    e.run();
    e
}

#[test]
fn a_refusal_that_rests_on_nothing_new_is_given_by_who_still_leads() {
    for node in [1, 2] {
        let mut e = acquainted();
        let (a, _) = e.open(node);
        e.answer(a, create("/a", PERSISTENT)).unwrap();
        e.ask(a, create("/a", PERSISTENT));
        e.pass_forwards();
        e.pass_answers();
        assert_eq!(e.answers(a), [], "another may lead, and have removed it");
        let token = e.tokens.pop().unwrap();
        e.handle(1, Event::LeadershipConfirmed { token });
        e.pass_answers();
        assert_eq!(e.answers(a), [Err(OpError::NodeExists)]);
        // That a session is not there is likewise known to the leader alone.
        let b = e.connect(3, SessionId(7), Zxid(0));
        e.pass_forwards();
        let token = e.tokens.pop().unwrap();
        e.handle(1, Event::LeadershipLost { token });
        e.pass_answers();
        assert_eq!(e.closed(b), Some(CloseReason::OutcomeUnknown));
    }
}

#[test]
fn so_is_one_that_rests_on_what_is_on_its_way() {
    for node in [1, 2] {
        let mut e = acquainted();
        let (a, _) = e.open(node);
        let (b, _) = e.open(1);
        e.ask(b, create("/a", PERSISTENT));
        e.ask(a, create("/a", PERSISTENT));
        e.pass_forwards();
        e.commit();
        e.apply(1);
        e.apply(2);
        e.pass_answers();
        assert_eq!(
            e.answers(a),
            [],
            "a majority may have it from another leader"
        );
        let token = e.tokens.pop().unwrap();
        e.handle(1, Event::LeadershipConfirmed { token });
        e.pass_answers();
        assert_eq!(e.answers(a), [Err(OpError::NodeExists)]);
    }
}

#[test]
fn on_the_leader_too_a_late_refusal_is_not_overtaken() {
    let mut e = acquainted();
    let (a, _) = e.open(1);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    e.ask(a, create("/a", PERSISTENT));
    e.ask(a, get("/a", false));
    e.ask(a, set("/a", b"later"));
    e.commit();
    e.apply(1);
    e.run();
    let answers = e.answers(a);
    assert_eq!(answers[0], Err(OpError::NodeExists));
    assert!(shows(&answers[1], ""), "{answers:?}");
    assert!(matches!(answers[2], Ok(Response::Stat(_))), "{answers:?}");
}

#[test]
fn zxids_grow_over_terms() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    let before = e.state(2).last_zxid;
    e.elect(3);
    e.answer(a, create("/b", PERSISTENT)).unwrap();
    let after = e.state(2).last_zxid;
    assert!(after > before && after.term() == 2, "{before} {after}");
}

#[test]
fn a_member_that_is_behind_what_the_client_has_seen_refuses_it() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(1);
    e.ask(a, create("/a", PERSISTENT));
    e.commit();
    e.apply(1);
    let seen = e.state(1).last_zxid;
    let b = e.connect(3, session, seen);
    assert_eq!(e.closed(b), Some(CloseReason::LaterStateSeen));
    e.apply(3);
    let b = e.connect(3, session, seen);
    e.run();
    assert_eq!(e.accepted(b), Some(session));
}

#[test]
fn a_follower_tells_whom_it_hears_so_that_the_leader_keeps_the_session() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    let (_, silent) = e.open(3);
    for _ in 0..10 {
        e.advance(500);
        e.ask(a, Request::Read(Read::Ping));
    }
    e.run();
    for node in 1..=3 {
        assert!(e.state(node).sessions.contains_key(&session));
        assert!(!e.state(node).sessions.contains_key(&silent));
    }
}

#[test]
fn a_client_whose_requests_have_to_wait_is_heard_on_any_member() {
    for node in [1, 2] {
        let mut e = Ensemble::new(3);
        let (a, session) = e.open(node);
        let connection = a.connection;
        for _ in 0..5 {
            e.advance(400);
            e.handle(node, Event::Heard { connection });
            e.advance(100);
            e.run();
        }
        assert!(e.state(1).sessions.contains_key(&session), "{node}");
        e.advance(2_000);
        e.run();
        assert!(e.state(1).sessions.is_empty());
    }
}

#[test]
fn only_the_leader_ends_a_session_and_not_before_its_timeout() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.answer(a, create("/e", EPHEMERAL)).unwrap();
    // The member that hears the client tells of it up to a tenth of a second later.
    e.advance(1_090);
    assert_eq!(e.proposed_len(), 0);
    e.advance(20);
    assert_eq!(e.proposed_len(), 1);
    assert!(e.state(2).sessions.contains_key(&session));
    e.run();
    assert_eq!(e.closed(a), Some(CloseReason::SessionEnded));
    for node in 1..=3 {
        assert!(e.state(node).tree.get("/e").is_none());
        assert!(e.state(node).sessions.is_empty());
    }
}

#[test]
fn a_new_leader_gives_every_session_its_full_timeout() {
    let mut e = Ensemble::new(3);
    let (_, session) = e.open(2);
    e.advance(900);
    e.elect(3);
    e.advance(900);
    e.elect(1);
    e.advance(990);
    e.run();
    assert!(e.state(1).sessions.contains_key(&session));
    e.advance(20);
    e.run();
    assert!(e.state(1).sessions.is_empty());
}

#[test]
fn a_timeout_agreed_on_at_a_resume_holds_for_a_new_leader_that_has_heard_nothing_since() {
    for node in [2, 3] {
        let mut e = Ensemble::new(3);
        let (_, session) = e.open(node);
        e.connect_for(node, session, Zxid(0), false, 5_000);
        e.run();
        e.elect(3);
        e.run();
        e.advance(4_900);
        e.run();
        assert!(e.state(3).sessions.contains_key(&session), "{node}");
        e.advance(200);
        e.run();
        assert!(!e.state(3).sessions.contains_key(&session), "{node}");
    }
}

#[test]
fn bug_zookeeper_1208_1496_a_write_that_was_on_its_way_leaves_no_ephemeral_behind() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.ask(a, create("/before", EPHEMERAL));
    e.pass_forwards();
    // The client is not heard any more, but has a write on its way.
    e.ask(a, create("/after", EPHEMERAL));
    for _ in 0..120 {
        e.elapse(10);
    }
    assert_eq!(e.proposed_len(), 2, "the create and the session's end");
    e.run();
    for node in 1..=3 {
        let state = e.state(node);
        assert!(!state.sessions.contains_key(&session));
        assert!(state.tree.get("/before").is_none() && state.tree.get("/after").is_none());
    }
    // And also if the session's end is applied already.
    let late = Forward::Request {
        epoch: RequestId(7),
        request: RequestId(7),
        session,
        claim: Zxid::start_of(1).next(),
        identities: [].into(),
        ask: coord_core::forward::Ask::Write(create_write("/late", EPHEMERAL)),
    };
    let from = NodeId(3);
    e.handle(
        1,
        Event::Forwarded {
            from,
            forward: late,
        },
    );
    assert_eq!(e.proposed_len(), 0);
}

#[test]
fn bug_zookeeper_2355_4837_ephemerals_go_with_the_session_whoever_leads_by_then() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.answer(a, create("/e", EPHEMERAL)).unwrap();
    e.ask(a, Request::CloseSession);
    e.pass_forwards();
    // The end is decided, and lost with the leader; a member falls out with the state of that time.
    e.elect(3);
    e.run();
    assert!(e.state(3).sessions.contains_key(&session));
    e.restart(2, |settings| settings);
    e.advance(1_100);
    e.run();
    e.elect(2);
    e.run();
    for node in 1..=3 {
        assert!(e.state(node).tree.get("/e").is_none());
        assert!(e.state(node).sessions.is_empty());
    }
}

#[test]
fn a_lost_forward_takes_along_what_came_behind_it() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(2);
    e.ask(a, create("/1", PERSISTENT));
    e.lose_forward(2);
    e.ask(a, create("/2", PERSISTENT));
    e.ask(b, create("/b", PERSISTENT));
    e.run();
    assert!(e.state(1).tree.get("/2").is_none());
    assert_eq!(
        e.connection_len(2),
        0,
        "what comes of their writes is unknown"
    );
    let (c, _) = e.open(2);
    assert!(e.answer(c, create("/c", PERSISTENT)).is_ok());
}

#[test]
fn a_member_that_forwards_without_end_loses_what_is_too_much() {
    const FORWARDS_MAX: usize = 4 * 4096;
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (other, _) = e.open(3);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    for _ in 0..FORWARDS_MAX {
        e.ask(a, set("/a", b""));
    }
    e.pass_forwards();
    e.pass_answers();
    assert_eq!((e.proposed_len(), e.connection_len(2)), (FORWARDS_MAX, 1));
    e.ask(a, set("/a", b""));
    e.pass_forwards();
    e.pass_answers();
    assert_eq!((e.proposed_len(), e.connection_len(2)), (FORWARDS_MAX, 0));
    assert!(e.answer(other, create("/other", PERSISTENT)).is_ok());
    // Once they are committed there is room again; those that were answered without a transaction take none.
    let (b, _) = e.open(2);
    for _ in 0..FORWARDS_MAX {
        e.ask(b, create("/a", PERSISTENT));
    }
    e.run();
    assert!(e.answer(b, create("/b", PERSISTENT)).is_ok());
}

#[test]
fn a_broken_way_to_the_leader_closes_who_waits_and_nobody_else() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    let (b, _) = e.open(2);
    e.ask(a, create("/a", PERSISTENT));
    e.handle(2, Event::ForwardLost);
    assert_eq!(e.closed(a), Some(CloseReason::OutcomeUnknown));
    assert!(e.answer(b, create("/b", PERSISTENT)).is_ok());
}

#[test]
fn a_transaction_for_a_former_process_answers_nobody() {
    let mut e = Ensemble::new(3);
    let (a, _) = e.open(2);
    e.ask(a, create("/a", PERSISTENT));
    e.pass_forwards();
    let another = |settings: Settings| Settings {
        first_request: RequestId(77),
        ..settings
    };
    e.restart(2, another);
    let b = e.connect(2, SessionId::NONE, Zxid(0));
    e.run();
    assert!(e.accepted(b).is_some());
    assert!(e.answers(b).is_empty());
    assert!(e.state(2).tree.get("/a").is_some());
}

#[test]
fn without_a_leader_clients_are_dropped_when_the_grace_is_over() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    e.lose_leader();
    e.elapse(GRACE.as_millis() as u64 - 10);
    e.ask(a, exists("/a", false));
    assert_eq!(e.answers(a), [Err(OpError::NoNode)]);
    let held = e.connect(3, SessionId::NONE, Zxid(0));
    e.elapse(10);
    assert_eq!(e.closed(a), Some(CloseReason::NoQuorum));
    assert_eq!(e.closed(held), Some(CloseReason::NoQuorum));
    let refused = e.connect_with(2, SessionId::NONE, Zxid(0), true);
    assert_eq!(e.closed(refused), Some(CloseReason::NoQuorum));
    // The same session goes on when there is a quorum.
    e.elapse(60_000);
    e.elect(3);
    let a = e.connect(1, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(a), Some(session));
}

#[test]
fn a_leader_without_a_majority_ends_no_session_and_goes_on_when_it_has_one_again() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(1);
    let (_, other) = e.open(2);
    e.ask(a, create("/a", EPHEMERAL));
    e.handle(1, Event::QuorumLost);
    e.ask(a, set("/a", b"1"));
    e.advance(3_000);
    assert_eq!(e.proposed_len(), 1, "nobody could be heard meanwhile");
    e.handle(1, Event::Leading { term: 1 });
    e.advance(900);
    e.run();
    let answers = e.answers(a);
    assert!(
        matches!(answers[..], [Ok(_), Ok(Response::Stat(_))]),
        "{answers:?}"
    );
    assert!(e.state(1).sessions.contains_key(&session));
    assert!(e.state(1).sessions.contains_key(&other));
    // Who asks meanwhile through another member is not left waiting.
    let (c, _) = e.open(3);
    e.handle(1, Event::QuorumLost);
    e.ask(c, set("/a", b"3"));
    e.pass_forwards();
    e.pass_answers();
    assert_eq!(e.closed(c), Some(CloseReason::OutcomeUnknown));
    e.handle(1, Event::Leading { term: 1 });
    // For longer than the grace it serves nobody.
    e.handle(1, Event::QuorumLost);
    e.ask(a, set("/a", b"2"));
    e.elapse(GRACE.as_millis() as u64);
    assert_eq!(e.closed(a), Some(CloseReason::NoQuorum));
    let refused = e.connect(1, session, Zxid(0));
    assert_eq!(e.closed(refused), Some(CloseReason::NoQuorum));
    // And another that leads meanwhile makes it forget what it decided.
    e.elect(2);
    e.advance(900);
    e.run();
    assert!(shows(
        &{
            let b = e.connect(3, session, Zxid(0));
            e.run();
            e.answer(b, get("/a", false))
        },
        "1"
    ));
}

fn read_only_mode(settings: Settings) -> Settings {
    Settings {
        read_only_mode: true,
        ..settings
    }
}

#[test]
fn a_member_that_was_removed_drops_its_clients_at_once_and_takes_none() {
    let mut e = Ensemble::with(3, read_only_mode);
    let (a, session) = e.open(2);
    e.handle(2, Event::Removed);
    assert_eq!(e.sent(2), [close(a.connection, CloseReason::Removed)]);
    assert_eq!(e.standing(2), Standing::Removed);
    for read_only in [false, true] {
        let refused = e.connect_with(2, session, Zxid(0), read_only);
        assert_eq!(e.closed(refused), Some(CloseReason::Removed));
    }
    // It is added again.
    e.elect(1);
    let back = e.connect(2, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(back), Some(session));
}

#[test]
fn a_member_that_is_cut_off_serves_reads_to_those_content_with_them() {
    let mut e = Ensemble::with(3, read_only_mode);
    let (a, session) = e.open(2);
    e.answer(a, create("/a", PERSISTENT)).unwrap();
    e.lose_leader();
    e.elapse(GRACE.as_millis() as u64);
    e.sent(2);
    let refused = e.connect(2, session, Zxid(0));
    assert_eq!(e.closed(refused), Some(CloseReason::NoQuorum));
    let unknown = e.connect_with(2, SessionId(42), Zxid(0), true);
    assert_eq!(
        e.closed(unknown),
        Some(CloseReason::NoQuorum),
        "it may be known elsewhere"
    );

    let b = e.connect_with(2, SessionId::NONE, Zxid(0), true);
    let sent = e.sent(2);
    assert!(
        matches!(
            sent[..],
            [Action::Accept {
                read_only: true,
                ..
            }]
        ),
        "{sent:?}"
    );
    e.ask(b, exists("/a", true));
    e.ask(b, create("/b", PERSISTENT));
    e.ask(b, sync());
    e.ask(b, Request::Multi(vec![create_write("/b", PERSISTENT)]));
    let answers = e.answers(b);
    assert!(answers[0].is_ok());
    assert_eq!(answers[1..], [(); 3].map(|()| Err(OpError::NotReadOnly)));
    let c = e.connect_with(2, session, Zxid(0), true);
    assert_eq!(e.accepted(c), Some(session), "its own, which is known here");
    e.ask(c, Request::CloseSession);
    assert!(matches!(e.closed(c), Some(CloseReason::SessionEnded)));
    let c = e.connect_with(2, session, Zxid(0), true);
    e.sent(2);

    e.elect(1);
    let sent = e.sent(2);
    let closed = |client: Client| close(client.connection, CloseReason::QuorumRegained);
    assert_eq!(sent, [closed(b), closed(c)]);
    let c = e.connect(2, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(c), Some(session));
    assert!(e.answer(c, create("/b", PERSISTENT)).is_ok());
}

#[test]
fn the_leaders_snapshot_closes_all_connections() {
    let mut e = Ensemble::new(3);
    let (a, session) = e.open(2);
    let (b, _) = e.open(1);
    e.answer(b, create("/a", PERSISTENT)).unwrap();
    let state = e.state(1).clone();
    e.handle(2, Event::Installed(Box::new(state)));
    assert_eq!(e.closed(a), Some(CloseReason::SnapshotInstalled));
    let a = e.connect(2, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(a), Some(session));
    assert!(e.answer(a, exists("/a", false)).is_ok());
}
