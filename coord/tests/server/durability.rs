//! What was acknowledged is there after any end.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use zookeeper_client::{Acls, CreateMode};
use zookeeper_wire::{PathWatch, Request};

use crate::process::{self, Coord, DEADLINE};
use crate::raw::{self, RawClient};

const OPEN: Acls<'static> = Acls::anyone_all();

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_create_survives_sigkill_under_load() {
    let mut coord = Coord::start_with(&["snapCount=200"]);
    let created = Arc::new(AtomicU32::new(0));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let client = coord.client(Duration::from_secs(10)).await;
        let created = created.clone();
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let path = format!("/w{writer}-{}", acknowledged.len());
                if client
                    .create(
                        &path,
                        path.as_bytes(),
                        &CreateMode::Persistent.with_acls(OPEN),
                    )
                    .await
                    .is_err()
                {
                    return acknowledged;
                }
                acknowledged.push(path);
                created.fetch_add(1, Relaxed);
            }
        }));
    }
    // Enough for several snapshots, so that the kill may fall into one.
    let enough = async {
        while created.load(Relaxed) < 1_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, enough)
        .await
        .expect("1,000 creates in time");
    coord.kill();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    coord.restart();
    let client = coord.client(Duration::from_secs(10)).await;
    let mut stats: Vec<_> = Vec::new();
    for path in &acknowledged {
        let (data, stat) = client
            .get_data(path)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(data, path.as_bytes());
        stats.push(stat.czxid);
    }
    stats.sort_unstable();
    stats.dedup();
    assert_eq!(
        stats.len(),
        acknowledged.len(),
        "each create has a zxid of its own"
    );
}

#[test]
fn sequence_numbers_go_on_after_a_restart_and_zxids_grow() {
    let mut coord = Coord::start();
    let mut last = 0;
    for expected in 0..4 {
        let mut client = RawClient::connect(coord.address, 20_000);
        let mut reply = client.ask(1, &raw::create("/s-", 2));
        assert_eq!(reply.body.string().unwrap(), format!("/s-{expected:010}"));
        assert!(reply.zxid > last);
        last = reply.zxid;
        if expected % 2 == 0 {
            coord.kill();
        } else {
            assert_eq!(coord.terminate(), Some(0));
        }
        coord.restart();
    }
}

#[test]
fn a_data_directory_in_use_is_refused_with_its_holder() {
    let coord = Coord::start();
    let output = process::refused(coord.dir(), &["clientPort=0"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&format!("in use by process {}", coord.pid())),
        "{stderr}"
    );
}

#[test]
fn a_damaged_log_is_refused_with_its_file() {
    let mut coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    for xid in 1..4 {
        assert_eq!(
            client.ask(xid, &raw::create(&format!("/{xid}"), 0)).error,
            0
        );
    }
    coord.kill();
    let log = coord.dir().join("log.0000000000000000");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let output = process::refused(coord.dir(), &["clientPort=0"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("log.0000000000000000 is damaged at byte"),
        "{stderr}"
    );
}

#[test]
fn a_log_that_cannot_be_written_ends_the_process_and_nothing_acknowledged_is_lost() {
    let mut coord = Coord::start_with_full_disk(64);
    let mut client = RawClient::connect(coord.address, 20_000);
    let mut acknowledged = 0;
    loop {
        client.send(acknowledged, &raw::create(&format!("/{acknowledged}"), 0));
        let Some(reply) = client.receive() else { break };
        assert_eq!(reply.error, 0);
        acknowledged += 1;
    }
    assert!(
        acknowledged > 10,
        "the disk was full only after {acknowledged} creates"
    );
    assert_eq!(coord.ended().signal(), Some(6), "it aborts");
    coord.restart();
    let mut client = RawClient::connect(coord.address, 20_000);
    for at in 0..acknowledged {
        let exists = Request::Exists(PathWatch {
            path: format!("/{at}").into(),
            watch: false,
        });
        assert_eq!(client.ask(at, &exists).error, 0);
    }
}
