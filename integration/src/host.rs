use std::net::SocketAddr;

use anyhow::Result;

use crate::{ClusterSpec, Node, ProcessState};

/// Where the nodes of a cluster live: processes of this machine, or containers.
pub trait Host {
    /// What the cluster is made of.
    fn spec(&self) -> &ClusterSpec;

    /// Starts a node that does not run; does not wait until it is ready.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    fn start(&mut self, node: Node) -> Result<()>;

    /// Does `blow` to a node; [`Blow::Kill`] and [`Blow::Term`] return when it has ended.
    ///
    /// # Errors
    /// When it does not run, or a SIGTERM has not ended it in time.
    fn strike(&mut self, node: Node, blow: Blow) -> Result<()>;

    /// What the node is doing.
    fn state(&self, node: Node) -> ProcessState;

    /// Where this process reaches the node as a client, and its HTTP.
    ///
    /// # Errors
    /// When the node has no address now.
    fn addresses(&self, node: Node) -> Result<Addresses>;

    /// All that the node has logged.
    fn log(&self, node: Node) -> String;
}

/// What can be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL: it ends at once.
    Kill,
    /// SIGTERM: it ends in order.
    Term,
    /// SIGSTOP: it hangs.
    Stop,
    /// SIGCONT: it goes on.
    Cont,
}

/// Where a node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Kafka's protocol, or ZooKeeper's.
    pub client: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`.
    pub http: SocketAddr,
}
