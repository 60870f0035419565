//! Watches that stay, and those that are checked, removed and set again.

use coord_core::request::{Read, Request, Response};
use coord_core::watch::{WatchEventType, WatchKind, WatchSummary};
use coord_core::{ConnectionId, OpError, Zxid};

use crate::harness::{
    Harness, PERSISTENT, children, create, delete_write, events, exists, get, set_write,
};

fn add(path: &str, recursive: bool) -> Request {
    Request::Read(Read::AddWatch {
        path: path.into(),
        recursive,
    })
}

fn check(path: &str, kind: Option<WatchKind>) -> Request {
    Request::Read(Read::CheckWatches {
        path: path.into(),
        kind,
    })
}

fn remove(path: &str, kind: Option<WatchKind>) -> Request {
    Request::Read(Read::RemoveWatches {
        path: path.into(),
        kind,
    })
}

/// All changes that `/a` and one znode below can see.
fn change_all(h: &mut Harness, connection: ConnectionId) -> Vec<coord_core::Action> {
    h.ask(connection, create("/a", PERSISTENT));
    h.ask(connection, create("/a/b", PERSISTENT));
    h.ask(connection, Request::Write(set_write("/a/b", b"1", -1)));
    h.ask(connection, Request::Write(delete_write("/a/b", -1)));
    h.ask(connection, Request::Write(delete_write("/a", -1)));
    h.commit()
}

#[test]
fn a_persistent_watch_hears_of_its_znode_again_and_again() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    assert_eq!(h.answer(a, add("/a", false)), Ok(Response::Watching));
    for _ in 0..2 {
        let actions = change_all(&mut h, b);
        assert_eq!(
            events(&actions),
            [
                (a, WatchEventType::NodeCreated, "/a"),
                (a, WatchEventType::NodeChildrenChanged, "/a"),
                (a, WatchEventType::NodeChildrenChanged, "/a"),
                (a, WatchEventType::NodeDeleted, "/a"),
            ]
        );
    }
}

#[test]
fn a_recursive_watch_hears_of_all_below_again_and_again() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    assert_eq!(h.answer(a, add("/a", true)), Ok(Response::Watching));
    for _ in 0..2 {
        let actions = change_all(&mut h, b);
        assert_eq!(
            events(&actions),
            [
                (a, WatchEventType::NodeCreated, "/a"),
                (a, WatchEventType::NodeCreated, "/a/b"),
                (a, WatchEventType::NodeDataChanged, "/a/b"),
                (a, WatchEventType::NodeDeleted, "/a/b"),
                (a, WatchEventType::NodeDeleted, "/a"),
            ]
        );
    }
}

#[test]
fn a_watch_that_is_not_there_is_neither_found_nor_removed() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    h.answer(a, get("/", true)).unwrap();
    h.answer(a, children("/", true)).unwrap();
    h.answer(a, add("/", false)).unwrap();
    h.answer(a, add("/", true)).unwrap();
    let kinds = [
        Some(WatchKind::Data),
        Some(WatchKind::Child),
        Some(WatchKind::Persistent),
        Some(WatchKind::PersistentRecursive),
        None,
    ];
    for kind in kinds {
        let no_watcher = Err(OpError::NoWatcher);
        assert_eq!(h.answer(b, check("/", kind)), no_watcher);
        assert_eq!(h.answer(b, remove("/", kind)), no_watcher);
        assert_eq!(h.answer(a, remove("/zookeeper", kind)), no_watcher);
        if kind.is_some() {
            assert_eq!(h.answer(a, check("/", kind)), Ok(Response::Empty));
            assert_eq!(h.answer(a, remove("/", kind)), Ok(Response::Empty));
        }
        assert_eq!(h.answer(a, check("/", kind)), no_watcher, "{kind:?}");
    }
    h.answer(a, get("/", true)).unwrap();
    h.answer(a, add("/", true)).unwrap();
    h.answer(a, remove("/", None)).unwrap();
    assert_eq!(h.coordinator.watch_len(), 0);
}

#[test]
fn watches_that_stay_are_set_again_without_an_event() {
    let mut h = Harness::new();
    let (a, session) = h.open();
    h.answer(a, create("/a", PERSISTENT)).unwrap();
    let a = h.resume(session, Zxid(0));
    let set = Read::SetWatches {
        since: Zxid(0),
        data: Vec::new(),
        exist: Vec::new(),
        child: Vec::new(),
        persistent: vec!["/a".into()],
        persistent_recursive: vec!["/a".into()],
    };
    let actions = h.ask(a, Request::Read(set));
    assert_eq!(events(&actions), []);
    for kind in [WatchKind::Persistent, WatchKind::PersistentRecursive] {
        assert_eq!(h.answer(a, check("/a", Some(kind))), Ok(Response::Empty));
    }
}

#[test]
fn bug_zookeeper_706_thousands_of_watches_are_set_again_in_parts_and_none_is_missed() {
    const PARTS: usize = 10;
    const EACH: usize = 500;
    let mut h = Harness::new();
    let (_, session) = h.open();
    let (b, _) = h.open();
    let path = |number: usize| format!("/{number:05}");
    let since = h.coordinator.state().last_zxid;
    for number in (0..PARTS * EACH).step_by(7) {
        h.ask(b, create(&path(number), PERSISTENT));
    }
    h.commit();
    let a = h.resume(session, since);
    let mut told = Vec::new();
    for part in 0..PARTS {
        let paths = (part * EACH..(part + 1) * EACH).map(|number| path(number).into());
        let set = Read::SetWatches {
            since,
            data: Vec::new(),
            exist: paths.collect(),
            child: Vec::new(),
            persistent: Vec::new(),
            persistent_recursive: Vec::new(),
        };
        told.extend(h.ask(a, Request::Read(set)));
    }
    for number in (0..PARTS * EACH).filter(|number| number % 7 != 0) {
        h.ask(b, create(&path(number), PERSISTENT));
    }
    told.extend(h.commit());
    let mut heard: Vec<&str> = events(&told).into_iter().map(|(_, _, path)| path).collect();
    heard.sort_unstable();
    let all: Vec<String> = (0..PARTS * EACH).map(path).collect();
    assert_eq!(heard, all);
    assert_eq!(h.coordinator.watch_len(), 0);
}

#[test]
fn what_is_watched_is_shown_by_path_and_by_session() {
    let mut h = Harness::new();
    let (a, first) = h.open();
    let (b, second) = h.open();
    h.answer(a, get("/", true)).unwrap();
    h.answer(b, children("/", true)).unwrap();
    let _ = h.answer(b, exists("/no", true));
    h.answer(b, add("/no", false)).unwrap();
    assert_eq!(
        h.coordinator.watch_summary(),
        WatchSummary {
            connections: 2,
            paths: 2,
            watches: 4
        }
    );
    assert_eq!(
        h.coordinator.watches_by_path(),
        [
            ("/".into(), vec![first, second]),
            ("/no".into(), vec![second])
        ]
    );
    assert_eq!(
        h.coordinator.watches_by_session(),
        [
            (first, vec!["/".into()]),
            (second, vec!["/".into(), "/no".into()])
        ]
    );
}
