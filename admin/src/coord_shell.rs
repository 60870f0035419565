//! `coord-shell`, Kafka's `zookeeper-shell`: ZooKeeper's own shell, for coord or Apache ZooKeeper.
//!
//! `coord-shell HOST:PORT[,HOST:PORT…][/chroot] [command]` does one command, or without one reads commands until `quit`.
//! What is printed, and where, is as ZooKeeper's shell prints it. The `zookeeper-client` crate does the talking.

mod commands;
mod error;
mod input;
mod perform;
mod print;
mod quota;
mod session;
mod words;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use commands::Command;
use error::ShellError;
use input::Input;
use session::{Events, Session};
use words::Arguments;

use crate::options::VERSION;
use crate::terminal::{print, print_line};

/// What it is for, in one sentence.
pub(crate) const ABOUT: &str = "This tool reads and writes the znodes of coord or ZooKeeper.";

/// Lines that `history` shows.
const HISTORY: usize = 11;

/// Runs the tool with what stands behind its name.
pub(crate) async fn run(arguments: Vec<String>) -> ExitCode {
    let (servers, command) = match arguments.split_first() {
        Some((option, _)) if option == "--version" => {
            println!("{VERSION}");
            return ExitCode::SUCCESS;
        }
        Some((servers, command)) if !servers.starts_with('-') => (servers, command),
        _ => {
            eprint!(
                "{ABOUT}\nUSAGE: coord-shell host:port[,host:port...][/chroot] [command]\n{}",
                commands::help()
            );
            return ExitCode::FAILURE;
        }
    };
    if let Some(option) = command.first().filter(|word| word.starts_with('-')) {
        eprintln!(
            "{option} is not supported here: name the servers' plaintext port, then a command"
        );
        return ExitCode::FAILURE;
    }
    print_line(&format!("Connecting to {servers}"));
    let exit_code = match command {
        [] => interact(servers).await,
        command => once(servers, command).await,
    };
    ExitCode::from(exit_code)
}

/// Does one command.
async fn once(servers: &str, words: &[String]) -> u8 {
    let events = Events::new(Box::new(|text| print(&text)));
    let mut shell = Shell::new(servers, events);
    let exit_code = match shell.connect(servers).await {
        Ok(()) => shell.execute(words).await,
        Err(error) => complain(&error),
    };
    // Whoever asked for one command does not wait for the event of its end.
    shell.events.shown.store(false, Relaxed);
    shell.close().await;
    exit_code
}

/// Does commands until there are no more; gives back how the last one ended.
async fn interact(servers: &str) -> u8 {
    let (mut input, printer) = Input::open();
    let mut shell = Shell::new(servers, Events::new(printer));
    print_line("Welcome to ZooKeeper!");
    let mut exit_code = match shell.connect(servers).await {
        Ok(()) => 0,
        Err(error) => complain(&error),
    };
    while let Some(line) = input.next(shell.prompt()).await {
        if line.trim().is_empty() {
            continue;
        }
        let words = match words::split(&line) {
            Ok(words) => words,
            Err(error) => {
                exit_code = complain(&error);
                continue;
            }
        };
        shell.history.push(line);
        if matches!(words[0].as_str(), "quit" | "exit") {
            break;
        }
        exit_code = shell.execute(&words).await;
    }
    shell.close().await;
    exit_code
}

fn complain(error: &ShellError) -> u8 {
    if matches!(error, ShellError::CommandNotFound(_)) {
        eprint!("{}", commands::help());
    }
    eprintln!("{error}");
    error.exit_code()
}

struct Shell {
    servers: String,
    session: Option<Session>,
    events: Arc<Events>,
    /// The lines so far, the one that is being done last.
    history: Vec<String>,
}

impl Shell {
    fn new(servers: &str, events: Arc<Events>) -> Shell {
        Shell {
            servers: servers.to_owned(),
            session: None,
            events,
            history: Vec::new(),
        }
    }

    fn prompt(&self) -> String {
        let state = self.session.as_ref().map_or("CLOSED", Session::state);
        format!("[zk: {}({state}) {}] ", self.servers, self.history.len())
    }

    async fn connect(&mut self, servers: &str) -> Result<(), ShellError> {
        self.close().await;
        self.servers = servers.to_owned();
        self.session = Some(Session::connect(servers, self.events.clone()).await?);
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Does a command, and tells what it is to exit with.
    async fn execute(&mut self, words: &[String]) -> u8 {
        match self.perform(words).await {
            Ok(()) => 0,
            Err(error) => complain(&error),
        }
    }

    async fn perform(&mut self, words: &[String]) -> Result<(), ShellError> {
        let (name, words) = words
            .split_first()
            .ok_or_else(|| ShellError::Usage("No command entered".to_owned()))?;
        let mut command = Command::named(name)?;
        let mut arguments = command.parse(words)?;
        if command.name == "redo" {
            (command, arguments) = self.redone(&arguments)?;
        }
        let argument = arguments.positional().first().map(String::as_str);
        match command.name {
            "help" => print(&commands::help()),
            "history" => self.print_history(),
            "printwatches" => match argument {
                Some(wanted) => self.events.shown.store(wanted == "on", Relaxed),
                None => {
                    let shown = self.events.shown.load(Relaxed);
                    print_line(&format!(
                        "printwatches is {}",
                        if shown { "on" } else { "off" }
                    ));
                }
            },
            "connect" => {
                let servers = argument.unwrap_or(&self.servers).to_owned();
                return self.connect(&servers).await;
            }
            "close" => self.close().await,
            "quit" | "exit" => {}
            _ => {
                let session = self.session.as_mut().filter(|session| !session.is_over());
                let session = session.ok_or(ShellError::NotConnected)?;
                return perform::perform(session, &command, &arguments).await;
            }
        }
        Ok(())
    }

    /// The command of an earlier line.
    fn redone(&mut self, arguments: &Arguments) -> Result<(Command, Arguments), ShellError> {
        let refuse = |why: &str| ShellError::Usage(why.to_owned());
        let number = arguments.positional().first().and_then(|n| n.parse().ok());
        let last = self.history.len().saturating_sub(1);
        let line = number
            .filter(|n: &usize| *n < last)
            .and_then(|n| self.history.get(n))
            .ok_or_else(|| refuse("Command index out of range"))?
            .clone();
        let words = words::split(&line)?;
        let command = Command::named(&words[0])?;
        if command.name == "redo" {
            return Err(refuse("No redoing redos"));
        }
        let arguments = command.parse(&words[1..])?;
        self.history[last] = line;
        Ok((command, arguments))
    }

    fn print_history(&self) {
        let first = self.history.len().saturating_sub(HISTORY);
        for (n, line) in self.history.iter().enumerate().skip(first) {
            print_line(&format!("{n} - {line}"));
        }
    }
}
