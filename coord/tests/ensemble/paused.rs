//! Members that stand still for longer than sessions live, and then go on as if nothing had been.

use std::time::Duration;

use rustix::process::Signal;
use zookeeper_client::SessionState;

use crate::client::EPHEMERAL;
use crate::harness::{DEADLINE, Ensemble, Mode, connect, eventually};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_follows_when_it_goes_on() {
    let ensemble = Ensemble::of(3).start();
    let leader = ensemble.await_leader();
    pause_for_longer_than_a_session(&ensemble, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_follower_catches_up() {
    let ensemble = Ensemble::of(3).start();
    let follower = ensemble.a_follower();
    pause_for_longer_than_a_session(&ensemble, follower).await;
}

async fn pause_for_longer_than_a_session(ensemble: &Ensemble, paused: u16) {
    let load = Load::start(ensemble).await;
    // Knows the paused one only, so that its session must end.
    let bound = connect(
        &ensemble.address(paused).to_string(),
        Duration::from_secs(2),
    )
    .await;
    bound.create("/bound", b"", &EPHEMERAL).await.unwrap();
    let others: Vec<u16> = ensemble
        .members()
        .filter(|&member| member != paused)
        .collect();

    ensemble.signal(paused, Signal::STOP);
    ensemble.await_leader_of(&others);
    load.goes_on().await;
    let witness = ensemble.client_of(others[0]).await;
    eventually("the expiry of the session on the paused member", || async {
        witness
            .check_stat("/bound")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    ensemble.signal(paused, Signal::CONT);

    let mut states = bound.state_watcher();
    let ended = async {
        while !states.peek_state().is_terminated() {
            states.changed().await;
        }
        states.peek_state()
    };
    let ended = tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("an end of the session");
    assert_eq!(ended, SessionState::Expired);
    ensemble.await_mode(paused, |mode| mode == Mode::Follower);
    load.goes_on().await;
    load.stop().await.is_on_every_member(ensemble).await;
}
