//! Schedules of faults, each from a seed. What fails is replayed, and told in full, by
//! `cargo run --bin simulate -- --seed N` in this crate's directory. Elsewhere these tests do not run: without the flag in
//! its .cargo/config.toml tokio's own choices are not the seed's, and a failure could not be replayed.

use std::process::Command;

use simulator::world;

/// In a workspace-wide run tokio's own choices are not the seed's, so a failure could not be replayed.
const NEEDS_FLAG: &str =
    "runs in the simulator's own directory, whose .cargo/config.toml makes seeds replay exactly";

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), told)
}

#[test]
#[cfg_attr(not(tokio_unstable), ignore = "runs in the simulator's own directory")]
fn two_thousand_schedules_keep_every_promise() {
    let (well, told) = simulate(&["--seeds", "0..2000"]);
    assert!(well, "{told}");
}

#[test]
#[cfg_attr(not(tokio_unstable), ignore = "runs in the simulator's own directory")]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let first = world::run(seed).history.digest();
        assert_eq!(
            first,
            world::run(seed).history.digest(),
            "seed {seed} in one process"
        );
        let (_, told) = simulate(&["--seed", &seed.to_string()]);
        let trace = format!("trace {first:016x}");
        assert!(told.contains(&trace), "seed {seed} in another process");
    }
}
