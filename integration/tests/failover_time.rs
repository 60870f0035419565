//! From the SIGKILL of a leader to a new one: the session timeout and less than 100 ms more. In a test program of its
//! own, for time is measured here and nothing else should run meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, LIMIT, Node, await_some};

const SESSION: Duration = Duration::from_millis(1_000);
const ELECTION: Duration = Duration::from_millis(100);
const PARTITIONS: i32 = 30;

/// Kills `victim` and measures how long it takes until a survivor names another leader for all that it led.
fn failover_time(cluster: &mut Cluster, victim: Node) -> Result<Duration> {
    let id = i32::from(victim.number());
    let survivor = cluster
        .running_brokers()
        .into_iter()
        .find(|node| *node != victim)
        .context("a survivor")?;
    let mut client = cluster.client(survivor)?;
    let led = client
        .view()?
        .partitions
        .values()
        .filter(|seen| seen.leader == Some(id))
        .count();
    ensure!(led > 0, "{victim} leads nothing");
    let killed = Instant::now();
    cluster.kill(victim)?;
    await_some("new leaders", LIMIT, || {
        let view = client.view()?;
        let all_led = view
            .partitions
            .values()
            .all(|seen| seen.leader.is_some_and(|leader| leader != id));
        Ok(all_led.then(|| killed.elapsed()))
    })
}

#[test]
fn a_new_leader_is_there_right_after_the_session_ends() -> Result<()> {
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", SESSION.as_millis())
        .start()?;
    cluster.create_topic("orders", PARTITIONS, 3, &[])?;
    for of_the_controller in [false, true] {
        let controller = cluster.await_controller()?;
        let victim = if of_the_controller {
            controller
        } else {
            cluster
                .running_brokers()
                .into_iter()
                .find(|node| *node != controller)
                .context("three brokers")?
        };
        let time = failover_time(&mut cluster, victim)?;
        println!(
            "{PARTITIONS} partitions, session of {SESSION:?}, the killed leader is {}the controller: {time:?}",
            if of_the_controller { "" } else { "not " }
        );
        ensure!(time < SESSION + ELECTION, "a new leader took {time:?}");
        cluster.start(victim)?;
        cluster.await_formed()?;
        for partition in 0..PARTITIONS {
            cluster.await_isr("orders", partition, &[1, 2, 3])?;
        }
    }
    Ok(())
}
