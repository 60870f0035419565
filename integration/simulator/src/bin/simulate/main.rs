//! Runs schedules, each from its seed, on all cores; the first lines say what was wrong, if anything was.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use simulator::world::{self, Outcome};

/// After so many failures there is enough to look at.
const FAILURES_MAX: usize = 20;

/// Runs coord's ensemble through schedules of faults on a virtual clock, network and disk.
#[derive(Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// Runs the schedules of these seeds, and says which fail
    #[arg(long, value_name = "FROM..TO", value_parser = range, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// Runs one schedule, and tells all that happened
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Has members of the ensembles come and go
    #[arg(long)]
    reconfigs: bool,
    /// How many schedules run side by side; as many as there are cores, if not said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| {
        let from = from.parse().ok()?;
        Some(from..to.parse().ok()?)
    });
    ends.ok_or_else(|| format!("{text} is no range; say 0..1000"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = match arguments.reconfigs {
        true => world::run_with_reconfigs,
        false => world::run,
    };
    let failed = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => tell(seed, run),
        (None, seeds) => campaign(seeds.unwrap_or(0..1000), arguments.jobs, run),
    };
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Tells everything about one schedule; whether it failed.
fn tell(seed: u64, run: fn(u64) -> Outcome) -> bool {
    let Outcome { history, result } = run(seed);
    for (number, stamped) in history.0.iter().enumerate() {
        println!("{number:>6} {stamped}");
    }
    println!("seed {seed}: trace {:016x}", history.digest());
    match result {
        Ok(()) => false,
        Err(violation) => {
            println!("seed {seed}: {violation}");
            true
        }
    }
}

/// Runs many; whether any failed.
fn campaign(seeds: Range<u64>, jobs: Option<usize>, run: fn(u64) -> Outcome) -> bool {
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(BTreeSet::new());
    let enough = || {
        failures
            .lock()
            .is_ok_and(|failures| failures.len() >= FAILURES_MAX)
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end || enough() {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed).result));
                    let failure = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(violation)) => violation.to_string(),
                        Err(_) => "panicked".to_owned(),
                    };
                    println!("seed {seed}: {failure}");
                    if let Ok(mut failures) = failures.lock() {
                        failures.insert(seed);
                    }
                }
            });
        }
    });
    let done = next.load(Relaxed).min(seeds.end) - seeds.start;
    let failures = failures.into_inner().unwrap_or_default();
    let took = start.elapsed();
    println!(
        "{done} schedules in {:.1} s, {:.0} a second; {} failed{}",
        took.as_secs_f64(),
        done as f64 / took.as_secs_f64(),
        failures.len(),
        match failures.is_empty() {
            true => String::new(),
            false => format!(": {failures:?}"),
        }
    );
    !failures.is_empty()
}
