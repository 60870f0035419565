use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, PartitionView, View};
use crate::{
    Blow, ClusterSpec, Host, Lifetime, Node, Output, PortBlock, ProcessState, Processes, Programs,
    Properties, await_some, await_true, four_letter_figure, http_status, run,
};

/// What a healthy cluster needs at most to do one thing: generous, for tests share few processors.
pub const LIMIT: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A running cluster, as its clients and its operator see it.
pub struct Cluster<H: Host = Processes> {
    host: H,
    /// What is only a test's: its ports and its directory.
    quarters: Option<Quarters>,
}

#[derive(Debug)]
struct Quarters {
    dir: PathBuf,
    programs: Programs,
    _ports: PortBlock,
}

/// What a test's cluster is to be.
#[derive(Debug)]
pub struct ClusterBuilder {
    brokers: u16,
    coords: u16,
    broker_settings: Properties,
    coord_settings: Properties,
}

impl ClusterBuilder {
    /// The number of brokers; 3 unless told.
    pub fn brokers(mut self, brokers: u16) -> Self {
        self.brokers = brokers;
        self
    }

    /// The number of coords, which are an ensemble if there are more than one; 1 unless told.
    pub fn coords(mut self, coords: u16) -> Self {
        self.coords = coords;
        self
    }

    /// A setting of all brokers.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.broker_settings.set(key, value);
        self
    }

    /// A setting of all coords.
    pub fn set_coord(mut self, key: &str, value: impl ToString) -> Self {
        self.coord_settings.set(key, value);
        self
    }

    /// Starts the cluster as processes on ports and below a directory of its own, and waits until it is formed.
    ///
    /// # Errors
    /// When a node does not come up in time, with what it logged.
    pub fn start(self) -> Result<Cluster> {
        let ports = PortBlock::reserve()?;
        let spec = ClusterSpec {
            brokers: self.brokers,
            coords: self.coords,
            ports: ports.ports(),
            broker_settings: self.broker_settings,
            coord_settings: self.coord_settings,
        };
        // Whoever holds the ports holds the directory; what lies there is of a test that was killed.
        let dir = env::temp_dir().join(format!("gregor-{}", spec.ports.base_port));
        let _ = fs::remove_dir_all(&dir);
        let programs = Programs::under_test()?;
        let host = Processes::new(spec, &dir, programs.clone(), Lifetime::Attached)?;
        let mut cluster = Cluster {
            host,
            quarters: Some(Quarters {
                dir,
                programs,
                _ports: ports,
            }),
        };
        cluster.bring_up()?;
        Ok(cluster)
    }
}

impl Cluster {
    /// A cluster for one test, unless told otherwise: 1 coord and 3 brokers as processes, with sessions of 2 s.
    pub fn builder() -> ClusterBuilder {
        let builder = ClusterBuilder {
            brokers: 3,
            coords: 1,
            broker_settings: Properties::default(),
            coord_settings: Properties::default(),
        };
        builder.set("zookeeper.session.timeout.ms", 2_000)
    }

    /// Runs a tool of `admin` as a user does, with the cluster as `--bootstrap-server`.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn admin(&self, tool: &str, args: &[&str], stdin: &[u8]) -> Result<Output> {
        let quarters = self.quarters.as_ref().context("no programs of a test")?;
        let mut command = Command::new(quarters.programs.path("admin"));
        command
            .arg(tool)
            .args(["--bootstrap-server", &self.bootstrap()?])
            .args(args);
        run(&mut command, stdin, 2 * LIMIT)
    }

    /// A broker's log directory.
    pub fn data_dir(&self, node: Node) -> PathBuf {
        self.host.data_dir(node)
    }

    /// A directory for the test's own files, removed with the cluster.
    ///
    /// # Errors
    /// When there is none.
    pub fn dir(&self) -> Result<&Path> {
        Ok(&self
            .quarters
            .as_ref()
            .context("no directory of a test")?
            .dir)
    }
}

impl<H: Host> Cluster<H> {
    /// The cluster that lives on `host`, whatever of it runs.
    pub fn on(host: H) -> Cluster<H> {
        Cluster {
            host,
            quarters: None,
        }
    }

    /// Where the nodes live.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Starts every node that does not run, coords first, and waits until every broker is registered, a controller is
    /// elected, and every broker knows it.
    ///
    /// # Errors
    /// When a node ends instead, or is not ready in time.
    pub fn bring_up(&mut self) -> Result<()> {
        let spec = self.host.spec();
        let (coords, brokers): (Vec<Node>, Vec<Node>) =
            (spec.coord_nodes().collect(), spec.broker_nodes().collect());
        self.start_all(&coords)?;
        self.start_all(&brokers)?;
        self.await_formed()
    }

    /// Starts these nodes side by side and waits until each is ready.
    ///
    /// # Errors
    /// When one ends instead, or is not ready in time.
    pub fn start_all(&mut self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            if self.host.state(*node) == ProcessState::Ended {
                self.host.start(*node)?;
            }
        }
        nodes.iter().try_for_each(|node| self.await_ready(*node))
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already, ends instead, or is not ready in time.
    pub fn start(&mut self, node: Node) -> Result<()> {
        self.host.start(node)?;
        self.await_ready(node)
    }

    /// SIGKILL; returns when the node has ended.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn kill(&mut self, node: Node) -> Result<()> {
        self.host.strike(node, Blow::Kill)
    }

    /// SIGTERM; returns when the node has ended.
    ///
    /// # Errors
    /// When the node does not run, or does not end in time.
    pub fn term(&mut self, node: Node) -> Result<()> {
        self.host.strike(node, Blow::Term)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn stop(&mut self, node: Node) -> Result<()> {
        self.host.strike(node, Blow::Stop)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn cont(&mut self, node: Node) -> Result<()> {
        self.host.strike(node, Blow::Cont)
    }

    /// What a node is doing.
    pub fn state(&self, node: Node) -> ProcessState {
        self.host.state(node)
    }

    /// Whether a node says of itself that it is ready.
    pub fn is_ready(&self, node: Node) -> bool {
        self.ready(node).unwrap_or(false)
    }

    fn ready(&self, node: Node) -> Result<bool> {
        let status = http_status(self.host.addresses(node)?.http, "/readyz")?;
        ensure!(status == 200, "/readyz answers {status}");
        Ok(true)
    }

    fn await_ready(&self, node: Node) -> Result<()> {
        let ready = await_some(&format!("{node} to be ready"), LIMIT, || {
            if self.host.state(node) == ProcessState::Ended {
                return Ok(Some(false));
            }
            self.ready(node).map(Some)
        });
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => bail!(
                "{node} ended at its start: {}",
                last_line(&self.host.log(node))
            ),
            Err(e) => Err(e.context(last_line(&self.host.log(node)))),
        }
    }

    /// Waits until all brokers of the cluster are registered, and every one of them knows the others and the
    /// controller.
    ///
    /// # Errors
    /// When that is not so in time.
    pub fn await_formed(&self) -> Result<()> {
        let all: Vec<i32> = self
            .host
            .spec()
            .broker_nodes()
            .map(|node| i32::from(node.number()))
            .collect();
        for node in self.host.spec().broker_nodes() {
            await_true(&format!("{node} to know the whole cluster"), LIMIT, || {
                let view = self.client(node)?.view_of(Some(&[]))?;
                ensure!(
                    view.brokers == all,
                    "it knows the brokers {:?}",
                    view.brokers
                );
                ensure!(view.controller.is_some(), "no controller");
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// What a coord is to its ensemble, by its own account: `leader`, `follower` or `observer`; `standalone` if there is
    /// no other.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn coord_state(&self, node: Node) -> Result<String> {
        four_letter_figure(self.address(node)?, "mntr", "zk_server_state")
    }

    /// The coord that leads, as soon as one says so.
    ///
    /// # Errors
    /// When none does in time.
    pub fn await_coord_leader(&self) -> Result<Node> {
        await_some("a coord that leads", LIMIT, || {
            let leads = |node: &Node| {
                self.host.state(*node) == ProcessState::Running
                    && self
                        .coord_state(*node)
                        .is_ok_and(|state| ["leader", "standalone"].contains(&state.as_str()))
            };
            Ok(self.host.spec().coord_nodes().find(leads))
        })
    }

    /// The brokers that run.
    pub fn running_brokers(&self) -> Vec<Node> {
        let running = |node: &Node| self.host.state(*node) == ProcessState::Running;
        self.host.spec().broker_nodes().filter(running).collect()
    }

    /// All brokers' addresses, as clients want them.
    ///
    /// # Errors
    /// When a broker has none.
    pub fn bootstrap(&self) -> Result<String> {
        let brokers = self.host.spec().broker_nodes();
        let addresses: Result<Vec<String>> = brokers
            .map(|node| Ok(self.address(node)?.to_string()))
            .collect();
        Ok(addresses?.join(","))
    }

    /// Where a node answers its clients.
    ///
    /// # Errors
    /// When it has no address now.
    pub fn address(&self, node: Node) -> Result<SocketAddr> {
        Ok(self.host.addresses(node)?.client)
    }

    /// A connection to one broker.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn client(&self, node: Node) -> Result<Client> {
        Client::connect(self.address(node)?, CALL_TIMEOUT)
    }

    /// What the first running broker that answers sees.
    ///
    /// # Errors
    /// When none answers.
    pub fn view(&self) -> Result<View> {
        let mut answer = Err(anyhow::anyhow!("no broker runs"));
        for node in self.running_brokers() {
            answer = self.client(node).and_then(|mut client| client.view());
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    /// The controller, as soon as a running broker names one that runs.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn await_controller(&self) -> Result<Node> {
        await_some("a controller", LIMIT, || {
            let running = self.running_brokers();
            Ok(self
                .view()?
                .controller
                .and_then(broker)
                .filter(|node| running.contains(node)))
        })
    }

    /// Waits until a partition is as `wanted` says, and returns how it is.
    ///
    /// # Errors
    /// When that is not so in time, with how it was last.
    pub fn await_partition(
        &self,
        topic: &str,
        partition: i32,
        what: &str,
        wanted: impl Fn(&PartitionView) -> bool,
    ) -> Result<PartitionView> {
        let key = (topic.to_owned(), partition);
        await_some(
            &format!("{topic}-{partition} to have {what}"),
            LIMIT,
            || {
                let mut view = self.view()?;
                let seen = view.partitions.remove(&key).context("it is unknown")?;
                ensure!(wanted(&seen), "{seen:?}");
                Ok(Some(seen))
            },
        )
    }

    /// The leader of a partition, as soon as it has one that runs.
    ///
    /// # Errors
    /// When it has none in time.
    pub fn await_leader(&self, topic: &str, partition: i32) -> Result<Node> {
        let running = self.running_brokers();
        let is_led = |seen: &PartitionView| {
            seen.leader
                .and_then(broker)
                .is_some_and(|node| running.contains(&node))
        };
        let seen = self.await_partition(topic, partition, "a leader", is_led)?;
        seen.leader.and_then(broker).context("no leader")
    }

    /// Waits until a partition's ISR holds exactly these brokers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn await_isr(&self, topic: &str, partition: i32, isr: &[i32]) -> Result<()> {
        let same = |seen: &PartitionView| {
            let mut found = seen.isr.clone();
            found.sort_unstable();
            found == isr
        };
        self.await_partition(topic, partition, &format!("the ISR {isr:?}"), same)
            .map(drop)
    }

    /// Creates a topic and waits until every running broker knows a leader of each of its partitions.
    ///
    /// # Errors
    /// When the cluster refuses, or that is not so in time.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let brokers = self.running_brokers();
        let any = *brokers.first().context("no broker runs")?;
        self.client(any)?
            .create_topic(name, partitions, replication_factor, configs)?;
        for node in brokers {
            await_true(&format!("{node} to know {name}"), LIMIT, || {
                let view = self.client(node)?.view_of(Some(&[name]))?;
                let led = view
                    .partitions
                    .values()
                    .filter(|partition| partition.leader.is_some())
                    .count();
                Ok(led == partitions as usize)
            })?;
        }
        Ok(())
    }
}

/// The broker with this id.
fn broker(id: i32) -> Option<Node> {
    u16::try_from(id).ok().map(Node::Broker)
}

/// What of a log is worth showing with a test that failed.
pub fn last_lines(log: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn last_line(log: &str) -> String {
    log.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it logged nothing")
        .to_owned()
}

/// Leaves nothing of a test behind but its nodes' last words, which the test runner shows where the test fails.
impl<H: Host> Drop for Cluster<H> {
    fn drop(&mut self) {
        let Some(quarters) = &self.quarters else {
            return;
        };
        for node in self.host.spec().nodes() {
            println!(
                "---- the last of {node}'s log:\n{}",
                last_lines(&self.host.log(node))
            );
            // One that does not run is as well.
            let _ = self.host.strike(node, Blow::Kill);
        }
        if let Err(e) = fs::remove_dir_all(&quarters.dir) {
            eprintln!("cannot remove {}: {e}", quarters.dir.display());
        }
    }
}
