//! Log directories that fail on brokers that live on.

use super::*;

impl World {
    /// A broker answers the controller: these partitions of topic `t` lie in a directory that is offline.
    fn go_offline(&mut self, controller: &mut Controller, broker_id: i32, partitions: &[i32]) {
        let replicas = partitions
            .iter()
            .map(|index| TopicPartition::new("t", *index));
        let event = Event::ReplicasOffline {
            broker_id,
            broker_epoch: self.brokers[&broker_id].epoch,
            replicas: replicas.collect(),
        };
        self.run(controller, event);
    }

    /// The replicas that clients are told to be offline.
    fn offline(&self, id: i32, partition: i32) -> Option<Vec<i32>> {
        let update = self.sent.get(&id)?.update_metadata.as_ref()?;
        let mut told = update.partitions.iter();
        let told = told.find(|told| told.tp == TopicPartition::new("t", partition))?;
        Some(told.offline_replicas.clone())
    }
}

#[test]
fn a_broker_that_lost_a_directory_is_asked_what_it_lost() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2], &[2, 3], &[3, 1]]);
    let before = world.tell(&controller);
    world.run(&mut controller, Event::LogDirsFailed([1, 9].into()));
    assert_eq!(world.told(1), ["t-0", "t-2"]);
    assert_eq!(world.sent.keys().collect::<Vec<_>>(), [&1]);
    assert!(world.sent[&1].update_metadata.is_none());
    let request = world.sent[&1].leader_and_isr.as_ref().unwrap();
    assert!(!request.full && request.partitions.iter().all(|partition| !partition.is_new));
    assert_eq!(world.tell(&controller), before);
}

#[test]
fn others_lead_what_lies_in_a_failed_directory_and_its_replicas_leave_the_isrs() {
    let mut world = World::new([1, 2, 3]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2], &[2, 1], &[1, 2]]);
    world.go_offline(&mut controller, 1, &[0, 1]);
    assert_eq!(
        world.tell(&controller),
        "t-0: leader 2 epoch 1 isr [2]\nt-1: leader 2 epoch 1 isr [2]\nt-2: leader 1 epoch 0 isr [1, 2]"
    );
    assert_eq!(world.offline(3, 0), Some(vec![1]));
    assert_eq!(world.offline(3, 1), Some(vec![1]));
    assert_eq!(world.offline(3, 2), None);
    // The broker is told of the new leaders too, and answers the same: nothing follows from it.
    assert_eq!(world.told(1), ["t-0", "t-1"]);
    world.go_offline(&mut controller, 1, &[0, 1]);
    assert!(world.sent.is_empty());
    // The replica cannot come back into the ISR.
    let refused = world.alter(&mut controller, 2, world.item(0, &[2, 1]));
    assert_eq!(refused, Err(ErrorCode::IneligibleReplica));
    // What the broker has in its other directories is not affected.
    assert!(world.alter(&mut controller, 1, world.item(2, &[1])).is_ok());
    assert!(
        world
            .alter(&mut controller, 1, world.item(2, &[1, 2]))
            .is_ok()
    );
}

#[test]
fn the_last_in_sync_that_is_offline_is_waited_for_and_leads_after_its_brokers_restart() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.kill(&mut controller, 2);
    world.restart(&mut controller, 2);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 1 isr [1]");
    world.go_offline(&mut controller, 1, &[0]);
    assert_eq!(world.tell(&controller), "t-0: leader none epoch 2 isr [1]");
    world.restart(&mut controller, 1);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 3 isr [1]");
    assert_eq!(world.offline(2, 0), Some(vec![]));
}

#[test]
fn an_answer_of_a_former_life_changes_nothing() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    let broker_epoch = world.brokers[&1].epoch;
    world.restart(&mut controller, 1);
    let before = world.tell(&controller);
    let event = Event::ReplicasOffline {
        broker_id: 1,
        broker_epoch,
        replicas: vec![TopicPartition::new("t", 0)],
    };
    world.run(&mut controller, event);
    assert_eq!(world.tell(&controller), before);
    assert!(world.sent.is_empty());
}

#[test]
fn a_new_controller_learns_what_is_offline_from_the_answers() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.go_offline(&mut controller, 1, &[0]);
    let mut next = world.elect();
    assert_eq!(world.tell(&next), "t-0: leader 2 epoch 1 isr [2]");
    assert_eq!(world.offline(2, 0), Some(vec![]));
    world.go_offline(&mut next, 1, &[0]);
    assert_eq!(world.tell(&next), "t-0: leader 2 epoch 1 isr [2]");
    assert_eq!(world.offline(2, 0), Some(vec![1]));
}

#[test]
fn an_offline_replica_is_no_reason_to_wait_with_a_shutdown() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.go_offline(&mut controller, 2, &[0]);
    assert_eq!(world.tell(&controller), "t-0: leader 1 epoch 1 isr [1]");
    world.shut_down(&mut controller, 1);
    assert!(
        matches!(&world.replies[..], [Reply::MayShutDown(Ok(remaining))] if remaining.is_empty())
    );
}

#[test]
fn a_deleted_topic_with_an_offline_replica_waits_for_its_broker() {
    let mut world = World::new([1, 2]);
    let mut controller = world.elect();
    world.create(&mut controller, "t", &[&[1, 2]]);
    world.go_offline(&mut controller, 1, &[0]);
    let event = Event::DeleteTopics {
        request: RequestId(1),
        topics: vec![TopicRef::Name("t".into())],
    };
    world.run(&mut controller, event);
    let answer = |world: &mut World, controller: &mut Controller, broker_id, is_gone| {
        let replicas = vec![(TopicPartition::new("t", 0), is_gone)];
        let event = Event::ReplicasDeleted {
            broker_id,
            replicas,
        };
        world.run(controller, event);
    };
    answer(&mut world, &mut controller, 2, true);
    answer(&mut world, &mut controller, 1, false);
    assert!(world.topics.contains_key("t"));
    world.restart(&mut controller, 1);
    answer(&mut world, &mut controller, 1, true);
    assert!(!world.topics.contains_key("t"));
    assert!(controller.context().offline_replicas.is_empty());
}
