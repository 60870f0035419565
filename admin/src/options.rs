//! Options as Kafka's tools take them: `--name value` or `--name=value`, in any order, abbreviated if that is unique.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What `--version` prints.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A tool: its name, its options, and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// The name of Kafka's script without `kafka-`.
    pub(crate) name: &'static str,
    /// What it is for, in one sentence.
    pub(crate) about: &'static str,
    /// Its options, without `help` and `version`, which all have.
    pub(crate) options: &'static [OptionSpec],
    /// Does it.
    pub(crate) run: fn(Options) -> Pin<Box<dyn Future<Output = ExitCode>>>,
}

/// How an option takes values.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    /// One value each time that it is named.
    Value,
    /// A value, or this one if none follows.
    ValueOr(&'static str),
}

/// One option.
#[derive(Clone, Copy)]
pub(crate) struct OptionSpec {
    name: &'static str,
    short: Option<char>,
    takes: Takes,
    /// What stands for the value in the help.
    placeholder: &'static str,
    help: &'static str,
}

impl OptionSpec {
    /// Its name of one letter.
    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }
}

/// An option that is there or not.
pub(crate) const fn flag(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        short: None,
        takes: Takes::Nothing,
        placeholder: "",
        help,
    }
}

/// An option with a value.
pub(crate) const fn value(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        short: None,
        takes: Takes::Value,
        placeholder,
        help,
    }
}

/// An option whose value may be left out.
pub(crate) const fn value_or(
    name: &'static str,
    missing: &'static str,
    placeholder: &'static str,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        short: None,
        takes: Takes::ValueOr(missing),
        placeholder,
        help,
    }
}

/// Options that can not be used as they are; the message is what the user sees first, before the list of options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// The options of one call.
pub(crate) struct Options {
    matches: ArgMatches,
    help: StyledStr,
}

impl Options {
    /// Reads the arguments that follow the tool's name. Answers help, version and mistakes itself.
    pub(crate) fn parse(
        tool: &Tool,
        arguments: impl Iterator<Item = String>,
    ) -> Result<Self, ExitCode> {
        let mut command = command(tool);
        let help = command.render_help();
        let arguments: Vec<OsString> = arguments.map(OsString::from).collect();
        if arguments.is_empty() {
            eprint!("{}\n{help}", tool.about);
            return Err(ExitCode::FAILURE);
        }
        match command.try_get_matches_from(arguments) {
            Ok(matches) if matches.get_flag("help") => {
                eprint!("{}\n{help}", tool.about);
                Err(ExitCode::FAILURE)
            }
            Ok(matches) if matches.get_flag("version") => {
                println!("{VERSION}");
                Err(ExitCode::SUCCESS)
            }
            Ok(matches) => Ok(Self { matches, help }),
            Err(error) => {
                eprint!("{}\n{help}", message(&error));
                Err(ExitCode::FAILURE)
            }
        }
    }

    /// The answer to a mistake: what is wrong, the list of options, exit code 1.
    pub(crate) fn usage(&self, error: &UsageError) -> ExitCode {
        eprint!("{error}\n{}", self.help);
        ExitCode::FAILURE
    }

    /// Whether the option is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(
            self.matches.value_source(name),
            Some(clap::parser::ValueSource::CommandLine)
        )
    }

    /// The option's value, if it is there.
    ///
    /// # Errors
    /// If it is there more than once.
    pub(crate) fn value(&self, name: &str) -> Result<Option<&str>, UsageError> {
        match self.values(name).as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(UsageError(format!(
                "Found multiple arguments for option {name}, but you asked for only one"
            ))),
        }
    }

    /// All values of the option.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.matches
            .get_many::<String>(name)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// The option's value as a number.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, UsageError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let number = value
            .parse()
            .map_err(|_| UsageError(format!("Cannot parse argument '{value}' of option {name}")))?;
        Ok(Some(number))
    }

    /// All values of the option as `key=value` pairs; the last of a key counts.
    pub(crate) fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let pair = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text.to_owned(), String::new()),
        };
        self.values(name).into_iter().map(pair).collect()
    }

    /// The file that the option names, read as Java's property syntax; empty if the option is not there.
    ///
    /// # Errors
    /// If the file can not be read.
    pub(crate) fn properties(&self, name: &str) -> Result<BTreeMap<String, String>, UsageError> {
        let Some(path) = self.value(name)? else {
            return Ok(BTreeMap::new());
        };
        let unreadable = |reason: String| {
            UsageError(format!(
                "Cannot read the file {path} of option {name}: {reason}"
            ))
        };
        let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let pairs = java_properties::read(file).map_err(|error| unreadable(error.to_string()))?;
        Ok(pairs.into_iter().collect())
    }

    /// Checks that the options are all there.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn require(&self, names: &[&str]) -> Result<(), UsageError> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => Err(UsageError(format!(
                "Missing required argument \"[{name}]\""
            ))),
            None => Ok(()),
        }
    }

    /// Checks that, if the option is there, none of the others is.
    ///
    /// # Errors
    /// The first of the others that is.
    pub(crate) fn exclude(&self, name: &str, others: &[&str]) -> Result<(), UsageError> {
        match others
            .iter()
            .find(|other| self.has(name) && self.has(other))
        {
            Some(other) => Err(UsageError(format!(
                "Option \"[{name}]\" can't be used with option \"[{other}]\""
            ))),
            None => Ok(()),
        }
    }
}

fn command(tool: &Tool) -> Command {
    let common = [
        flag("help", "Print usage information."),
        flag("version", "Display Kafka version."),
    ];
    let arguments = tool.options.iter().chain(&common).map(|option| {
        let argument = Arg::new(option.name)
            .long(option.name)
            .short(option.short)
            .help(option.help);
        match option.takes {
            Takes::Nothing => argument
                .action(ArgAction::SetTrue)
                .overrides_with(option.name),
            Takes::Value => argument
                .action(ArgAction::Append)
                .value_name(option.placeholder)
                .allow_negative_numbers(true),
            Takes::ValueOr(missing) => argument
                .action(ArgAction::Append)
                .value_name(option.placeholder)
                .num_args(0..=1)
                .default_missing_value(missing),
        }
    });
    Command::new(tool.name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .help_template("{options}\n")
        .args(arguments)
}

/// What is wrong, as Kafka's tools say it.
fn message(error: &clap::Error) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => return error.to_string(),
    };
    let name = argument
        .trim_start_matches('-')
        .split([' ', '='])
        .next()
        .unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => format!("{name} is not a recognized option"),
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("Option {name} requires an argument")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The options of a call, which must be sound.
    pub(crate) fn options(tool: &Tool, line: &[&str]) -> Options {
        let arguments = line.iter().map(ToString::to_string);
        Options::parse(tool, arguments).unwrap_or_else(|_| panic!("{line:?} is not understood"))
    }

    fn nothing(_: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
        Box::pin(async { ExitCode::SUCCESS })
    }

    const TOOL: Tool = Tool {
        name: "tool",
        about: "A tool.",
        options: &[
            flag("list", "Lists."),
            value("topic", "topic", "The topic."),
            value("topic-id", "id", "The id."),
            value("property", "prop", "A property."),
            value("acks", "acks", "The acks."),
            value_or("compression-codec", "gzip", "codec", "The codec."),
        ],
        run: nothing,
    };

    #[test]
    fn values_follow_or_are_joined() {
        let options = options(
            &TOOL,
            &[
                "--topic",
                "a",
                "--property=k=v=w",
                "--property",
                "l",
                "--acks",
                "-1",
            ],
        );
        assert_eq!(options.value("topic").unwrap(), Some("a"));
        assert_eq!(
            options.pairs("property"),
            BTreeMap::from([("k".into(), "v=w".into()), ("l".into(), "".into())])
        );
        assert_eq!(options.number::<i16>("acks").unwrap(), Some(-1));
        assert!(!options.has("list") && options.has("topic"));
        assert_eq!(options.value("topic-id").unwrap(), None);
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        assert!(options(&TOOL, &["--li"]).has("list"));
        assert_eq!(
            options(&TOOL, &["--topic-i", "x"])
                .value("topic-id")
                .unwrap(),
            Some("x")
        );
    }

    #[test]
    fn a_value_may_be_left_out_where_there_is_another() {
        assert_eq!(
            options(&TOOL, &["--compression-codec"])
                .value("compression-codec")
                .unwrap(),
            Some("gzip")
        );
        assert_eq!(
            options(&TOOL, &["--compression-codec", "lz4"])
                .value("compression-codec")
                .unwrap(),
            Some("lz4")
        );
    }

    #[test]
    fn mistakes_are_said_in_kafkas_words() {
        let said = |line: &[&str]| message(&command(&TOOL).try_get_matches_from(line).unwrap_err());
        assert_eq!(
            said(&["--unknown", "x"]),
            "unknown is not a recognized option"
        );
        assert_eq!(said(&["--topic"]), "Option topic requires an argument");
        let options = options(
            &TOOL,
            &["--topic", "a", "--topic", "b", "--list", "--acks", "many"],
        );
        assert!(
            options
                .value("topic")
                .unwrap_err()
                .0
                .contains("multiple arguments for option topic")
        );
        assert_eq!(
            options.require(&["topic", "topic-id"]).unwrap_err().0,
            "Missing required argument \"[topic-id]\""
        );
        assert_eq!(
            options.exclude("list", &["topic"]).unwrap_err().0,
            "Option \"[list]\" can't be used with option \"[topic]\""
        );
        assert_eq!(
            options.number::<i16>("acks").unwrap_err().0,
            "Cannot parse argument 'many' of option acks"
        );
    }
}
