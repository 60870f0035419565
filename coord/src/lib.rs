//! The coordination service: a ZooKeeper server.
//!
//! This is the shell around `coord-core`: sockets, disk, clock and randomness. What flows through it:
//!
//! ```text
//!  client ─► server::connection (reader) ─► node ─► coord_core::Coordinator
//!  client ◄─ server::connection (writer) ◄──────┘   │  ▲
//!                                                   ▼  │ what is committed, and who leads
//!                                                  raft ◄──► the other members
//!                                                   └─► log and snapshots (threads: write, fdatasync)
//! ```
//!
//! One task owns the coordinator; nothing else touches the tree. A server by itself is an ensemble of one, on the same
//! path. Every queue has a bound: requests per connection, the node's inbox, what is on its way to the disks, the bytes a
//! slow client has not read. What must never be here: a decision about a znode or a session, and an answer to a write that
//! is not on the disks of a majority.

pub mod config;
mod http;
pub mod node;
pub mod raft;
mod server;
mod stats;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use crate::config::Config;

/// The coordination service: a ZooKeeper server.
#[derive(Parser)]
#[command(name = "coord", version, after_help = config::HELP)]
pub struct Arguments {
    /// A zoo.cfg, or a TOML file if its name ends in .toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, over what the file says; may be given often
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Recovers what is in the data directory, then serves until SIGTERM or SIGINT.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (config, warnings) =
        Config::from_pairs(config::load(arguments.config.as_deref(), &arguments.set)?)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(server::run(config))
}
