use std::path::Path;

use anyhow::{Context, Result};

use crate::{Node, Properties};

/// What a cluster is made of: how many nodes, where they listen, and their settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Brokers, with the ids 1 to this.
    pub brokers: u16,
    /// Coords, 1 to this.
    pub coords: u16,
    /// Where they listen.
    pub ports: Ports,
    /// Settings of every broker, over what the harness writes itself.
    pub broker_settings: Properties,
    /// Settings of every coord, over what the harness writes itself.
    pub coord_settings: Properties,
}

/// The two ports from which all others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Broker 1 answers clients here, broker N at N - 1 more.
    pub base_port: u16,
    /// coord-1 answers clients here, coord-N at N - 1 more.
    pub coord_port: u16,
}

impl Ports {
    /// Where `node` answers its clients.
    pub fn client(self, node: Node) -> u16 {
        match node {
            Node::Broker(n) => self.base_port + n - 1,
            Node::Coord(n) => self.coord_port + n - 1,
        }
    }
}

/// Where one node listens, and by which name others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The address that it binds.
    pub bind: String,
    /// The name by which clients and other nodes reach it.
    pub host: String,
    /// Its clients' port.
    pub port: u16,
}

impl NodeAddress {
    /// The port of the control plane.
    pub fn control_port(&self) -> u16 {
        self.port + 10_000
    }

    /// The port of `/livez`, `/readyz` and `/metrics`.
    pub fn http_port(&self) -> u16 {
        self.port + 20_000
    }

    /// What stands behind `server.N=` for this coord: where the others of its ensemble reach it. Its ports are the
    /// control plane's, which a coord has no other use for, and one for ZooKeeper's elections, where nobody listens.
    fn server(&self) -> String {
        let quorum_port = self.control_port();
        format!("{}:{quorum_port}:{}", self.host, quorum_port + 5_000)
    }
}

impl ClusterSpec {
    /// Coords first, as they have to start.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        self.coord_nodes().chain(self.broker_nodes())
    }

    /// All coords.
    pub fn coord_nodes(&self) -> impl DoubleEndedIterator<Item = Node> + use<> {
        (1..=self.coords).map(Node::Coord)
    }

    /// All brokers.
    pub fn broker_nodes(&self) -> impl DoubleEndedIterator<Item = Node> + use<> {
        (1..=self.brokers).map(Node::Broker)
    }

    /// What the file `myid` in a node's data directory holds, if it is one of an ensemble.
    pub fn myid(&self, node: Node) -> Option<String> {
        match node {
            Node::Coord(id) if self.coords > 1 => Some(format!("{id}\n")),
            _ => None,
        }
    }

    /// The configuration file of `node`, with the address of every node of the cluster.
    pub fn config(
        &self,
        node: Node,
        address: impl Fn(Node) -> NodeAddress,
        data_dir: &str,
    ) -> Properties {
        let own = address(node);
        let NodeAddress { bind, host, port } = &own;
        let coords = || self.coord_nodes().map(|coord| (coord, address(coord)));
        let mut config = Properties::default();
        match node {
            Node::Coord(_) => {
                config.set("dataDir", data_dir);
                config.set("clientPort", port);
                config.set("clientPortAddress", bind);
                config.set("admin.serverAddress", bind);
                config.set("admin.serverPort", own.http_port());
                // So that a broker may ask for a session that is short, or as long as Kafka's default.
                config.set("tickTime", 200);
                config.set("minSessionTimeout", 400);
                config.set("maxSessionTimeout", 60_000);
                if self.coords > 1 {
                    for (coord, address) in coords() {
                        config.set(format!("server.{}", coord.number()), address.server());
                    }
                }
                config.extend(&self.coord_settings);
            }
            Node::Broker(id) => {
                let control_port = own.control_port();
                config.set("broker.id", id);
                config.set(
                    "listeners",
                    format!("PLAINTEXT://{bind}:{port},CONTROL://{bind}:{control_port}"),
                );
                config.set(
                    "advertised.listeners",
                    format!("PLAINTEXT://{host}:{port},CONTROL://{host}:{control_port}"),
                );
                config.set("http.host", bind);
                config.set("http.port", own.http_port());
                let connect: Vec<String> = coords()
                    .map(|(_, NodeAddress { host, port, .. })| format!("{host}:{port}"))
                    .collect();
                config.set("zookeeper.connect", connect.join(","));
                config.set("log.dirs", data_dir);
                // The last broker to leave finds no one to hand its partitions to; it need not ask for long.
                config.set("controlled.shutdown.retry.backoff.ms", 100);
                config.extend(&self.broker_settings);
            }
        }
        config
    }

    /// Writes the specification to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = Properties::default();
        file.set("brokers", self.brokers);
        file.set("coords", self.coords);
        file.set("base-port", self.ports.base_port);
        file.set("coord-port", self.ports.coord_port);
        for (key, value) in self.broker_settings.iter() {
            file.set(format!("set.{key}"), value);
        }
        std::fs::write(path, file.text())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When the file cannot be read or lacks a number.
    pub fn load(path: &Path) -> Result<ClusterSpec> {
        let file = Properties::load(path)?;
        let number = |key: &str| -> Result<u16> {
            file.get(key)
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("{} holds no number for {key}", path.display()))
        };
        Ok(ClusterSpec {
            brokers: number("brokers")?,
            coords: number("coords")?,
            ports: Ports {
                base_port: number("base-port")?,
                coord_port: number("coord-port")?,
            },
            broker_settings: file
                .iter()
                .filter_map(|(key, value)| Some((key.strip_prefix("set.")?, value)))
                .collect(),
            coord_settings: Properties::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_specification_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.properties");
        let spec = ClusterSpec {
            brokers: 3,
            coords: 1,
            ports: Ports {
                base_port: 9092,
                coord_port: 2181,
            },
            broker_settings: [
                ("zookeeper.session.timeout.ms", "2000"),
                ("log.segment.bytes", "1048576"),
            ]
            .into_iter()
            .collect(),
            coord_settings: Properties::default(),
        };
        spec.save(&path).unwrap();
        assert_eq!(ClusterSpec::load(&path).unwrap(), spec);
    }

    #[test]
    fn an_ensemble_knows_its_members_and_brokers_know_all_of_them() {
        let spec = |coords| ClusterSpec {
            brokers: 1,
            coords,
            ports: Ports {
                base_port: 9092,
                coord_port: 2181,
            },
            broker_settings: Properties::default(),
            coord_settings: Properties::default(),
        };
        let config = |coords, node| {
            let address = |node: Node| NodeAddress {
                bind: "0.0.0.0".to_owned(),
                host: node.to_string(),
                port: spec(coords).ports.client(node),
            };
            spec(coords).config(node, address, "/data")
        };
        let member = config(3, Node::Coord(2));
        assert_eq!(member.get("server.1"), Some("coord-1:12181:17181"));
        assert_eq!(member.get("server.3"), Some("coord-3:12183:17183"));
        assert_eq!(spec(3).myid(Node::Coord(2)).as_deref(), Some("2\n"));
        assert_eq!(
            config(3, Node::Broker(1)).get("zookeeper.connect"),
            Some("coord-1:2181,coord-2:2182,coord-3:2183")
        );

        assert_eq!(config(1, Node::Coord(1)).get("server.1"), None);
        assert_eq!(spec(1).myid(Node::Coord(1)), None);
    }

    #[test]
    fn ports_follow_from_the_first() {
        let ports = Ports {
            base_port: 9092,
            coord_port: 2181,
        };
        assert_eq!(ports.client(Node::Broker(3)), 9094);
        assert_eq!(ports.client(Node::Coord(1)), 2181);
    }
}
