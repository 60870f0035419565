//! The node's task, on a log in a directory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coord_core::request::{Read, Request};
use coord_core::{Connect, ConnectionId, Event, SessionId, Zxid};
use tokio::sync::{mpsc, oneshot};

use super::task::INBOX_BATCH;
use super::{Alone, Input, Node, Outgoing, Sender, Settings, SystemClock};
use crate::config::Config;
use crate::raft::StdDisk;

const TIMEOUT: Duration = Duration::from_millis(500);

fn config(dir: &std::path::Path) -> Config {
    let set = [
        format!("dataDir={}", dir.display()),
        "minSessionTimeout=1".to_owned(),
        "maxSessionTimeout=10000".to_owned(),
    ];
    let pairs = crate::config::load(None, &set).unwrap();
    Config::from_pairs(pairs).unwrap().0
}

// On one thread, so that the node sleeps for as long as the test does not wait.
#[tokio::test]
async fn a_ping_that_waits_behind_other_requests_is_heard_before_its_session_expires() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&config(dir.path()), 1);
    let node = Node::start(
        settings,
        Arc::new(StdDisk),
        Arc::new(Alone),
        Arc::new(SystemClock),
    );
    let node = node.await.unwrap();
    let (inputs, inbox) = mpsc::channel(1024);
    let (_stop, stopped) = oneshot::channel();
    tokio::spawn(node.run(inbox, stopped));
    let (sender, mut outgoing, _) = Sender::new();
    let connection = ConnectionId(1);
    let connect = Connect {
        connection,
        last_zxid_seen: Zxid(0),
        timeout_ms: TIMEOUT.as_millis() as i32,
        session: SessionId(0),
        password: Bytes::new(),
        new_password: [1; 16],
        read_only: false,
        identities: Vec::new(),
    };
    let input = Input::Connect { connect, sender };
    inputs.send(input).await.unwrap();
    let (answer, _) = outgoing.recv().await.unwrap();
    assert!(matches!(answer, Outgoing::Connected(Some(_))), "{answer:?}");

    let connected = Instant::now();
    let event = |event| Input::Event {
        event,
        charge: None,
    };
    for _ in 0..INBOX_BATCH {
        let nobody = ConnectionId(2);
        let other = event(Event::Disconnected { connection: nobody });
        inputs.try_send(other).unwrap();
    }
    for (xid, request) in [(1, Request::Read(Read::Ping)), (2, Request::CloseSession)] {
        let request = event(Event::Request {
            connection,
            xid,
            request,
        });
        inputs.try_send(request).unwrap();
    }
    while connected.elapsed() < TIMEOUT {
        std::hint::spin_loop();
    }
    for expected in [1, 2] {
        let (answer, _) = outgoing.recv().await.unwrap();
        assert!(
            matches!(answer, Outgoing::Reply { xid, result: Ok(_), .. } if xid == expected),
            "{answer:?}"
        );
    }
}
