//! `kafka-log-dirs`: shows the brokers' log directories and what lies in them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use kafka_wire::ErrorCode;
use kafka_wire::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResult};

use crate::client::{ClientConfig, Cluster, ClusterError};
use crate::options::{OptionSpec, Options, Tool, UsageError, flag, value};
use crate::terminal::print_line;

/// The tool.
pub(crate) const TOOL: Tool = Tool {
    name: "log-dirs",
    about: "This tool helps to query log directory usage on the specified brokers.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[OptionSpec] = &[
    value(
        "bootstrap-server",
        "server to connect to",
        "REQUIRED: the brokers to ask first: host:port, separated by commas.",
    ),
    value("command-config", "file", "A property file for the client."),
    flag(
        "describe",
        "REQUIRED: Show the log directories of the brokers.",
    ),
    value(
        "topic-list",
        "t1,t2",
        "Only the partitions of these topics; of all, if it is left out.",
    ),
    value(
        "broker-list",
        "1,2",
        "Only these brokers; all of the cluster, if it is left out.",
    ),
];

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
enum LogDirsError {
    /// The cluster said no, or nothing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Brokers that are not in the cluster were asked for.
    #[error(
        "ERROR: The given brokers do not exist from --broker-list: {missing}. Current existent brokers: {known}"
    )]
    UnknownBrokers {
        /// Which ones.
        missing: String,
        /// Those that there are.
        known: String,
    },
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// All topics, if there is none.
    topics: BTreeSet<String>,
    /// All brokers, if there is none.
    brokers: BTreeSet<i32>,
}

impl Wanted {
    fn of(options: &Options) -> Result<Self, UsageError> {
        options.require(&["bootstrap-server", "describe"])?;
        let list = |name: &str| -> Result<Vec<String>, UsageError> {
            let names = options.value(name)?.unwrap_or_default().split(',');
            Ok(names
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(ToOwned::to_owned)
                .collect())
        };
        let broker = |id: String| {
            id.parse().map_err(|_| {
                UsageError(format!(
                    "Cannot parse argument '{id}' of option broker-list"
                ))
            })
        };
        Ok(Self {
            topics: list("topic-list")?.into_iter().collect(),
            brokers: list("broker-list")?
                .into_iter()
                .map(broker)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn run(options: Options) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(async move {
        let parsed = Wanted::of(&options).and_then(|wanted| Ok((wanted, config(&options)?)));
        let (wanted, config) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return options.usage(&error),
        };
        match describe(&mut Cluster::new(config), &wanted).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn config(options: &Options) -> Result<ClientConfig, UsageError> {
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    let properties = options.properties("command-config")?;
    ClientConfig::new(servers, "log-dirs-tool", &properties)
}

async fn describe(cluster: &mut Cluster, wanted: &Wanted) -> Result<(), LogDirsError> {
    cluster.metadata(Some(&[]), false).await?;
    let known: BTreeSet<i32> = cluster.broker_ids().collect();
    let missing = &wanted.brokers - &known;
    if !missing.is_empty() {
        return Err(LogDirsError::UnknownBrokers {
            missing: joined(&missing),
            known: joined(&known),
        });
    }
    let asked = match wanted.brokers.is_empty() {
        true => known,
        false => wanted.brokers.clone(),
    };
    print_line("Querying brokers for log directories information");
    let request = DescribeLogDirsRequest { topics: None };
    let mut answers = Vec::with_capacity(asked.len());
    for broker_id in &asked {
        let response = cluster.broker(*broker_id, &request).await?;
        if response.error_code != 0 {
            return Err(ClusterError::refused(response.error_code, None).into());
        }
        answers.push((*broker_id, response.results));
    }
    print_line(&format!(
        "Received log directory information from brokers {}",
        joined(&asked)
    ));
    print_line(&json(&answers, &wanted.topics));
    Ok(())
}

fn joined(ids: &BTreeSet<i32>) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// One line, with the fields in the order in which Kafka 3.9's tool prints them.
fn json(answers: &[(i32, Vec<DescribeLogDirsResult>)], topics: &BTreeSet<String>) -> String {
    let brokers = answers.iter().map(|(broker_id, directories)| {
        let directories = directories
            .iter()
            .map(|directory| directory_json(directory, topics));
        format!(
            r#"{{"broker":{broker_id},"logDirs":[{}]}}"#,
            commas(directories)
        )
    });
    format!(r#"{{"brokers":[{}],"version":1}}"#, commas(brokers))
}

fn directory_json(directory: &DescribeLogDirsResult, topics: &BTreeSet<String>) -> String {
    let partitions = directory
        .topics
        .iter()
        .filter(|topic| topics.is_empty() || topics.contains(&*topic.name))
        .flat_map(|topic| {
            topic.partitions.iter().map(|log| {
                let name = format!("{}-{}", topic.name, log.partition_index);
                format!(
                    r#"{{"partition":{},"size":{},"offsetLag":{},"isFuture":{}}}"#,
                    quoted(&name),
                    log.partition_size,
                    log.offset_lag,
                    log.is_future_key
                )
            })
        });
    format!(
        r#"{{"partitions":[{}],"error":{},"logDir":{}}}"#,
        commas(partitions),
        error_json(directory.error_code),
        quoted(&directory.log_dir)
    )
}

/// The class that Kafka's tool names: `KAFKA_STORAGE_ERROR` is `KafkaStorageException`.
fn error_json(code: i16) -> String {
    if code == 0 {
        return "null".to_owned();
    }
    let words = ErrorCode::from_code(code).name().to_lowercase();
    let mut class = String::from("org.apache.kafka.common.errors.");
    for word in words.trim_end_matches("_error").split('_') {
        let mut letters = word.chars();
        class.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        class.push_str(letters.as_str());
    }
    class.push_str("Exception");
    quoted(&class)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn commas(items: impl Iterator<Item = String>) -> String {
    let mut joined = String::new();
    for (index, item) in items.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(joined, "{comma}{item}");
    }
    joined
}

#[cfg(test)]
mod tests {
    use kafka_wire::ByteString;
    use kafka_wire::describe_log_dirs::{DescribeLogDirsPartition, DescribeLogDirsTopic};

    use super::*;

    #[test]
    fn is_printed_as_kafka_prints_it() {
        let topic = |name: &'static str, partition_index, is_future_key| DescribeLogDirsTopic {
            name: ByteString::from_static(name),
            partitions: vec![DescribeLogDirsPartition {
                partition_index,
                partition_size: 7,
                offset_lag: 0,
                is_future_key,
            }],
        };
        let good = DescribeLogDirsResult {
            log_dir: ByteString::from_static("/d/1"),
            topics: vec![topic("t", 0, false), topic("u", 3, true)],
            ..DescribeLogDirsResult::default()
        };
        let failed = DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError as i16,
            log_dir: ByteString::from_static("/d/2"),
            ..DescribeLogDirsResult::default()
        };
        let answers = [(1, vec![good, failed]), (2, vec![])];
        assert_eq!(
            json(&answers, &BTreeSet::new()),
            concat!(
                r#"{"brokers":[{"broker":1,"logDirs":[{"partitions":["#,
                r#"{"partition":"t-0","size":7,"offsetLag":0,"isFuture":false},"#,
                r#"{"partition":"u-3","size":7,"offsetLag":0,"isFuture":true}],"#,
                r#""error":null,"logDir":"/d/1"},"#,
                r#"{"partitions":[],"error":"org.apache.kafka.common.errors.KafkaStorageException","logDir":"/d/2"}]},"#,
                r#"{"broker":2,"logDirs":[]}],"version":1}"#
            )
        );
        let one = json(&answers, &BTreeSet::from(["u".to_owned()]));
        assert!(one.contains("u-3") && !one.contains("t-0"), "{one}");
    }
}
