//! Clusters of containers on networks of their own, whose nodes find each other by name, from the image that
//! `scripts/images.sh` builds: three brokers on one coord, and a broker on three.

use std::collections::BTreeMap;
use std::env;
use std::net::{IpAddr, SocketAddr};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::{
    Addresses, Blow, Cluster, ClusterSpec, Host, LIMIT, Node, NodeAddress, Ports, ProcessState,
    Properties, Tool, await_some, last_lines, run, tool,
};
use testcontainers::core::WaitFor;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::runtime::Runtime;

const IMAGE: (&str, &str) = ("gregor", "test");
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// Nodes as containers; one that has ended is started again with the files that it had.
struct Containers {
    spec: ClusterSpec,
    network: String,
    runtime: Runtime,
    nodes: BTreeMap<Node, ContainerAsync<GenericImage>>,
}

impl Containers {
    fn new(brokers: u16, coords: u16, broker_settings: Properties) -> Result<Containers> {
        build_image()?;
        Ok(Containers {
            spec: ClusterSpec {
                brokers,
                coords,
                // Of each container, for each has an address of its own.
                ports: Ports {
                    base_port: 9092,
                    coord_port: 2181,
                },
                broker_settings,
                coord_settings: Properties::default(),
            },
            network: format!("gregor-{}-{coords}", process::id()),
            runtime: Runtime::new()?,
            nodes: BTreeMap::new(),
        })
    }

    /// The container's name, which the network resolves.
    fn name(&self, node: Node) -> String {
        format!("{}-{node}", self.network)
    }

    fn address(&self, node: Node) -> NodeAddress {
        let port = match node {
            Node::Coord(_) => self.spec.ports.coord_port,
            Node::Broker(_) => self.spec.ports.base_port,
        };
        NodeAddress {
            bind: "0.0.0.0".to_owned(),
            host: self.name(node),
            port,
        }
    }

    fn request(&self, node: Node) -> ContainerRequest<GenericImage> {
        let config = self.spec.config(node, |node| self.address(node), "/data");
        let path = match node {
            Node::Coord(_) => "/etc/zoo.cfg",
            Node::Broker(_) => "/etc/server.properties",
        };
        let request = GenericImage::new(IMAGE.0, IMAGE.1)
            .with_wait_for(WaitFor::Nothing)
            .with_network(&self.network)
            .with_container_name(self.name(node))
            .with_copy_to(path, config.text().into_bytes())
            .with_cmd([node.program(), "--config", path]);
        match self.spec.myid(node) {
            Some(myid) => request.with_copy_to("/data/myid", myid.into_bytes()),
            None => request,
        }
    }

    fn container(&self, node: Node) -> Result<&ContainerAsync<GenericImage>> {
        self.nodes
            .get(&node)
            .with_context(|| format!("{node} was never started"))
    }

    /// What a program within a node's container prints.
    fn exec(&self, node: Node, command: &[&str]) -> Result<String> {
        let mut docker = Command::new("docker");
        docker
            .args(["exec", self.container(node)?.id()])
            .args(command);
        run(&mut docker, b"", LIMIT)?.success()
    }
}

fn build_image() -> Result<()> {
    // The gate has built it.
    if env::var_os("GREGOR_BIN").is_some() {
        return Ok(());
    }
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/images.sh"));
    script.args(["--debug", "--tag", &format!("{}:{}", IMAGE.0, IMAGE.1)]);
    run(&mut script, b"", BUILD_LIMIT)?.success().map(drop)
}

impl Host for Containers {
    fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    fn start(&mut self, node: Node) -> Result<()> {
        if let Some(ended) = self.nodes.get(&node) {
            return Ok(self.runtime.block_on(ended.start())?);
        }
        let container = self.runtime.block_on(self.request(node).start())?;
        self.nodes.insert(node, container);
        Ok(())
    }

    fn strike(&mut self, node: Node, blow: Blow) -> Result<()> {
        let container = self.container(node)?;
        match blow {
            Blow::Kill => {
                // Stopping with no time left would send a SIGTERM first.
                let killed = run(
                    Command::new("docker").args(["kill", container.id()]),
                    b"",
                    LIMIT,
                )?;
                killed.success()?;
            }
            Blow::Term => self
                .runtime
                .block_on(container.stop_with_timeout(Some(30)))?,
            Blow::Stop => self.runtime.block_on(container.pause())?,
            Blow::Cont => self.runtime.block_on(container.unpause())?,
        }
        Ok(())
    }

    fn state(&self, node: Node) -> ProcessState {
        let running = |container| {
            self.runtime
                .block_on(ContainerAsync::is_running(container))
                .unwrap_or(false)
        };
        match self.nodes.get(&node) {
            Some(container) if running(container) => ProcessState::Running,
            _ => ProcessState::Ended,
        }
    }

    fn addresses(&self, node: Node) -> Result<Addresses> {
        let ip: IpAddr = self
            .runtime
            .block_on(self.container(node)?.get_bridge_ip_address())?;
        let address = self.address(node);
        Ok(Addresses {
            client: SocketAddr::from((ip, address.port)),
            http: SocketAddr::from((ip, address.http_port())),
        })
    }

    fn log(&self, node: Node) -> String {
        let log = self
            .container(node)
            .and_then(|container| Ok(self.runtime.block_on(container.stderr_to_vec())?));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for node in self.spec.nodes() {
            println!(
                "---- the last of {node}'s log:\n{}",
                last_lines(&self.log(node))
            );
        }
        for (node, container) in std::mem::take(&mut self.nodes) {
            if let Err(e) = self.runtime.block_on(container.rm()) {
                eprintln!("the container of {node} may be left: {e}");
            }
        }
    }
}

/// Produces `count` batches of ten, each to the leader as it is then, until each is acknowledged; a batch whose answer
/// got lost is sent again, and may be there twice.
fn produce(
    cluster: &Cluster<Containers>,
    topic: &str,
    first: usize,
    count: usize,
) -> Result<BTreeMap<(i32, i64), String>> {
    let mut acknowledged = BTreeMap::new();
    for batch in first..first + count {
        let partition = (batch % 3) as i32;
        let values: Vec<String> = (0..10).map(|n| format!("{batch}-{n}")).collect();
        let offset = await_some("an acknowledgement", LIMIT, || {
            let leader = cluster.await_leader(topic, partition)?;
            cluster
                .client(leader)?
                .produce(topic, partition, &values)
                .map(Some)
        })?;
        for (n, value) in values.into_iter().enumerate() {
            acknowledged.insert((partition, offset + n as i64), value);
        }
    }
    Ok(acknowledged)
}

#[test]
fn the_leaders_container_is_killed_and_nothing_is_lost() -> Result<()> {
    const TOPIC: &str = "orders";
    if tool(Tool::Docker).is_none() {
        return Ok(());
    }
    let settings = [("zookeeper.session.timeout.ms", 2_000)]
        .into_iter()
        .collect();
    let mut cluster = Cluster::on(Containers::new(3, 1, settings)?);
    cluster.bring_up()?;
    cluster.create_topic(TOPIC, 3, 3, &[("min.insync.replicas", "2")])?;
    let mut acknowledged = produce(&cluster, TOPIC, 0, 60)?;

    let old = cluster.await_leader(TOPIC, 0)?;
    cluster.kill(old)?;
    acknowledged.extend(produce(&cluster, TOPIC, 60, 60)?);
    ensure!(
        cluster.await_leader(TOPIC, 0)? != old,
        "the dead still leads"
    );

    // Names resolve in the containers, for the tools too: the broker that is asked is named, and names the others.
    let asked = *cluster.running_brokers().first().context("two brokers")?;
    let bootstrap = format!("{}:9092", cluster.host().name(asked));
    let describe = [
        "kafka-topics",
        "--bootstrap-server",
        &bootstrap,
        "--describe",
        "--topic",
        TOPIC,
    ];
    let described = cluster.host().exec(asked, &describe)?;
    ensure!(
        described.contains("\tTopic: orders\tPartition: 2\tLeader: "),
        "{described}"
    );

    cluster.start(old)?;
    for partition in 0..3 {
        cluster.await_isr(TOPIC, partition, &[1, 2, 3])?;
    }
    for partition in 0..3 {
        let leader = cluster.await_leader(TOPIC, partition)?;
        let read = cluster.client(leader)?.read_all(TOPIC, partition)?;
        for ((_, offset), value) in acknowledged.iter().filter(|((of, _), _)| *of == partition) {
            match read.get(offset) {
                Some(found) if found == value => {}
                found => {
                    bail!("{value} was acknowledged at {partition}/{offset}, where {found:?} is")
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_leading_coords_container_is_killed_and_the_broker_goes_on() -> Result<()> {
    const TOPIC: &str = "orders";
    if tool(Tool::Docker).is_none() {
        return Ok(());
    }
    let mut cluster = Cluster::on(Containers::new(1, 3, Properties::default())?);
    cluster.bring_up()?;
    cluster.create_topic(TOPIC, 3, 1, &[])?;
    let mut acknowledged = produce(&cluster, TOPIC, 0, 30)?;

    let old = cluster.await_coord_leader()?;
    cluster.kill(old)?;
    cluster.create_topic("at-once", 3, 1, &[])?;
    ensure!(cluster.await_coord_leader()? != old, "the dead still leads");
    cluster.start(old)?;
    // What was written while it was away is there when its word counts.
    let other = cluster.await_coord_leader()?;
    cluster.kill(other)?;
    cluster.create_topic("later", 3, 1, &[])?;
    acknowledged.extend(produce(&cluster, TOPIC, 30, 30)?);
    ensure!(acknowledged.len() == 600, "{} records", acknowledged.len());
    Ok(())
}
