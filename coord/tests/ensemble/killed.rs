//! Members killed under load: a minority, all at once.

use std::time::Duration;

use zookeeper_client::Client;

use crate::client::EPHEMERAL;
use crate::harness::{Ensemble, Mode, eventually};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_and_followers_killed_under_load_lose_nothing() {
    let mut ensemble = Ensemble::of(3).start();
    let load = Load::start(&ensemble).await;
    for _ in 0..2 {
        for victim in [ensemble.await_leader(), ensemble.a_follower()] {
            ensemble.kill(victim);
            load.goes_on().await;
            ensemble.start(victim);
            load.goes_on().await;
        }
    }
    load.stop().await.is_on_every_member(&ensemble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_killed_at_once_lose_nothing() {
    let mut ensemble = Ensemble::of(5).start();
    let load = Load::start(&ensemble).await;
    let victims = [ensemble.await_leader(), ensemble.a_follower()];
    ensemble.kill_all(&victims);
    load.goes_on().await;
    for victim in victims {
        ensemble.start(victim);
    }
    load.stop().await.is_on_every_member(&ensemble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_killed_at_once_come_back_with_their_sessions() {
    for size in [1, 3] {
        let mut ensemble = Ensemble::of(size).start();
        let members: Vec<u16> = ensemble.members().collect();
        let load = Load::start(&ensemble).await;
        let silent = Client::connector()
            .with_detached()
            .with_session_timeout(Duration::from_secs(2))
            .connect(&ensemble.connect_string())
            .await
            .unwrap();
        silent.create("/silent", b"", &EPHEMERAL).await.unwrap();
        drop(silent);
        ensemble.kill_all(&members);
        for &member in &members {
            ensemble.spawn(member);
        }
        for &member in &members {
            ensemble.await_serving(member);
        }
        load.goes_on().await;
        let client = ensemble.client().await;
        eventually("the expiry of a session that did not come back", || async {
            client
                .check_stat("/silent")
                .await
                .ok()?
                .is_none()
                .then_some(())
        })
        .await;
        load.stop().await.is_on_every_member(&ensemble).await;
    }
}

/// What is left answers nothing, lest it be stale, and goes on when it is a majority again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_drops_its_clients() {
    let mut ensemble = Ensemble::of(3).start();
    let load = Load::start(&ensemble).await;
    let last = ensemble.await_leader();
    let others: Vec<u16> = ensemble
        .members()
        .filter(|&member| member != last)
        .collect();
    ensemble.kill_all(&others);
    eventually("the last to serve no more", || async {
        ensemble.mode(last).is_none().then_some(())
    })
    .await;
    let refused = Client::connector()
        .with_fail_eagerly()
        .with_session_timeout(Duration::from_secs(1))
        .connect(&ensemble.address(last).to_string())
        .await;
    assert!(refused.is_err(), "a minority gives no sessions");
    ensemble.start(others[0]);
    assert!(matches!(
        ensemble.await_serving(last),
        Mode::Leader | Mode::Follower
    ));
    load.goes_on().await;
    ensemble.start(others[1]);
    load.stop().await.is_on_every_member(&ensemble).await;
}
