//! Znodes that go by themselves: containers, and those with a time to live.

use std::time::Duration;

use coord_core::coordinator::Settings;
use coord_core::reaper::ReaperSettings;
use coord_core::request::{CreateMode, NodeType, Request, Response, Write};
use coord_core::watch::WatchEventType;
use coord_core::{ConnectionId, EphemeralType, MAX_TTL_MS, OpError, SessionId, State};

use crate::harness::{
    Harness, PERSISTENT, create, create_write, delete_write, events, exists, set_write, settings,
};

const INTERVAL_MS: u64 = 300;

const CONTAINER: CreateMode = CreateMode {
    node_type: NodeType::Container,
    sequential: false,
};

fn ttl(ttl_ms: i64) -> CreateMode {
    CreateMode {
        node_type: NodeType::Ttl { ttl_ms },
        sequential: false,
    }
}

fn harness() -> Harness {
    let settings = Settings {
        reaper: ReaperSettings {
            check_interval: Duration::from_millis(INTERVAL_MS),
            ..ReaperSettings::default()
        },
        ..settings(1)
    };
    Harness::with(settings, State::default())
}

/// What a znode lives by; clients are not told.
fn ephemeral_type(h: &mut Harness, connection: ConnectionId, path: &str) -> EphemeralType {
    match h.answer(connection, exists(path, false)) {
        Ok(Response::Stat(stat)) => assert_eq!(stat.ephemeral_owner, SessionId::NONE),
        other => panic!("{path}: {other:?}"),
    }
    let tree = &h.coordinator.state().tree;
    tree.get(path).expect("it exists").ephemeral_type
}

#[test]
fn a_container_goes_after_its_last_child_and_its_watchers_are_told() {
    let mut h = harness();
    let (a, _) = h.open();
    h.answer(a, create("/c", CONTAINER)).unwrap();
    assert_eq!(ephemeral_type(&mut h, a, "/c"), EphemeralType::Container);
    h.advance(INTERVAL_MS);
    assert_eq!(h.commit(), [], "it never had a child");

    h.answer(a, create("/c/child", PERSISTENT)).unwrap();
    h.advance(INTERVAL_MS);
    assert_eq!(h.commit(), [], "it has a child");

    h.answer(a, Request::Write(delete_write("/c/child", -1)))
        .unwrap();
    h.answer(a, exists("/c", true)).unwrap();
    h.advance(INTERVAL_MS);
    let actions = h.commit();
    assert_eq!(events(&actions), [(a, WatchEventType::NodeDeleted, "/c")]);
    assert_eq!(h.answer(a, exists("/c", false)), Err(OpError::NoNode));
    assert_eq!(h.coordinator.state().tree.reapable().count(), 0);
    h.restart();
    assert!(h.coordinator.state().tree.get("/c").is_none());
}

#[test]
fn a_container_whose_next_child_is_on_its_way_stays() {
    let mut h = harness();
    let (a, _) = h.open();
    h.answer(a, create("/c", CONTAINER)).unwrap();
    h.answer(a, create("/c/1", PERSISTENT)).unwrap();
    h.answer(a, Request::Write(delete_write("/c/1", -1)))
        .unwrap();
    h.ask(a, create("/c/2", PERSISTENT));
    h.advance(INTERVAL_MS);
    h.commit();
    assert!(h.coordinator.state().tree.get("/c/2").is_some());
}

#[test]
fn nothing_is_created_in_a_container_that_is_about_to_go() {
    let mut h = harness();
    let (a, _) = h.open();
    h.answer(a, create("/c", CONTAINER)).unwrap();
    h.answer(a, create("/c/1", PERSISTENT)).unwrap();
    h.answer(a, Request::Write(delete_write("/c/1", -1)))
        .unwrap();
    h.advance(INTERVAL_MS);
    assert_eq!(
        h.answer(a, create("/c/2", PERSISTENT)),
        Err(OpError::NoNode)
    );
}

#[test]
fn a_time_to_live_begins_anew_with_each_change_of_the_data() {
    let mut h = harness();
    let (a, _) = h.open();
    h.answer(a, create("/t", ttl(500))).unwrap();
    assert_eq!(ephemeral_type(&mut h, a, "/t"), EphemeralType::Ttl(500));
    h.advance(INTERVAL_MS);
    h.answer(a, Request::Write(set_write("/t", b"1", -1)))
        .unwrap();
    h.advance(INTERVAL_MS);
    h.commit();
    h.answer(a, exists("/t", false)).unwrap();
    h.advance(INTERVAL_MS);
    h.commit();
    assert_eq!(h.answer(a, exists("/t", false)), Err(OpError::NoNode));
}

#[test]
fn a_time_to_live_has_bounds_and_has_to_be_switched_on() {
    let mut h = harness();
    let (a, _) = h.open();
    for ttl_ms in [-1, 0, MAX_TTL_MS + 1] {
        assert_eq!(
            h.answer(a, create("/t", ttl(ttl_ms))),
            Err(OpError::BadArguments)
        );
    }
    h.answer(a, create("/t", ttl(MAX_TTL_MS))).unwrap();

    let mut plain = settings(1);
    plain.rules.extended_types_enabled = false;
    let mut h = Harness::with(plain, State::default());
    let (a, _) = h.open();
    assert_eq!(
        h.answer(a, create("/t", ttl(500))),
        Err(OpError::Unimplemented)
    );
    h.answer(a, create("/c", CONTAINER)).unwrap();
}

#[test]
fn a_multi_creates_both_kinds_and_what_has_children_stays() {
    let mut h = harness();
    let (a, _) = h.open();
    let writes: Vec<Write> = vec![
        create_write("/c", CONTAINER),
        create_write("/c/t", ttl(1)),
        create_write("/c/t/child", PERSISTENT),
    ];
    h.answer(a, Request::Multi(writes)).unwrap();
    h.advance(INTERVAL_MS);
    assert_eq!(h.commit(), []);
    h.answer(a, Request::Write(delete_write("/c/t/child", -1)))
        .unwrap();
    h.advance(INTERVAL_MS);
    h.commit();
    assert_eq!(h.answer(a, exists("/c/t", false)), Err(OpError::NoNode));
    h.advance(INTERVAL_MS);
    h.commit();
    assert_eq!(h.answer(a, exists("/c", false)), Err(OpError::NoNode));
}
