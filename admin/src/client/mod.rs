//! A small Kafka client on `kafka-wire`: connections, and the cluster that they lead to.
//!
//! Every wait has a deadline. A broker that is dead or silent costs a few seconds at most; then another is asked.

mod cluster;
mod config;
mod connection;

pub(crate) use cluster::{Cluster, ClusterError};
pub(crate) use config::ClientConfig;
pub(crate) use connection::{Connection, ConnectionError};

#[cfg(test)]
pub(crate) mod fake_broker;
