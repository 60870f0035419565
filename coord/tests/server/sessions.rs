//! Sessions: how long they live, and what goes with them.

use std::io::Write;
use std::time::{Duration, Instant};

use zookeeper_client::{Acls, CreateMode, Error, EventType};
use zookeeper_wire::{PathWatch, Request, RequestHeader, SetDataRequest, SetWatches};

use crate::process::{Coord, DEADLINE};
use crate::raw::{self, RawClient};

const OPEN: Acls<'static> = Acls::anyone_all();

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it happens in time")
}

/// How far behind its timeout the end of a session may be seen: the fsync of that end, and a busy test machine.
const LATE: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_with_its_timeout_and_its_ephemerals_go_along() {
    let coord = Coord::start();
    let watcher = coord.client(Duration::from_secs(10)).await;
    let mut silent = RawClient::connect(coord.address, 700);
    assert_eq!(silent.timeout_ms, 700);
    assert_eq!(silent.ask(1, &raw::create("/e", 1)).error, 0);
    let (stat, gone) = watcher.check_and_watch_stat("/e").await.unwrap();
    assert_eq!(stat.unwrap().ephemeral_owner, silent.session);
    assert_eq!(silent.ask(2, &Request::Ping).error, 0);
    let heard = Instant::now();
    let event = within(gone.changed()).await;
    let lived = heard.elapsed();
    assert_eq!(
        (event.event_type, event.path.as_str()),
        (EventType::NodeDeleted, "/e")
    );
    // The ping was heard a little before its answer came.
    assert!(
        lived > Duration::from_millis(600) && lived < Duration::from_millis(700) + LATE,
        "{lived:?}"
    );
    assert!(
        silent.receive().is_none(),
        "the connection of an ended session is closed"
    );
    let again = RawClient::resume(
        coord.address,
        700,
        silent.session,
        silent.password.clone(),
        0,
    )
    .unwrap();
    assert_eq!((again.timeout_ms, again.session), (0, 0));
}

#[test]
fn timeouts_are_bounded_by_the_settings() {
    let coord = Coord::start_with(&["minSessionTimeout=500", "maxSessionTimeout=900"]);
    for (asked, given) in [(0, 500), (-1, 500), (700, 700), (i32::MAX, 900)] {
        assert_eq!(RawClient::connect(coord.address, asked).timeout_ms, given);
    }
}

/// Whether a session that does nothing but ping lives for three timeouts; `None` if this test was itself held up for so long
/// that the session may well have ended.
fn lives_by_pings(coord: &Coord, timeout: Duration) -> Option<bool> {
    let ping = raw::frame(|w| {
        let (xid, op_code) = (-2, Request::Ping.op_code().code());
        RequestHeader { xid, op_code }.encode(w);
    });
    // It was last heard no earlier than this.
    let mut before = Instant::now();
    let mut client = RawClient::connect(coord.address, timeout.as_millis() as i32);
    let start = Instant::now();
    while start.elapsed() < 3 * timeout {
        let sent = Instant::now();
        let lives = client.stream.write_all(&ping).is_ok() && client.receive().is_some();
        if before.elapsed() >= timeout {
            return None;
        }
        if !lives {
            return Some(false);
        }
        before = sent;
        // Nothing comes unasked for until the next.
        let pause = Some(timeout / 10);
        client.stream.set_read_timeout(pause).unwrap();
        let _ = client.stream.peek(&mut [0]);
        client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }
    Some(true)
}

#[test]
fn pings_keep_a_session_alive() {
    let coord = Coord::start();
    let deadline = Instant::now() + DEADLINE;
    let lived = loop {
        match lives_by_pings(&coord, Duration::from_millis(300)) {
            Some(lived) => break lived,
            None => assert!(
                Instant::now() < deadline,
                "this machine is too busy to tell"
            ),
        }
    };
    assert!(lived);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_session_takes_its_ephemerals_at_once() {
    let coord = Coord::start();
    let watcher = coord.client(Duration::from_secs(10)).await;
    let mut closing = RawClient::connect(coord.address, 20_000);
    assert_eq!(closing.ask(1, &raw::create("/e", 1)).error, 0);
    let (_, gone) = watcher.check_and_watch_stat("/e").await.unwrap();
    assert_eq!(closing.ask(2, &Request::CloseSession).error, 0);
    assert!(closing.receive().is_none());
    assert_eq!(
        within(gone.changed()).await.event_type,
        EventType::NodeDeleted
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_its_ephemerals_outlive_a_killed_coord() {
    let mut coord = Coord::start();
    let client = coord.client(Duration::from_secs(10)).await;
    let session = client.session_id();
    client
        .create("/e", b"mine", &CreateMode::Ephemeral.with_acls(OPEN))
        .await
        .unwrap();
    let (_, _, watch) = client.get_and_watch_data("/e").await.unwrap();
    coord.kill();
    coord.restart();
    let other = coord.client(Duration::from_secs(10)).await;
    let stat = within(async {
        loop {
            match client.check_stat("/e").await {
                Ok(stat) => break stat.expect("the ephemeral is there"),
                Err(Error::ConnectionLoss) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(
        (client.session_id(), stat.ephemeral_owner),
        (session, session.0)
    );
    other.set_data("/e", b"changed", None).await.unwrap();
    assert_eq!(
        within(watch.changed()).await.event_type,
        EventType::NodeDataChanged
    );
}

#[test]
fn a_session_ends_after_a_restart_too_if_its_client_stays_away() {
    let mut coord = Coord::start();
    let mut silent = RawClient::connect(coord.address, 300);
    assert_eq!(silent.ask(1, &raw::create("/e", 1)).error, 0);
    coord.kill();
    coord.restart();
    let mut other = RawClient::connect(coord.address, 20_000);
    let watch = Request::Exists(PathWatch {
        path: "/e".into(),
        watch: true,
    });
    assert_eq!(
        other.ask(1, &watch).error,
        0,
        "it gets its full timeout anew"
    );
    let event = other.receive().expect("the ephemeral goes");
    assert_eq!((event.xid, event.error), (-1, 0));
    assert_eq!(other.ask(2, &watch).error, -101);
}

#[test]
fn a_resumed_session_moves_and_hears_what_it_missed() {
    let coord = Coord::start();
    let mut first = RawClient::connect(coord.address, 20_000);
    for (xid, path) in (1..).zip(["/changed", "/same", "/gone"]) {
        assert_eq!(first.ask(xid, &raw::create(path, 0)).error, 0);
    }
    let get = |path: &'static str| {
        Request::GetData(PathWatch {
            path: path.into(),
            watch: true,
        })
    };
    let seen = first.ask(4, &get("/changed")).zxid;

    // The second connection of the session ends the first.
    let session = (first.session, first.password.clone());
    let second =
        RawClient::resume(coord.address, 20_000, session.0, session.1.clone(), seen).unwrap();
    assert_eq!(second.session, session.0);
    assert!(first.receive().is_none());
    drop(second);

    let mut other = RawClient::connect(coord.address, 20_000);
    let set = Request::SetData(SetDataRequest {
        path: "/changed".into(),
        data: None,
        version: 0,
    });
    let changed = other.ask(1, &set);
    assert_eq!(changed.error, 0);
    let delete = Request::Delete(zookeeper_wire::PathVersion {
        path: "/gone".into(),
        version: -1,
    });
    assert_eq!(other.ask(2, &delete).error, 0);

    let mut third = RawClient::resume(coord.address, 20_000, session.0, session.1, seen).unwrap();
    third.send(
        -8,
        &Request::SetWatches(SetWatches {
            relative_zxid: seen,
            data: vec!["/changed".into(), "/same".into(), "/gone".into()],
            exist: vec![],
            child: vec![],
        }),
    );
    let mut event = || {
        let mut event = third.receive().expect("an event");
        (
            event.xid,
            event.body.i32().unwrap(),
            event.body.i32().unwrap(),
            event.body.string().unwrap().to_string(),
        )
    };
    assert_eq!(event(), (-1, 3, 3, "/changed".to_owned()));
    assert_eq!(event(), (-1, 2, 3, "/gone".to_owned()));
    let reply = third.receive().expect("the reply comes behind the events");
    assert_eq!((reply.xid, reply.error), (-8, 0));
    // What had not changed is watched, and its event carries the change's zxid.
    let set = Request::SetData(SetDataRequest {
        path: "/same".into(),
        data: None,
        version: 0,
    });
    let zxid = other.ask(3, &set).zxid;
    let event = third.receive().expect("an event");
    assert_eq!((event.xid, event.zxid), (-1, zxid));
}

#[test]
fn a_client_that_has_seen_a_later_state_is_refused() {
    let coord = Coord::start();
    let client = RawClient::connect(coord.address, 20_000);
    let far = i64::MAX;
    assert!(
        RawClient::resume(
            coord.address,
            20_000,
            client.session,
            client.password.clone(),
            far
        )
        .is_none()
    );
}

#[test]
fn a_wrong_password_opens_nothing() {
    let coord = Coord::start();
    let client = RawClient::connect(coord.address, 20_000);
    let wrong = bytes::Bytes::from_static(&[1; 16]);
    let refused = RawClient::resume(coord.address, 20_000, client.session, wrong, 0).unwrap();
    assert_eq!((refused.timeout_ms, refused.session), (0, 0));
}
