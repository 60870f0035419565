//! The Java ZooKeeper client, which most of the world's programs bring along, against coord. What it does is in
//! `java/Client.java`, which bounds every wait of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, JAVA_ZOOKEEPER_JARS, Node, Tool, tool};

#[test]
fn the_java_client_goes_on_when_its_node_is_killed() -> Result<()> {
    let Some(java) = tool(Tool::JavaZooKeeper) else {
        return Ok(());
    };
    let coord = Node::Coord(1);
    let mut cluster = Cluster::builder()
        .brokers(0)
        .set_coord("extendedTypesEnabled", true)
        .start()?;
    let address = cluster.address(coord)?.to_string();
    let mut client = Command::new(java)
        .args(["-cp", JAVA_ZOOKEEPER_JARS])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/java/Client.java"))
        .arg(&address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start java")?;
    let mut stdin = client.stdin.take().context("no pipe to java")?;
    let stdout = client.stdout.take().context("no pipe from java")?;
    let mut said = String::new();
    for line in BufReader::new(stdout).lines() {
        said = line?;
        if said == format!("kill {address}") {
            cluster.kill(coord)?;
            cluster.start(coord)?;
            writeln!(stdin)?;
        }
    }
    ensure!(client.wait()?.success(), "the last that went well: {said}");
    ensure!(said == "all is well", "it ended with: {said}");
    Ok(())
}
