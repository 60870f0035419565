//! `kafka-console-consumer`: writes the messages of topics to standard output.

use std::future::Future;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use kafka_wire::valid_topic_name;
use regex::Regex;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{ClientConfig, Cluster};
use crate::consumer::formatter::{FormatError, Formatter, Message};
use crate::consumer::{ConsumeError, Consumer, ConsumerConfig, Ended, Start, Topics};
use crate::options::{OptionSpec, Options, Tool, UsageError, flag, value};
use crate::terminal::{Level, log, print_line};

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "console-consumer",
    about: "This tool helps to read data from Kafka topics and outputs it to standard output.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[OptionSpec] = &[
    value(
        "bootstrap-server",
        "server to connect to",
        "REQUIRED: the brokers to ask first: host:port, separated by commas.",
    ),
    value("topic", "topic", "The topic to read."),
    value(
        "include",
        "Java regex (String)",
        "A regular expression: all topics whose whole name matches are read.",
    ),
    value(
        "whitelist",
        "Java regex (String)",
        "DEPRECATED: the same as --include.",
    ),
    value(
        "partition",
        "partition",
        "The one partition to read, from its end unless --offset says otherwise.",
    ),
    value(
        "offset",
        "consume offset",
        "Where to begin in the partition: an offset, earliest or latest. Default: latest.",
    ),
    flag(
        "from-beginning",
        "Begin with the oldest messages rather than behind the newest.",
    ),
    value(
        "max-messages",
        "num_messages",
        "End after so many messages.",
    ),
    value(
        "timeout-ms",
        "timeout_ms",
        "End when no message has come for so long.",
    ),
    value(
        "group",
        "consumer group id",
        "Taken for compatibility: all partitions are read, and nothing is committed.",
    ),
    value(
        "isolation-level",
        "level",
        "read_committed leaves out what transactions did not commit. Default: read_uncommitted.",
    ),
    value(
        "formatter",
        "class",
        "DefaultMessageFormatter or NoOpMessageFormatter.",
    ),
    value(
        "property",
        "prop",
        "How messages look: print.timestamp, print.partition, print.offset, print.epoch, print.headers, print.key, print.value, key.separator, line.separator, headers.separator, null.literal, key.deserializer, value.deserializer, headers.deserializer.",
    ),
    value(
        "formatter-config",
        "config file",
        "A property file for the same; --property goes before it.",
    ),
    value("key-deserializer", "class", "The deserializer of keys."),
    value("value-deserializer", "class", "The deserializer of values."),
    flag(
        "skip-message-on-error",
        "Pass over a message that can not be shown instead of ending.",
    ),
    flag("enable-systest-events", "Say when the consumer has ended."),
    value(
        "consumer-property",
        "consumer_prop",
        "A property of the consumer: auto.offset.reset, client.id, isolation.level, ...",
    ),
    value(
        "consumer.config",
        "config file",
        "A property file for the same; --consumer-property goes before it.",
    ),
];

const LOGGER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// How a run ended, beside the messages.
enum Outcome {
    Read(Result<Ended, ConsumeError>),
    /// By a signal, whose number this is.
    Signal(u8),
    /// A message could not be shown.
    Unshown(FormatError),
}

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        let settings = match Settings::new(&options) {
            Ok(settings) => settings,
            Err(error) => return options.usage(&error),
        };
        if options.has("group") {
            let message = "Consumer groups are not there yet: all partitions are read, and nothing is committed";
            log(Level::Warn, message, LOGGER);
        }
        let exit = consume(settings, options.has("skip-message-on-error")).await;
        if options.has("enable-systest-events") {
            print_line("shutdown_complete");
        }
        exit
    })
}

async fn consume(settings: Settings, skip_on_error: bool) -> ExitCode {
    let mut consumer = Consumer::new(Cluster::new(settings.client), settings.consumer);
    let output = std::cell::RefCell::new(BufWriter::new(std::io::stdout()));
    let mut unshown = None;
    let show = |message: &Message<'_>| match settings
        .formatter
        .write(message, &mut *output.borrow_mut())
    {
        Ok(()) => ControlFlow::Continue(()),
        Err(error @ FormatError::Size { .. }) if skip_on_error => {
            log(
                Level::Error,
                &format!("Error processing message, skipping this message: {error}"),
                LOGGER,
            );
            ControlFlow::Continue(())
        }
        Err(error) => {
            unshown = Some(error);
            ControlFlow::Break(())
        }
    };
    let pause = || match output.borrow_mut().flush() {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let ended = tokio::select! {
        ended = consumer.run(show, pause) => Outcome::Read(ended),
        number = stop_signal() => Outcome::Signal(number),
    };
    let ended = match (ended, unshown) {
        (Outcome::Read(Ok(Ended::Stopped)), Some(error @ FormatError::Size { .. })) => {
            Outcome::Unshown(error)
        }
        (ended, _) => ended,
    };
    let ended = match (output.borrow_mut().flush(), ended) {
        (Err(_), Outcome::Read(Ok(_))) => Outcome::Read(Ok(Ended::Stopped)),
        (_, ended) => ended,
    };
    let exit = match ended {
        Outcome::Read(Ok(Ended::Enough)) => ExitCode::SUCCESS,
        Outcome::Read(Ok(Ended::Timeout)) => {
            let message = "Error processing message, terminating consumer process: \
                           org.apache.kafka.common.errors.TimeoutException";
            log(Level::Error, message, LOGGER);
            ExitCode::SUCCESS
        }
        Outcome::Read(Ok(Ended::Stopped)) => {
            eprintln!("Unable to write to standard out, closing consumer.");
            ExitCode::SUCCESS
        }
        Outcome::Read(Err(error)) => {
            log(
                Level::Error,
                &format!("Error processing message, terminating consumer process: {error}"),
                LOGGER,
            );
            ExitCode::FAILURE
        }
        Outcome::Unshown(error) => {
            log(
                Level::Error,
                &format!("Unknown error when running consumer: {error}"),
                LOGGER,
            );
            ExitCode::FAILURE
        }
        // What a shell sees of a program that a signal ended.
        Outcome::Signal(number) => ExitCode::from(128 + number),
    };
    eprintln!("Processed a total of {} messages", consumer.messages());
    exit
}

/// Waits for SIGINT or SIGTERM; the number of the one that came.
async fn stop_signal() -> u8 {
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        },
        // Without handlers a signal ends the program by itself.
        _ => std::future::pending().await,
    }
}

/// What the options come to.
struct Settings {
    client: ClientConfig,
    consumer: ConsumerConfig,
    formatter: Formatter,
}

impl Settings {
    fn new(options: &Options) -> Result<Self, UsageError> {
        let usage = |text: &str| UsageError(text.to_owned());
        let include = options.value("include")?.or(options.value("whitelist")?);
        let topics = match (options.value("topic")?, include) {
            (Some(topic), None) => {
                valid_topic_name(topic).map_err(|error| UsageError(error.to_string()))?;
                Topics::Named(topic.to_owned())
            }
            (None, Some(pattern)) => {
                let whole = format!("^(?:{pattern})$");
                Topics::Matching(
                    Regex::new(&whole)
                        .map_err(|_| UsageError(format!("{pattern} is an invalid regex.")))?,
                )
            }
            _ => return Err(usage("Exactly one of --include/--topic is required. ")),
        };
        let partition: Option<i32> = options.number("partition")?;
        let from_beginning = options.has("from-beginning");
        if partition.is_some() {
            if !options.has("topic") {
                return Err(usage("The topic is required when partition is specified."));
            }
            if from_beginning && options.has("offset") {
                return Err(usage(
                    "Options from-beginning and offset cannot be specified together.",
                ));
            }
            if options.has("group") {
                return Err(usage(
                    "Options group and partition cannot be specified together.",
                ));
            }
        } else if options.has("offset") {
            return Err(usage("The partition is required when offset is specified."));
        }
        options.require(&["bootstrap-server"])?;

        let mut properties = options.properties("consumer.config")?;
        properties.extend(options.pairs("consumer-property"));
        let default = if from_beginning {
            Start::Earliest
        } else {
            Start::Latest
        };
        let reset = match properties
            .get("auto.offset.reset")
            .map(|reset| reset.trim())
        {
            None => default,
            Some("earliest") => Start::Earliest,
            Some(other) if from_beginning => {
                return Err(UsageError(format!(
                    "Can't simultaneously specify --from-beginning and 'auto.offset.reset={other}', please remove one option"
                )));
            }
            Some("latest") => Start::Latest,
            Some(other) => {
                return Err(UsageError(format!(
                    "Invalid value {other} for configuration auto.offset.reset: must be earliest or latest"
                )));
            }
        };
        let start = match options.value("offset")? {
            None if partition.is_some() && !from_beginning => Start::Latest,
            None => reset,
            Some(text) => parse_offset(text)?,
        };
        let level = options
            .value("isolation-level")?
            .or(properties.get("isolation.level").map(String::as_str));
        let read_committed = match level.unwrap_or("read_uncommitted") {
            "read_committed" => true,
            "read_uncommitted" => false,
            other => {
                return Err(UsageError(format!(
                    "Invalid value {other} for configuration isolation.level: must be read_committed or read_uncommitted"
                )));
            }
        };
        let max_messages: Option<i64> = options.number("max-messages")?;
        let timeout_ms: Option<i64> = options.number("timeout-ms")?;
        let consumer = ConsumerConfig {
            topics,
            partition,
            start,
            reset,
            // Negative numbers stand for "no end".
            max_messages: max_messages.and_then(|most| u64::try_from(most).ok()),
            timeout: timeout_ms
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
            read_committed,
            metadata_max_age: Duration::from_secs(300),
        };

        let mut look = options.properties("formatter-config")?;
        for (option, key) in [
            ("key-deserializer", "key.deserializer"),
            ("value-deserializer", "value.deserializer"),
        ] {
            if let Some(class) = options.value(option)?.filter(|class| !class.is_empty()) {
                look.insert(key.to_owned(), class.to_owned());
            }
        }
        look.extend(options.pairs("property"));
        let formatter = Formatter::new(options.value("formatter")?, &look)?;
        let servers = options.value("bootstrap-server")?.unwrap_or_default();
        Ok(Self {
            client: ClientConfig::new(servers, "console-consumer", &properties)?,
            consumer,
            formatter,
        })
    }
}

fn parse_offset(text: &str) -> Result<Start, UsageError> {
    match text.to_ascii_lowercase().as_str() {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        number => number.parse().ok().filter(|offset| *offset >= 0).map(Start::Offset).ok_or_else(|| {
            UsageError(format!(
                "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    fn settings(line: &[&str]) -> Result<ConsumerConfig, String> {
        let mut arguments = vec!["--bootstrap-server", "localhost:9092"];
        arguments.extend(line);
        Settings::new(&options(&TOOL, &arguments))
            .map(|settings| settings.consumer)
            .map_err(|error| error.0)
    }

    #[test]
    fn reading_begins_where_the_options_say() {
        let start = |line: &[&str]| settings(line).map(|config| config.start);
        assert_eq!(start(&["--topic", "t"]), Ok(Start::Latest));
        assert_eq!(
            start(&["--topic", "t", "--from-beginning"]),
            Ok(Start::Earliest)
        );
        assert_eq!(
            start(&["--topic", "t", "--partition", "0"]),
            Ok(Start::Latest)
        );
        assert_eq!(
            start(&["--topic", "t", "--partition", "0", "--from-beginning"]),
            Ok(Start::Earliest)
        );
        assert_eq!(
            start(&["--topic", "t", "--partition", "0", "--offset", "7"]),
            Ok(Start::Offset(7))
        );
        assert_eq!(
            start(&["--topic", "t", "--partition", "0", "--offset", "EARLIEST"]),
            Ok(Start::Earliest)
        );
        let reset = [
            "--topic",
            "t",
            "--consumer-property",
            "auto.offset.reset=earliest",
        ];
        assert_eq!(start(&reset), Ok(Start::Earliest));
    }

    #[test]
    fn mistakes_are_said_in_kafkas_words() {
        let said = |line: &[&str]| settings(line).unwrap_err();
        assert_eq!(said(&[]), "Exactly one of --include/--topic is required. ");
        assert_eq!(
            said(&["--topic", "t", "--offset", "1"]),
            "The partition is required when offset is specified."
        );
        assert_eq!(
            said(&["--include", "t", "--partition", "1"]),
            "The topic is required when partition is specified."
        );
        assert!(
            said(&["--topic", "t", "--partition", "1", "--offset", "-1"])
                .contains("offset value '-1' is incorrect")
        );
        let both = [
            "--topic",
            "t",
            "--from-beginning",
            "--consumer-property",
            "auto.offset.reset=latest",
        ];
        assert!(said(&both).starts_with("Can't simultaneously specify"));
        assert!(
            said(&["--topic", "t", "--isolation-level", "none"]).contains("must be read_committed")
        );
    }

    #[test]
    fn negative_bounds_are_none() {
        let config =
            settings(&["--topic", "t", "--max-messages", "-1", "--timeout-ms", "-1"]).unwrap();
        assert_eq!((config.max_messages, config.timeout), (None, None));
        let config =
            settings(&["--topic", "t", "--max-messages", "3", "--timeout-ms", "5"]).unwrap();
        assert_eq!(
            (config.max_messages, config.timeout),
            (Some(3), Some(Duration::from_millis(5)))
        );
    }
}
