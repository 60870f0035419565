//! Python's kazoo, a ZooKeeper client that owes us nothing, against coord. What it does is in `kazoo/coord.py`.

use std::process::Command;

use anyhow::Result;
use integration::{Cluster, LIMIT, Node, Tool, run, tool};

#[test]
fn kazoo_creates_nodes_and_its_watches_fire() -> Result<()> {
    let Some(python) = tool(Tool::Kazoo) else {
        return Ok(());
    };
    let cluster = Cluster::builder().brokers(0).start()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/kazoo/coord.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(cluster.address(Node::Coord(1))?.to_string());
    let printed = run(&mut command, b"", 2 * LIMIT)?.success()?;
    assert!(printed.ends_with("all is well\n"), "{printed}");
    Ok(())
}
