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

    /// The configuration file of `node`.
    pub fn config(
        &self,
        node: Node,
        address: &NodeAddress,
        zookeeper_connect: &str,
        data_dir: &str,
    ) -> Properties {
        let NodeAddress { bind, host, port } = address;
        let mut config = Properties::default();
        match node {
            Node::Coord(_) => {
                config.set("dataDir", data_dir);
                config.set("clientPort", port);
                config.set("clientPortAddress", bind);
                config.set("admin.serverAddress", bind);
                config.set("admin.serverPort", address.http_port());
                // So that a broker may ask for a session that is short, or as long as Kafka's default.
                config.set("tickTime", 200);
                config.set("minSessionTimeout", 400);
                config.set("maxSessionTimeout", 60_000);
                config.extend(&self.coord_settings);
            }
            Node::Broker(id) => {
                let control_port = address.control_port();
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
                config.set("http.port", address.http_port());
                config.set("zookeeper.connect", zookeeper_connect);
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
    fn ports_follow_from_the_first() {
        let ports = Ports {
            base_port: 9092,
            coord_port: 2181,
        };
        assert_eq!(ports.client(Node::Broker(3)), 9094);
        assert_eq!(ports.client(Node::Coord(1)), 2181);
    }
}
