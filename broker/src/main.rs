//! A Kafka broker of the ZooKeeper era.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use broker::config;
use broker::{Broker, StderrAboveProgress};
use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A Kafka broker of the ZooKeeper era.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A configuration file: Kafka's server.properties, or TOML with the same keys.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, over the file.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,zookeeper_client=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(StderrAboveProgress::default)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Raises how many files may be open as far as this process may, as a JVM does. Where that is refused it stays as it is.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays: set ulimit -n as the broker needs it");
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (config, warnings) = config::load(arguments.config.as_deref(), &arguments.set)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let ended = runtime.block_on(serve(config));
    // A disk that has failed may hold up who waits for it.
    runtime.shutdown_background();
    ended
}

async fn serve(config: broker_core::config::BrokerConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    let broker = tokio::select! {
        broker = Broker::start(config) => broker?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failure = broker.log_failure() => return Err(failure.into()),
    }
    tracing::info!("stopping");
    tokio::select! {
        () = broker.shut_down() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopping at once: the logs will be recovered at the next start"),
        _ = interrupt.recv() => tracing::warn!("stopping at once: the logs will be recovered at the next start"),
    }
    Ok(())
}
