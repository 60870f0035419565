//! The controller dies: another broker takes over, and does all that the first one did.

use anyhow::Result;
use integration::{Cluster, Node};

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

#[test]
fn another_broker_takes_over() -> Result<()> {
    let mut cluster = Cluster::builder().start()?;
    cluster.create_topic("before", 3, 3, &[])?;
    let load = Load::start(
        &cluster.bootstrap()?,
        "before",
        3,
        &[("enable.idempotence", "true")],
    )?;
    load.await_more(500)?;

    let old = cluster.await_controller()?;
    cluster.kill(old)?;
    let new = cluster.await_controller()?;
    assert_ne!(new, old);

    // What the old one led is led by others, and topics are created, by the new one.
    let alive: Vec<i32> = [1, 2, 3]
        .into_iter()
        .filter(|id| Node::Broker(*id as u16) != old)
        .collect();
    for partition in 0..3 {
        assert_ne!(cluster.await_leader("before", partition)?, old);
        cluster.await_isr("before", partition, &alive)?;
    }
    cluster.create_topic("after", 2, 2, &[])?;
    load.await_more(500)?;

    // The old one comes back as a broker like the others.
    cluster.start(old)?;
    cluster.await_formed()?;
    for partition in 0..3 {
        cluster.await_isr("before", partition, &[1, 2, 3])?;
    }
    assert_eq!(cluster.await_controller()?, new);
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, "before", 3)?,
        Duplicates::Forbidden,
    )
}
