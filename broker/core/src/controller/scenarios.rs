//! Stories of a cluster, told against a coord and brokers that live in memory.
//!
//! The assertions read the controller's view as text, one line per partition:
//! `t-0: leader 1 epoch 0 isr [1, 2, 3]`.

mod log_dirs;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{ByteString, ErrorCode, TopicPartition, Uuid};

use super::*;
use crate::znode::TopicNode;
use world::World;

#[test]
fn a_topic_is_created_and_everybody_told_once() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3], &[2, 3, 1]]);
    assert_eq!(
        world.tell(&controller),
        "t-0: leader 1 epoch 0 isr [1, 2, 3]\nt-1: leader 2 epoch 0 isr [2, 3, 1]"
    );
    assert!(matches!(&world.replies[..], [Reply::TopicsCreated(results)] if results[0].1.is_ok()));
    for id in 1..=3 {
        let batch = &world.sent[&id];
        assert!(
            batch
                .leader_and_isr
                .as_ref()
                .unwrap()
                .partitions
                .iter()
                .all(|partition| partition.is_new)
        );
        assert_eq!(batch.update_metadata.as_ref().unwrap().partitions.len(), 2);
    }
}

#[test]
fn a_leaders_death_moves_what_it_led_in_one_event() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3], &[2, 3, 1], &[3, 2, 1]]);
    world.kill(&mut controller, 1);
    assert_eq!(
        world.tell(&controller),
        "t-0: leader 2 epoch 1 isr [2, 3]\nt-1: leader 2 epoch 1 isr [2, 3]\nt-2: leader 3 epoch 1 isr [3, 2]"
    );
    assert_eq!(world.told(2), ["t-0", "t-1", "t-2"]);
    assert_eq!(
        world.sent[&3]
            .update_metadata
            .as_ref()
            .unwrap()
            .live_brokers
            .len(),
        2
    );
    assert!(!world.sent.contains_key(&1));
}

/// kafka-facts: "Leader: none", and its way out.
#[test]
fn leader_none_until_the_last_isr_member_returns() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3]]);
    world.kill(&mut controller, 3);
    world.kill(&mut controller, 2);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 2 isr [1]");
    // The last broker dies with its controller; coord keeps what it wrote.
    world.brokers.clear();
    world.start(2);
    let mut controller = world.elect();
    assert_eq!(world.tell(&controller), "t-0: leader none epoch 3 isr [1]");
    assert_eq!(
        world.sent[&2].update_metadata.as_ref().unwrap().partitions[0]
            .node
            .leader,
        NO_LEADER
    );
    world.restart(&mut controller, 3);
    assert_eq!(world.tell(&controller), "t-0: leader none epoch 3 isr [1]");
    world.restart(&mut controller, 1);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 4 isr [1]");
}

#[test]
fn unclean_election_resolves_leader_none_at_once() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.kill(&mut controller, 2);
    world.kill(&mut controller, 1);
    world.restart(&mut controller, 2);
    assert_eq!(world.tell(&controller), "t-0: leader none epoch 2 isr [1]");
    world.run(
        &mut controller,
        Event::UncleanElectionEnabled(Some("other".into())),
    );
    assert_eq!(world.tell(&controller), "t-0: leader none epoch 2 isr [1]");
    world.unclean.insert("t".into());
    world.run(
        &mut controller,
        Event::UncleanElectionEnabled(Some("t".into())),
    );
    assert_eq!(world.tell(&controller), "t-0: leader 2 epoch 3 isr [2]");
    assert!(world.states[&TopicPartition::new("t", 0)].0.recovering);
    assert!(
        world.notices[0].contains("uncleanly"),
        "{:?}",
        world.notices
    );
}

#[test]
fn controlled_shutdown_moves_leaders_and_shrinks_isrs_before_the_broker_goes() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3], &[2, 1, 3]]);
    world.create(&mut controller, "alone", &[&[1]]);
    world.shut_down(&mut controller, 1);
    assert_eq!(
        world.tell(&controller),
        "alone-0: leader 1 epoch 0 isr [1]\nt-0: leader 2 epoch 1 isr [2, 3]\nt-1: leader 2 epoch 1 isr [2, 3]"
    );
    assert_eq!(world.replies, [Reply::MayShutDown(Ok(Vec::new()))]);
    assert!(world.sent[&1].stop_replicas.iter().all(|stop| !stop.delete));
}

#[test]
fn bug_kafka_14140_who_is_leaving_does_not_come_back_into_an_isr() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3]]);
    world.shut_down(&mut controller, 1);
    let item = world.item(0, &[2, 3, 1]);
    assert_eq!(
        world.alter(&mut controller, 2, item),
        Err(ErrorCode::IneligibleReplica)
    );
    world.kill(&mut controller, 1);
    world.restart(&mut controller, 1);
    let item = world.item(0, &[2, 3, 1]);
    assert!(world.alter(&mut controller, 2, item).is_ok());
}

#[test]
fn controlled_shutdown_names_what_another_may_lead_once_it_is_in_sync() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    let behind = world.item(0, &[1]);
    world.alter(&mut controller, 1, behind).unwrap();
    world.shut_down(&mut controller, 1);
    let waits = [Reply::MayShutDown(Ok(vec![TopicPartition::new("t", 0)]))];
    assert_eq!(world.replies, waits);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 0 isr [1]");
    // With the other one leaving too, there is nobody to wait for.
    world.shut_down(&mut controller, 2);
    world.shut_down(&mut controller, 1);
    assert_eq!(world.replies, [Reply::MayShutDown(Ok(Vec::new()))]);
    let stale = Event::ControlledShutdown {
        request: RequestId(1),
        broker_id: 1,
        broker_epoch: 0,
    };
    world.run(&mut controller, stale);
    assert_eq!(
        world.replies,
        [Reply::MayShutDown(Err(ErrorCode::StaleBrokerEpoch))]
    );
}

/// Whatever part of an election the old controller wrote, the new one ends.
#[test]
fn bug_kafka_1188_3143_failover_mid_election_ends_the_same_wherever_it_happened() {
    for cut in 0..6 {
        let mut world = World::new([1, 2, 3]);
        let mut controller = world.elect();
        world.create(
            &mut controller,
            "t",
            &[&[1, 2, 3], &[1, 3, 2], &[2, 1, 3], &[3, 1, 2], &[1, 2, 3]],
        );
        world.writes_left = Some(cut);
        world.kill(&mut controller, 1);
        let controller = world.elect();
        assert_eq!(
            world.tell(&controller),
            "t-0: leader 2 epoch 1 isr [2, 3]\nt-1: leader 3 epoch 1 isr [3, 2]\nt-2: leader 2 epoch 1 isr [2, 3]\n\
             t-3: leader 3 epoch 1 isr [3, 2]\nt-4: leader 2 epoch 1 isr [2, 3]",
            "cut after {cut} writes"
        );
        // And all are told all, for nobody knows whom the old one told.
        assert_eq!(world.told(2).len(), 5);
        assert!(world.sent[&3].leader_and_isr.as_ref().unwrap().full);
    }
}

/// An older controller that wakes up changes nothing.
#[test]
fn bug_kafka_6082_an_older_controller_is_fenced() {
    let mut world = World::new([1, 2]);
    let mut old = world.elect();
    world.create(&mut old, "t", &[&[1, 2]]);
    let _new = world.elect();
    let before = world.states.clone();
    world.kill(&mut old, 1);
    assert!(world.resigned);
    assert_eq!(world.states, before);
    assert!(world.sent.is_empty());
    world.run(&mut old, Event::Tick);
    assert!(world.sent.is_empty());
}

#[test]
fn the_same_id_with_a_higher_czxid_failed_and_started() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2], &[2, 1]]);
    world.restart(&mut controller, 1);
    assert_eq!(
        world.tell(&controller),
        "t-0: leader 2 epoch 1 isr [2]\nt-1: leader 2 epoch 1 isr [2]"
    );
    assert!(world.sent[&1].leader_and_isr.as_ref().unwrap().full);
    // The last one of an ISR leads again, under a new epoch.
    world.restart(&mut controller, 2);
    assert_eq!(
        world.tell(&controller),
        "t-0: leader 2 epoch 3 isr [2]\nt-1: leader 2 epoch 3 isr [2]"
    );
}

#[test]
fn alter_partition_checks_epochs_versions_and_members() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3]]);
    let fresh = world.item(0, &[1, 2]);
    let altered = world.alter(&mut controller, 1, fresh.clone()).unwrap();
    assert_eq!(
        (
            altered.node.isr,
            altered.node.leader_epoch,
            altered.partition_epoch
        ),
        (vec![1, 2], 0, 1)
    );
    assert_eq!(world.told(2), Vec::<String>::new());
    assert_eq!(
        world.sent[&2]
            .update_metadata
            .as_ref()
            .unwrap()
            .partitions
            .len(),
        1
    );
    // Asking again for what is so already is no error; for something else by an old version it is.
    assert!(world.alter(&mut controller, 1, fresh.clone()).is_ok());
    let refused = |world: &mut World, controller: &mut Controller, item| {
        world.alter(controller, 1, item).unwrap_err()
    };
    let old = AlterItem {
        new_isr: vec![1],
        ..fresh.clone()
    };
    assert_eq!(
        refused(&mut world, &mut controller, old),
        ErrorCode::InvalidUpdateVersion
    );
    let item = |change: fn(&mut AlterItem)| {
        let mut item = AlterItem {
            partition_epoch: 1,
            new_isr: vec![1, 2, 3],
            ..fresh.clone()
        };
        change(&mut item);
        item
    };
    type Change = fn(&mut AlterItem);
    let cases: [(Change, ErrorCode); 8] = [
        (|item| item.leader_epoch = -1, ErrorCode::FencedLeaderEpoch),
        (|item| item.leader_epoch = 9, ErrorCode::NotController),
        (|item| item.partition_epoch = 9, ErrorCode::NotController),
        (|item| item.new_isr = vec![2], ErrorCode::InvalidRequest),
        (|item| item.new_isr = vec![1, 1], ErrorCode::InvalidRequest),
        (|item| item.new_isr = vec![1, 4], ErrorCode::InvalidRequest),
        (|item| item.recovering = true, ErrorCode::InvalidRequest),
        (
            |item| item.topic_id = Uuid::from_bytes([1; 16]),
            ErrorCode::UnknownTopicId,
        ),
    ];
    for (change, code) in cases {
        assert_eq!(refused(&mut world, &mut controller, item(change)), code);
    }
    world.kill(&mut controller, 3);
    let dead = world.item(0, &[1, 2, 3]);
    assert_eq!(
        refused(&mut world, &mut controller, dead),
        ErrorCode::IneligibleReplica
    );
}

#[test]
fn a_state_that_changed_meanwhile_is_read_and_decided_again() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3]]);
    let (node, version) = world.states.get_mut(&TopicPartition::new("t", 0)).unwrap();
    node.isr = vec![1, 3];
    *version += 1;
    world.kill(&mut controller, 1);
    assert_eq!(world.tell(&controller), "t-0: leader 3 epoch 1 isr [3]");
}

#[test]
fn a_state_that_was_not_written_is_read_and_decided_again() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2, 3]]);
    world.refusals = 1;
    world.kill(&mut controller, 1);
    assert_eq!(world.tell(&controller), "t-0: leader 2 epoch 1 isr [2, 3]");
    assert_eq!(
        world.notices,
        ["the state of t-0 cannot be written: not now"]
    );
    world.refusals = usize::MAX;
    world.kill(&mut controller, 2);
    let last = world.notices.last().unwrap();
    assert_eq!(
        last,
        "1 states were given up after 5 attempts to write them"
    );
}

#[test]
fn what_cannot_be_told_is_kept_by_brokers_that_are_told_everything() {
    let mut world = World::new([1]);
    let mut controller = world.elect();
    world.create(&mut controller, "broken", &[&[1]]);
    world.create(&mut controller, "stateless", &[&[1]]);
    world.create(&mut controller, "t", &[&[1]]);
    world.topics.remove(&ByteString::from("broken"));
    world.unreadable.insert("broken".into());
    world.states.remove(&TopicPartition::new("stateless", 0));
    world.refusals = usize::MAX;
    let mut controller = world.elect();
    assert_eq!(world.told(1), ["t-0"]);
    assert_eq!(world.kept(1), ["broken", "stateless"]);
    world.restart(&mut controller, 1);
    assert_eq!(world.kept(1), ["broken", "stateless"]);

    // Another one breaks, the first is removed.
    world.unreadable = ["late".into()].into();
    let names = ["late".into(), "stateless".into(), "t".into()];
    world.run(&mut controller, Event::Topics(names.into()));
    world.refusals = 0;
    world.restart(&mut controller, 1);
    assert_eq!(world.kept(1), ["late"]);
}

#[test]
fn a_deleted_topic_is_gone_once_every_replica_is() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    let delete = Event::DeleteTopics {
        request: RequestId(2),
        topics: vec![TopicRef::Name("t".into())],
    };
    world.run(&mut controller, delete);
    assert!(world.replies.is_empty());
    assert_eq!(
        world.sent[&1].update_metadata.as_ref().unwrap().partitions[0]
            .node
            .leader,
        LEADER_DURING_DELETION
    );
    let stop = StopReplica {
        tp: TopicPartition::new("t", 0),
        leader_epoch: EPOCH_DURING_DELETION,
        delete: true,
    };
    assert_eq!(world.sent[&2].stop_replicas, [stop]);
    let gone = |broker_id| Event::ReplicasDeleted {
        broker_id,
        replicas: vec![(TopicPartition::new("t", 0), true)],
    };
    world.run(&mut controller, gone(1));
    assert_eq!(world.topics.len(), 1);
    world.run(&mut controller, gone(2));
    assert!(world.topics.is_empty() && world.states.is_empty() && world.deletions.is_empty());
    assert!(matches!(&world.replies[..], [Reply::TopicsDeleted(results)] if results[0].1.is_ok()));
    world.create(&mut controller, "t", &[&[2]]);
    assert_eq!(world.tell(&controller), "t-0: leader 2 epoch 0 isr [2]");
}

#[test]
fn a_deletion_waits_for_a_dead_broker_and_outlives_the_controller() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.kill(&mut controller, 2);
    let delete = Event::DeleteTopics {
        request: RequestId(2),
        topics: vec![TopicRef::Name("t".into())],
    };
    world.run(&mut controller, delete);
    assert_eq!(
        world.replies.len(),
        1,
        "nobody waits for a broker that may never return"
    );
    world.create(&mut controller, "t", &[&[1]]);
    let Reply::TopicsCreated(results) = &world.replies[0] else {
        panic!("{:?}", world.replies)
    };
    assert_eq!(
        results[0].1.as_ref().unwrap_err().message,
        "Topic 't' is marked for deletion."
    );
    let mut controller = world.elect();
    assert_eq!(world.sent[&1].stop_replicas.len(), 1);
    assert!(
        world.sent[&1]
            .leader_and_isr
            .as_ref()
            .unwrap()
            .partitions
            .is_empty()
    );
    world.restart(&mut controller, 2);
    assert_eq!(world.sent[&2].stop_replicas.len(), 1);
    assert_eq!(world.kept(2), ["t"], "its log is deleted, not set aside");
    for broker_id in [1, 2] {
        let replicas = vec![(TopicPartition::new("t", 0), true)];
        world.run(
            &mut controller,
            Event::ReplicasDeleted {
                broker_id,
                replicas,
            },
        );
    }
    assert!(world.topics.is_empty());
}

#[test]
fn a_broker_that_was_left_behind_is_told_everything_and_deletes_after_all() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.create(&mut controller, "u", &[&[1, 2]]);
    let delete = Event::DeleteTopics {
        request: RequestId(2),
        topics: vec![TopicRef::Name("t".into())],
    };
    world.run(&mut controller, delete);
    let stops = world.sent[&2].stop_replicas.clone();
    assert_eq!(stops.len(), 1);
    world.run(&mut controller, Event::BrokerLeftBehind(2));
    let batch = &world.sent[&2];
    let told = batch.leader_and_isr.as_ref().unwrap();
    assert!(told.full && batch.update_metadata.as_ref().unwrap().full);
    assert_eq!(told.partitions.len(), 1);
    assert_eq!(batch.stop_replicas, stops);
    assert!(world.sent[&1].leader_and_isr.is_none());
    world.run(&mut controller, Event::BrokerLeftBehind(3));
    assert!(world.sent.is_empty(), "it is gone");
}

#[test]
fn requests_to_delete_unknown_topics_are_dropped() {
    let mut world = World::new([1]);
    world.deletions.insert("ghost".into());
    let _controller = world.elect();
    assert!(world.deletions.is_empty());
}

#[test]
fn topics_are_extended_where_the_round_ended() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[2, 3]]);
    let more = |count, assignments| Event::CreatePartitions {
        request: RequestId(3),
        topics: vec![MorePartitions {
            name: "t".into(),
            count,
            assignments,
        }],
        validate_only: false,
    };
    world.run(&mut controller, more(3, None));
    let leaders: Vec<_> = world.states.values().map(|(node, _)| node.leader).collect();
    assert_eq!(leaders, [2, 3, 1]);
    let refused = |world: &World| match &world.replies[0] {
        Reply::PartitionsCreated(results) => results[0].1.clone().unwrap_err().to_string(),
        other => panic!("{other:?}"),
    };
    world.run(&mut controller, more(3, None));
    assert_eq!(refused(&world), "Topic already has 3 partitions.");
    world.run(&mut controller, more(2, None));
    assert_eq!(
        refused(&world),
        "Topic currently has 3 partitions, which is higher than the requested 2."
    );
    world.run(&mut controller, more(5, Some(vec![vec![1, 2]])));
    assert_eq!(
        refused(&world),
        "Increasing the number of partitions by 2 but 1 assignments provided."
    );
    world.run(&mut controller, more(4, Some(vec![vec![1, 9]])));
    assert_eq!(
        refused(&world),
        "Unknown broker(s) in replica assignment: 9."
    );
}

#[test]
fn topics_that_cannot_be_are_refused_with_kafkas_words() {
    let mut world = World::new([1]);
    let mut controller = world.elect();
    world.create(&mut controller, "a.b", &[&[1]]);
    let ask = |name: &str, num_partitions, replication_factor| NewTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        ..NewTopic::default()
    };
    let topics = vec![
        ask("a.b", 1, 1),
        ask("a_b", 1, 1),
        ask("..", 1, 1),
        ask("x", 0, 1),
        ask("x", 1, 0),
        ask("x", 1, 2),
        NewTopic {
            assignments: BTreeMap::from([(0, vec![1])]),
            ..ask("x", 1, -1)
        },
        NewTopic {
            assignments: BTreeMap::from([(1, vec![1])]),
            ..ask("x", -1, -1)
        },
        ask("y", -1, -1),
        ask("y", -1, -1),
    ];
    world.run(
        &mut controller,
        Event::CreateTopics {
            request: RequestId(1),
            topics,
            validate_only: true,
        },
    );
    let [Reply::TopicsCreated(results)] = &world.replies[..] else {
        panic!("{:?}", world.replies)
    };
    let text = |(_, result): &(ByteString, Result<CreatedTopic, AdminError>)| match result {
        Ok(topic) => format!("{} {}", topic.num_partitions, topic.replication_factor),
        Err(error) => format!("{} {}", error.code.name(), error.message),
    };
    let texts: Vec<_> = results.iter().map(text).collect();
    assert_eq!(texts[0], "TOPIC_ALREADY_EXISTS Topic 'a.b' already exists.");
    assert_eq!(
        texts[1],
        "INVALID_TOPIC_EXCEPTION Topic 'a_b' collides with existing topics: a.b"
    );
    assert!(texts[2].starts_with("INVALID_TOPIC_EXCEPTION"));
    assert_eq!(
        texts[3],
        "INVALID_PARTITIONS Number of partitions must be larger than 0."
    );
    assert_eq!(
        texts[4],
        "INVALID_REPLICATION_FACTOR Replication factor must be larger than 0."
    );
    assert_eq!(
        texts[5],
        "INVALID_REPLICATION_FACTOR Replication factor: 2 larger than available brokers: 1."
    );
    assert!(texts[6].starts_with("INVALID_REQUEST Both numPartitions"));
    assert!(texts[7].starts_with("INVALID_REPLICA_ASSIGNMENT"));
    assert_eq!(texts[8], "1 1");
    assert!(texts[9].starts_with("INVALID_REQUEST"));
    assert_eq!(world.topics.len(), 1, "validate_only writes nothing");
}

#[test]
fn preferred_leaders_lead_again_after_a_while() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.restart(&mut controller, 1);
    let back = world.item(0, &[2, 1]);
    world.alter(&mut controller, 2, back).unwrap();
    let due = controller.poll_timeout().unwrap();
    world.run_at(due - 1, &mut controller, Event::Tick);
    assert_eq!(world.tell(&controller), "t-0: leader 2 epoch 1 isr [2, 1]");
    world.run_at(due, &mut controller, Event::Tick);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 2 isr [2, 1]");
    assert_eq!(controller.poll_timeout(), Some(due + 300_000));
}

#[test]
fn a_topic_whose_brokers_are_all_dead_starts_when_one_returns() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    // As another tool would write it.
    let node = TopicNode {
        topic_id: None,
        partitions: BTreeMap::from([(0, vec![3, 4].into())]),
    };
    world.topics.insert("t".into(), (node, 0));
    world.run(&mut controller, Event::Topics(BTreeSet::from(["t".into()])));
    assert!(world.states.is_empty());
    assert!(
        world.topics["t"].0.topic_id.is_some(),
        "topics without an id get one"
    );
    world.restart(&mut controller, 4);
    assert_eq!(world.tell(&controller), "t-0: leader 4 epoch 0 isr [4]");
}

#[test]
fn a_completion_that_nothing_waits_for_changes_nothing() {
    let mut world = World::new([1]);
    let mut controller = world.elect();
    let late = Event::StatesWritten(Ok(vec![(TopicPartition::new("t", 0), Written::Done(3))]));
    assert!(controller.handle(0, late).is_empty());
    assert!(controller.is_idle());
}
