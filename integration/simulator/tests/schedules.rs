//! Schedules of faults, each from a seed. What fails is replayed, and told in full, by
//! `cargo run --bin simulate -- --seed N` in this crate's directory. Elsewhere these tests do not run: without the flag in
//! its .cargo/config.toml tokio's own choices are not the seed's, and a failure could not be replayed.

#![cfg(tokio_unstable)]

use std::process::Command;

use simulator::dice::Dice;
use simulator::history::{Event, History};
use simulator::schedule::WIDE_FROM;
use simulator::{invariants, world};

/// Seeds that showed a bug, and which. A change of what a seed stands for takes the point of those before it: see
/// [`WIDE_FROM`].
const BUGS: [(u64, &str); 3] = [
    (
        198,
        "a deposed leader that does not know it refuses a write on the state that it has",
    ),
    (
        30552,
        "a snapshot that was received while one was written was taken for the written one, and never installed",
    ),
    (
        104183,
        "a leader that had not applied yet that a session begins told its client that it is over",
    ),
];

/// Likewise, of ensembles whose members come and go.
const BUGS_OF_RECONFIGS: [(u64, &str); 2] = [
    (
        241,
        "a leader that had removed itself was asked for another change, and openraft panicked",
    ),
    (
        246,
        "the only one that had the end of a change was the one that it removed, and nobody could be elected",
    ),
];

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), told)
}

#[test]
fn two_thousand_schedules_keep_every_promise() {
    for seeds in ["0..800", "40000..41200"] {
        let (well, told) = simulate(&["--seeds", seeds]);
        assert!(well, "{told}");
    }
}

#[test]
fn five_hundred_schedules_whose_members_come_and_go_keep_every_promise() {
    let (well, told) = simulate(&["--reconfigs", "--seeds", "0..500"]);
    assert!(well, "{told}");
}

#[test]
fn what_once_was_wrong_stays_right() {
    for (seed, bug) in BUGS {
        let result = world::run(seed).result;
        assert_eq!(result, Ok(()), "seed {seed}: {bug}");
    }
    for (seed, bug) in BUGS_OF_RECONFIGS {
        let result = world::run_with_reconfigs(seed).result;
        assert_eq!(result, Ok(()), "seed {seed} with reconfigs: {bug}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in (0..10).chain(WIDE_FROM..WIDE_FROM + 10) {
        let first = world::run(seed).history.digest();
        let again = world::run(seed).history.digest();
        assert_eq!(first, again, "seed {seed} in one process");
        let (_, told) = simulate(&["--seed", &seed.to_string()]);
        let trace = format!("trace {first:016x}");
        assert!(told.contains(&trace), "seed {seed} in another process");
    }
}

/// Makes one event say something else, or nothing; what was done to it, if it is one of those to be falsified.
fn falsify(history: &mut History, at: usize) -> Option<&'static str> {
    match &mut history.0[at].event {
        Event::Applied { zxid, .. } => {
            zxid.0 += 1 << 40;
            Some("a transaction has another number")
        }
        Event::Replied { zxid, .. } => {
            zxid.0 += 1 << 40;
            Some("an answer shows a state that never was")
        }
        Event::Notified { .. } => {
            let twice = history.0[at].clone();
            history.0.insert(at, twice);
            Some("a watch fires twice")
        }
        _ => None,
    }
}

#[test]
fn a_history_that_is_falsified_is_found_out() {
    for seed in (0..10).chain(WIDE_FROM..WIDE_FROM + 10) {
        let history = world::run(seed).history;
        let dice = Dice::new(seed);
        for _ in 0..20 {
            let at = dice.within(0..history.0.len() as u64) as usize;
            let mut falsified = history.clone();
            let Some(how) = falsify(&mut falsified, at) else {
                continue;
            };
            let found = invariants::check(&falsified).is_err();
            assert!(found, "seed {seed}: {how}, line {at}");
        }
    }
}
