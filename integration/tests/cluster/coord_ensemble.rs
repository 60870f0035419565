//! Brokers on an ensemble of three coords: one dies, or all do, and neither sessions nor partitions are lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use integration::{Cluster, Host, LIMIT, Node, ProcessState, await_some};
use zookeeper_client::Client;

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// Sessions that outlive what happens here by far: no broker may have to open another.
const SESSION_MS: u32 = 18_000;

fn start() -> Result<Cluster> {
    let cluster = Cluster::builder()
        .coords(3)
        .set("zookeeper.session.timeout.ms", SESSION_MS)
        .start()?;
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])?;
    Ok(cluster)
}

fn load(cluster: &Cluster) -> Result<Load> {
    let settings = [("enable.idempotence", "true")];
    Load::start(&cluster.bootstrap()?, TOPIC, PARTITIONS, &settings)
}

fn check(cluster: &Cluster, load: Load) -> Result<()> {
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, TOPIC, PARTITIONS)?,
        Duplicates::Forbidden,
    )
}

fn coords(cluster: &Cluster) -> Vec<Node> {
    cluster.host().spec().coord_nodes().collect()
}

/// The session that each broker is registered in, by what one running coord serves.
fn sessions(cluster: &Cluster) -> Result<BTreeMap<String, i64>> {
    let running = |node: &Node| cluster.state(*node) == ProcessState::Running;
    let addresses: Result<Vec<String>> = coords(cluster)
        .into_iter()
        .filter(running)
        .map(|node| Ok(cluster.address(node)?.to_string()))
        .collect();
    let addresses = addresses?.join(",");
    tokio::runtime::Runtime::new()?.block_on(async {
        let client = Client::connect(&addresses).await?;
        let mut sessions = BTreeMap::new();
        for id in client.list_children("/brokers/ids").await? {
            let stat = client.check_stat(&format!("/brokers/ids/{id}")).await?;
            let stat = stat.with_context(|| format!("broker {id} is gone"))?;
            sessions.insert(id, stat.ephemeral_owner);
        }
        Ok(sessions)
    })
}

/// Who leads each partition, and for how many terms it was led before.
fn leaders(cluster: &Cluster) -> Result<Vec<(Option<i32>, i32)>> {
    let view = cluster.view()?;
    let of_topic = view
        .partitions
        .iter()
        .filter(|((topic, _), _)| topic == TOPIC);
    Ok(of_topic
        .map(|(_, partition)| (partition.leader, partition.leader_epoch))
        .collect())
}

/// Kills a coord under load; nothing but that coord may be missing.
fn one_is_killed(victim: impl FnOnce(&Cluster) -> Result<Node>) -> Result<()> {
    let mut cluster = start()?;
    let (sessions_before, leaders_before) = (sessions(&cluster)?, leaders(&cluster)?);
    let controller = cluster.await_controller()?;
    let load = load(&cluster)?;
    load.await_more(1_000)?;

    let victim = victim(&cluster)?;
    cluster.kill(victim)?;
    cluster.create_topic("at-once", 3, 3, &[])?;
    load.await_more(1_000)?;
    assert_ne!(cluster.await_coord_leader()?, victim);
    assert_eq!(sessions(&cluster)?, sessions_before);
    assert_eq!(leaders(&cluster)?, leaders_before);

    // It comes back, catches up, and can be relied on: then another may die.
    cluster.start(victim)?;
    let next = cluster.await_coord_leader()?;
    cluster.kill(next)?;
    cluster.create_topic("later", 3, 3, &[])?;
    load.await_more(1_000)?;
    assert_eq!(sessions(&cluster)?, sessions_before);
    assert_eq!(leaders(&cluster)?, leaders_before);
    assert_eq!(cluster.await_controller()?, controller);
    check(&cluster, load)
}

#[test]
fn the_leader_of_the_coords_is_killed_under_load() -> Result<()> {
    one_is_killed(Cluster::await_coord_leader)
}

#[test]
fn a_follower_of_the_coords_is_killed_under_load() -> Result<()> {
    one_is_killed(|cluster| {
        let leader = cluster.await_coord_leader()?;
        let mut coords = coords(cluster).into_iter();
        coords.find(|node| *node != leader).context("three coords")
    })
}

#[test]
fn brokers_go_on_when_the_whole_ensemble_was_restarted() -> Result<()> {
    let mut cluster = start()?;
    let (sessions_before, leaders_before) = (sessions(&cluster)?, leaders(&cluster)?);
    let load = load(&cluster)?;
    load.await_more(1_000)?;

    let coords = coords(&cluster);
    for coord in &coords {
        cluster.kill(*coord)?;
    }
    load.await_more(1_000)?;
    cluster.start_all(&coords)?;
    // The brokers find back by themselves: the topic is made as soon as the controller has its session again.
    await_some("a topic to be created", LIMIT, || {
        cluster.create_topic("after", 3, 3, &[]).map(Some)
    })?;
    assert_eq!(sessions(&cluster)?, sessions_before);
    assert_eq!(leaders(&cluster)?, leaders_before);
    check(&cluster, load)
}
