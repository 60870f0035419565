//! A leader hangs for longer than its session lasts, and wakes up believing that it still leads.

use anyhow::Result;
use integration::Cluster;

use crate::load::{Duplicates, Load, check_read_back};
use crate::reading::read_all;

#[test]
fn a_leader_that_wakes_up_changes_nothing_any_more() -> Result<()> {
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", 1_000)
        .start()?;
    cluster.create_topic("orders", 3, 3, &[("min.insync.replicas", "2")])?;
    let load = Load::start(
        &cluster.bootstrap()?,
        "orders",
        3,
        &[
            ("enable.idempotence", "true"),
            ("socket.timeout.ms", "2000"),
        ],
    )?;
    load.await_more(1_000)?;

    let old = cluster.await_leader("orders", 0)?;
    cluster.stop(old)?;
    let old_id = i32::from(old.number());
    cluster.await_partition("orders", 0, "another leader", |seen| {
        seen.leader.is_some_and(|id| id != old_id)
    })?;
    load.await_more(1_000)?;
    cluster.cont(old)?;
    for partition in 0..3 {
        cluster.await_isr("orders", partition, &[1, 2, 3])?;
    }
    load.await_more(500)?;
    check_read_back(
        &load.finish()?,
        &read_all(&cluster.bootstrap()?, "orders", 3)?,
        Duplicates::Forbidden,
    )
}
