//! A Kafka broker of the ZooKeeper era.

mod clock;
pub mod config;
pub mod config_store;
pub mod control;
mod controller;
pub mod membership;
