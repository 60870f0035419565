//! The leader dies under load. Nothing that was acknowledged with acks=all is lost, whatever the producer.

use anyhow::Result;
use integration::Cluster;

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
