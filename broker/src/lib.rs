//! A Kafka broker of the ZooKeeper era.

pub mod api;
mod clock;
pub mod config;
pub mod config_store;
pub mod control;
mod controller;
pub mod http;
pub mod membership;
pub mod net;
pub mod replication;
