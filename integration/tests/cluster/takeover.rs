//! A broker is started while the session of its former life is still open. Apache's fails for 18 seconds with "node
//! exists"; ours ends that session, whose id and password it kept, and registers anew.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::{Cluster, Node};

use crate::reading::read_all;

#[test]
fn a_broker_takes_over_from_its_former_life() -> Result<()> {
    const SESSION: Duration = Duration::from_secs(18);
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", SESSION.as_millis())
        .start()?;
    cluster.create_topic("orders", 3, 3, &[])?;
    for id in [1, 2, 3] {
        let broker = Node::Broker(id);
        let killed = Instant::now();
        cluster.kill(broker)?;
        cluster.start(broker)?;
        cluster.await_formed()?;
        for partition in 0..3 {
            cluster.await_leader("orders", partition)?;
            cluster.await_isr("orders", partition, &[1, 2, 3])?;
        }
        assert!(
            killed.elapsed() < SESSION / 2,
            "broker {id} was back only after {:?}",
            killed.elapsed()
        );
    }
    assert_eq!(read_all(&cluster.bootstrap()?, "orders", 3)?.count(), 0);
    Ok(())
}
