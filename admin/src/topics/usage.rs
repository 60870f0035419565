//! The options of `kafka-topics`, and which of them go together.

use crate::options::{OptionSpec, Options, UsageError, flag, value};

pub(super) const OPTIONS: &[OptionSpec] = &[
    value(
        "bootstrap-server",
        "server to connect to",
        "REQUIRED: the brokers to ask first: host:port, separated by commas.",
    ),
    value("command-config", "file", "A property file for the client."),
    flag("list", "List all topics."),
    flag("create", "Create a topic."),
    flag("delete", "Delete a topic."),
    flag("alter", "Change the number of partitions of a topic."),
    flag("describe", "Show the partitions of topics."),
    value(
        "topic",
        "topic",
        "The topic; a regular expression, except for --create.",
    ),
    value("topic-id", "topic-id", "The id of the topic to describe."),
    value(
        "config",
        "name=value",
        "A configuration of the topic that is created. May be given several times.",
    ),
    value(
        "delete-config",
        "name",
        "Not supported with --bootstrap-server; see kafka-configs.",
    ),
    value(
        "partitions",
        "# of partitions",
        "The number of partitions; the cluster's default if it is left out.",
    ),
    value(
        "replication-factor",
        "factor",
        "The number of replicas; the cluster's default if it is left out.",
    ),
    value(
        "replica-assignment",
        "1:2,2:3,...",
        "The brokers of each partition, instead of numbers.",
    ),
    flag(
        "under-replicated-partitions",
        "With --describe: only partitions with replicas that are not in sync.",
    ),
    flag(
        "unavailable-partitions",
        "With --describe: only partitions without a live leader.",
    ),
    flag(
        "under-min-isr-partitions",
        "With --describe: only partitions with fewer replicas in sync than the minimum.",
    ),
    flag(
        "at-min-isr-partitions",
        "With --describe: only partitions with just the minimum of replicas in sync.",
    ),
    flag(
        "topics-with-overrides",
        "With --describe: only topics with configurations of their own.",
    ),
    flag(
        "if-exists",
        "With --alter, --delete, --describe: do nothing if there is no such topic.",
    ),
    flag(
        "if-not-exists",
        "With --create: do nothing if the topic exists.",
    ),
    flag(
        "exclude-internal",
        "With --list, --describe: leave out internal topics.",
    ),
    value(
        "partition-size-limit-per-response",
        "number",
        "Taken for compatibility; answers here are not paged.",
    ),
];

/// What the tool does; one of these must be named.
pub(super) const ACTIONS: [&str; 5] = ["list", "describe", "create", "alter", "delete"];
/// Which partitions a description may be cut down to.
pub(super) const REPORTS: [&str; 4] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
];

/// Which options go together; the rules are those of Kafka's tool.
pub(super) fn check(options: &Options) -> Result<(), UsageError> {
    if ACTIONS.iter().filter(|action| options.has(action)).count() != 1 {
        let message = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
        return Err(UsageError(message.to_owned()));
    }
    if !options.has("bootstrap-server") {
        return Err(UsageError(
            "--bootstrap-server must be specified".to_owned(),
        ));
    }
    if options.has("describe")
        && options.has("if-exists")
        && !options.has("topic")
        && !options.has("topic-id")
    {
        return Err(UsageError(
            "--topic or --topic-id is required to describe a topic".to_owned(),
        ));
    }
    if !options.has("list") && !options.has("describe") {
        options.require(&["topic"])?;
    }
    if options.has("alter") {
        if options.has("config") {
            let message = "Option combination \"[bootstrap-server],[config]\" can't be used with option \"[alter]\" \
                           (the kafka-configs CLI supports altering topic configs with a --bootstrap-server option)";
            return Err(UsageError(message.to_owned()));
        }
        options.require(&["partitions"])?;
    }
    let only_with = |name: &str, actions: &[&str]| {
        let others: Vec<&str> = ACTIONS
            .into_iter()
            .filter(|action| !actions.contains(action))
            .collect();
        options.exclude(name, &others)
    };
    only_with("config", &["create"])?;
    options.exclude("delete-config", &["bootstrap-server"])?;
    only_with("partitions", &["alter", "create"])?;
    only_with("replication-factor", &["create"])?;
    only_with("replica-assignment", &["alter", "create"])?;
    if options.has("create") {
        options.exclude("replica-assignment", &["partitions", "replication-factor"])?;
    }
    for report in REPORTS {
        options.exclude(report, &["topics-with-overrides"])?;
        only_with(report, &["describe"])?;
    }
    options.exclude("topics-with-overrides", &REPORTS)?;
    only_with("topics-with-overrides", &["describe"])?;
    only_with("if-exists", &["alter", "delete", "describe"])?;
    only_with("if-not-exists", &["create"])?;
    only_with("exclude-internal", &["list", "describe"])
}

#[cfg(test)]
mod tests {
    use super::super::TOOL;
    use super::*;
    use crate::options::tests::options;

    fn mistake(line: &[&str]) -> String {
        let mut arguments = vec!["--bootstrap-server", "localhost:9092"];
        arguments.extend(line);
        check(&options(&TOOL, &arguments)).map_or_else(|error| error.0, |()| "none".to_owned())
    }

    #[test]
    fn options_go_together_as_in_kafkas_tool() {
        assert!(
            mistake(&["--list", "--create"]).starts_with("Command must include exactly one action")
        );
        assert!(mistake(&["--topic", "t"]).starts_with("Command must include exactly one action"));
        assert_eq!(
            mistake(&["--create"]),
            "Missing required argument \"[topic]\""
        );
        assert_eq!(
            mistake(&["--alter", "--topic", "t"]),
            "Missing required argument \"[partitions]\""
        );
        assert_eq!(
            mistake(&["--list", "--partitions", "3"]),
            "Option \"[partitions]\" can't be used with option \"[list]\""
        );
        assert_eq!(
            mistake(&[
                "--create",
                "--topic",
                "t",
                "--replica-assignment",
                "1:2",
                "--partitions",
                "1"
            ]),
            "Option \"[replica-assignment]\" can't be used with option \"[partitions]\""
        );
        assert!(
            mistake(&["--alter", "--topic", "t", "--config", "a=b"])
                .contains("the kafka-configs CLI supports")
        );
        assert_eq!(
            mistake(&[
                "--describe",
                "--under-replicated-partitions",
                "--topics-with-overrides"
            ]),
            "Option \"[under-replicated-partitions]\" can't be used with option \"[topics-with-overrides]\""
        );
        for line in [
            &[
                "--create",
                "--topic",
                "t",
                "--partitions",
                "3",
                "--replication-factor",
                "3",
                "--if-not-exists",
            ][..],
            &["--describe"],
            &["--describe", "--topic", "t", "--unavailable-partitions"],
            &["--delete", "--topic", "t", "--if-exists"],
            &["--list", "--exclude-internal"],
        ] {
            assert_eq!(mistake(line), "none", "{line:?}");
        }
        let without_server = check(&options(&TOOL, &["--list"])).unwrap_err();
        assert_eq!(without_server.0, "--bootstrap-server must be specified");
    }
}
