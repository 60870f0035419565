//! The ZooKeeper protocol: jute records and op codes; pure and bounded.
