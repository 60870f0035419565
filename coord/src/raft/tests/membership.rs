//! Members that come and go.

use std::time::Duration;

use coord_core::{Members, NodeId, ServerRole};

use super::world::{World, spec};
use crate::raft::Role;

const JOINS: NodeId = NodeId(4);

/// Less than the second after which a leader that is silent would be missed.
const AT_ONCE: Duration = Duration::from_millis(500);

fn is_removed(world: &World, node: NodeId) -> bool {
    world.seen(node, |seen| seen.role) == Some(Role::Removed)
}

/// Three members and the list with a fourth, which is not started.
async fn three_of_four() -> (World, NodeId) {
    let mut world = World::started(3, 0).await;
    for session in 1..30 {
        world.write(session).await;
    }
    world.disks.insert(JOINS, Default::default());
    world.servers.insert(JOINS, spec(Default::default()));
    let (leader, _) = world.leader().unwrap();
    (world, leader)
}

fn followers(world: &World, leader: NodeId) -> Vec<NodeId> {
    let nodes = world.nodes.keys().copied();
    nodes.filter(|node| *node != leader).collect()
}

fn without(servers: &Members, node: NodeId) -> Members {
    let mut servers = servers.clone();
    servers.remove(&node);
    servers
}

fn observing(servers: &Members, node: NodeId) -> Members {
    let mut servers = servers.clone();
    servers.get_mut(&node).unwrap().role = ServerRole::Observer;
    servers
}

async fn answered(world: &World, node: NodeId, token: u64, changed: bool) {
    let what = format!("change {token} is answered");
    let answer = (token, changed);
    world
        .until(&what, |world| {
            world.seen(node, |seen| seen.tokens.contains(&answer))
        })
        .await;
}

fn shown(world: &World, node: NodeId) -> Members {
    world.seen(node, |seen| seen.members.last().unwrap().clone())
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go() {
    let (mut world, leader) = three_of_four().await;
    // It is started with the list that it will be part of.
    world.start(JOINS).await.unwrap();
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, world.servers.clone());
    answered(&world, leader, 1, true).await;
    assert_eq!(shown(&world, leader), world.servers);
    world.write(40).await;
    assert!(world.has(JOINS, 5));
    assert!(world.nodes[&JOINS].raft.status().is_voter);
    // One that is no leader leaves.
    let leaves = followers(&world, leader)[0];
    let servers = without(&world.servers, leaves);
    raft.change_membership(2, servers.clone());
    answered(&world, leader, 2, true).await;
    assert_eq!(shown(&world, leader), servers);
    let told = world
        .until("it knows", |world| is_removed(world, leaves))
        .await;
    assert!(told < AT_ONCE, "{told:?}");
    world.crash(leaves, 0).await;
    world.write(41).await;
    // One becomes an observer.
    let servers = observing(&servers, JOINS);
    raft.change_membership(3, servers.clone());
    answered(&world, leader, 3, true).await;
    assert_eq!(shown(&world, leader), servers);
    world
        .until("it knows", |world| {
            !world.nodes[&JOINS].raft.status().is_voter
        })
        .await;
    world.write(42).await;
    let was_told = world.seen(JOINS, |seen| seen.trace.contains("Role(Removed)"));
    assert!(!was_told, "it stays: {}", world.trace());
    // And leaves.
    let servers = without(&servers, JOINS);
    raft.change_membership(4, servers.clone());
    answered(&world, leader, 4, true).await;
    assert_eq!(shown(&world, leader), servers);
    let told = world
        .until("it knows", |world| is_removed(world, JOINS))
        .await;
    assert!(told < AT_ONCE, "{told:?}");
    // And comes back.
    let mut servers = servers;
    servers.insert(JOINS, world.servers[&JOINS].clone());
    raft.change_membership(5, servers);
    answered(&world, leader, 5, true).await;
    world
        .until("it follows", |world| {
            let role = world.seen(JOINS, |seen| seen.role);
            matches!(role, Some(Role::Follower { .. }))
        })
        .await;
}

/// It has the log of before it was listed for a while, be it sent as entries or as a snapshot.
#[tokio::test(start_paused = true)]
async fn who_joins_with_a_log_longer_than_one_message_is_not_told_that_it_was_removed() {
    for (snap_count, last) in [(1_000_000, 2_100), (10, 100)] {
        let mut world = World::new(3, 0);
        world.snap_count = snap_count;
        for node in world.disks.keys().copied().collect::<Vec<_>>() {
            world.start(node).await.unwrap();
        }
        for session in 1..=last {
            world.propose(session).await;
            if session % 10 == 0 {
                world.until_all_have(session).await;
            }
        }
        world.disks.insert(JOINS, Default::default());
        world.servers.insert(JOINS, spec(Default::default()));
        world.start(JOINS).await.unwrap();
        let (leader, _) = world.leader().unwrap();
        let raft = world.nodes[&leader].raft.clone();
        raft.change_membership(1, world.servers.clone());
        answered(&world, leader, 1, true).await;
        world.write(last + 1).await;
        let is_snapshot = world.seen(JOINS, |seen| seen.installs) > 0;
        assert_eq!(is_snapshot, snap_count == 10);
        let was_told = world.seen(JOINS, |seen| seen.trace.contains("Role(Removed)"));
        assert!(!was_told, "it joins: {}", world.trace());
    }
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_does_not_follow_is_refused_and_nothing_is_left_of_it() {
    let (mut world, leader) = three_of_four().await;
    let before = shown(&world, leader);
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, world.servers.clone());
    answered(&world, leader, 1, false).await;
    assert_eq!(shown(&world, leader), before);
    // Once it is there it may join, and is no participant before it votes.
    world.start(JOINS).await.unwrap();
    raft.change_membership(2, world.servers.clone());
    answered(&world, leader, 2, true).await;
    assert_eq!(shown(&world, leader), world.servers);
    let told = world.seen(leader, |seen| seen.members.clone());
    let (now, earlier) = told.split_last().unwrap();
    assert_eq!(*now, world.servers);
    for members in earlier {
        let role = members.get(&JOINS).map(|server| server.role);
        assert_ne!(role, Some(ServerRole::Participant), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn voters_of_which_most_are_not_there_are_refused() {
    let mut world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let [leaves, gone] = followers(&world, leader)[..] else {
        panic!("two follow")
    };
    world.crash(gone, 0).await;
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, without(&world.servers, leaves));
    answered(&world, leader, 1, false).await;
    assert_eq!(shown(&world, leader), world.servers);
    world.write(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_removes_itself_and_another_leads_at_once() {
    for count in [3, 2] {
        let mut world = World::started(count, 0).await;
        world.write(1).await;
        let (leader, _) = world.leader().unwrap();
        let left = without(&world.servers, leader);
        let raft = world.nodes[&leader].raft.clone();
        raft.change_membership(1, left.clone());
        let took = world
            .until("another leads, and has ended the change", |world| {
                world
                    .leader()
                    .is_some_and(|(new, _)| new != leader && shown(world, new) == left)
            })
            .await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        // What came of it the former leader cannot tell.
        answered(&world, leader, 1, false).await;
        world
            .until("it knows that it was removed", |world| {
                is_removed(world, leader)
            })
            .await;
        world.crash(leader, 0).await;
        world.write(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_may_observe_and_another_member_leave_in_one_change() {
    let (mut world, leader) = three_of_four().await;
    world.start(JOINS).await.unwrap();
    let leaves = followers(&world, leader)[0];
    let servers = observing(&without(&world.servers, leaves), leader);
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, servers.clone());
    answered(&world, leader, 1, false).await;
    world
        .until("it follows the next leader, and observes", |world| {
            let role = world.seen(leader, |seen| seen.role);
            matches!(role, Some(Role::Follower { .. })) && shown(world, leader) == servers
        })
        .await;
    assert!(!world.nodes[&leader].raft.status().is_voter);
    let was_told = world.seen(leader, |seen| seen.trace.contains("Role(Removed)"));
    assert!(!was_told, "it stays: {}", world.trace());
    world.crash(leaves, 0).await;
    world.write(50).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_voters_is_ended_by_the_next_leader_if_its_own_is_lost() {
    let (mut world, leader) = three_of_four().await;
    world.start(JOINS).await.unwrap();
    let leaves = followers(&world, leader)[0];
    let servers = without(&world.servers, leaves);
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, servers.clone());
    let configs = |world: &World, node| {
        let service = world.nodes[&node].raft.service();
        let metrics = service.0.server.borrow().clone();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .len()
    };
    let others = followers(&world, leader);
    while !others.iter().all(|node| configs(&world, *node) == 2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(configs(&world, leader) == 2 || world.seen(leader, |seen| seen.tokens.is_empty()));
    }
    world.crash(leader, 0).await;
    world
        .until("the change is ended", |world| {
            world
                .leader()
                .is_some_and(|(leader, _)| shown(world, leader) == servers)
        })
        .await;
    world.crash(leaves, 0).await;
    world.start(leader).await.unwrap();
    world.write(50).await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_is_to_vote_observes_on_if_the_leader_is_lost_before() {
    let mut world = World::started(3, 1).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    // It does not catch up, so that the change does not get further.
    world.cut(leader, JOINS);
    let mut servers = shown(&world, leader);
    let observer = servers.get_mut(&JOINS).unwrap();
    observer.role = ServerRole::Participant;
    observer.quorum_port = 9;
    let raft = world.nodes[&leader].raft.clone();
    raft.change_membership(1, servers);
    let others = followers(&world, leader);
    let others: Vec<NodeId> = others.into_iter().filter(|node| *node != JOINS).collect();
    let listed_port = |world: &World, node: NodeId| {
        let service = world.nodes[&node].raft.service();
        let metrics = service.0.server.borrow();
        let server = metrics.membership_config.membership().get_node(&JOINS);
        server.map(|server| server.quorum_port)
    };
    world
        .until("the change has begun", |world| {
            others
                .iter()
                .all(|node| listed_port(world, *node) == Some(9))
        })
        .await;
    world.crash(leader, 0).await;
    world.write(2).await;
    let (leader, _) = world.leader().unwrap();
    world.propose(3).await;
    world.until_all_have(3).await;
    assert_eq!(shown(&world, leader)[&JOINS].role, ServerRole::Observer);
}
