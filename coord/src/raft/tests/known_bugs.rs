//! What others lost when a member was brought up to date and something went wrong in the middle.

use std::time::Duration;

use coord_core::NodeId;

use super::world::World;

/// Three members, of which the last is not there and lacks what the sessions 1 to `last` did; the others, leader first.
async fn with_one_behind(seed: u64, snap_count: u64, last: i64) -> (World, NodeId, NodeId, NodeId) {
    let mut world = World::new(3, 0);
    (world.seed, world.snap_count) = (seed, snap_count);
    for node in 1..=3 {
        world.start(NodeId(node)).await.unwrap();
    }
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let mut others = world.nodes.keys().copied().filter(|node| *node != leader);
    let (other, behind) = (others.next().unwrap(), others.next().unwrap());
    drop(others);
    world.crash(behind, 0).await;
    for session in 2..=last {
        world.write(session).await;
    }
    (world, leader, other, behind)
}

fn has_all(world: &World, node: NodeId, sessions: impl IntoIterator<Item = i64>) {
    for session in sessions {
        assert!(
            world.has(node, session),
            "server {node} lacks {session}: {}",
            world.trace()
        );
    }
}

/// An acknowledgement that rests on a member that has just come back rests on its disk.
#[tokio::test(start_paused = true)]
async fn bug_zookeeper_4646_who_is_brought_up_to_date_acknowledges_what_is_on_its_disk() {
    for seed in 0..5 {
        let (mut world, leader, other, behind) = with_one_behind(seed, 1_000_000, 10).await;
        world.crash(other, 0).await;
        world.disks[&behind].stall(Duration::from_millis(seed * 20));
        world.start(behind).await.unwrap();
        // Whoever leads may not do so any more by the time that it decides: then comes the next.
        let mut acknowledged = 10;
        while !world.has(leader, acknowledged.max(11)) && !world.has(behind, acknowledged.max(11)) {
            acknowledged += 1;
            world.propose(acknowledged).await;
            let patience = tokio::time::Instant::now() + Duration::from_secs(3);
            let has = |world: &World| {
                [leader, behind]
                    .iter()
                    .any(|&node| world.has(node, acknowledged))
            };
            while !has(&world) && tokio::time::Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(
                acknowledged < 30,
                "nothing is acknowledged: {}",
                world.trace()
            );
        }
        world.crash(behind, 0).await;
        world.crash(leader, 0).await;
        world.disks[&behind].stall(Duration::ZERO);
        world.start(behind).await.unwrap();
        world.start(other).await.unwrap();
        world.write(31).await;
        for node in [behind, other] {
            has_all(&world, node, (1..=10).chain([acknowledged, 31]));
        }
    }
}

/// The newest term and no entries of it make nobody the leader.
#[tokio::test(start_paused = true)]
async fn bug_zookeeper_4643_a_vote_that_is_newer_than_the_log_behind_it_cuts_nothing_off() {
    for crash_at_ms in (0..400).step_by(50) {
        let (mut world, leader, other, behind) = with_one_behind(3, 1_000_000, 10).await;
        // A later term, which the one behind has to promise before it gets its entries.
        world.crash(leader, 0).await;
        world.start(leader).await.unwrap();
        world.write(11).await;
        world.disks[&behind].stall(Duration::from_millis(60));
        world.start(behind).await.unwrap();
        tokio::time::sleep(Duration::from_millis(crash_at_ms)).await;
        world.crash(behind, 0).await;
        let (leads, _) = world.wait_for_leader().await;
        world.crash(leads, 0).await;
        world.disks[&behind].stall(Duration::ZERO);
        world.start(behind).await.unwrap();
        world.write(12).await;
        let stays = if leads == leader { other } else { leader };
        has_all(&world, stays, 1..=12);
        has_all(&world, behind, 1..=12);
    }
}

/// What comes while a member catches up leaves no gap in what it has, and so none in whom it brings up to date itself.
#[tokio::test(start_paused = true)]
async fn bug_zookeeper_4785_4925_who_catches_up_under_writes_has_no_gap_and_passes_none_on() {
    for seed in 0..4 {
        let (mut world, leader, other, behind) = with_one_behind(seed, 1_000_000, 20).await;
        world.start(behind).await.unwrap();
        let mut last = 20;
        for round in 0..20 {
            let (leads, term) = world.wait_for_leader().await;
            last += 1;
            world.propose_on(leads, term, last);
            tokio::time::sleep(Duration::from_millis(seed)).await;
            if round == 5 * seed {
                world.crash(behind, seed as usize).await;
                world.start(behind).await.unwrap();
            }
        }
        world.until_all_have(last).await;
        has_all(&world, behind, 1..=last);
        // It leads, or votes for who does, and brings up to date one that was away.
        world.crash(other, 0).await;
        world.write(last + 1).await;
        world.crash(leader, 0).await;
        world.start(other).await.unwrap();
        world.write(last + 2).await;
        for node in [behind, other] {
            has_all(&world, node, 1..=last + 2);
        }
        let behinds = world.seen(behind, |seen| seen.state.clone());
        assert_eq!(
            world.seen(other, |seen| seen.state.clone()),
            behinds,
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_3642_a_leader_that_dies_behind_its_snapshot_leaves_members_that_agree() {
    for seed in 0..3 {
        let (mut world, leader, other, behind) = with_one_behind(seed, 10, 40).await;
        world.start(behind).await.unwrap();
        world
            .until("the snapshot is there", |world| {
                world.seen(behind, |seen| seen.installs) == 1
            })
            .await;
        world.crash(leader, 0).await;
        world.write(41).await;
        world.start(leader).await.unwrap();
        world.write(42).await;
        world.crash(behind, 0).await;
        world.start(behind).await.unwrap();
        world.write(43).await;
        let leaders = world.seen(leader, |seen| seen.state.clone());
        for node in [other, behind] {
            has_all(&world, node, 1..=43);
            assert_eq!(
                world.seen(node, |seen| seen.state.clone()),
                leaders,
                "seed {seed}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_2872_a_snapshot_that_was_cut_off_on_its_way_is_no_state() {
    for crash_at_ms in (0..40).step_by(3) {
        let (mut world, _, _, behind) = with_one_behind(5, 10, 40).await;
        world.disks[&behind].stall(Duration::from_millis(5));
        world.start(behind).await.unwrap();
        tokio::time::sleep(Duration::from_millis(crash_at_ms * 3)).await;
        let torn = crash_at_ms as usize * 11;
        world.crash(behind, torn).await;
        world.disks[&behind].stall(Duration::ZERO);
        world.start(behind).await.unwrap();
        let (first, last) = (world.has(behind, 1), world.has(behind, 40));
        assert!(first || !last, "after {crash_at_ms}: part of a state");
        world.until_all_have(40).await;
        has_all(&world, behind, 1..=40);
        world.write(41).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_3701_a_disk_that_is_full_when_a_tail_is_cut_off_splits_nothing() {
    let (mut world, leader) = World::with_a_tail_of_one().await;
    world.disks[&leader].leave_room(0);
    world.start(leader).await.unwrap();
    world.propose(3).await;
    world
        .until("the others go on", |world| {
            let others = world.nodes.keys().filter(|node| **node != leader);
            others.into_iter().all(|node| world.has(*node, 3))
        })
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.has_no_tail(leader));
    assert_ne!(world.leader().unwrap().0, leader);
    world.crash(leader, 0).await;
    world.disks[&leader].leave_room(usize::MAX);
    world.start(leader).await.unwrap();
    world.write(4).await;
    has_all(&world, leader, 1..=4);
    assert!(world.has_no_tail(leader));
}

/// Of etcd: a server by itself has nobody else's disk to rest on.
#[tokio::test(start_paused = true)]
async fn bug_etcd_14370_a_server_by_itself_acknowledges_what_it_has_synced() {
    for torn in [0, 3, 50] {
        let mut world = World::started(1, 0).await;
        let alone = NodeId(1);
        world.disks[&alone].stall(Duration::from_millis(30));
        for session in 1..10 {
            world.write(session).await;
            world.crash(alone, torn).await;
            world.start(alone).await.unwrap();
            world.until_all_have(session).await;
            has_all(&world, alone, 1..=session);
        }
    }
}
