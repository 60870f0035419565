//! A state from a snapshot and the log behind it, wherever the snapshot was taken, is the state from the log alone.

use std::sync::Arc;

use bytes::Bytes;
use coord_core::acl::{Acl, CREATE, READ};
use coord_core::request::{CreateMode, NodeType, Read, Request, Response, Write};
use coord_core::watch::WatchEventType;
use coord_core::{OpError, State, Txn, Zxid, snapshot};

use crate::harness::{
    EPHEMERAL, Harness, PERSISTENT, SEQUENTIAL, create, create_with, create_write, delete_write,
    entry, events, open_acl, set_write,
};

fn through_a_snapshot(state: &State) -> State {
    let mut loader = snapshot::Loader::default();
    snapshot::encode(state, |chunk| loader.load(Bytes::copy_from_slice(chunk))).unwrap();
    loader.finish().unwrap()
}

/// Recovers from a snapshot taken after each transaction, and gives back the one state that all agree on.
fn recovered(log: &[(Zxid, Arc<Txn>)]) -> State {
    let mut whole = State::default();
    let mut prefixes = vec![through_a_snapshot(&whole)];
    for (zxid, txn) in log {
        whole.apply(*zxid, txn).unwrap();
        prefixes.push(through_a_snapshot(&whole));
    }
    for (taken_after, mut state) in prefixes.into_iter().enumerate() {
        for (zxid, txn) in &log[taken_after..] {
            state.apply(*zxid, txn).unwrap();
        }
        assert_eq!(state, whole, "snapshot after {taken_after} transactions");
    }
    whole
}

#[test]
fn bug_zookeeper_3127_3144_3249_a_multi_a_closed_session_and_a_pzxid_are_replayed_as_they_were() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    h.answer(a, create("/p", PERSISTENT)).unwrap();
    let multi = vec![
        create_write("/p/s-", SEQUENTIAL),
        create_write("/p/e", EPHEMERAL),
        set_write("/p", b"1", 0),
        delete_write("/p/s-0000000000", -1),
    ];
    h.answer(a, Request::Multi(multi)).unwrap();
    h.answer(b, create("/p/f", EPHEMERAL)).unwrap();
    let container = CreateMode {
        node_type: NodeType::Container,
        sequential: false,
    };
    h.answer(b, create("/c", container)).unwrap();
    h.answer(b, create("/c/e", EPHEMERAL)).unwrap();
    h.answer(a, Request::CloseSession).unwrap();
    let closed = h.log.last().unwrap().0;
    h.answer(b, create("/p/s-", SEQUENTIAL)).unwrap();
    h.answer(b, Request::CloseSession).unwrap();
    let recovered = recovered(&h.log);
    assert_eq!(&recovered, h.coordinator.state());
    let parent = recovered.tree.get("/p").unwrap();
    assert!(parent.pzxid > closed);
    assert!(recovered.tree.get("/p/s-0000000003").is_some());
    assert_eq!(recovered.tree.ephemerals_len(), 0);
}

#[test]
fn bug_zookeeper_3145_children_lost_with_a_session_are_told_of_after_a_recovery() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, watching) = h.open();
    h.answer(b, create("/p", PERSISTENT)).unwrap();
    h.answer(a, create("/p/e", EPHEMERAL)).unwrap();
    let seen = h.coordinator.state().last_zxid;
    h.answer(a, Request::CloseSession).unwrap();
    h.restart();
    let b = h.resume(watching, seen);
    let set = Read::SetWatches {
        since: seen,
        data: Vec::new(),
        exist: Vec::new(),
        child: vec!["/p".into()],
        persistent: Vec::new(),
        persistent_recursive: Vec::new(),
    };
    assert_eq!(
        events(&h.ask(b, Request::Read(set))),
        [(b, WatchEventType::NodeChildrenChanged, "/p")]
    );
}

#[test]
fn bug_zookeeper_3306_every_member_has_the_same_acls_however_it_came_to_them() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let closed: Vec<Acl> = vec![entry(READ | CREATE, "ip", "127.0.0.1")];
    let other = vec![entry(READ, "ip", "10.0.0.0/8")];
    for (path, acl) in [
        ("/1", &closed),
        ("/2", &closed),
        ("/3", &open_acl()),
        ("/4", &other),
    ] {
        h.answer(a, create_with(path, b"", acl.clone())).unwrap();
    }
    let set_acl = Write::SetAcl {
        path: "/3".into(),
        acl: closed.clone(),
        version: -1,
    };
    h.answer(a, Request::Multi(vec![set_acl])).unwrap();
    h.answer(a, Request::Write(delete_write("/4", -1))).unwrap();
    h.answer(a, create_with("/4", b"", closed.clone())).unwrap();
    h.answer(a, create_with("/1/child", b"", other)).unwrap();
    let recovered = recovered(&h.log);
    for path in ["/1", "/2", "/3", "/4"] {
        assert_eq!(**recovered.tree.get(path).unwrap().acl, *closed, "{path}");
    }
    h.restart();
    let (b, _) = h.open();
    assert!(matches!(
        h.answer(b, create("/4/child", PERSISTENT)),
        Ok(Response::Path(_))
    ));
    let refused = h.answer(b, Request::Write(set_write("/4", b"", -1)));
    assert_eq!(refused, Err(OpError::NoAuth));
}

#[test]
fn what_goes_by_itself_and_what_has_a_quota_is_known_from_either() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let mode = |node_type| CreateMode {
        node_type,
        sequential: false,
    };
    h.answer(a, create("/c", mode(NodeType::Container)))
        .unwrap();
    let ttl = mode(NodeType::Ttl { ttl_ms: 100_000 });
    h.answer(a, create("/t", ttl)).unwrap();
    for path in [
        "/zookeeper/quota/c",
        "/zookeeper/quota/c/zookeeper_limits",
        "/zookeeper/quota/c/zookeeper_stats",
        "/c/1",
        "/c/2",
    ] {
        h.answer(a, create(path, PERSISTENT)).unwrap();
    }
    h.answer(a, Request::Write(delete_write("/c/1", -1)))
        .unwrap();
    let tree = recovered(&h.log).tree;
    let reapable: Vec<&str> = tree.reapable().map(|path| &**path).collect();
    assert_eq!(reapable, ["/c", "/t"]);
    assert_eq!(tree.quota_above("/c/2"), Some("/c"));
    let used = tree.get("/zookeeper/quota/c/zookeeper_stats").unwrap();
    assert_eq!(used.data.as_deref(), Some(&b"count=2,bytes=0"[..]));
}
