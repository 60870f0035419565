//! Scenarios of an ensemble whose members change, and of the znode that shows them.

use crate::ensemble::*;
use crate::harness::*;
use coord_core::acl::Identity;
use coord_core::coordinator::{MembershipRefusal, ReconfigRules};
use coord_core::reconfig::{CONFIG_PATH, Reconfig, config_version};
use coord_core::request::{Request, Response};
use coord_core::{Action, CloseReason, Event, Members, NodeId, OpError, Settings};

fn members(count: u64) -> Members {
    let spec = |node| format!("host{node}:2888:3888;2181").parse().unwrap();
    (1..=count).map(|node| (NodeId(node), spec(node))).collect()
}

fn leaving(node: u64, config_version: i64) -> Request {
    Request::Reconfig(Reconfig {
        leaving: Some(node.to_string().into()),
        config_version,
        ..Reconfig::default()
    })
}

/// An ensemble whose members have heard who they are, and a client of `node` that may do everything.
fn ensemble(node: u64) -> (Ensemble, Client) {
    let mut e = Ensemble::new(3);
    e.tell_members(&members(3));
    let (a, _) = e.open(node);
    let root = Identity {
        scheme: "super".into(),
        id: "".into(),
    };
    e.answer(a, Request::Authenticated(vec![root])).unwrap();
    (e, a)
}

fn shown(answer: Result<Response, OpError>) -> (String, i32) {
    let Ok(Response::Data(Some(data), stat)) = answer else {
        panic!("{answer:?}")
    };
    (String::from_utf8(data.to_vec()).unwrap(), stat.version)
}

#[test]
fn the_members_are_shown_and_a_new_leader_shows_them_only_if_they_are_others() {
    let (mut e, a) = ensemble(2);
    let (text, version) = shown(e.answer(a, get(CONFIG_PATH, false)));
    assert!(
        text.starts_with("server.1=host1:2888:3888:participant;0.0.0.0:2181\nserver.2="),
        "{text}"
    );
    assert_eq!(config_version(text.as_bytes()).unwrap().term(), 1);
    e.elect(3);
    e.run();
    assert_eq!(shown(e.answer(a, get(CONFIG_PATH, false))), (text, version));
    // A change that the former leader could not write down any more.
    e.lose_leader();
    e.tell_members(&members(2));
    e.elect(1);
    e.run();
    let (text, changed) = shown(e.answer(a, get(CONFIG_PATH, false)));
    assert!(!text.contains("server.3") && changed > version, "{text}");
}

#[test]
fn a_reconfig_is_answered_with_the_new_members_once_they_are_shown() {
    for node in [1, 2] {
        let (mut e, a) = ensemble(node);
        let (b, _) = e.open(3);
        e.answer(b, get(CONFIG_PATH, true)).unwrap();
        let (text, _) = shown(e.answer(a, get(CONFIG_PATH, false)));
        let version = config_version(text.as_bytes()).unwrap();
        e.ask(a, leaving(3, version.0));
        e.run();
        assert_eq!(e.answers(a), [], "Raft has not agreed yet");
        assert_eq!(e.asked_for.as_ref().unwrap().1, members(2));
        let (other, _) = e.open(3);
        let root = Identity {
            scheme: "super".into(),
            id: "".into(),
        };
        e.answer(other, Request::Authenticated(vec![root])).unwrap();
        assert_eq!(
            e.answer(other, leaving(2, -1)),
            Err(OpError::ReconfigInProgress)
        );
        // It is on its way there: one more to catch up, for a while, and one less at last.
        for step in [members(4), members(2)] {
            e.tell_members(&step);
            e.ask(a, exists("/", false));
            e.run();
            assert_eq!(e.answers(a), [], "Raft has not agreed yet");
            let (before, _) = shown(e.answer(other, get(CONFIG_PATH, false)));
            assert_eq!(before, text);
        }
        e.agree();
        e.run();
        let answers = e.answers(a);
        let (text, version) = shown(answers[0].clone());
        assert!(!text.contains("server.3") && version == 2, "{text}");
        assert!(answers[1].is_ok());
        assert!(
            e.sent(3)
                .iter()
                .any(|action| matches!(action, Action::Notify { connection, .. } if *connection == b.connection))
        );
    }
}

#[test]
fn what_a_reconfig_may_not_do_is_refused() {
    let (mut e, a) = ensemble(2);
    assert_eq!(e.answer(a, leaving(3, 77)), Err(OpError::BadVersion));
    let (b, _) = e.open(3);
    assert_eq!(e.answer(b, leaving(3, -1)), Err(OpError::NoAuth));
    e.ask(a, leaving(3, -1));
    e.run();
    e.refuse(MembershipRefusal::NoQuorum);
    e.run();
    assert_eq!(e.answers(a), [Err(OpError::NewConfigNoQuorum)]);
    e.ask(a, leaving(3, -1));
    e.run();
    e.refuse(MembershipRefusal::Unknown);
    e.run();
    assert_eq!(e.closed(a), Some(CloseReason::OutcomeUnknown));

    let disabled = |settings: Settings| Settings {
        reconfig: ReconfigRules {
            enabled: false,
            min_voters: 1,
        },
        ..settings
    };
    let mut e = Ensemble::with(3, disabled);
    let (a, _) = e.open(2);
    assert_eq!(e.answer(a, leaving(3, -1)), Err(OpError::ReconfigDisabled));
    let mut e = Ensemble::new(1);
    let (a, _) = e.open(1);
    assert_eq!(e.answer(a, leaving(3, -1)), Err(OpError::Unimplemented));
}

#[test]
fn what_is_left_of_a_refused_reconfig_is_shown_and_another_may_be_asked_for() {
    let (mut e, a) = ensemble(2);
    e.ask(a, leaving(3, -1));
    e.run();
    e.tell_members(&members(4));
    e.refuse(MembershipRefusal::NoQuorum);
    e.run();
    assert_eq!(e.answers(a), [Err(OpError::NewConfigNoQuorum)]);
    let (text, _) = shown(e.answer(a, get(CONFIG_PATH, false)));
    assert!(text.contains("server.4"), "{text}");
    e.ask(a, leaving(3, -1));
    e.run();
    assert!(e.asked_for.is_some());
}

#[test]
fn the_answer_to_a_former_leaders_question_is_none_to_another() {
    let (mut e, a) = ensemble(2);
    e.ask(a, leaving(3, -1));
    e.run();
    let (former, _) = e.asked_for.take().unwrap();
    e.elect(3);
    e.elect(1);
    let (b, _) = e.open(1);
    let root = identity("super", "");
    e.answer(b, Request::Authenticated(vec![root])).unwrap();
    e.ask(b, leaving(3, -1));
    e.run();
    for answer in [
        Event::ReconfigDone { token: former },
        Event::ReconfigRefused {
            token: former,
            refusal: MembershipRefusal::NoQuorum,
        },
    ] {
        e.handle(1, answer);
        e.run();
        assert_eq!(e.answers(b), []);
    }
    e.tell_members(&members(2));
    e.agree();
    e.run();
    assert!(!shown(e.answers(b).remove(0)).0.contains("server.3"));
}

#[test]
fn a_reconfig_that_is_done_while_no_majority_answers_is_answered_once_one_does() {
    let (mut e, a) = ensemble(1);
    e.ask(a, leaving(3, -1));
    e.run();
    e.handle(1, Event::QuorumLost);
    e.tell_members(&members(2));
    e.agree();
    e.run();
    assert_eq!(e.answers(a), []);
    e.handle(1, Event::Leading { term: 1 });
    e.run();
    assert!(!shown(e.answers(a).remove(0)).0.contains("server.3"));
}

#[test]
fn members_that_changed_while_no_majority_answered_are_shown_once_one_does() {
    let (mut e, a) = ensemble(1);
    e.handle(1, Event::QuorumLost);
    e.tell_members(&members(2));
    e.handle(1, Event::Leading { term: 1 });
    e.run();
    let (text, _) = shown(e.answer(a, get(CONFIG_PATH, false)));
    assert!(!text.contains("server.3"), "{text}");
}
