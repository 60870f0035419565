//! The commands: their names, what they take, and the list that `help` shows.

use super::error::ShellError;
use super::words::{Arguments, OptionSpec, Takes};
use Takes::{Nothing, Value};

/// A command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What stands behind the name in the help.
    usage: &'static str,
    options: &'static [OptionSpec],
    /// The fewest arguments beside options.
    arguments: usize,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    options: &'static [OptionSpec],
    arguments: usize,
) -> Command {
    Command {
        name,
        usage,
        options,
        arguments,
    }
}

/// What each quota is named by.
const QUOTAS: [OptionSpec; 4] = [("n", Value), ("b", Value), ("N", Value), ("B", Value)];

/// All commands, by name.
pub(super) const COMMANDS: &[Command] = &[
    command(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        &[("m", Value)],
        1,
    ),
    command("addauth", "scheme auth", &[], 1),
    command("close", "", &[], 0),
    command(
        "config",
        "[-c] [-w] [-s]",
        &[("c", Nothing), ("w", Nothing), ("s", Nothing)],
        0,
    ),
    command("connect", "host:port", &[], 0),
    command(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        &[("s", Nothing), ("e", Nothing), ("c", Nothing), ("t", Value)],
        1,
    ),
    command("delete", "[-v version] path", &[("v", Value)], 1),
    command("deleteall", "path [-b batch size]", &[("b", Value)], 1),
    command(
        "delquota",
        "[-n|-b|-N|-B] path",
        &[
            ("n", Nothing),
            ("b", Nothing),
            ("N", Nothing),
            ("B", Nothing),
        ],
        1,
    ),
    command("exit", "", &[], 0),
    command(
        "get",
        "[-s] [-w] [-b] [-x] path",
        &[
            ("s", Nothing),
            ("w", Nothing),
            ("b", Nothing),
            ("x", Nothing),
        ],
        1,
    ),
    command("getAcl", "[-s] path", &[("s", Nothing)], 1),
    command("getAllChildrenNumber", "path", &[], 1),
    command("getEphemerals", "path", &[], 0),
    command("help", "", &[], 0),
    command("history", "", &[], 0),
    command("listquota", "path", &[], 1),
    command(
        "ls",
        "[-s] [-w] [-R] path",
        &[("s", Nothing), ("w", Nothing), ("R", Nothing)],
        1,
    ),
    command("printwatches", "on|off", &[], 0),
    command("quit", "", &[], 0),
    command(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | \
         [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        &[
            ("s", Nothing),
            ("v", Value),
            ("file", Value),
            ("members", Value),
            ("add", Value),
            ("remove", Value),
        ],
        0,
    ),
    command("redo", "cmdno", &[], 1),
    command(
        "removewatches",
        "path [-c|-d|-p|-r|-a] [-l]",
        &[
            ("c", Nothing),
            ("d", Nothing),
            ("p", Nothing),
            ("r", Nothing),
            ("a", Nothing),
            ("l", Nothing),
        ],
        1,
    ),
    command(
        "set",
        "path data [-s] [-v version] [-b]",
        &[("s", Nothing), ("v", Value), ("b", Nothing)],
        2,
    ),
    command(
        "setAcl",
        "[-s] [-v version] [-R] path acl",
        &[("s", Nothing), ("v", Value), ("R", Nothing)],
        2,
    ),
    command("setquota", "-n|-b|-N|-B val path", &QUOTAS, 1),
    command("stat", "[-w] path", &[("w", Nothing)], 1),
    command("sync", "path", &[], 1),
    command("version", "", &[], 0),
    command("whoami", "", &[], 0),
];

impl Command {
    /// The command of this name.
    pub(super) fn named(name: &str) -> Result<Command, ShellError> {
        let found = COMMANDS.iter().find(|command| command.name == name);
        found
            .copied()
            .ok_or_else(|| ShellError::CommandNotFound(name.to_owned()))
    }

    /// Sorts the words behind the command's name.
    pub(super) fn parse(&self, words: &[String]) -> Result<Arguments, ShellError> {
        let arguments = Arguments::parse(self.options, words)?;
        if arguments.positional().len() < self.arguments {
            return Err(self.misused());
        }
        Ok(arguments)
    }

    /// The error that shows how the command is used.
    pub(super) fn misused(&self) -> ShellError {
        ShellError::Usage(format!("{} {}", self.name, self.usage))
    }
}

/// A line for each command.
pub(super) fn help() -> String {
    let mut text = "coord-shell host:port[,host:port...][/chroot] [command]\n".to_owned();
    for Command { name, usage, .. } in COMMANDS {
        let line = format!("\t{name} {usage}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_in_order_and_say_how_they_are_used() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        let create = Command::named("create").unwrap();
        assert_eq!(
            create.parse(&[]).unwrap_err().to_string(),
            "create [-s] [-e] [-c] [-t ttl] path [data] [acl]"
        );
        assert_eq!(
            Command::named("mkdir").unwrap_err().to_string(),
            "Command not found: mkdir"
        );
        assert!(help().contains("\n\tls [-s] [-w] [-R] path\n"));
    }
}
