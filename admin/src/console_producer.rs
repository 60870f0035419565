//! `kafka-console-producer`: each line of standard input becomes a record.

mod line_reader;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use kafka_wire::compression::Compression;
use kafka_wire::valid_topic_name;
use tokio::sync::mpsc;

use crate::client::{ClientConfig, Cluster};
use crate::options::{OptionSpec, Options, Tool, UsageError, flag, value, value_or};
use crate::producer::{Producer, ProducerConfig, ProducerRecord};
use crate::terminal::{Level, log};
use line_reader::{LineError, LineFormat, LineReader};

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "console-producer",
    about: "This tool helps to read data from standard input and publish it to Kafka.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[OptionSpec] = &[
    value("topic", "topic", "REQUIRED: the topic to write to."),
    value(
        "bootstrap-server",
        "server to connect to",
        "REQUIRED: the brokers to ask first: host:port, separated by commas.",
    ),
    value(
        "broker-list",
        "broker-list",
        "DEPRECATED: the same as --bootstrap-server.",
    ),
    flag(
        "sync",
        "Wait for each record's acknowledgement before the next line is read.",
    ),
    value_or(
        "compression-codec",
        "gzip",
        "compression-codec",
        "none, gzip, snappy, lz4 or zstd; gzip if only named.",
    ),
    value(
        "batch-size",
        "size",
        "The size of a batch in bytes. Default: 16384.",
    ),
    value(
        "message-send-max-retries",
        "number",
        "How often a batch is sent again. Default: as often as delivery.timeout.ms, two minutes, allows.",
    ),
    value(
        "retry-backoff-ms",
        "ms",
        "How long to rest before a batch is sent again. Default: 100.",
    ),
    value(
        "timeout",
        "timeout_ms",
        "How long a batch that is not full waits for more lines. Default: 1000.",
    ),
    value(
        "request-required-acks",
        "acks",
        "Who must have a record: all or -1, 1 (the leader), 0 (nobody). Default: -1.",
    ),
    value(
        "request-timeout-ms",
        "ms",
        "How long a broker may take to acknowledge. Default: 1500.",
    ),
    value(
        "metadata-expiry-ms",
        "ms",
        "How often partitions and leaders are asked for. Default: 300000.",
    ),
    value(
        "max-block-ms",
        "ms",
        "How long the topic may be missing. Default: 60000.",
    ),
    value(
        "max-memory-bytes",
        "bytes",
        "How much waits to be sent at most. Default: 33554432.",
    ),
    value(
        "max-partition-memory-bytes",
        "bytes",
        "The same as --batch-size, and goes before it.",
    ),
    value(
        "line-reader",
        "reader_class",
        "Taken for compatibility: lines are read as Kafka's own reader does.",
    ),
    value(
        "socket-buffer-size",
        "size",
        "Taken for compatibility; the system sizes the buffer.",
    ),
    value(
        "property",
        "prop",
        "How lines are read: parse.key, key.separator, parse.headers, headers.delimiter, headers.separator, headers.key.separator, null.marker, ignore.error.",
    ),
    value(
        "reader-config",
        "config file",
        "A property file for the same; --property goes before it.",
    ),
    value(
        "producer-property",
        "producer_prop",
        "A property of the producer: acks, batch.size, linger.ms, compression.type, client.id, ...",
    ),
    value(
        "producer.config",
        "config file",
        "A property file for the same; --producer-property goes before it.",
    ),
];

/// How many records may wait between the reader and the producer.
const QUEUE_LENGTH: usize = 1024;

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        let settings = match Settings::new(&options) {
            Ok(settings) => settings,
            Err(error) => return options.usage(&error),
        };
        let cluster = Cluster::new(settings.client);
        let max_line_bytes = settings.producer.max_request_size;
        let producer = Producer::new(cluster, &settings.topic, settings.producer);
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        let format = settings.lines;
        let reading =
            tokio::task::spawn_blocking(move || read_lines(format, max_line_bytes, &sender));
        let failed = match producer.run(receiver).await {
            Ok(failed) => failed,
            Err(error) => {
                log(
                    Level::Error,
                    &error.to_string(),
                    "kafka.tools.ConsoleProducer",
                );
                return ExitCode::FAILURE;
            }
        };
        // The reader is through, or the producer would not be.
        match reading.await {
            Ok(Ok(0)) if failed == 0 => ExitCode::SUCCESS,
            Ok(Ok(_)) => ExitCode::FAILURE,
            Ok(Err(error)) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
            Err(_) => ExitCode::FAILURE,
        }
    })
}

/// Reads standard input to its end, or until nobody wants more. Returns how many lines were too long to be read.
fn read_lines(
    format: LineFormat,
    max_line_bytes: usize,
    sender: &mpsc::Sender<ProducerRecord>,
) -> Result<u64, LineError> {
    let stdin = std::io::stdin();
    let prompt = stdin.is_terminal() && std::io::stdout().is_terminal();
    let mut lines = LineReader::new(stdin.lock(), format, max_line_bytes);
    let mut too_long = 0;
    loop {
        if prompt {
            print!(">");
            // A terminal that is gone shows no prompt; the input is read all the same.
            let _ = std::io::stdout().flush();
        }
        match lines.next() {
            None => return Ok(too_long),
            Some(Ok(record)) => {
                if sender.blocking_send(record).is_err() {
                    return Ok(too_long);
                }
            }
            Some(Err(error @ LineError::TooLong { .. })) => {
                too_long += 1;
                log(
                    Level::Error,
                    &error.to_string(),
                    "kafka.tools.ConsoleProducer",
                );
            }
            Some(Err(error)) => return Err(error),
        }
    }
}

/// What the options come to.
struct Settings {
    topic: String,
    client: ClientConfig,
    producer: ProducerConfig,
    lines: LineFormat,
}

impl Settings {
    fn new(options: &Options) -> Result<Self, UsageError> {
        options.require(&["topic"])?;
        let topic = options.value("topic")?.unwrap_or_default().to_owned();
        valid_topic_name(&topic).map_err(|error| UsageError(error.to_string()))?;
        let servers = options
            .value("bootstrap-server")?
            .or(options.value("broker-list")?);
        let servers = servers.ok_or_else(|| {
            UsageError("Missing required option(s) [bootstrap-server]".to_owned())
        })?;

        let mut properties = options.properties("producer.config")?;
        properties.extend(options.pairs("producer-property"));
        for (option, key) in OPTION_PROPERTIES {
            if let Some(value) = options.value(option)? {
                properties.insert(key.to_owned(), value.to_owned());
            }
        }
        let producer = producer_config(&properties, options.has("sync"))?;
        properties.remove("request.timeout.ms");
        let client = ClientConfig::new(servers, "console-producer", &properties)?;

        let mut reader = options.properties("reader-config")?;
        reader.extend(options.pairs("property"));
        let lines = LineFormat::new(&reader)?;
        Ok(Self {
            topic,
            client,
            producer,
            lines,
        })
    }
}

/// Options that are another way to give the producer a property; the later of two goes before the earlier.
const OPTION_PROPERTIES: [(&str, &str); 11] = [
    ("compression-codec", "compression.type"),
    ("batch-size", "batch.size"),
    ("max-partition-memory-bytes", "batch.size"),
    ("message-send-max-retries", "retries"),
    ("retry-backoff-ms", "retry.backoff.ms"),
    ("timeout", "linger.ms"),
    ("request-required-acks", "acks"),
    ("request-timeout-ms", "request.timeout.ms"),
    ("metadata-expiry-ms", "metadata.max.age.ms"),
    ("max-block-ms", "max.block.ms"),
    ("max-memory-bytes", "buffer.memory"),
];

fn producer_config(
    properties: &BTreeMap<String, String>,
    sync: bool,
) -> Result<ProducerConfig, UsageError> {
    let acks = match properties.get("acks").map(|acks| acks.trim()) {
        None | Some("all" | "-1") => -1,
        Some("0") => 0,
        Some("1") => 1,
        Some(other) => return Err(invalid("acks", other, "all, -1, 0 or 1")),
    };
    let compression = match properties.get("compression.type") {
        None => Compression::None,
        Some(name) => name
            .trim()
            .parse()
            .map_err(|_| invalid("compression.type", name, "none, gzip, snappy, lz4 or zstd"))?,
    };
    let millis = |key: &str, default: u64| {
        number(properties, key).map(|ms| Duration::from_millis(ms.unwrap_or(default)))
    };
    Ok(ProducerConfig {
        acks,
        batch_size: number(properties, "batch.size")?.unwrap_or(16_384).max(1),
        linger: millis("linger.ms", 1000)?,
        compression,
        request_timeout: millis("request.timeout.ms", 1500)?.max(Duration::from_millis(1)),
        retries: number(properties, "retries")?,
        delivery_timeout: millis("delivery.timeout.ms", 120_000)?,
        buffer_memory: number(properties, "buffer.memory")?
            .unwrap_or(32 << 20)
            .max(1),
        max_request_size: number(properties, "max.request.size")?
            .unwrap_or(1 << 20)
            .max(1),
        metadata_max_age: millis("metadata.max.age.ms", 300_000)?,
        max_block: millis("max.block.ms", 60_000)?,
        sync,
    })
}

fn number<T: FromStr>(
    properties: &BTreeMap<String, String>,
    key: &str,
) -> Result<Option<T>, UsageError> {
    let parse = |text: &String| {
        text.trim()
            .parse()
            .map_err(|_| invalid(key, text, "a number that is not negative"))
    };
    properties.get(key).map(parse).transpose()
}

fn invalid(key: &str, value: &str, allowed: &str) -> UsageError {
    UsageError(format!(
        "Invalid value {value} for configuration {key}: must be {allowed}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    fn settings(line: &[&str]) -> Result<Settings, String> {
        let mut arguments = vec!["--topic", "t", "--bootstrap-server", "localhost:9092"];
        arguments.extend(line);
        Settings::new(&options(&TOOL, &arguments)).map_err(|error| error.0)
    }

    #[test]
    fn the_defaults_are_kafkas() {
        let producer = settings(&[]).unwrap().producer;
        assert_eq!(
            (producer.acks, producer.batch_size, producer.buffer_memory),
            (-1, 16_384, 33_554_432)
        );
        assert_eq!(producer.linger, Duration::from_millis(1000));
        assert_eq!(producer.request_timeout, Duration::from_millis(1500));
        assert_eq!(producer.compression, Compression::None);
        assert_eq!(producer.retries, None);
    }

    #[test]
    fn options_go_before_properties() {
        let line = [
            "--producer-property",
            "acks=1",
            "--producer-property",
            "linger.ms=5",
            "--request-required-acks",
            "0",
        ];
        let producer = settings(&line).unwrap().producer;
        assert_eq!(
            (producer.acks, producer.linger),
            (0, Duration::from_millis(5))
        );
        let both = [
            "--max-partition-memory-bytes",
            "2",
            "--batch-size",
            "1",
            "--compression-codec",
        ];
        let producer = settings(&both).unwrap().producer;
        assert_eq!(
            (producer.batch_size, producer.compression),
            (2, Compression::Gzip)
        );
    }

    #[test]
    fn mistakes_name_key_and_value() {
        let said = |line: &[&str]| settings(line).err().unwrap_or_default();
        assert_eq!(
            said(&["--request-required-acks", "2"]),
            "Invalid value 2 for configuration acks: must be all, -1, 0 or 1"
        );
        assert!(
            said(&["--compression-codec", "rar"])
                .starts_with("Invalid value rar for configuration compression.type")
        );
        assert!(
            said(&["--batch-size", "-5"])
                .starts_with("Invalid value -5 for configuration batch.size")
        );
        assert!(
            said(&["--timeout", "soon"])
                .starts_with("Invalid value soon for configuration linger.ms")
        );
        let without_topic = Settings::new(&options(&TOOL, &["--bootstrap-server", "a:1"]))
            .err()
            .unwrap();
        assert_eq!(without_topic.0, "Missing required argument \"[topic]\"");
    }
}
