//! The program behind `scripts/bench/coord.sh`, without Apache ZooKeeper and in a hurry: every figure is there.

use std::process::Command;

use anyhow::Result;
use integration::{LIMIT, Programs, run};

#[test]
fn every_figure_is_in_the_table() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_coord-bench"));
    command
        .arg("--coord")
        .arg(Programs::under_test()?.path("coord"))
        .arg("--dir")
        .arg(dir.path())
        .args(["--rounds", "1", "--seconds", "0.05", "--warm-up", "0.05"])
        .args(["--starts", "1", "--kills", "1"]);
    let table = run(&mut command, b"", 2 * LIMIT)?.success()?;
    for row in [
        "| start → first session | ms | – |",
        "| resident, idle | MiB | – |",
        "| 1 × get, 16 in flight, p99 | ms | – |",
        "| 3 × create, 256 in flight | 1/s | – |",
        "| leader killed → write acknowledged | ms | – |",
    ] {
        assert_eq!(table.matches(row).count(), 1, "{row} in {table}");
    }
    Ok(())
}
