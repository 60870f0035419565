//! `admin`: Kafka's command line tools, `kafka-topics` and its siblings, and `coord-shell`, its `zookeeper-shell`; one
//! file each.
//!
//! Options go in, Kafka's own lines come out, with Kafka's exit codes and on Kafka's streams: what a tutorial pastes
//! works unchanged. A tool is named by the first argument (`admin topics …`) or by the name that the program is
//! called by (`kafka-topics`, `kafka-topics.sh`).
//!
//! Kafka's tools reach brokers through the Kafka protocol only, so they work with Apache Kafka too, by a small client of
//! their own ([`client`]) rather than by librdkafka: the console producer must split a batch that a broker refuses as
//! too large, which librdkafka does not; and the program stays one static binary without a C client in it.
//!
//! `dump-log` alone looks into a broker's files; it only reads them.
//!
//! What must never be here: another look into a broker's files, a tool of Kafka's that looks into the coordination service, a
//! wait without a deadline, and a line of input that is dropped without a word.

mod client;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer;
mod coord_shell;
mod dump_log;
mod log_dirs;
mod options;
mod producer;
mod terminal;
mod topics;
mod utc;

use std::path::Path;
use std::process::ExitCode;

use options::{Options, Tool};

/// The tools, by the names that Kafka's scripts bear without `kafka-`.
const TOOLS: [Tool; 6] = [
    topics::TOOL,
    configs::TOOL,
    console_producer::TOOL,
    console_consumer::TOOL,
    dump_log::TOOL,
    log_dirs::TOOL,
];

/// The tool that is not Kafka's own, and the name that Kafka's distribution has for it.
const COORD_SHELL: [&str; 2] = ["coord-shell", "zookeeper-shell"];

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
        .map_or("", |name| name.strip_suffix(".sh").unwrap_or(name));
    let by_name = program.strip_prefix("kafka-").and_then(tool);
    let tool = match by_name {
        Some(tool) => tool,
        None if COORD_SHELL.contains(&program) => {
            return run(coord_shell::run(arguments.collect()));
        }
        None => match arguments.next() {
            Some(name) if name == "--version" => {
                println!("{}", options::VERSION);
                return ExitCode::SUCCESS;
            }
            Some(name) if COORD_SHELL.contains(&name.as_str()) => {
                return run(coord_shell::run(arguments.collect()));
            }
            name => match name.as_deref().and_then(tool) {
                Some(tool) => tool,
                None => return unknown_tool(name.as_deref()),
            },
        },
    };
    match Options::parse(&tool, arguments) {
        Ok(options) => run((tool.run)(options)),
        Err(exit) => exit,
    }
}

fn tool(name: &str) -> Option<Tool> {
    TOOLS.into_iter().find(|tool| tool.name == name)
}

fn unknown_tool(name: Option<&str>) -> ExitCode {
    match name {
        Some(name) if !name.starts_with('-') => eprintln!("There is no tool {name}."),
        _ => eprintln!("Kafka's command line tools: admin <tool> [options]"),
    }
    eprintln!("Tools:");
    for tool in &TOOLS {
        eprintln!("  {:18}{}", tool.name, tool.about);
    }
    eprintln!("  {:18}{}", COORD_SHELL[0], coord_shell::ABOUT);
    eprintln!("admin <tool> --help lists a tool's options.");
    ExitCode::FAILURE
}

/// Runs a tool to its end. Everything happens on one thread but the reading of standard input.
fn run(tool: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(tool);
    // A thread that still waits for standard input must not hold the program up.
    runtime.shutdown_background();
    exit
}
