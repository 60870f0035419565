//! The cluster harness: everything that starts, watches, hurts and ends a cluster of Gregor.
//!
//! A [`ClusterSpec`] says what a cluster is made of; a [`Host`] is where its nodes live ([`Processes`] on this
//! machine, containers in the tests); a [`Cluster`] is a running one, seen as a client sees it. What flows through
//! here is configuration files and signals towards the nodes, and Kafka's protocol and HTTP back: the harness knows a
//! node by its public faces alone, so that a test proves what a user would see.
//!
//! Never in here: a dependency on the insides of coord or broker, a sleep in the place of a condition, a signal to a
//! process that this harness did not start.

pub mod client;
mod cluster;
mod four_letter;
mod host;
mod http;
mod node;
mod ports;
mod process;
mod processes;
mod programs;
mod properties;
mod spec;
mod tools;
mod waiting;

pub use cluster::{Cluster, ClusterBuilder, LIMIT, last_lines};
pub use four_letter::{four_letter_figure, four_letter_word};
pub use host::{Addresses, Blow, Host};
pub use http::http_status;
pub use node::Node;
pub use ports::PortBlock;
pub use process::{Process, ProcessState};
pub use processes::{Lifetime, Processes};
pub use programs::Programs;
pub use properties::Properties;
pub use spec::{ClusterSpec, NodeAddress, Ports};
pub use tools::{JAVA_ZOOKEEPER_JARS, Output, Tool, run, skip, tool};
pub use waiting::{await_some, await_true};
