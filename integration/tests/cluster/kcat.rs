//! `kcat`, as Debian has it.

use std::process::Command;

use anyhow::Result;
use integration::{Cluster, LIMIT, Tool, run, tool};

#[test]
fn kcat_lists_produces_and_consumes() -> Result<()> {
    let Some(kcat) = tool(Tool::Kcat) else {
        return Ok(());
    };
    let cluster = Cluster::builder().start()?;
    cluster.create_topic("cats", 2, 3, &[])?;
    let bootstrap = cluster.bootstrap()?;
    let kcat = |args: &[&str], stdin: &str| {
        run(
            Command::new(&kcat).args(["-b", &bootstrap]).args(args),
            stdin.as_bytes(),
            LIMIT,
        )?
        .success()
    };

    let listed = kcat(&["-L"], "")?;
    assert!(listed.contains(" 3 brokers:"), "{listed}");
    assert!(listed.contains("(controller)"), "{listed}");
    assert!(
        listed.contains("topic \"cats\" with 2 partitions:"),
        "{listed}"
    );
    assert!(listed.contains("partition 1, leader "), "{listed}");

    kcat(
        &["-P", "-t", "cats", "-p", "1", "-K", ":", "-X", "acks=all"],
        "tom:grey\nfelix:black\n",
    )?;
    let consumed = kcat(
        &[
            "-C",
            "-t",
            "cats",
            "-p",
            "1",
            "-o",
            "beginning",
            "-e",
            "-q",
            "-f",
            "%p/%o %k=%s\n",
        ],
        "",
    )?;
    assert_eq!(consumed, "1/0 tom=grey\n1/1 felix=black\n");
    let empty = kcat(
        &["-C", "-t", "cats", "-p", "0", "-o", "beginning", "-e", "-q"],
        "",
    )?;
    assert_eq!(empty, "");
    // The offset of a time, here of one to come: the end.
    let queried = kcat(&["-Q", "-t", "cats:1:-1"], "")?;
    assert!(queried.contains("offset 2"), "{queried}");
    Ok(())
}
