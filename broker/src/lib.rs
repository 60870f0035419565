//! A Kafka broker of the ZooKeeper era: everything around the cores that touches the world.
//!
//! Clients and followers come in through [`net`] and are answered by [`api`], from the replicas in
//! [`replication`]. [`membership`] is the broker's place in coord; `controller` elects and, on one of
//! the brokers, performs what `broker_core::controller` decides; [`control`] is the gRPC between
//! them. [`config_store`] follows the dynamic configuration. [`Broker`] starts and stops all of it
//! in order.
//!
//! What is decided belongs into `broker-core`, and what is stored into `log`; neither Raft nor how
//! coord works inside is ever known here.

pub mod api;
mod clock;
pub mod config;
pub mod config_store;
pub mod control;
mod controller;
pub mod http;
mod lifecycle;
mod load_progress;
pub mod membership;
pub mod net;
pub mod replication;

pub use lifecycle::{Broker, StartError};
pub use load_progress::StderrAboveProgress;
