//! The multi-broker experiments of the tutorial `004_…`: in which order brokers end and come back decides whether a
//! partition finds a leader, and `unclean.leader.election.enable` decides it otherwise.

use anyhow::{Context, Result};
use integration::{Cluster, LIMIT, Node, await_some, await_true};

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

/// The tutorial's brokers: A is the controller when it begins.
struct Brokers {
    a: Node,
    b: Node,
    c: Node,
}

fn cluster_with(topic: &str) -> Result<(Cluster, Brokers)> {
    let cluster = Cluster::builder().start()?;
    let created = cluster.admin(
        "topics",
        &[
            "--create",
            "--topic",
            topic,
            "--partitions",
            "3",
            "--replication-factor",
            "3",
        ],
        b"",
    )?;
    assert_eq!(created.success()?, format!("Created topic {topic}.\n"));
    let a = cluster.await_controller()?;
    let mut others = [1, 2, 3]
        .map(Node::Broker)
        .into_iter()
        .filter(|node| *node != a);
    let (b, c) = (
        others.next().context("three brokers")?,
        others.next().context("three brokers")?,
    );
    Ok((cluster, Brokers { a, b, c }))
}

/// Ends the brokers with SIGTERM in the tutorial's order, C, B, A.
fn end_c_b_a(cluster: &mut Cluster, topic: &str, brokers: &Brokers) -> Result<()> {
    let id = |node: Node| i32::from(node.number());
    cluster.term(brokers.c)?;
    let mut left = [id(brokers.a), id(brokers.b)];
    left.sort_unstable();
    for partition in 0..3 {
        cluster.await_isr(topic, partition, &left)?;
    }
    cluster.term(brokers.b)?;
    for partition in 0..3 {
        cluster.await_isr(topic, partition, &[id(brokers.a)])?;
    }
    cluster.term(brokers.a)
}

/// The `Leader:` and `Isr:` of each partition as `kafka-topics --describe` prints them.
fn described(cluster: &Cluster, topic: &str) -> Result<Vec<(String, String)>> {
    let printed = cluster
        .admin("topics", &["--describe", "--topic", topic], b"")?
        .success()?;
    let field = |line: &str, name: &str| {
        let found = line
            .split('\t')
            .find_map(|field| field.trim().strip_prefix(name));
        found
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("no {name} in {line}"))
    };
    let partitions = printed.lines().filter(|line| line.starts_with('\t'));
    partitions
        .map(|line| Ok((field(line, "Leader:")?, field(line, "Isr:")?)))
        .collect()
}

/// Scenario 1: all ended, only B comes back. It was not in sync when the last one left, so it may not lead; and when
/// it is allowed to by `unclean.leader.election.enable`, it leads at once.
#[test]
fn scenario_1_leader_none_until_an_unclean_election() -> Result<()> {
    const TOPIC: &str = "0204-multi-topic";
    let (mut cluster, brokers) = cluster_with(TOPIC)?;
    end_c_b_a(&mut cluster, TOPIC, &brokers)?;

    cluster.start(brokers.b)?;
    let (a, b) = (
        brokers.a.number().to_string(),
        brokers.b.number().to_string(),
    );
    let none = vec![("none".to_owned(), a.clone()); 3];
    let seen = await_some(
        "broker B to be the controller and describe the topic",
        LIMIT,
        || {
            let seen = described(&cluster, TOPIC)?;
            anyhow::ensure!(seen == none, "{seen:?}");
            Ok(Some(seen))
        },
    )?;
    assert_eq!(seen, none);
    // Both the broker and its controller hold to that.
    assert_eq!(cluster.await_controller()?, brokers.b);
    assert_eq!(described(&cluster, TOPIC)?, none);

    let altered = cluster.admin(
        "configs",
        &[
            "--entity-type",
            "topics",
            "--entity-name",
            TOPIC,
            "--alter",
            "--add-config",
            "unclean.leader.election.enable=true",
        ],
        b"",
    )?;
    assert_eq!(
        altered.success()?,
        format!("Completed updating config for topic {TOPIC}.\n")
    );
    let led = vec![(b.clone(), b); 3];
    await_true("broker B to lead", LIMIT, || {
        let seen = described(&cluster, TOPIC)?;
        anyhow::ensure!(seen == led, "{seen:?}");
        Ok(true)
    })?;

    // A, which held the truth, follows now; and records flow.
    cluster.start(brokers.a)?;
    cluster.start(brokers.c)?;
    for partition in 0..3 {
        cluster.await_isr(TOPIC, partition, &[1, 2, 3])?;
    }
    let load = Load::start(
        &cluster.bootstrap()?,
        TOPIC,
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(300)?;
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, TOPIC, 3)?,
        Duplicates::Forbidden,
    )
}

/// The way out without loss: A, the last one in sync, comes back.
#[test]
fn scenario_1_is_resolved_by_the_last_in_sync_replica() -> Result<()> {
    const TOPIC: &str = "0204-multi-topic";
    let (mut cluster, brokers) = cluster_with(TOPIC)?;
    let load = Load::start(
        &cluster.bootstrap()?,
        TOPIC,
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(500)?;
    end_c_b_a(&mut cluster, TOPIC, &brokers)?;
    cluster.start(brokers.b)?;
    let none = vec![("none".to_owned(), brokers.a.number().to_string()); 3];
    await_true("broker B to see no leader", LIMIT, || {
        Ok(described(&cluster, TOPIC)? == none)
    })?;
    cluster.start(brokers.a)?;
    for partition in 0..3 {
        assert_eq!(cluster.await_leader(TOPIC, partition)?, brokers.a);
    }
    load.await_more(500)?;
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, TOPIC, 3)?,
        Duplicates::Forbidden,
    )
}

/// Scenario 2: the same end, and A comes back first: it works.
#[test]
fn scenario_2_the_order_in_which_it_works() -> Result<()> {
    const TOPIC: &str = "0204-multi-topic-1";
    let (mut cluster, brokers) = cluster_with(TOPIC)?;
    let load = Load::start(
        &cluster.bootstrap()?,
        TOPIC,
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(500)?;
    end_c_b_a(&mut cluster, TOPIC, &brokers)?;
    for broker in [brokers.a, brokers.b, brokers.c] {
        cluster.start(broker)?;
    }
    for partition in 0..3 {
        assert_eq!(cluster.await_leader(TOPIC, partition)?, brokers.a);
        cluster.await_isr(TOPIC, partition, &[1, 2, 3])?;
    }
    load.await_more(500)?;
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, TOPIC, 3)?,
        Duplicates::Forbidden,
    )
}
