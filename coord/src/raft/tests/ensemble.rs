use std::time::Duration;

use bytes::Bytes;
use coord_core::NodeId;
use openraft::raft::{AppendEntriesRequest, VoteRequest};

use super::world::World;
use crate::raft::transport::{Envelope, Rejected, Request};
use crate::raft::types::log_id;
use crate::raft::{Role, Vote};

const ONE: NodeId = NodeId(1);

#[tokio::test(start_paused = true)]
async fn an_ensemble_of_one_founds_itself_and_goes_on_after_a_crash() {
    let mut world = World::started(1, 0).await;
    world.write(1).await;
    world.write(2).await;
    for round in 0..5 {
        world.crash(ONE, 0).await;
        world.start(ONE).await.unwrap();
        world.wait_for_leader().await;
        assert!(world.has(ONE, 1) && world.has(ONE, 2));
        world.write(10 + round).await;
    }
}

#[tokio::test(start_paused = true)]
async fn three_elect_one_leader_and_all_see_its_writes_in_order() {
    let world = World::started(3, 0).await;
    for session in 1..50 {
        world.write(session).await;
    }
    let (leader, _) = world.leader().unwrap();
    for &node in world.nodes.keys() {
        let role = world.seen(node, |seen| seen.role).unwrap();
        match role {
            Role::Leader { .. } => assert_eq!(node, leader),
            Role::Follower {
                leader: followed, ..
            } => assert_eq!(followed, leader),
            role => panic!("{role:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_process_ends_is_replaced_within_half_a_second() {
    for seed in 0..20 {
        let mut world = World::new(3, 0);
        world.seed = seed;
        for node in 1..=3 {
            world.start(NodeId(node)).await.unwrap();
        }
        world.write(1).await;
        let (leader, _) = world.leader().unwrap();
        world.crash(leader, 0).await;
        let took = world
            .until("a new leader", |world| world.leader().is_some())
            .await;
        assert!(took < Duration::from_millis(500), "seed {seed}: {took:?}");
        world.write(2).await;
        world.start(leader).await.unwrap();
        world.write(3).await;
        assert!(world.has(leader, 1) && world.has(leader, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_replaced_and_says_that_it_lost_its_quorum() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, term) = world.leader().unwrap();
    world.isolate(leader);
    world
        .until("a new leader", |world| {
            world.leader().is_some_and(|(node, _)| node != leader)
        })
        .await;
    world
        .until("the quorum is lost", |world| {
            world.seen(leader, |seen| seen.role) == Some(Role::QuorumLost { term })
        })
        .await;
    world.propose_on(leader, term, 66);
    world.propose(2).await;
    world.heal();
    world.until_all_have(2).await;
    world.write(3).await;
    assert!(!world.has(leader, 66), "what no majority had is nowhere");
}

#[tokio::test(start_paused = true)]
async fn who_hears_only_a_leader_without_a_majority_does_not_follow() {
    for observes in [false, true] {
        let world = match observes {
            false => World::started(5, 0).await,
            true => World::started(3, 1).await,
        };
        world.write(1).await;
        let (leader, term) = world.leader().unwrap();
        let mut others = world.nodes.keys().rev().filter(|node| **node != leader);
        let with_it = *others.next().unwrap();
        for &other in others {
            world.cut(leader, other);
            world.cut(with_it, other);
        }
        world
            .until("another leads", |world| {
                world.leader().is_some_and(|(_, now)| now > term)
            })
            .await;
        world
            .until("it follows nobody", |world| {
                world.seen(with_it, |seen| seen.role) == Some(Role::Leaderless)
            })
            .await;
        for _ in 0..1000 {
            assert_eq!(
                world.seen(with_it, |seen| seen.role),
                Some(Role::Leaderless)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.propose(2).await;
        world.heal();
        world.until_all_have(2).await;
        world
            .until("it follows again", |world| {
                matches!(
                    world.seen(with_it, |seen| seen.role),
                    Some(Role::Follower { .. })
                )
            })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_hangs_says_that_it_lost_its_quorum() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, term) = world.leader().unwrap();
    world.disks[&leader].stall(Duration::from_secs(600));
    world.propose_on(leader, term, 2);
    let took = world
        .until("it knows", |world| {
            world.seen(leader, |seen| seen.role) == Some(Role::QuorumLost { term })
        })
        .await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_by_itself_leads_however_long_its_disk_takes() {
    let world = World::started(1, 0).await;
    world.write(1).await;
    let (_, term) = world.leader().unwrap();
    world.disks[&ONE].stall(Duration::from_secs(30));
    world.propose_on(ONE, term, 2);
    world.until_all_have(2).await;
    assert!(!world.trace().contains("QuorumLost"));
}

#[tokio::test(start_paused = true)]
async fn entries_arrive_however_slow_the_way_is() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let leader = world.leader();
    *world.net.entries_take.lock().unwrap() = Duration::from_millis(400);
    for session in 2..40 {
        world.propose(session).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let took = world.until_all_have(39).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.leader(), leader);
}

/// Three members, all of them down, of which one has a long tail that the others do not have.
async fn with_a_tail(len: i64) -> (World, NodeId, [NodeId; 2]) {
    let mut world = World::new(3, 0);
    // Each write is an entry of its own.
    world.batch_max_len = 16;
    for node in 1..=3 {
        world.start(NodeId(node)).await.unwrap();
    }
    world.write(1).await;
    let (leader, term) = world.leader().unwrap();
    let others = world.nodes.keys().copied().filter(|node| *node != leader);
    let others: Vec<NodeId> = others.collect();
    for other in &others {
        world.crash(*other, 0).await;
    }
    for session in 2..2 + len {
        world.propose_on(leader, term, session);
    }
    world
        .until("its log is that long", |world| {
            let service = world.nodes[&leader].raft.service();
            let last = service.0.data.borrow().last_log;
            last.is_some_and(|last| last.index > len as u64)
        })
        .await;
    world.crash(leader, 0).await;
    (world, leader, others.try_into().unwrap())
}

const LONG_TAIL: i64 = 5000;

#[tokio::test(start_paused = true)]
async fn a_tail_that_no_majority_had_keeps_nobody_from_the_entry_that_commits_it() {
    let (mut world, leader, [other, third]) = with_a_tail(LONG_TAIL).await;
    for node in [leader, other] {
        world.start(node).await.unwrap();
    }
    // Only the longer log can lead, and commits nothing before an entry of its new term.
    world.write(2 + LONG_TAIL).await;
    world.start(third).await.unwrap();
    world.until_all_have(1000).await;
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_no_majority_had_keeps_nobody_from_the_entries_that_cut_it_off() {
    let (mut world, former, others) = with_a_tail(LONG_TAIL).await;
    for node in others {
        world.start(node).await.unwrap();
    }
    world.write(2 + LONG_TAIL).await;
    world.start(former).await.unwrap();
    world.until_all_have(2 + LONG_TAIL).await;
    assert!(!world.has(former, 1000));
}

#[tokio::test(start_paused = true)]
async fn leadership_is_confirmed_although_disks_stall() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    for disk in world.disks.values() {
        disk.stall(Duration::from_millis(500));
    }
    world.propose(2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.nodes[&leader].raft.confirm_leadership(1);
    world
        .until("an answer", |world| {
            world.seen(leader, |seen| !seen.tokens.is_empty())
        })
        .await;
    assert_eq!(world.seen(leader, |seen| seen.tokens.clone()), [(1, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_always_a_new_term() {
    for members in [1, 3] {
        let mut world = World::started(members, 0).await;
        world.write(1).await;
        let (_, term) = world.leader().unwrap();
        for node in (1..=members).map(NodeId) {
            world.crash(node, 0).await;
        }
        for node in (1..=members).map(NodeId) {
            world.start(node).await.unwrap();
        }
        let took = world
            .until("a leader", |world| world.leader().is_some())
            .await;
        assert!(world.leader().unwrap().1 > term);
        // Alone it has nobody to wait for.
        assert!(members > 1 || took < Duration::from_millis(10), "{took:?}");
        world.write(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_without_data_founds_nothing_beside_one_who_has_some() {
    let mut world = World::started(5, 0).await;
    world.write(1).await;
    for node in (1..=5).map(NodeId) {
        world.crash(node, 0).await;
        if node != ONE {
            world.disks.insert(node, Default::default());
        }
    }
    // It answers, and cannot be elected.
    world.disks[&ONE].stall(Duration::from_secs(3600));
    for node in (1..=5).map(NodeId) {
        world.start(node).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.leader(), None);
}

#[tokio::test(start_paused = true)]
async fn a_member_takes_nothing_from_leaders_of_an_ensemble_that_has_just_been_founded() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let envelope = Envelope {
        ensemble: 0,
        from: ONE,
        to: leader,
    };
    let vote = Vote::new_committed(99, ONE);
    let vote_request = VoteRequest::new(Vote::new(99, ONE), Some(log_id(99, 99)));
    let append = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(0, 0)),
        entries: Vec::new(),
        leader_commit: None,
    };
    for request in [Request::Vote(vote_request), Request::AppendEntries(append)] {
        let service = world.nodes[&leader].raft.service();
        let refused = service.call(envelope, request).await.unwrap_err();
        assert_eq!(refused, Rejected::WrongEnsemble(leader));
    }
}

#[tokio::test(start_paused = true)]
async fn data_of_a_server_by_itself_is_not_taken_for_a_members_nor_the_reverse() {
    let mut alone = World::started(1, 0).await;
    alone.write(1).await;
    let mut ensemble = World::started(3, 0).await;
    ensemble.write(1).await;
    alone.crash(ONE, 0).await;
    ensemble.crash(ONE, 0).await;
    std::mem::swap(&mut alone.servers, &mut ensemble.servers);
    let refused = alone.start(ONE).await.unwrap_err().to_string();
    let expected = "/data holds the data of a server by itself, number 1:";
    assert!(refused.starts_with(expected), "{refused}");
    let refused = ensemble.start(ONE).await.unwrap_err().to_string();
    let expected = "/data holds the data of the ensemble of servers 1, 2, 3:";
    assert!(refused.starts_with(expected), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_cut_off_comes_back_without_an_election() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, term) = world.leader().unwrap();
    let follower = *world.nodes.keys().find(|node| **node != leader).unwrap();
    world.isolate(follower);
    world
        .until("it is alone", |world| {
            world.seen(follower, |seen| seen.role) == Some(Role::Leaderless)
        })
        .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.propose(2).await;
    world.heal();
    world.until_all_have(2).await;
    assert_eq!(world.leader(), Some((leader, term)));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stalls_changes_no_leader() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let leader = world.leader();
    for (session, stalled) in (2..).zip(world.disks.values()) {
        stalled.stall(Duration::from_millis(900));
        world.propose(session).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        stalled.stall(Duration::ZERO);
        assert_eq!(world.leader(), leader);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_go_to_the_leader_and_back_in_order_and_a_lost_leader_is_told() {
    let mut world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let follower = *world.nodes.keys().find(|node| **node != leader).unwrap();
    let frames: Vec<Bytes> = (0..200u8).map(|at| vec![at; 3].into()).collect();
    for frame in &frames {
        world.nodes[&follower].raft.forward(frame.clone());
    }
    world
        .until("all answered", |world| {
            world.seen(follower, |seen| seen.frames.len()) == frames.len()
        })
        .await;
    assert_eq!(world.seen(follower, |seen| seen.frames.clone()), frames);
    assert_eq!(world.seen(follower, |seen| seen.forward_losses), 0);
    world.crash(leader, 0).await;
    world
        .until("it is told", |world| {
            world.seen(follower, |seen| seen.forward_losses) > 0
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_leaves_the_same_trace() {
    let mut traces = Vec::new();
    for _ in 0..2 {
        let mut world = World::new(3, 0);
        world.seed = 12345;
        for node in 1..=3 {
            world.start(NodeId(node)).await.unwrap();
        }
        for session in 1..20 {
            world.write(session).await;
        }
        let (leader, _) = world.leader().unwrap();
        world.crash(leader, 5).await;
        world.write(30).await;
        world.start(leader).await.unwrap();
        world.write(31).await;
        traces.push(world.trace());
    }
    assert!(traces[0].contains("Leader"));
    assert_eq!(traces[0], traces[1]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_far_behind_is_sent_a_snapshot() {
    let mut world = World::new(3, 0);
    world.snap_count = 10;
    for node in 1..=3 {
        world.start(NodeId(node)).await.unwrap();
    }
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let follower = *world.nodes.keys().find(|node| **node != leader).unwrap();
    world.crash(follower, 0).await;
    for session in 2..60 {
        world.write(session).await;
    }
    world.start(follower).await.unwrap();
    world.until_all_have(59).await;
    assert_eq!(world.seen(follower, |seen| seen.installs), 1);
    assert!(world.has(follower, 5));
    world.write(60).await;
    // It stands on its own disk now.
    world.crash(follower, 0).await;
    world.start(follower).await.unwrap();
    assert!(world.has(follower, 5));
    world.until_all_have(60).await;
    world.write(61).await;
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_2845_1154_what_no_majority_had_is_cut_off_after_a_restart() {
    let (mut world, leader) = World::with_a_tail_of_one().await;
    world.start(leader).await.unwrap();
    world.until_all_have(2).await;
    world.write(3).await;
    assert!(world.has_no_tail(leader));
    // Nor does it come back.
    world.crash(leader, 0).await;
    world.start(leader).await.unwrap();
    world.write(4).await;
    assert!(world.has_no_tail(leader));
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_in_a_lost_term_is_applied_by_nobody() {
    let world = World::started(3, 0).await;
    // A leader that lost its term and leads again still has it on its way.
    let (leader, term) = world.wait_for_leader().await;
    world.propose_on(leader, term - 1, 50);
    world.write(1).await;
    assert!(world.nodes.keys().all(|node| !world.has(*node, 50)));
}

#[tokio::test(start_paused = true)]
async fn members_that_lose_their_unsynced_bytes_lose_nothing_acknowledged() {
    for torn in [0, 1, 7, 60] {
        let mut world = World::started(3, 0).await;
        for session in 1..10 {
            world.write(session).await;
        }
        world.propose(20).await;
        for node in 1..=3 {
            world.crash(NodeId(node), torn).await;
        }
        for node in 1..=3 {
            world.start(NodeId(node)).await.unwrap();
        }
        world.write(30).await;
        for node in world.nodes.keys() {
            assert!((1..10).all(|session| world.has(*node, session)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_3911_an_acknowledged_write_is_on_a_majority_of_disks() {
    // The acknowledgement is seen at the leader; a moment later every machine loses power.
    for seed in 0..10 {
        let mut world = World::new(3, 0);
        world.seed = seed;
        for node in 1..=3 {
            world.start(NodeId(node)).await.unwrap();
            world.disks[&NodeId(node)].stall(Duration::from_millis(node));
        }
        let (leader, _) = world.wait_for_leader().await;
        world.propose(5).await;
        world
            .until("the leader has it", |world| world.has(leader, 5))
            .await;
        for node in 1..=3 {
            world.crash(NodeId(node), 0).await;
        }
        for node in (1..=3).map(NodeId).filter(|node| *node != leader) {
            world.start(node).await.unwrap();
        }
        // Without the old leader.
        world.write(6).await;
        let (new, _) = world.leader().unwrap();
        assert!(world.has(new, 5), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_to_all_disks_at_once_and_counts_once_the_leaders_own_has_it_too() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, term) = world.leader().unwrap();
    let last_index = |node: NodeId| world.nodes[&node].raft.status().last_index;
    let last = last_index(leader);
    let stall = Duration::from_millis(300);
    world.disks[&leader].stall(stall);
    world.propose_on(leader, term, 2);
    let start = tokio::time::Instant::now();
    let others = || world.nodes.keys().filter(|node| **node != leader);
    let took = world
        .until("the others have it in their logs", |_| {
            others().all(|node| last_index(*node) > last)
        })
        .await;
    assert!(took < stall / 2, "{took:?}");
    world
        .until("a node has it", |world| {
            world.nodes.keys().any(|node| world.has(*node, 2))
        })
        .await;
    assert!(start.elapsed() >= stall, "{:?}", start.elapsed());
    world.until_all_have(2).await;
}

#[tokio::test(start_paused = true)]
async fn bug_zookeeper_2325_a_member_goes_back_to_its_older_snapshot() {
    let mut world = World::new(1, 0);
    world.snap_count = 4;
    world.start(ONE).await.unwrap();
    for session in 1..30 {
        world.write(session).await;
    }
    let snapshots = |world: &World| {
        let names = world.disks[&ONE].names();
        let is_snapshot = |name: &String| name.starts_with("snapshot.0");
        names.into_iter().filter(is_snapshot).collect::<Vec<_>>()
    };
    world
        .until("two snapshots", |world| snapshots(world).len() == 2)
        .await;
    world.crash(ONE, 0).await;
    let newest = snapshots(&world).pop().unwrap();
    world.disks[&ONE].damage(&newest, |bytes| bytes.truncate(bytes.len() / 2));
    world.start(ONE).await.unwrap();
    world.write(40).await;
    assert!((1..30).all(|session| world.has(ONE, session)));
    // With none left it does not start empty.
    world.crash(ONE, 0).await;
    for name in snapshots(&world) {
        world.disks[&ONE].damage(&name, Vec::clear);
    }
    let error = world.start(ONE).await.unwrap_err().to_string();
    assert!(
        error.starts_with("every snapshot is damaged, and the log"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn bug_nats_2_12_1_a_damaged_log_is_refused_and_never_leads() {
    let mut world = World::started(3, 0).await;
    for session in 1..10 {
        world.write(session).await;
    }
    world.crash(ONE, 0).await;
    world.disks[&ONE].damage("log.0000000000000000", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    });
    let error = world.start(ONE).await.unwrap_err().to_string();
    assert!(
        error.contains("log.0000000000000000 is damaged at byte"),
        "{error}"
    );
    world.write(10).await;
}

#[tokio::test(start_paused = true)]
async fn observers_follow_and_never_lead() {
    let mut world = World::started(3, 1).await;
    let observer = NodeId(4);
    world.write(1).await;
    assert!(matches!(
        world.seen(observer, |seen| seen.role),
        Some(Role::Follower { .. })
    ));
    let (leader, _) = world.leader().unwrap();
    let other = *world.nodes.keys().find(|node| **node != leader).unwrap();
    world.crash(leader, 0).await;
    world.write(2).await;
    // Two of three participants are gone, and an observer is no majority.
    let (second, _) = world.leader().unwrap();
    let _ = other;
    world.crash(second, 0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.leader(), None);
    world
        .until("the observer has no leader", |world| {
            world.seen(observer, |seen| seen.role) == Some(Role::Leaderless)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn leadership_is_confirmed_by_a_majority_only() {
    let world = World::started(3, 0).await;
    world.write(1).await;
    let (leader, _) = world.leader().unwrap();
    let follower = *world.nodes.keys().find(|node| **node != leader).unwrap();
    world.nodes[&leader].raft.confirm_leadership(1);
    world.nodes[&follower].raft.confirm_leadership(2);
    world
        .until("answers", |world| {
            world.seen(leader, |seen| seen.tokens == [(1, true)])
                && world.seen(follower, |seen| seen.tokens == [(2, false)])
        })
        .await;
    world.isolate(leader);
    world.nodes[&leader].raft.confirm_leadership(3);
    world
        .until("the answer", |world| {
            world.seen(leader, |seen| seen.tokens.contains(&(3, false)))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn members_of_two_ensembles_never_mix() {
    let mut world = World::started(3, 0).await;
    world.write(1).await;
    let mut other = World::new(3, 0);
    other.seed = 99;
    for node in 1..=3 {
        other.start(NodeId(node)).await.unwrap();
    }
    other.write(2).await;
    // One comes back at the address of a member of the other ensemble.
    world.crash(ONE, 0).await;
    other.crash(ONE, 0).await;
    world.disks.insert(ONE, other.disks[&ONE].clone());
    world.start(ONE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!world.has(ONE, 1));
    assert!(matches!(
        world.seen(ONE, |seen| seen.role),
        None | Some(Role::Leaderless)
    ));
    assert!(world.has(NodeId(2), 1) && !world.has(NodeId(2), 2));
}
