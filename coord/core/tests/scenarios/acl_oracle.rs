//! What watchers are told, against a naive judge of who may read what.

use coord_core::acl::{ALL, Acl, CREATE, READ, WRITE};
use coord_core::request::{Read, Request, Write};
use coord_core::watch::WatchEventType;
use coord_core::{ConnectionId, State};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{Harness, create_with, entry, events, identity, open_acl};

const PATHS: [&str; 5] = ["/a", "/a/b", "/a/b/c", "/a/d", "/e"];

/// ACLs of which some let the watcher read, and the judge's word on each.
fn acls() -> [(Vec<Acl>, bool); 7] {
    [
        (open_acl(), true),
        (vec![entry(READ, "ip", "127.0.0.0/8")], true),
        (vec![entry(READ, "ip", "128.0.0.0/8")], false),
        (vec![entry(ALL, "digest", "bob:h")], false),
        (vec![entry(WRITE | CREATE, "world", "anyone")], false),
        (
            vec![
                entry(READ, "digest", "bob:h"),
                entry(READ, "digest", "amy:h"),
            ],
            true,
        ),
        (vec![entry(READ, "digest", "amy:g")], false),
    ]
}

fn may_read(acl: &[Acl]) -> bool {
    let known = acls().into_iter().find(|(known, _)| known == acl);
    known.expect("one of the test's own ACLs").1
}

#[derive(Debug, Clone)]
enum Step {
    Create(usize, usize),
    Set(usize),
    SetAcl(usize, usize),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len();
    let acl = || 0..acls().len();
    prop_oneof![
        3 => (path(), acl()).prop_map(|(path, acl)| Step::Create(path, acl)),
        2 => path().prop_map(Step::Set),
        1 => (path(), acl()).prop_map(|(path, acl)| Step::SetAcl(path, acl)),
        2 => path().prop_map(Step::Delete),
    ]
}

/// What a step tells of a znode and, with its parent, of a set of children; nothing if it does nothing.
fn told(before: &State, after: &State, step: &Step) -> Vec<(WatchEventType, &'static str)> {
    let (path, event_type, children) = match *step {
        Step::Create(path, _) => (PATHS[path], WatchEventType::NodeCreated, true),
        Step::Set(path) => (PATHS[path], WatchEventType::NodeDataChanged, false),
        Step::Delete(path) => (PATHS[path], WatchEventType::NodeDeleted, true),
        Step::SetAcl(..) => return Vec::new(),
    };
    if before.tree.get(path) == after.tree.get(path) {
        return Vec::new();
    }
    let readable = |path: &str| {
        let node = after.tree.get(path).or(before.tree.get(path));
        node.is_some_and(|node| may_read(&node.acl))
    };
    let mut told = Vec::new();
    if readable(path) {
        told.push((event_type, path));
    }
    let parent = PATHS.iter().find(|above| {
        path.strip_prefix(**above)
            .is_some_and(|name| name.starts_with('/') && !name[1..].contains('/'))
    });
    if let Some(parent) = parent
        && children
        && readable(parent)
    {
        told.push((WatchEventType::NodeChildrenChanged, *parent));
    }
    told
}

fn ask_as_super(h: &mut Harness, connection: ConnectionId, step: &Step) {
    let request = match *step {
        Step::Create(path, acl) => create_with(PATHS[path], b"", acls()[acl].0.clone()),
        Step::Set(path) => Request::Write(crate::harness::set_write(PATHS[path], b"", -1)),
        Step::SetAcl(path, acl) => Request::Write(Write::SetAcl {
            path: PATHS[path].into(),
            acl: acls()[acl].0.clone(),
            version: -1,
        }),
        Step::Delete(path) => Request::Write(crate::harness::delete_write(PATHS[path], -1)),
    };
    h.ask(connection, request);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// One watches everything below the root, and each znode persistently; another changes things.
    #[test]
    fn cve_2024_23944_watchers_are_told_what_they_may_read_and_nothing_else(steps in vec(step(), 1..40)) {
        let mut h = Harness::new();
        let (watcher, _) = h.open();
        let (root, _) = h.open();
        h.answer(watcher, Request::Authenticated(vec![identity("digest", "amy:h")])).unwrap();
        h.answer(root, Request::Authenticated(vec![identity("super", "")])).unwrap();
        for (path, recursive) in PATHS.map(|path| (path, false)).into_iter().chain([("/", true)]) {
            let watch = Read::AddWatch { path: path.into(), recursive };
            h.answer(watcher, Request::Read(watch)).unwrap();
        }
        for step in steps {
            let before = h.coordinator.state().clone();
            ask_as_super(&mut h, root, &step);
            let actions = h.commit();
            let expected = told(&before, h.coordinator.state(), &step);
            let heard: Vec<_> = events(&actions).into_iter().map(|(_, event, path)| (event, path)).collect();
            prop_assert_eq!(heard, expected, "{:?}", step);
        }
    }
}
