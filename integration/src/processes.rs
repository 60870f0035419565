use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    Addresses, Blow, ClusterSpec, Host, Node, NodeAddress, Process, ProcessState, Programs,
};

const KILL_LIMIT: Duration = Duration::from_secs(10);
const TERM_LIMIT: Duration = Duration::from_secs(30);

/// How long nodes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// They end with the thread that starts them, at the latest.
    Attached,
    /// They go on when this process ends, and are found again by their pid files.
    Detached,
}

/// Nodes as processes of this machine, below one directory:
/// `<dir>/<node>/{server.properties | zoo.cfg, data/, log, pid}`.
#[derive(Debug)]
pub struct Processes {
    spec: ClusterSpec,
    dir: PathBuf,
    programs: Programs,
    lifetime: Lifetime,
    running: BTreeMap<Node, Process>,
}

impl Processes {
    /// The nodes of `spec` below `dir`; those that an earlier run left running are found.
    ///
    /// # Errors
    /// When a pid file is not ours.
    pub fn new(
        spec: ClusterSpec,
        dir: &Path,
        programs: Programs,
        lifetime: Lifetime,
    ) -> Result<Processes> {
        let mut running = BTreeMap::new();
        for node in spec.nodes() {
            if let Some(process) = Process::from_pid_file(&dir.join(node.to_string()).join("pid"))?
            {
                running.insert(node, process);
            }
        }
        Ok(Processes {
            spec,
            dir: dir.to_owned(),
            programs,
            lifetime,
            running,
        })
    }

    /// The node's directory.
    pub fn node_dir(&self, node: Node) -> PathBuf {
        self.dir.join(node.to_string())
    }

    /// Where the node keeps its data: a broker's log directory.
    pub fn data_dir(&self, node: Node) -> PathBuf {
        self.node_dir(node).join("data")
    }

    /// Where the node logs to.
    pub fn log_path(&self, node: Node) -> PathBuf {
        self.node_dir(node).join("log")
    }

    /// The process of a node that runs.
    pub fn process(&self, node: Node) -> Option<&Process> {
        self.running.get(&node)
    }

    fn address(&self, node: Node) -> NodeAddress {
        let host = Ipv4Addr::LOCALHOST.to_string();
        NodeAddress {
            bind: host.clone(),
            host,
            port: self.spec.ports.client(node),
        }
    }

    fn write_config(&self, node: Node) -> Result<PathBuf> {
        let data_dir = self.data_dir(node);
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot create {}", data_dir.display()))?;
        if let Some(myid) = self.spec.myid(node) {
            let path = data_dir.join("myid");
            fs::write(&path, myid).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let address = |node| self.address(node);
        let config = self.spec.config(node, address, &data_dir.to_string_lossy());
        let path = self.node_dir(node).join(match node {
            Node::Coord(_) => "zoo.cfg",
            Node::Broker(_) => "server.properties",
        });
        fs::write(&path, config.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn running(&self, node: Node) -> Result<&Process> {
        match self.running.get(&node) {
            Some(process) if process.state() != ProcessState::Ended => Ok(process),
            _ => bail!("{node} does not run"),
        }
    }
}

impl Host for Processes {
    fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    fn start(&mut self, node: Node) -> Result<()> {
        if !self.spec.nodes().any(|known| known == node) {
            bail!("this cluster has no {node}");
        }
        if self.running(node).is_ok() {
            bail!("{node} runs already");
        }
        let config = self.write_config(node)?;
        let log_path = self.log_path(node);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command = Command::new(self.programs.path(node.program()));
        command
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(&mut command, self.lifetime)?;
        process.write_pid_file(&self.node_dir(node).join("pid"))?;
        if let Some(ended) = self.running.insert(node, process) {
            ended.reap();
        }
        Ok(())
    }

    fn strike(&mut self, node: Node, blow: Blow) -> Result<()> {
        let process = self.running(node)?;
        match blow {
            Blow::Kill => {
                process.signal(Signal::KILL)?;
                process.await_end(KILL_LIMIT)?;
            }
            Blow::Term => {
                process.signal(Signal::TERM)?;
                // A stopped process takes its SIGTERM only when it goes on.
                process.signal(Signal::CONT)?;
                process
                    .await_end(TERM_LIMIT)
                    .with_context(|| format!("{node} ignores SIGTERM"))?;
            }
            Blow::Stop => return process.signal(Signal::STOP),
            Blow::Cont => return process.signal(Signal::CONT),
        }
        if let Some(ended) = self.running.remove(&node) {
            ended.reap();
        }
        Ok(())
    }

    fn state(&self, node: Node) -> ProcessState {
        self.running
            .get(&node)
            .map_or(ProcessState::Ended, Process::state)
    }

    fn addresses(&self, node: Node) -> Result<Addresses> {
        let address = self.address(node);
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Addresses {
            client: at(address.port),
            http: at(address.http_port()),
        })
    }

    fn log(&self, node: Node) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path(node)).unwrap_or_default()).into_owned()
    }
}

/// Attached nodes end here, and only they.
impl Drop for Processes {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Detached {
            return;
        }
        for process in self.running.values() {
            // Nothing is left to do for one that cannot be signalled.
            let _ = process.signal(Signal::KILL);
        }
        for (_, process) in std::mem::take(&mut self.running) {
            process.reap();
        }
    }
}
