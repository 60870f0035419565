//! Observers: they serve, pass writes on, and never vote.

use zookeeper_client::EventType;

use crate::client::{EPHEMERAL, PERSISTENT};
use crate::harness::{Ensemble, Mode, eventually};
use crate::load::Load;

const OBSERVER: u16 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_serves_reads_writes_and_watches() {
    let mut ensemble = Ensemble::of(3).observers(1).start();
    assert_eq!(ensemble.mode(OBSERVER), Some(Mode::Observer));
    let (observing, voting) = (
        ensemble.client_of(OBSERVER).await,
        ensemble.client_of(1).await,
    );
    let (stat, _) = observing
        .create("/observed", b"1", &PERSISTENT)
        .await
        .unwrap();
    observing.create("/guest", b"", &EPHEMERAL).await.unwrap();
    voting.sync("/").await.unwrap();
    assert_eq!(
        voting.get_data("/observed").await.unwrap().1.czxid,
        stat.czxid
    );
    let (_, _, watcher) = observing.get_and_watch_data("/observed").await.unwrap();
    let set = voting.set_data("/observed", b"2", None).await.unwrap();
    let event = watcher.changed().await;
    assert_eq!(
        (event.event_type, event.zxid),
        (EventType::NodeDataChanged, set.mzxid)
    );
    assert_eq!(observing.get_data("/observed").await.unwrap().0, b"2");

    // Its sessions outlive a leader.
    let load = Load::start(&ensemble).await;
    let leader = ensemble.await_leader();
    ensemble.kill(leader);
    load.goes_on().await;
    ensemble.start(leader);
    assert_eq!(ensemble.await_serving(OBSERVER), Mode::Observer);
    let guest = eventually("a connection", || async {
        observing.check_stat("/guest").await.ok()
    })
    .await;
    assert_eq!(guest.unwrap().ephemeral_owner, observing.session_id().0);
    load.stop().await.is_on_every_member(&ensemble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_makes_no_majority() {
    let mut ensemble = Ensemble::of(3).observers(1).start();
    let load = Load::start(&ensemble).await;
    let leader = ensemble.await_leader();
    let followers: Vec<u16> = (1..=3).filter(|&member| member != leader).collect();
    ensemble.kill_all(&followers);
    for member in [leader, OBSERVER] {
        eventually("one voter and an observer to serve no more", || async {
            ensemble.mode(member).is_none().then_some(())
        })
        .await;
    }
    ensemble.start(followers[0]);
    ensemble.start(followers[1]);
    assert_eq!(ensemble.await_serving(OBSERVER), Mode::Observer);
    load.goes_on().await;
    load.stop().await.is_on_every_member(&ensemble).await;
}
