//! The nodes that say who the brokers are: `/cluster/id`, `/controller`, `/controller_epoch`,
//! `/brokers/ids/N`, `/brokers/seqid`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::{DecodeError, from_json, number_or_text, to_json};

/// The cluster's id, written once by the first broker.
pub const CLUSTER_ID: &str = "/cluster/id";
/// The ephemeral node of the controller.
pub const CONTROLLER: &str = "/controller";
/// The epoch of the controller: every write of a controller checks this node's version.
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
/// The parent of the brokers' ephemeral nodes.
pub const BROKER_IDS: &str = "/brokers/ids";
/// Its version numbers the broker ids that are generated.
pub const SEQUENCE_ID: &str = "/brokers/seqid";

/// `/brokers/ids/N`.
pub fn broker_id_path(broker_id: i32) -> String {
    format!("{BROKER_IDS}/{broker_id}")
}

/// The value of `/cluster/id`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClusterId {
    /// 22 characters of base64url.
    pub id: String,
}

impl ClusterId {
    /// Its JSON.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&json!({ "version": "1", "id": self.id }))
    }

    /// Reads its JSON.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        from_json(CLUSTER_ID, data)
    }
}

/// The value of `/controller`: who is the controller.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ControllerRegistration {
    /// Its broker id.
    #[serde(rename = "brokerid")]
    pub broker_id: i32,
    /// When it was elected, in ms since 1970.
    #[serde(default, rename = "timestamp", deserialize_with = "number_or_text")]
    pub timestamp_ms: i64,
}

impl ControllerRegistration {
    /// Its JSON, version 2.
    pub fn encode(&self) -> Vec<u8> {
        to_json(&json!({
            "version": 2,
            "brokerid": self.broker_id,
            "timestamp": self.timestamp_ms.to_string(),
            "kraftControllerEpoch": -1,
        }))
    }

    /// Reads versions 1 and 2.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        from_json(CONTROLLER, data)
    }
}

/// The value of `/controller_epoch`: decimal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControllerEpoch(
    /// 0 where no controller was ever elected; the first controller's is 1.
    pub i32,
);

impl ControllerEpoch {
    /// Its text.
    pub fn encode(self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// Reads its text.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        std::str::from_utf8(data)
            .map_err(|error| DecodeError::new(CONTROLLER_EPOCH, error))?
            .trim()
            .parse()
            .map(Self)
            .map_err(|error| DecodeError::new(CONTROLLER_EPOCH, error))
    }
}

/// One endpoint of a broker, `NAME://host:port` in its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// The listener's name.
    pub listener: String,
    /// What the listener speaks below the protocol: PLAINTEXT, SSL, …
    pub security_protocol: String,
    /// Where to connect to.
    pub host: String,
    /// Where to connect to.
    pub port: u16,
}

impl BrokerEndpoint {
    fn parse(text: &str, protocols: &BTreeMap<String, String>) -> Result<Self, String> {
        let malformed = || format!("endpoint {text:?} is not NAME://host:port");
        let (listener, address) = text.split_once("://").ok_or_else(malformed)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        // Before version 4 the listener's name is its protocol.
        let security_protocol = protocols
            .get(listener)
            .cloned()
            .unwrap_or_else(|| listener.to_owned());
        Ok(Self {
            listener: listener.to_owned(),
            security_protocol,
            host: host.to_owned(),
            port,
        })
    }

    fn text(&self) -> String {
        if self.host.contains(':') {
            format!("{}://[{}]:{}", self.listener, self.host, self.port)
        } else {
            format!("{}://{}:{}", self.listener, self.host, self.port)
        }
    }
}

/// The value of `/brokers/ids/N`: where a live broker is reached. Its epoch is the node's czxid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Where it listens, the clients' listener first.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// When it registered, in ms since 1970.
    pub timestamp_ms: i64,
}

#[derive(Deserialize)]
struct RawBroker {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    port: Option<i32>,
    #[serde(default, deserialize_with = "number_or_text")]
    timestamp: i64,
    #[serde(default)]
    endpoints: Option<Vec<String>>,
    #[serde(default)]
    rack: Option<String>,
    #[serde(default)]
    listener_security_protocol_map: BTreeMap<String, String>,
}

impl BrokerRegistration {
    /// The endpoint of that listener.
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }

    /// Its JSON, version 5.
    pub fn encode(&self) -> Vec<u8> {
        let plaintext = self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.security_protocol == "PLAINTEXT");
        let protocols: BTreeMap<_, _> = self
            .endpoints
            .iter()
            .map(|endpoint| (&endpoint.listener, &endpoint.security_protocol))
            .collect();
        let mut value = json!({
            "version": 5,
            "host": plaintext.map(|endpoint| &endpoint.host),
            "port": plaintext.map_or(-1, |endpoint| i32::from(endpoint.port)),
            "jmx_port": -1,
            "timestamp": self.timestamp_ms.to_string(),
            "endpoints": self.endpoints.iter().map(BrokerEndpoint::text).collect::<Vec<_>>(),
            "listener_security_protocol_map": protocols,
            "features": {},
        });
        if let (Some(rack), Some(object)) = (&self.rack, value.as_object_mut()) {
            object.insert("rack".to_owned(), json!(rack));
        }
        to_json(&value)
    }

    /// Reads versions 1 to 5; version 1 has a host and a port and nothing else.
    pub fn decode(broker_id: i32, data: &[u8]) -> Result<Self, DecodeError> {
        let path = broker_id_path(broker_id);
        let raw: RawBroker = from_json(&path, data)?;
        let endpoints = match (raw.endpoints, raw.host, raw.port) {
            (Some(texts), _, _) => texts
                .iter()
                .map(|text| BrokerEndpoint::parse(text, &raw.listener_security_protocol_map))
                .collect::<Result<_, _>>()
                .map_err(|cause| DecodeError::new(&path, cause))?,
            (None, Some(host), Some(port)) => vec![BrokerEndpoint {
                listener: "PLAINTEXT".to_owned(),
                security_protocol: "PLAINTEXT".to_owned(),
                host,
                port: port
                    .try_into()
                    .map_err(|error| DecodeError::new(&path, error))?,
            }],
            _ => {
                return Err(DecodeError::new(
                    &path,
                    "neither endpoints nor host and port",
                ));
            }
        };
        Ok(Self {
            endpoints,
            rack: raw.rack,
            timestamp_ms: raw.timestamp,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn endpoint()(
            listener in "[A-Z_]{1,12}",
            security_protocol in prop::sample::select(vec!["PLAINTEXT", "SSL", "SASL_SSL"]),
            host in prop_oneof!["[a-z0-9.-]{1,20}", Just("::1".to_owned())],
            port: u16,
        ) -> BrokerEndpoint {
            BrokerEndpoint { listener, security_protocol: security_protocol.to_owned(), host, port }
        }
    }

    prop_compose! {
        fn registration()(
            endpoints in prop::collection::vec(endpoint(), 1..4),
            rack in prop::option::of("[a-z]{1,8}"),
            timestamp_ms in 0i64..,
        ) -> BrokerRegistration {
            let mut seen = std::collections::BTreeSet::new();
            let endpoints = endpoints.into_iter().filter(|e| seen.insert(e.listener.clone())).collect();
            BrokerRegistration { endpoints, rack, timestamp_ms }
        }
    }

    proptest! {
        #[test]
        fn registration_round_trips(registration in registration()) {
            prop_assert_eq!(BrokerRegistration::decode(1, &registration.encode()), Ok(registration));
        }

        #[test]
        fn controller_round_trips(broker_id in 0i32.., timestamp_ms in 0i64..) {
            let node = ControllerRegistration { broker_id, timestamp_ms };
            prop_assert_eq!(ControllerRegistration::decode(&node.encode()), Ok(node));
        }

        #[test]
        fn controller_epoch_round_trips(epoch in 0i32..) {
            let node = ControllerEpoch(epoch);
            prop_assert_eq!(ControllerEpoch::decode(&node.encode()), Ok(node));
        }

        #[test]
        fn cluster_id_round_trips(id in "[A-Za-z0-9_-]{22}") {
            let node = ClusterId { id };
            prop_assert_eq!(ClusterId::decode(&node.encode()), Ok(node));
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(data: Vec<u8>) {
            let _ = BrokerRegistration::decode(1, &data);
            let _ = ControllerRegistration::decode(&data);
            let _ = ControllerEpoch::decode(&data);
            let _ = ClusterId::decode(&data);
        }
    }

    #[test]
    fn versions_of_older_brokers_are_read() {
        let v1 = br#"{"version":1,"host":"h","port":9092,"jmx_port":-1,"timestamp":"17"}"#;
        let v4 = br#"{"version":4,"host":"h","port":9092,"jmx_port":-1,"timestamp":"17","endpoints":["PLAINTEXT://h:9092"],"rack":"r","listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"}}"#;
        let v1 = BrokerRegistration::decode(1, v1).unwrap();
        let v4 = BrokerRegistration::decode(1, v4).unwrap();
        assert_eq!(v1.endpoints, v4.endpoints);
        assert_eq!((v4.rack.as_deref(), v4.timestamp_ms), (Some("r"), 17));
        let controller =
            ControllerRegistration::decode(br#"{"version":1,"brokerid":3,"timestamp":"5"}"#)
                .unwrap();
        assert_eq!((controller.broker_id, controller.timestamp_ms), (3, 5));
    }
}
