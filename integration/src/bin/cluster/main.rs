//! `cluster`: brings up a cluster of Gregor on this machine and keeps it, for development. `scripts/cluster.sh` runs it.
//!
//! What it knows of a cluster lies in its directory: `cluster.properties` (what the cluster is made of), and for each
//! node its configuration, data, log and pid file. Nothing else is remembered anywhere, and no process is ever
//! signalled but those that the pid files mean.

mod verbs;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use integration::Node;

#[derive(Debug, Parser)]
#[command(
    name = "cluster.sh",
    about = "Brings up a cluster of Gregor on this machine, and keeps it.",
    version
)]
struct Args {
    /// The cluster's directory [default: .cluster, or what GREGOR_CLUSTER names]
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start what does not run; return when every broker is registered and a controller is elected
    Up(Up),
    /// Say what runs, where, who is the controller, and which coord leads
    Status,
    /// End all nodes in order; their data stays
    Down,
    /// End all nodes and remove the directory, data and all
    Reset,
    /// SIGKILL a node: 2 is broker 2, coord-1 the first coord
    Kill { node: Node },
    /// SIGTERM a node, and wait until it has ended
    Term { node: Node },
    /// Start a node, and wait until it is ready
    Start { node: Node },
    /// SIGSTOP a node: it hangs
    Stop { node: Node },
    /// SIGCONT a node: it goes on
    Cont { node: Node },
    /// Print what a node has logged
    Logs { node: Node },
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Brokers, with the ids 1 to this [default: 3, or as many as there are]
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=99))]
    brokers: Option<u16>,
    /// Coords: 1, or an ensemble of 3 or 5, which 1 or 2 of them may miss [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=5))]
    coords: Option<u16>,
    /// Broker N listens on this + N - 1, its control plane on 10000 more, its HTTP on 20000 more [default: 9092]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=45_000))]
    base_port: Option<u16>,
    /// coord-N listens on this + N - 1 [default: 2181]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=45_000))]
    coord_port: Option<u16>,
    /// A setting of every broker, by Kafka's name; may be given many times, and is remembered
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let dir = args
        .dir
        .or_else(|| env::var_os("GREGOR_CLUSTER").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(".cluster"));
    let done = match args.verb {
        Verb::Up(up) => verbs::up(&dir, &up),
        Verb::Status => verbs::status(&dir),
        Verb::Down => verbs::down(&dir),
        Verb::Reset => verbs::reset(&dir),
        Verb::Kill { node } => verbs::kill(&dir, node),
        Verb::Term { node } => verbs::term(&dir, node),
        Verb::Start { node } => verbs::start(&dir, node),
        Verb::Stop { node } => verbs::stop(&dir, node),
        Verb::Cont { node } => verbs::cont(&dir, node),
        Verb::Logs { node } => verbs::logs(&dir, node),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cluster.sh: {e:#}");
            ExitCode::FAILURE
        }
    }
}
