//! The leader dies under load. Nothing that was acknowledged with acks=all is lost, whatever the producer.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use integration::client::Client;
use integration::{Cluster, LIMIT, Node, ProcessState, await_true};

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;

fn leader_killed_under_load(settings: &[(&str, &str)], duplicates: Duplicates) -> Result<()> {
    let mut cluster = Cluster::builder().start()?;
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])?;
    let load = Load::start(&cluster.bootstrap()?, TOPIC, PARTITIONS, settings)?;
    load.await_more(2_000)?;

    let old = cluster.await_leader(TOPIC, 0)?;
    cluster.kill(old)?;
    load.await_more(2_000)?;
    assert_ne!(cluster.await_leader(TOPIC, 0)?, old);

    // The killed one comes back with what it had not yet handed on, and must throw that away.
    cluster.start(old)?;
    for partition in 0..PARTITIONS {
        cluster.await_isr(TOPIC, partition, &[1, 2, 3])?;
    }
    load.await_more(1_000)?;

    // Whoever leads now: the one that came back may be asked to.
    let next = cluster.await_leader(TOPIC, 0)?;
    cluster.kill(next)?;
    load.await_more(1_000)?;
    let acknowledged = load.finish()?;
    let read = read_all(&cluster.bootstrap()?, TOPIC, PARTITIONS)?;
    check_read_back(&acknowledged, &read, duplicates)
}

#[test]
fn every_acknowledged_record_is_read_back_without_idempotence() -> Result<()> {
    // One request in flight, or a retry might overtake.
    let settings = [("enable.idempotence", "false"), ("max.in.flight", "1")];
    leader_killed_under_load(&settings, Duplicates::Allowed)
}

#[test]
fn every_acknowledged_record_is_read_back_once_with_idempotence() -> Result<()> {
    leader_killed_under_load(&[("enable.idempotence", "true")], Duplicates::Forbidden)
}

/// What only the leader has dies with it. So it is neither acknowledged nor shown to a consumer: here the followers
/// hang before the leader appends it.
#[test]
fn what_no_follower_has_is_not_acknowledged() -> Result<()> {
    const ANSWER: Duration = Duration::from_secs(1);
    // Long enough that the followers stay in the ISR while they hang.
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", 6_000)
        .start()?;
    cluster.create_topic(TOPIC, 1, 3, &[])?;
    let leader = cluster.await_leader(TOPIC, 0)?;
    let kept = "all have it".to_owned();
    assert_eq!(
        cluster
            .client(leader)?
            .produce(TOPIC, 0, std::slice::from_ref(&kept))?,
        0
    );

    let followers: Vec<Node> = cluster
        .running_brokers()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    for follower in &followers {
        cluster.stop(*follower)?;
    }
    await_true("both followers to hang", LIMIT, || {
        Ok(followers
            .iter()
            .all(|node| cluster.state(*node) == ProcessState::Stopped))
    })?;
    let log = cluster
        .data_dir(leader)
        .join(format!("{TOPIC}-0/{:020}.log", 0));
    let size = fs::metadata(&log)?.len();
    // The first may still reach the followers, for it answers the fetches that they had sent before; the second has
    // nothing to go with.
    let (underway, lost) = ("underway".to_owned(), "the leader alone has it".to_owned());
    for value in [&underway, &lost] {
        let mut client = Client::connect(cluster.address(leader)?, ANSWER)?;
        let answer = client.produce(TOPIC, 0, std::slice::from_ref(value));
        assert!(
            answer.is_err(),
            "{value:?} was acknowledged at offset {answer:?}"
        );
    }
    assert!(fs::metadata(&log)?.len() > size, "the leader did append it");
    let seen = cluster.client(leader)?.read_all(TOPIC, 0)?;
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [kept.as_str()]);

    cluster.kill(leader)?;
    for follower in followers {
        cluster.cont(follower)?;
    }
    let old_id = i32::from(leader.number());
    cluster.await_partition(TOPIC, 0, "another leader", |seen| {
        seen.leader.is_some_and(|id| id != old_id)
    })?;

    // The old leader throws it away, for the new one has another record in its place.
    cluster.start(leader)?;
    cluster.await_isr(TOPIC, 0, &[1, 2, 3])?;
    let new = cluster.await_leader(TOPIC, 0)?;
    let next = "the next".to_owned();
    cluster
        .client(new)?
        .produce(TOPIC, 0, std::slice::from_ref(&next))?;
    cluster.term(new)?;
    let last = cluster.await_leader(TOPIC, 0)?;
    // A leader that was just elected shows what it holds once its followers have fetched from it (KIP-207).
    let mut read = Vec::new();
    await_true("the record behind the kept one to be read", LIMIT, || {
        let values = cluster.client(last)?.read_all(TOPIC, 0)?.into_values();
        read = values.filter(|value| *value != underway).collect();
        Ok(read.len() > 1)
    })?;
    assert_eq!(read, [kept, next]);
    Ok(())
}
