//! The coordination service: a ZooKeeper server.

fn main() {}
