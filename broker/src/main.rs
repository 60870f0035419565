//! A Kafka broker of the ZooKeeper era.

fn main() {}
