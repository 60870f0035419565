//! All brokers end, in order or not, and come back with every record that was acknowledged.

use anyhow::Result;
use integration::{Cluster, Node};

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

fn all_brokers_restarted(end: fn(&mut Cluster, Node) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::builder().start()?;
    cluster.create_topic("orders", 3, 3, &[])?;
    let load = Load::start(
        &cluster.bootstrap()?,
        "orders",
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(2_000)?;
    let brokers = [1, 2, 3].map(Node::Broker);
    for broker in brokers {
        end(&mut cluster, broker)?;
    }
    cluster.start_all(&brokers)?;
    cluster.await_formed()?;
    // The producer, which knew none of this, goes on.
    load.await_more(1_000)?;
    for partition in 0..3 {
        cluster.await_isr("orders", partition, &[1, 2, 3])?;
    }
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, "orders", 3)?,
        Duplicates::Forbidden,
    )
}

#[test]
fn all_brokers_killed_at_once() -> Result<()> {
    all_brokers_restarted(Cluster::kill)
}

#[test]
fn all_brokers_ended_in_order() -> Result<()> {
    all_brokers_restarted(Cluster::term)
}
