//! The `coord` program: see the library of the same name.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use coord::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    if !filter.contains("openraft") {
        // What it finds worth a word is said in this program's terms by those who use it; it tells of a member that is
        // away twenty times a second.
        filter += ",openraft=off";
    }
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    // A task that panics takes along what it held, and the rest of this member would stand in the way of the others.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    match coord::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coord: {error:#}");
            ExitCode::FAILURE
        }
    }
}
