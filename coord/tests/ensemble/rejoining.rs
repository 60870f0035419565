//! Members that come back with too little: an empty disk, or a state that is far behind.

use crate::harness::Ensemble;
use crate::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_follower_gets_everything_again() {
    let mut ensemble = Ensemble::of(3).start();
    let load = Load::start(&ensemble).await;
    let follower = ensemble.a_follower();
    ensemble.kill(follower);
    ensemble.wipe(follower);
    ensemble.start(follower);
    load.goes_on().await;
    load.stop().await.is_on_every_member(&ensemble).await;
}

/// So many snapshots are taken meanwhile that the log no longer reaches back to where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_far_behind_is_sent_a_snapshot() {
    let mut ensemble = Ensemble::of(3).set("snapCount=50").start();
    let load = Load::start(&ensemble).await;
    let follower = ensemble.a_follower();
    ensemble.kill(follower);
    for _ in 0..10 {
        load.goes_on().await;
    }
    ensemble.start(follower);
    load.goes_on().await;
    let written = load.stop().await;
    written.is_on_every_member(&ensemble).await;
    // What it was sent is on its disk.
    let members: Vec<u16> = ensemble.members().collect();
    ensemble.kill_all(&members);
    for &member in &members {
        ensemble.spawn(member);
    }
    for &member in &members {
        ensemble.await_serving(member);
    }
    written.is_on_every_member(&ensemble).await;
}
