//! `coord-bench`: Apache ZooKeeper and coord side by side, on the same machine and disk, with the same client and the
//! same zoo.cfg, in one run. `scripts/bench/coord.sh` runs it.
//!
//! The measurements of the two systems take turns, so that whatever else the machine does meets both; the table shows
//! medians. Both systems sync every write to disk before they acknowledge it, and both are warmed up before anything
//! is measured. Without `--zookeeper` coord is measured alone, which is for profiling.

mod connection;
mod failover;
mod load;
mod system;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use load::{Extent, Load, Operation};
use system::{Ensemble, System};
use table::{Goal, Row, markdown};

const IN_FLIGHT: [u64; 3] = [1, 16, 256];
/// Znodes that are created before the memory is looked at again.
const MEMORY_ZNODES: u64 = 50_000;
/// What an idle server may still do on its own before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(about = "Compares coord with Apache ZooKeeper.")]
struct Args {
    /// coord's program
    #[arg(long)]
    coord: PathBuf,
    /// The directory of Apache ZooKeeper's jars; without it coord is measured alone
    #[arg(long)]
    zookeeper: Option<PathBuf>,
    /// Where the servers keep their data: the disk that is measured
    #[arg(long)]
    dir: PathBuf,
    /// How many servers: 1 is a server of its own, more are an ensemble
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    servers: Vec<usize>,
    /// What is measured, with so many requests in flight, once for each round
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds of each operation before anything is measured
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// How often a server is started, to see how long that takes
    #[arg(long, default_value_t = 5)]
    starts: u32,
    /// How often the leader of an ensemble is killed
    #[arg(long, default_value_t = 5)]
    kills: u32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(rows) => {
            print!("{}", markdown(&rows));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("coord-bench: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is found of one system, one list of values to a row.
#[derive(Debug, Default)]
struct Both {
    zookeeper: Vec<f64>,
    coord: Vec<f64>,
}

impl Both {
    fn push(&mut self, ensemble: &Ensemble, value: f64) {
        match ensemble.name() {
            "coord" => self.coord.push(value),
            _ => self.zookeeper.push(value),
        }
    }

    fn row(self, what: String, unit: &'static str, goal: Goal) -> Row {
        Row {
            what,
            unit,
            zookeeper: self.zookeeper,
            coord: self.coord,
            goal,
        }
    }
}

fn run(args: &Args) -> Result<Vec<Row>> {
    fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot create {}", args.dir.display()))?;
    let zookeeper = args
        .zookeeper
        .clone()
        .map(|jars| System::ZooKeeper { jars });
    let coord = System::Coord {
        program: args.coord.clone(),
    };
    let systems: Vec<System> = zookeeper.into_iter().chain([coord]).collect();
    let mut rows = Vec::new();
    if args.starts > 0 {
        rows.extend(starts(args, &systems)?);
    }
    for servers in &args.servers {
        let new = |system: &System| Ensemble::new(system.clone(), *servers, &args.dir);
        let mut ensembles = systems.iter().map(new).collect::<Result<Vec<Ensemble>>>()?;
        for ensemble in &mut ensembles {
            eprintln!("{} × {servers}: starting and warming up", ensemble.name());
            ensemble.start_all()?;
            warm_up(args, ensemble)?;
        }
        rows.extend(throughput(args, &ensembles)?);
        if *servers > 1 && args.kills > 0 {
            rows.push(kills(args, &mut ensembles)?);
        }
        ensembles.into_iter().try_for_each(Ensemble::end)?;
    }
    Ok(rows)
}

/// Start-up time, and the memory of a server that has just started and of one that holds some data.
fn starts(args: &Args, systems: &[System]) -> Result<Vec<Row>> {
    let [mut start_ms, mut idle, mut loaded]: [Both; 3] = Default::default();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for n in 0..args.starts {
        for system in systems {
            let mut server = Ensemble::new(system.clone(), 1, &args.dir)?;
            let started = Instant::now();
            server.start(0)?;
            server.await_session(0)?;
            let elapsed = started.elapsed();
            eprintln!("{}: start {n} took {elapsed:?}", server.name());
            start_ms.push(&server, elapsed.as_secs_f64() * 1000.0);
            thread::sleep(SETTLE);
            idle.push(&server, mib(server.resident_bytes(0)?));
            if n == 0 {
                let count = Extent::Count(MEMORY_ZNODES);
                let mut load = Load::open(&server.addresses(), 0, 256)?;
                load.measure(Operation::Create, count)?;
                load.close()?;
                loaded.push(&server, mib(server.resident_bytes(0)?));
            }
            server.end()?;
        }
    }
    let tenth = Goal::AtMost(0.1);
    Ok(vec![
        start_ms.row("start → first session".to_owned(), "ms", tenth),
        idle.row("resident, idle".to_owned(), "MiB", tenth),
        loaded.row(
            format!("resident, {MEMORY_ZNODES} znodes created"),
            "MiB",
            tenth,
        ),
    ])
}

fn warm_up(args: &Args, ensemble: &Ensemble) -> Result<()> {
    let mut load = Load::open(&ensemble.addresses(), 0, 256)?;
    for operation in Operation::ALL {
        let extent = Extent::For(Duration::from_secs_f64(args.warm_up));
        load.measure(operation, extent)?;
    }
    load.close()
}

/// Throughput and latency of each operation, with few and many in flight, the systems taking turns.
fn throughput(args: &Args, ensembles: &[Ensemble]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let extent = Extent::For(Duration::from_secs_f64(args.seconds));
    let servers = ensembles.first().map_or(0, Ensemble::len);
    let mut run = 0;
    for operation in Operation::ALL {
        for in_flight in IN_FLIGHT {
            let [mut per_second, mut p50, mut p99, mut cpu]: [Both; 4] = Default::default();
            for _ in 0..args.rounds {
                run += 1;
                for ensemble in ensembles {
                    let mut load = Load::open(&ensemble.addresses(), run, in_flight)?;
                    let before_s = ensemble.cpu_s()?;
                    let found = load.measure(operation, extent)?;
                    let used_s = ensemble.cpu_s()? - before_s;
                    load.close()?;
                    cpu.push(ensemble, used_s * 1e6 / found.requests as f64);
                    per_second.push(ensemble, found.per_second);
                    p50.push(ensemble, found.p50_ms);
                    p99.push(ensemble, found.p99_ms);
                }
            }
            let what = format!("{servers} × {}, {in_flight} in flight", operation.name());
            eprintln!("{what}: done");
            // What is asked for is that of writes with 256 in flight; elsewhere it is to be ahead.
            let (times, parts) = match (operation, in_flight) {
                (Operation::Create | Operation::Set, 256) => (3.0, 1.0 / 3.0),
                _ => (1.0, 1.0),
            };
            rows.push(per_second.row(what.clone(), "1/s", Goal::AtLeast(times)));
            rows.push(p50.row(format!("{what}, p50"), "ms", Goal::AtMost(1.0)));
            rows.push(p99.row(format!("{what}, p99"), "ms", Goal::AtMost(parts)));
            rows.push(cpu.row(
                format!("{what}, CPU of the servers"),
                "µs each",
                Goal::AtMost(1.0),
            ));
        }
    }
    Ok(rows)
}

/// The time without a leader.
fn kills(args: &Args, ensembles: &mut [Ensemble]) -> Result<Row> {
    let mut lost = Both::default();
    for n in 0..args.kills {
        for ensemble in &mut *ensembles {
            let elapsed = failover::time_to_new_leader(ensemble)?;
            eprintln!(
                "{}: kill {n} of the leader cost {elapsed:?}",
                ensemble.name()
            );
            lost.push(ensemble, elapsed.as_secs_f64() * 1000.0);
        }
    }
    Ok(lost.row(
        "leader killed → write acknowledged".to_owned(),
        "ms",
        Goal::Under(500.0),
    ))
}
