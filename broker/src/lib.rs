//! A Kafka broker of the ZooKeeper era.

pub mod config;
