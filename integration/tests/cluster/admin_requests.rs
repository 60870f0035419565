//! Any broker takes admin requests; when one is answered, every broker knows.

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Node};
use kafka_wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_wire::delete_topics::DeleteTopicsRequest;
use kafka_wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

const BROKERS: [Node; 3] = [Node::Broker(1), Node::Broker(2), Node::Broker(3)];
const TOPIC: i8 = 2;

/// How many partitions of the topic have a leader, as each broker sees it at this moment.
fn led(cluster: &Cluster, topic: &str) -> Result<Vec<usize>> {
    BROKERS
        .iter()
        .map(|broker| {
            let view = cluster.client(*broker)?.view_of(Some(&[topic]))?;
            Ok(view
                .partitions
                .values()
                .filter(|partition| partition.leader.is_some())
                .count())
        })
        .collect()
}

fn extend(cluster: &Cluster, through: Node, topic: &str, count: i32) -> Result<()> {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.into(),
            count,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response = cluster.client(through)?.call(3, &request)?;
    let result = response
        .results
        .first()
        .context("an answer without the topic")?;
    ensure!(result.error_code == 0, "{:?}", result.error_message);
    Ok(())
}

fn delete(cluster: &Cluster, through: Node, topic: &str) -> Result<()> {
    let request = DeleteTopicsRequest {
        topic_names: vec![topic.into()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response = cluster.client(through)?.call(5, &request)?;
    let result = response
        .responses
        .first()
        .context("an answer without the topic")?;
    ensure!(result.error_code == 0, "{:?}", result.error_message);
    Ok(())
}

#[test]
fn what_one_broker_was_asked_every_broker_knows() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    for (turn, broker) in BROKERS.into_iter().enumerate() {
        let next = BROKERS[(turn + 1) % BROKERS.len()];
        // The same name again and again: a topic that is deleted makes room at once.
        cluster
            .client(broker)?
            .create_topic("orders", 3, 3, &[("retention.ms", "1000")])?;
        assert_eq!(
            led(&cluster, "orders")?,
            [3, 3, 3],
            "created through {broker}"
        );
        extend(&cluster, next, "orders", 5)?;
        assert_eq!(
            led(&cluster, "orders")?,
            [5, 5, 5],
            "extended through {next}"
        );
        delete(&cluster, broker, "orders")?;
        assert_eq!(
            led(&cluster, "orders")?,
            [0, 0, 0],
            "deleted through {broker}"
        );
    }
    Ok(())
}

#[test]
fn a_configuration_that_one_broker_took_another_tells() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.create_topic("orders", 1, 3, &[("retention.ms", "1000")])?;
    let change = |name: &str, config_operation, value: Option<&str>| AlterableConfig {
        name: name.into(),
        config_operation,
        value: value.map(Into::into),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "orders".into(),
            configs: vec![
                change("retention.ms", 1, None),
                change("segment.bytes", 0, Some("10240")),
                change("cleanup.policy", 2, Some("compact")),
            ],
        }],
        validate_only: false,
    };
    let response = cluster.client(BROKERS[0])?.call(1, &request)?;
    assert_eq!(
        response.responses[0].error_code, 0,
        "{:?}",
        response.responses[0].error_message
    );
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: "orders".into(),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let response = cluster.client(BROKERS[1])?.call(4, &request)?;
    let overridden: Vec<_> = response.results[0]
        .configs
        .iter()
        .filter(|config| config.config_source == 1)
        .map(|config| {
            format!(
                "{}={}",
                config.name,
                config.value.as_deref().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        overridden,
        ["cleanup.policy=delete,compact", "segment.bytes=10240"]
    );
    Ok(())
}

/// bug_kafka_6082: the controller hangs for longer than its session lasts. Another one takes over, and the first,
/// awake again, changes nothing and is a broker like the others.
#[test]
fn bug_kafka_6082_a_controller_that_wakes_up_is_none_any_more() -> Result<()> {
    let mut cluster = Cluster::builder()
        .set("zookeeper.session.timeout.ms", 1_000)
        .start()?;
    cluster.create_topic("orders", 3, 3, &[])?;
    let old = cluster.await_controller()?;
    cluster.stop(old)?;
    let old_id = i32::from(old.number());
    for partition in 0..3 {
        cluster.await_partition("orders", partition, "a leader that is awake", |seen| {
            seen.leader.is_some_and(|id| id != old_id)
        })?;
    }
    let awake = *BROKERS
        .iter()
        .find(|broker| **broker != old)
        .context("nobody is awake")?;
    let view = cluster.client(awake)?.view()?;
    assert_ne!(view.controller, Some(old_id));
    let epoch = |cluster: &Cluster| -> Result<i32> {
        Ok(cluster.client(awake)?.view()?.partitions[&("orders".to_owned(), 0)].leader_epoch)
    };
    let before = epoch(&cluster)?;
    cluster.cont(old)?;
    for partition in 0..3 {
        cluster.await_isr("orders", partition, &[1, 2, 3])?;
    }
    assert_eq!(epoch(&cluster)?, before, "nobody was elected anew");
    // And it forwards like the others.
    cluster.client(old)?.create_topic("after", 1, 3, &[])?;
    assert_eq!(led(&cluster, "after")?, [1, 1, 1]);
    Ok(())
}
