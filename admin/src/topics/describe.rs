//! `kafka-topics --describe`: one line for each topic, one for each partition.

use std::collections::{BTreeSet, HashMap};

use kafka_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse,
};
use kafka_wire::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::{ByteString, Uuid};

use super::usage::REPORTS;
use super::{Command, TopicError, refusal};
use crate::terminal::print;

/// The code of topics among the resources that have configurations.
const TOPIC_RESOURCE: i8 = 2;
/// The code of "nobody set it" among the sources of a configuration.
const DEFAULT_CONFIG: i8 = 5;

impl Command<'_> {
    pub(super) async fn describe(&mut self) -> Result<(), TopicError> {
        let metadata = self.cluster.metadata(None, false).await?;
        let topics = match self.topic_id()? {
            Some(id) => self.by_id(&metadata, id)?,
            None => self.selected_existing(&metadata)?,
        };
        if topics.is_empty() {
            return Ok(());
        }
        let configs = self.topic_configs(&topics).await?;
        let live: BTreeSet<i32> = metadata
            .brokers
            .iter()
            .map(|broker| broker.node_id)
            .collect();
        for topic in topics {
            let name = topic.name.clone().unwrap_or_default();
            let configs = configs.get(&name).map_or(&[][..], Vec::as_slice);
            print(&self.described(topic, configs, &live));
        }
        Ok(())
    }

    fn topic_id(&self) -> Result<Option<Uuid>, TopicError> {
        let id = self
            .options
            .value("topic-id")
            .map_err(|error| TopicError::Invalid(error.0))?;
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                TopicError::Invalid(format!("Input string `{text}` is not a valid topic id"))
            })
        };
        Ok(id.map(parse).transpose()?.filter(|id: &Uuid| !id.is_zero()))
    }

    fn by_id<'m>(
        &self,
        metadata: &'m MetadataResponse,
        id: Uuid,
    ) -> Result<Vec<&'m MetadataResponseTopic>, TopicError> {
        let found: Vec<_> = metadata
            .topics
            .iter()
            .filter(|topic| topic.topic_id == id)
            .collect();
        match found.is_empty() && !self.options.has("if-exists") {
            true => Err(TopicError::Invalid(format!(
                "TopicId '{id}' does not exist as expected"
            ))),
            false => Ok(found),
        }
    }

    async fn topic_configs(
        &mut self,
        topics: &[&MetadataResponseTopic],
    ) -> Result<HashMap<ByteString, Vec<DescribeConfigsResourceResult>>, TopicError> {
        let resource = |topic: &&MetadataResponseTopic| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.name.clone().unwrap_or_default(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: topics.iter().map(resource).collect(),
            ..Default::default()
        };
        let response: DescribeConfigsResponse = self.cluster.any(&request).await?;
        let mut configs = HashMap::with_capacity(response.results.len());
        for result in response.results {
            refusal(result.error_code, result.error_message.as_ref())?;
            configs.insert(result.resource_name, result.configs);
        }
        Ok(configs)
    }

    /// The lines of one topic, as far as the options want them.
    fn described(
        &self,
        topic: &MetadataResponseTopic,
        configs: &[DescribeConfigsResourceResult],
        live: &BTreeSet<i32>,
    ) -> String {
        let asked = |report: &str| self.options.has(report);
        let reports = REPORTS.iter().any(|report| asked(report));
        let overridden = configs.iter().any(|config| !is_default(config));
        let mut partitions: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
        partitions.sort_by_key(|partition| partition.partition_index);

        let mut lines = String::new();
        if !reports && (overridden || !asked("topics-with-overrides")) {
            lines.push_str(&topic_line(topic, &partitions, configs));
        }
        if asked("topics-with-overrides") {
            return lines;
        }
        let name = topic.name.as_deref().unwrap_or_default();
        let min_isr = configs
            .iter()
            .find(|config| config.name == "min.insync.replicas")
            .and_then(|config| config.value.as_deref()?.parse().ok())
            .unwrap_or(1);
        for partition in partitions {
            let leader = Some(partition.leader_id).filter(|leader| live.contains(leader));
            let in_sync = partition.isr_nodes.len();
            let wanted = !reports
                || asked("under-replicated-partitions") && in_sync < partition.replica_nodes.len()
                || asked("unavailable-partitions") && leader.is_none()
                || asked("under-min-isr-partitions") && (leader.is_none() || in_sync < min_isr)
                || asked("at-min-isr-partitions") && in_sync == min_isr;
            if wanted {
                lines.push_str(&partition_line(name, partition, leader));
            }
        }
        lines
    }
}

fn is_default(config: &DescribeConfigsResourceResult) -> bool {
    config.is_default || config.config_source == DEFAULT_CONFIG
}

fn topic_line(
    topic: &MetadataResponseTopic,
    partitions: &[&MetadataResponsePartition],
    configs: &[DescribeConfigsResourceResult],
) -> String {
    let configs: Vec<String> = configs
        .iter()
        .filter(|config| !is_default(config))
        .map(|config| {
            format!(
                "{}={}",
                config.name,
                config.value.as_deref().unwrap_or("null")
            )
        })
        .collect();
    let id = match topic.topic_id.is_zero() {
        true => String::new(),
        false => format!("\tTopicId: {}", topic.topic_id),
    };
    format!(
        "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}\n",
        topic.name.as_deref().unwrap_or_default(),
        partitions.len(),
        partitions
            .first()
            .map_or(0, |first| first.replica_nodes.len()),
        configs.join(",")
    )
}

/// The line of a partition. Eligible leader replicas (KIP-966) do not exist with ZooKeeper.
fn partition_line(
    topic: &str,
    partition: &MetadataResponsePartition,
    leader: Option<i32>,
) -> String {
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {}\tReplicas: {}\tIsr: {}\tElr: N/A\tLastKnownElr: N/A\n",
        partition.partition_index,
        leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
        ids(&partition.replica_nodes),
        ids(&partition.isr_nodes)
    )
}

#[cfg(test)]
mod tests {
    use super::super::TOOL;
    use super::*;
    use crate::client::{ClientConfig, Cluster};
    use crate::options::tests::options;

    fn partition(index: i32, leader: i32, isr: &[i32]) -> MetadataResponsePartition {
        MetadataResponsePartition {
            partition_index: index,
            leader_id: leader,
            replica_nodes: vec![1, 2, 3],
            isr_nodes: isr.to_vec(),
            ..Default::default()
        }
    }

    fn config(
        name: &'static str,
        value: &'static str,
        source: i8,
    ) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult {
            name: ByteString::from_static(name),
            value: Some(ByteString::from_static(value)),
            config_source: source,
            ..Default::default()
        }
    }

    fn described(report: &[&str], configs: &[DescribeConfigsResourceResult]) -> String {
        let topic = MetadataResponseTopic {
            name: Some(ByteString::from_static("t")),
            topic_id: Uuid::from_bytes([1; 16]),
            partitions: vec![
                partition(2, 9, &[1, 2]),
                partition(0, 1, &[1, 2, 3]),
                partition(1, -1, &[2]),
            ],
            ..Default::default()
        };
        let mut line = vec!["--describe", "--bootstrap-server", "localhost:9092"];
        line.extend(report);
        let options = options(&TOOL, &line);
        let cluster =
            Cluster::new(ClientConfig::new("localhost:9092", "test", &Default::default()).unwrap());
        Command {
            options: &options,
            cluster,
        }
        .described(&topic, configs, &BTreeSet::from([1, 2, 3]))
    }

    const HEAD: &str = "Topic: t\tTopicId: AQEBAQEBAQEBAQEBAQEBAQ\tPartitionCount: 3\tReplicationFactor: 3\tConfigs: ";
    const P0: &str = "\tTopic: t\tPartition: 0\tLeader: 1\tReplicas: 1,2,3\tIsr: 1,2,3\tElr: N/A\tLastKnownElr: N/A\n";
    const P1: &str = "\tTopic: t\tPartition: 1\tLeader: none\tReplicas: 1,2,3\tIsr: 2\tElr: N/A\tLastKnownElr: N/A\n";
    const P2: &str = "\tTopic: t\tPartition: 2\tLeader: none\tReplicas: 1,2,3\tIsr: 1,2\tElr: N/A\tLastKnownElr: N/A\n";

    #[test]
    fn a_topic_is_described_in_kafkas_lines() {
        let configs = [
            config("segment.bytes", "10240", 1),
            config("retention.ms", "1", DEFAULT_CONFIG),
            config("flush.ms", "2", 4),
        ];
        assert_eq!(
            described(&[], &configs),
            format!("{HEAD}segment.bytes=10240,flush.ms=2\n{P0}{P1}{P2}")
        );
    }

    #[test]
    fn reports_show_partitions_only() {
        let min_isr = [config("min.insync.replicas", "2", 1)];
        assert_eq!(
            described(&["--under-replicated-partitions"], &[]),
            format!("{P1}{P2}")
        );
        assert_eq!(
            described(&["--unavailable-partitions"], &[]),
            format!("{P1}{P2}")
        );
        assert_eq!(
            described(&["--under-min-isr-partitions"], &min_isr),
            format!("{P1}{P2}")
        );
        assert_eq!(described(&["--at-min-isr-partitions"], &min_isr), P2);
    }

    #[test]
    fn topics_with_overrides_are_headers_only() {
        assert_eq!(described(&["--topics-with-overrides"], &[]), "");
        let configs = [config("segment.bytes", "10240", 1)];
        assert_eq!(
            described(&["--topics-with-overrides"], &configs),
            format!("{HEAD}segment.bytes=10240\n")
        );
    }
}
