//! kafka-topics, kafka-configs and their siblings, one file each.

fn main() {}
