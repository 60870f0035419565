//! The coordination service: a ZooKeeper server.
//!
//! This is the shell around `coord-core`: sockets, disk, clock and randomness. What flows through it:
//!
//! ```text
//!  client ─► server::connection (reader) ─► node ─► coord_core::Coordinator
//!  client ◄─ server::connection (writer) ◄──────┘   │  ▲
//!                                                   ▼  │ how far the log is on disk
//!                                       raft_log (a thread: write, fdatasync)    snapshot (a thread, now and then)
//! ```
//!
//! One task owns the coordinator; nothing else touches the tree. Every queue has a bound: requests per connection, the
//! node's inbox, the entries on their way to the disk, the bytes a slow client has not read. What must never be here:
//! a decision about a znode or a session, and an answer to a write that is not on disk.

pub mod config;
mod data_dir;
mod frames;
mod http;
pub mod node;
pub mod raft;
mod raft_log;
mod recovery;
mod server;
mod snapshot;
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
    let _lock = data_dir::lock(&config.data_dir)?;
    let recovered = recovery::recover(&config.data_dir)
        .with_context(|| format!("cannot start from dataDir {}", config.data_dir.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(server::run(config, recovered))
}
