//! coord dies and comes back: records flow all the while, sessions go on, and nothing of the tree is lost.

use anyhow::Result;
use integration::{Cluster, Node, four_letter_figure};

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

const COORD: Node = Node::Coord(1);

#[test]
fn records_flow_while_coord_is_away() -> Result<()> {
    // Sessions outlive the restart, as they do with Kafka's own default.
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", 18_000)
        .start()?;
    cluster.create_topic("orders", 3, 3, &[])?;
    let controller = cluster.await_controller()?;
    let load = Load::start(
        &cluster.bootstrap()?,
        "orders",
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(500)?;

    cluster.kill(COORD)?;
    load.await_more(1_000)?;
    cluster.start(COORD)?;
    load.await_more(500)?;

    // The same controller holds its znode, and works.
    cluster.create_topic("invoices", 3, 3, &[])?;
    assert_eq!(cluster.await_controller()?, controller);
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, "orders", 3)?,
        Duplicates::Forbidden,
    )
}

#[test]
fn brokers_register_anew_when_their_sessions_ended_meanwhile() -> Result<()> {
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", 1_000)
        .start()?;
    cluster.create_topic("orders", 3, 3, &[])?;
    // All brokers hang for longer than their sessions last, the coord among the living.
    for broker in 1..=3 {
        cluster.stop(Node::Broker(broker))?;
    }
    integration::await_true("the sessions to end", integration::LIMIT, || {
        Ok(ephemerals(&cluster)? == 0)
    })?;
    for broker in 1..=3 {
        cluster.cont(Node::Broker(broker))?;
    }
    cluster.await_formed()?;
    for partition in 0..3 {
        cluster.await_leader("orders", partition)?;
    }
    let load = Load::start(
        &cluster.bootstrap()?,
        "orders",
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(500)?;
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, "orders", 3)?,
        Duplicates::Forbidden,
    )
}

/// The number of ephemeral nodes, by coord's own account.
fn ephemerals(cluster: &Cluster) -> Result<usize> {
    let count = four_letter_figure(cluster.address(COORD)?, "mntr", "zk_ephemerals_count")?;
    Ok(count.parse()?)
}
