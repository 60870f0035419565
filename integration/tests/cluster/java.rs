//! The Java ZooKeeper client, which most of the world's programs bring along, against coord. What it does is in
//! `java/Client.java`, which bounds every wait of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use integration::{Cluster, JAVA_ZOOKEEPER_JARS, Node, Tool, tool};

#[test]
fn the_java_client_goes_on_when_its_coord_is_killed() -> Result<()> {
    goes_on(1)
}

#[test]
fn the_java_client_goes_on_on_another_coord() -> Result<()> {
    goes_on(3)
}

fn goes_on(coords: u16) -> Result<()> {
    let Some(java) = tool(Tool::JavaZooKeeper) else {
        return Ok(());
    };
    let mut cluster = Cluster::builder()
        .brokers(0)
        .coords(coords)
        .set_coord("extendedTypesEnabled", true)
        .start()?;
    let mut nodes = BTreeMap::new();
    for node in (1..=coords).map(Node::Coord) {
        nodes.insert(cluster.address(node)?.to_string(), node);
    }
    let servers: Vec<String> = nodes.keys().cloned().collect();
    let mut client = Command::new(java)
        .args(["-cp", JAVA_ZOOKEEPER_JARS])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/java/Client.java"))
        .arg(servers.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start java")?;
    let mut stdin = client.stdin.take().context("no pipe to java")?;
    let stdout = client.stdout.take().context("no pipe from java")?;
    let mut said = String::new();
    for line in BufReader::new(stdout).lines() {
        said = line?;
        if let Some(address) = said.strip_prefix("kill ") {
            let node = *nodes.get(address).context("a coord's address")?;
            cluster.kill(node)?;
            // The only one has to come back.
            if coords == 1 {
                cluster.start(node)?;
            }
            writeln!(stdin)?;
        }
    }
    ensure!(client.wait()?.success(), "the last that went well: {said}");
    ensure!(said == "all is well", "it ended with: {said}");
    Ok(())
}
