//! Quotas below `/zookeeper/quota`: counted always, enforced where that is switched on.

use bytes::Bytes;
use coord_core::request::{Request, Response};
use coord_core::{ConnectionId, OpError, State, snapshot};

use crate::harness::{
    Harness, PERSISTENT, create, create_with, create_write, delete_write, events, exists, get,
    open_acl, set_write, settings,
};

/// Sets a quota on `path` as ZooKeeper's own tools do.
fn limit(h: &mut Harness, connection: ConnectionId, path: &str, limits: &str) {
    let quota = format!("/zookeeper/quota{path}");
    // The znodes above may be there already, from another quota.
    let _ = h.answer(connection, create(&quota, PERSISTENT));
    for (name, text) in [("zookeeper_limits", limits), ("zookeeper_stats", "")] {
        let path = format!("{quota}/{name}");
        h.answer(connection, create_with(&path, text.as_bytes(), open_acl()))
            .unwrap();
    }
}

fn used(h: &mut Harness, connection: ConnectionId, path: &str) -> String {
    let stats = format!("/zookeeper/quota{path}/zookeeper_stats");
    match h.answer(connection, get(&stats, false)) {
        Ok(Response::Data(Some(data), stat)) => {
            assert_eq!((stat.version, stat.data_len as usize), (0, data.len()));
            String::from_utf8(data.to_vec()).unwrap()
        }
        other => panic!("{stats}: {other:?}"),
    }
}

fn with_data(path: &str, data: &[u8]) -> Request {
    create_with(path, data, open_acl())
}

#[test]
fn one_transaction_begins_to_count_for_so_many_quotas() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create("/zookeeper/quota/x", PERSISTENT))
        .unwrap();
    let stats = "/zookeeper/quota/x/zookeeper_stats";
    let again = |times: usize| {
        let once = || [create_write(stats, PERSISTENT), delete_write(stats, -1)];
        Request::Multi((0..times).flat_map(|_| once()).collect())
    };
    let answer = h.answer(a, again(17));
    assert!(
        matches!(&answer, Ok(Response::MultiFailed(errors)) if errors[32] == Some(OpError::BadArguments)),
        "{answer:?}"
    );
    let answer = h.answer(a, again(16));
    assert!(matches!(answer, Ok(Response::Multi(_))), "{answer:?}");
}

#[test]
fn usage_is_counted_without_a_change_that_clients_are_told_of() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"12")).unwrap();
    h.answer(a, with_data("/a/b", b"345")).unwrap();
    limit(&mut h, a, "/a", "count=-1,bytes=-1");
    assert_eq!(used(&mut h, a, "/a"), "count=2,bytes=5");

    h.answer(a, exists("/zookeeper/quota/a/zookeeper_stats", true))
        .unwrap();
    h.ask(a, with_data("/a/b/c", b"6789"));
    assert_eq!(events(&h.commit()), []);
    assert_eq!(used(&mut h, a, "/a"), "count=3,bytes=9");
    h.answer(a, Request::Write(set_write("/a/b", b"3", -1)))
        .unwrap();
    assert_eq!(used(&mut h, a, "/a"), "count=3,bytes=7");
    h.answer(a, Request::Write(delete_write("/a/b/c", -1)))
        .unwrap();
    h.answer(a, with_data("/ab", b"not below")).unwrap();
    assert_eq!(used(&mut h, a, "/a"), "count=2,bytes=3");

    let limits = "/zookeeper/quota/a/zookeeper_limits";
    h.answer(a, Request::Write(delete_write(limits, -1)))
        .unwrap();
    h.answer(a, with_data("/a/d", b"1")).unwrap();
    assert_eq!(
        used(&mut h, a, "/a"),
        "count=2,bytes=3",
        "no quota any more"
    );
}

#[test]
fn hard_limits_are_enforced_and_soft_ones_are_not() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"")).unwrap();
    limit(
        &mut h,
        a,
        "/a",
        "count=1,bytes=1=;byteHardLimit=4;countHardLimit=3",
    );
    h.answer(a, with_data("/a/1", b"12")).unwrap();
    let too_long = with_data("/a/2", b"345");
    assert_eq!(h.answer(a, too_long), Err(OpError::QuotaExceeded));
    h.answer(a, with_data("/a/2", b"34")).unwrap();
    assert_eq!(
        h.answer(a, with_data("/a/3", b"")),
        Err(OpError::QuotaExceeded)
    );
    let longer = Request::Write(set_write("/a/2", b"345", -1));
    assert_eq!(h.answer(a, longer), Err(OpError::QuotaExceeded));
    h.answer(a, Request::Write(set_write("/a/2", b"43", -1)))
        .unwrap();
    h.answer(a, with_data("/b", b"below no quota")).unwrap();
    h.answer(a, Request::Write(delete_write("/a/1", -1)))
        .unwrap();
    h.answer(a, with_data("/a/3", b"12")).unwrap();
}

#[test]
fn what_is_above_a_limit_already_may_change_but_not_grow() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"12")).unwrap();
    limit(
        &mut h,
        a,
        "/a",
        "count=-1,bytes=-1=;byteHardLimit=1;countHardLimit=0",
    );
    let set = |data: &[u8]| Request::Write(set_write("/a", data, -1));
    h.answer(a, set(b"21")).unwrap();
    assert_eq!(h.answer(a, set(b"213")), Err(OpError::QuotaExceeded));
    h.answer(a, set(b"2")).unwrap();
}

#[test]
fn writes_on_their_way_do_not_count_yet() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"")).unwrap();
    limit(&mut h, a, "/a", "count=-1,bytes=-1=;byteHardLimit=4");
    h.ask(a, Request::Write(set_write("/a", b"1234", -1)));
    h.answer(a, Request::Write(set_write("/a", b"12345", -1)))
        .unwrap();
    assert_eq!(used(&mut h, a, "/a"), "count=1,bytes=5");
}

#[test]
fn hard_limits_are_only_shown_unless_enforcing_is_switched_on() {
    let mut lenient = settings(1);
    lenient.rules.enforce_quota = false;
    let mut h = Harness::with(lenient, State::default());
    let (a, _) = h.open();
    limit(&mut h, a, "/a", "count=-1,bytes=-1=;countHardLimit=0");
    h.answer(a, with_data("/a", b"1")).unwrap();
    assert_eq!(used(&mut h, a, "/a"), "count=1,bytes=1");
}

#[test]
fn the_deepest_quota_counts() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for path in ["/a", "/a/b"] {
        h.answer(a, with_data(path, b"")).unwrap();
        limit(&mut h, a, path, "count=9,bytes=9");
    }
    h.answer(a, with_data("/a/b/c", b"1")).unwrap();
    assert_eq!(used(&mut h, a, "/a/b"), "count=2,bytes=1");
    assert_eq!(used(&mut h, a, "/a"), "count=2,bytes=0");
}

#[test]
fn text_that_cannot_be_read_is_no_limit() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"")).unwrap();
    limit(&mut h, a, "/a", "countHardLimit=few;byteHardLimit");
    h.answer(a, with_data("/a/b", b"1")).unwrap();
}

#[test]
fn quotas_are_known_again_from_a_snapshot() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, with_data("/a", b"")).unwrap();
    limit(&mut h, a, "/a", "count=-1,bytes=-1=;countHardLimit=1");
    let mut loader = snapshot::Loader::default();
    snapshot::encode(h.coordinator.state(), |chunk| {
        loader.load(Bytes::copy_from_slice(chunk))
    })
    .unwrap();
    let mut h = Harness::with(settings(1), loader.finish().unwrap());
    h.handle(coord_core::Event::Leading { term: 2 });
    let (a, _) = h.open();
    assert_eq!(
        h.answer(a, with_data("/a/b", b"")),
        Err(OpError::QuotaExceeded)
    );
}
