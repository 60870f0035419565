//! The program behind `scripts/cluster.sh`, verb by verb.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use integration::{LIMIT, Output, PortBlock, Programs, run};

/// A developer's cluster in a directory of its own.
struct Dev {
    dir: PathBuf,
    ports: PortBlock,
}

impl Dev {
    fn new() -> Result<Dev> {
        // The program looks for coord and broker beside itself.
        Programs::under_test()?;
        let ports = PortBlock::reserve()?;
        let dir = std::env::temp_dir().join(format!("gregor-dev-{}", ports.ports().base_port));
        let dev = Dev { dir, ports };
        dev.run(&["reset"])?.success()?;
        Ok(dev)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        run(
            Command::new(env!("CARGO_BIN_EXE_cluster"))
                .arg("--dir")
                .arg(&self.dir)
                .args(args),
            b"",
            2 * LIMIT,
        )
    }

    fn up(&self, args: &[&str]) -> Result<Output> {
        let ports = self.ports.ports();
        let (base, coord) = (ports.base_port.to_string(), ports.coord_port.to_string());
        self.run(&[&["up", "--base-port", &base, "--coord-port", &coord], args].concat())
    }

    /// The state that `status` prints for each node.
    fn status(&self) -> Result<Vec<(String, String)>> {
        let printed = self.run(&["status"])?.success()?;
        let word = |line: &str, n: usize| {
            line.split_whitespace()
                .nth(n)
                .unwrap_or_default()
                .to_owned()
        };
        Ok(printed
            .lines()
            .skip(1)
            .map(|line| (word(line, 0), word(line, 3)))
            .collect())
    }

    fn state(&self, node: &str) -> Result<String> {
        let states = self.status()?;
        Ok(states
            .into_iter()
            .find(|(name, _)| name == node)
            .map(|(_, state)| state)
            .unwrap_or_default())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Err(e) = self.run(&["reset"]).and_then(Output::success) {
            eprintln!("a cluster may be left in {}: {e:#}", self.dir.display());
        }
    }
}

#[test]
fn a_cluster_is_brought_up_hurt_and_ended() -> Result<()> {
    let dev = Dev::new()?;
    assert_eq!(dev.run(&["status"])?.code, Some(1), "there is none yet");
    dev.up(&[
        "--brokers",
        "2",
        "--set",
        "zookeeper.session.timeout.ms=2000",
    ])?
    .success()?;
    let config = fs::read_to_string(dev.dir.join("broker-2/server.properties"))?;
    assert!(
        config.contains("zookeeper.session.timeout.ms=2000\n"),
        "{config}"
    );

    // Twice is as once.
    let before = dev.run(&["status"])?.success()?;
    dev.up(&[])?.success()?;
    assert_eq!(dev.run(&["status"])?.success()?, before);

    dev.run(&["kill", "2"])?.success()?;
    assert_eq!(dev.state("broker-2")?, "down");
    let again = dev.run(&["kill", "2"])?;
    assert_eq!(
        (again.code, again.stderr.trim()),
        (Some(1), "cluster.sh: broker-2 does not run")
    );
    dev.run(&["start", "2"])?.success()?;
    assert_ne!(dev.state("broker-2")?, "down");

    dev.run(&["stop", "2"])?.success()?;
    assert_eq!(dev.state("broker-2")?, "stopped");
    dev.run(&["cont", "2"])?.success()?;
    dev.run(&["term", "2"])?.success()?;
    dev.run(&["kill", "coord-1"])?.success()?;
    assert_eq!(dev.state("coord-1")?, "down");
    assert_eq!(dev.run(&["term", "7"])?.code, Some(1));
    assert!(!dev.run(&["logs", "1"])?.success()?.is_empty());

    // What is down comes up, and what is ended keeps its data.
    dev.up(&[])?.success()?;
    dev.run(&["down"])?.success()?;
    assert!(dev.status()?.iter().all(|(_, state)| state == "down"));
    assert!(dev.dir.join("broker-1/data/meta.properties").is_file());
    dev.up(&[])?.success()?;

    dev.run(&["reset"])?.success()?;
    assert!(!dev.dir.exists());
    Ok(())
}

#[test]
fn coords_alone_are_a_cluster_too() -> Result<()> {
    let dev = Dev::new()?;
    dev.up(&["--brokers", "0"])?.success()?;
    assert_eq!(dev.status()?, [("coord-1".to_owned(), "ready".to_owned())]);
    // No connection is left that would end: SIGTERM alone has to do.
    dev.run(&["down"])?.success()?;
    assert_eq!(dev.state("coord-1")?, "down");
    Ok(())
}

#[test]
fn what_cannot_be_is_one_clear_line() -> Result<()> {
    let dev = Dev::new()?;
    dev.up(&["--brokers", "0"])?.success()?;
    let refused = dev.up(&["--coords", "3"])?;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("was made with --coords 1"),
        "{}",
        refused.stderr
    );
    let refused = dev.up(&["--brokers", "1", "--set", "num.partitions=many"])?;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("num.partitions"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        refused.stderr.trim().lines().count(),
        1,
        "{}",
        refused.stderr
    );
    Ok(())
}
