use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A node of a cluster by its name: `coord-1`, or a broker by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// The N-th coord, counted from 1.
    Coord(u16),
    /// The broker whose `broker.id` is N, counted from 1.
    Broker(u16),
}

impl Node {
    /// The program that such a node runs.
    pub fn program(self) -> &'static str {
        match self {
            Node::Coord(_) => "coord",
            Node::Broker(_) => "broker",
        }
    }

    /// The number in the name, counted from 1.
    pub fn number(self) -> u16 {
        match self {
            Node::Coord(n) | Node::Broker(n) => n,
        }
    }
}

/// `coord-1`, `broker-2`: also the name of the node's directory, and of its container.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.program(), self.number()))
    }
}

/// Accepts `2`, `broker-2` and `coord-1`.
impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let (make, number): (fn(u16) -> Node, &str) = match name.split_once('-') {
            Some(("coord", n)) => (Node::Coord, n),
            Some(("broker", n)) => (Node::Broker, n),
            _ => (Node::Broker, name),
        };
        match number.parse() {
            Ok(n) if n > 0 => Ok(make(n)),
            _ => bail!("'{name}' names no node: use a broker's number (1, 2, …) or coord-1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        assert_eq!("2".parse::<Node>().unwrap(), Node::Broker(2));
        assert_eq!("broker-2".parse::<Node>().unwrap(), Node::Broker(2));
        assert_eq!("coord-1".parse::<Node>().unwrap(), Node::Coord(1));
        assert_eq!(Node::Coord(1).to_string(), "coord-1");
        for wrong in ["0", "", "-1", "coord", "coord-0", "zk-1", "../2"] {
            assert!(wrong.parse::<Node>().is_err(), "{wrong}");
        }
    }
}
