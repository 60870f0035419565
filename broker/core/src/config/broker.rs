//! A broker's configuration: the layers, and the typed result.

use std::collections::BTreeMap;

use super::definitions::BROKER_KEYS;
use super::error::{ConfigError, Warning};
use super::key::broker_key;
use super::listener::{CONTROL, Listener, PLAINTEXT};
use super::topic::TopicConfig;
use super::typed::{FromValue, typed_config};
use super::value::Value;

/// Keys and values as they were written.
pub type Properties = BTreeMap<String, String>;

/// How far above its first client port a broker's HTTP endpoints listen by default.
const HTTP_PORT_OFFSET: u16 = 20_000;

typed_config! {
    /// What a broker does, typed and checked. Numbers keep the units of their names.
    ///
    /// It also keeps its layers as they were written, for they are what a client sees as synonyms.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BrokerConfig {
        broker_id: i32 = "broker.id",
        broker_id_generation_enable: bool = "broker.id.generation.enable",
        reserved_broker_max_id: i32 = "reserved.broker.max.id",
        broker_rack: Option<String> = "broker.rack",
        zookeeper_connect: String = "zookeeper.connect",
        zookeeper_session_timeout_ms: i32 = "zookeeper.session.timeout.ms",
        zookeeper_connection_timeout_ms: Option<i32> = "zookeeper.connection.timeout.ms",
        zookeeper_max_in_flight_requests: i32 = "zookeeper.max.in.flight.requests",
        inter_broker_listener_name: Option<String> = "inter.broker.listener.name",
        control_plane_listener_name: Option<String> = "control.plane.listener.name",
        num_network_threads: i32 = "num.network.threads",
        num_io_threads: i32 = "num.io.threads",
        background_threads: i32 = "background.threads",
        queued_max_requests: i32 = "queued.max.requests",
        queued_max_request_bytes: i64 = "queued.max.request.bytes",
        socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes",
        socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes",
        socket_request_max_bytes: i32 = "socket.request.max.bytes",
        socket_listen_backlog_size: i32 = "socket.listen.backlog.size",
        max_connections: i32 = "max.connections",
        max_connections_per_ip: i32 = "max.connections.per.ip",
        connections_max_idle_ms: i64 = "connections.max.idle.ms",
        request_timeout_ms: i32 = "request.timeout.ms",
        http_host: String = "http.host",
        num_partitions: i32 = "num.partitions",
        default_replication_factor: i32 = "default.replication.factor",
        auto_create_topics_enable: bool = "auto.create.topics.enable",
        delete_topic_enable: bool = "delete.topic.enable",
        min_insync_replicas: i32 = "min.insync.replicas",
        unclean_leader_election_enable: bool = "unclean.leader.election.enable",
        log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms",
        log_initial_task_delay_ms: i64 = "log.initial.task.delay.ms",
        log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms",
        log_flush_offset_checkpoint_interval_ms: i32 = "log.flush.offset.checkpoint.interval.ms",
        log_flush_start_offset_checkpoint_interval_ms: i32 = "log.flush.start.offset.checkpoint.interval.ms",
        log_cleaner_enable: bool = "log.cleaner.enable",
        log_cleaner_threads: i32 = "log.cleaner.threads",
        log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second",
        log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size",
        log_cleaner_io_buffer_size: i32 = "log.cleaner.io.buffer.size",
        log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor",
        log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms",
        num_recovery_threads_per_data_dir: i32 = "num.recovery.threads.per.data.dir",
        replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms",
        replica_socket_timeout_ms: i32 = "replica.socket.timeout.ms",
        replica_socket_receive_buffer_bytes: i32 = "replica.socket.receive.buffer.bytes",
        replica_fetch_max_bytes: i32 = "replica.fetch.max.bytes",
        replica_fetch_wait_max_ms: i32 = "replica.fetch.wait.max.ms",
        replica_fetch_min_bytes: i32 = "replica.fetch.min.bytes",
        replica_fetch_backoff_ms: i32 = "replica.fetch.backoff.ms",
        replica_fetch_response_max_bytes: i32 = "replica.fetch.response.max.bytes",
        replica_alter_log_dirs_io_max_bytes_per_second: i64 =
            "replica.alter.log.dirs.io.max.bytes.per.second",
        num_replica_fetchers: i32 = "num.replica.fetchers",
        replica_high_watermark_checkpoint_interval_ms: i64 = "replica.high.watermark.checkpoint.interval.ms",
        controller_socket_timeout_ms: i32 = "controller.socket.timeout.ms",
        auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable",
        leader_imbalance_per_broker_percentage: i32 = "leader.imbalance.per.broker.percentage",
        leader_imbalance_check_interval_seconds: i64 = "leader.imbalance.check.interval.seconds",
        controlled_shutdown_enable: bool = "controlled.shutdown.enable",
        controlled_shutdown_max_retries: i32 = "controlled.shutdown.max.retries",
        controlled_shutdown_retry_backoff_ms: i64 = "controlled.shutdown.retry.backoff.ms",
        offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions",
        offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor",
        transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms",
        producer_id_expiration_ms: i32 = "producer.id.expiration.ms",
        fetch_max_bytes: i32 = "fetch.max.bytes",
        max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots",
    }
    also {
        /// `listeners`, with the control plane's: named, or 10000 above the first one's port.
        listeners: Vec<Listener>,
        /// `advertised.listeners`, or `listeners` if unset, with the control plane's. An empty host means this
        /// machine's own name; port 0 means the port that was bound.
        advertised_listeners: Vec<Listener>,
        /// `http.port`, or 20000 above the first listener's port; `None` if it is -1. 0 lets the system choose.
        http_port: Option<u16>,
        /// `log.dirs`, or `log.dir` if unset.
        log_dirs: Vec<String>,
        /// What a topic without overrides does.
        topic_defaults: TopicConfig,
        /// The layers, as they were written.
        layers: Layers,
    }
}

/// Where values come from, the uppermost first; the defaults lie under all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// Dynamic, for this broker.
    pub dynamic_broker: Properties,
    /// Dynamic, for all brokers.
    pub dynamic_default: Properties,
    /// The broker's file and command line.
    pub static_broker: Properties,
}

impl Layers {
    /// The value of a key that is in force, as it was written or by default; `None` if it is unset.
    pub fn value<'a>(&'a self, name: &str) -> Option<&'a str> {
        [
            &self.dynamic_broker,
            &self.dynamic_default,
            &self.static_broker,
        ]
        .into_iter()
        .find_map(|layer| layer.get(name))
        .map(String::as_str)
        .or_else(|| broker_key(name).and_then(|key| key.default))
    }

    /// The value of a key that is in force, checked; `None` if it is unset.
    pub(super) fn typed(&self, name: &'static str) -> Result<Option<Value>, ConfigError> {
        let key = broker_key(name).ok_or(ConfigError::Missing { key: name })?;
        // A nullable key that is written with nothing after it is unset, as in Kafka's sample files.
        match self.value(name) {
            Some(text) if text.trim().is_empty() && key.default.is_none() => Ok(None),
            value => value.map(|text| key.parse(text)).transpose(),
        }
    }
}

impl BrokerConfig {
    /// Builds the configuration of a broker that has just started: its file over the defaults.
    ///
    /// # Errors
    /// The first value that can not be used, in one line. Unknown keys are warnings.
    pub fn from_properties(properties: &Properties) -> Result<(Self, Vec<Warning>), ConfigError> {
        let unknown = |name: &&String| broker_key(name).is_none() && !is_listener_override(name);
        let warnings = properties
            .keys()
            .filter(unknown)
            .cloned()
            .map(Warning::UnknownKey)
            .collect();
        let layers = Layers {
            static_broker: properties.clone(),
            ..Layers::default()
        };
        Ok((Self::from_layers(layers)?, warnings))
    }

    /// The same broker under other dynamic configurations: those for all brokers, and those for this one over them.
    ///
    /// # Errors
    /// The first value that can not be used.
    pub fn with_dynamic(
        &self,
        dynamic_default: &Properties,
        dynamic_broker: &Properties,
    ) -> Result<Self, ConfigError> {
        let config = Self::from_layers(Layers {
            dynamic_broker: dynamic_broker.clone(),
            dynamic_default: dynamic_default.clone(),
            static_broker: self.layers.static_broker.clone(),
        })?;
        // An id that was generated stands in no layer.
        Ok(Self {
            broker_id: self.broker_id,
            ..config
        })
    }

    fn from_layers(layers: Layers) -> Result<Self, ConfigError> {
        // Keys that have no field are checked nevertheless: a value that can not be used is never silently kept.
        for key in BROKER_KEYS {
            layers.typed(key.name)?;
        }
        let text =
            |name: &'static str| Ok(Option::<String>::from_value(layers.typed(name)?).flatten());

        let control = text("control.plane.listener.name")?.unwrap_or_else(|| CONTROL.to_owned());
        let listeners = Listener::parse_list("listeners", &text("listeners")?.unwrap_or_default())?;
        let advertised = match text("advertised.listeners")? {
            Some(list) => advertised_listeners(&list)?,
            None => listeners.clone(),
        };
        let http_port = http_port(
            Option::from_value(layers.typed("http.port")?).flatten(),
            &listeners,
        )?;
        let listeners = Listener::with_control("listeners", &control, listeners)?;
        let advertised_listeners = match listeners.iter().find(|listener| listener.name == control)
        {
            Some(own) if !advertised.iter().any(|listener| listener.name == control) => {
                let host = advertised
                    .first()
                    .map_or_else(String::new, |first| first.host.clone());
                let control = Listener {
                    host,
                    ..own.clone()
                };
                advertised.into_iter().chain([control]).collect()
            }
            _ => advertised,
        };
        check_protocols(
            &listeners,
            text("listener.security.protocol.map")?.as_deref(),
            &control,
        )?;

        let log_dirs = text("log.dirs")?.or(text("log.dir")?).unwrap_or_default();
        let log_dirs = log_dirs
            .split(',')
            .map(str::trim)
            .filter(|dir| !dir.is_empty())
            .map(str::to_owned)
            .collect();
        let topic_defaults = TopicConfig::from_layers(&layers, &Properties::new())?;

        let config = Self::read(
            |name| layers.typed(name),
            listeners,
            advertised_listeners,
            http_port,
            log_dirs,
            topic_defaults,
            layers.clone(),
        )?;
        config.check()?;
        Ok(config)
    }

    /// What must hold between keys.
    fn check(&self) -> Result<(), ConfigError> {
        let conflict = |key, other_key, rule| {
            Err(ConfigError::Conflict {
                key,
                value: self.layers.value(key).unwrap_or_default().to_owned(),
                other_key,
                other_value: self.layers.value(other_key).unwrap_or_default().to_owned(),
                rule,
            })
        };
        if self.log_dirs.is_empty() {
            return Err(ConfigError::InvalidValue {
                key: "log.dirs".to_owned(),
                value: String::new(),
                allowed: "a list of at least one directory".to_owned(),
            });
        }
        if self.broker_id < 0 && !self.broker_id_generation_enable {
            return conflict(
                "broker.id",
                "broker.id.generation.enable",
                "without generation the id must be at least 0",
            );
        }
        if self.broker_id > self.reserved_broker_max_id && self.broker_id_generation_enable {
            return conflict(
                "broker.id",
                "reserved.broker.max.id",
                "the id must not exceed the reserved ones while broker.id.generation.enable is true",
            );
        }
        if self.replica_fetch_wait_max_ms > self.replica_socket_timeout_ms {
            return conflict(
                "replica.fetch.wait.max.ms",
                "replica.socket.timeout.ms",
                "a wait must end before its socket's timeout",
            );
        }
        if i64::from(self.replica_fetch_wait_max_ms) > self.replica_lag_time_max_ms {
            return conflict(
                "replica.fetch.wait.max.ms",
                "replica.lag.time.max.ms",
                "a waiting follower must not count as lagging",
            );
        }
        if self.queued_max_request_bytes > 0
            && self.queued_max_request_bytes < i64::from(self.socket_request_max_bytes)
        {
            return conflict(
                "queued.max.request.bytes",
                "socket.request.max.bytes",
                "the queue must hold one request of the largest size",
            );
        }
        if let Some(name) = &self.inter_broker_listener_name
            && !self
                .advertised_listeners
                .iter()
                .any(|listener| &listener.name == name)
        {
            return conflict(
                "inter.broker.listener.name",
                "advertised.listeners",
                "the name must be one of the advertised listeners",
            );
        }
        Ok(())
    }

    /// The listener whose advertised address other brokers fetch from: `inter.broker.listener.name`, or the first
    /// that is not the control plane's.
    pub fn inter_broker_listener_name(&self) -> &str {
        let control = self.control_listener_name();
        match &self.inter_broker_listener_name {
            Some(name) => name,
            None => self
                .listeners
                .iter()
                .map(|listener| listener.name.as_str())
                .find(|name| *name != control)
                .unwrap_or(PLAINTEXT),
        }
    }

    /// The name of the control plane's listener.
    pub fn control_listener_name(&self) -> &str {
        self.control_plane_listener_name
            .as_deref()
            .unwrap_or(CONTROL)
    }
}

/// Whether a key is set for one listener only: `listener.name.<listener>.<key>`.
fn is_listener_override(name: &str) -> bool {
    name.strip_prefix("listener.name.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(_, base)| broker_key(base).is_some())
}

fn advertised_listeners(list: &str) -> Result<Vec<Listener>, ConfigError> {
    let listeners = Listener::parse_list("advertised.listeners", list)?;
    match listeners
        .iter()
        .any(|listener| matches!(listener.host.as_str(), "0.0.0.0" | "::"))
    {
        true => Err(ConfigError::InvalidValue {
            key: "advertised.listeners".to_owned(),
            value: list.to_owned(),
            allowed: "a list of addresses that others can connect to, which 0.0.0.0 and :: are not"
                .to_owned(),
        }),
        false => Ok(listeners),
    }
}

fn http_port(port: Option<i32>, listeners: &[Listener]) -> Result<Option<u16>, ConfigError> {
    match (port, listeners.first()) {
        (Some(port), _) => Ok(u16::try_from(port).ok()),
        (None, Some(Listener { port: 0, .. }) | None) => Ok(Some(0)),
        (None, Some(first)) => {
            first
                .port
                .checked_add(HTTP_PORT_OFFSET)
                .map(Some)
                .ok_or(ConfigError::InvalidValue {
                    key: "http.port".to_owned(),
                    value: "null".to_owned(),
                    allowed: format!(
                        "set, for its default, 20000 above port {}, is no port",
                        first.port
                    ),
                })
        }
    }
}

/// Every listener must speak plainly: there is no TLS and no SASL yet, and a listener that a file wants protected must
/// not come up unprotected.
fn check_protocols(
    listeners: &[Listener],
    map: Option<&str>,
    control: &str,
) -> Result<(), ConfigError> {
    let map = map.unwrap_or_default();
    let pairs: Vec<(&str, &str)> = map
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .map(|(name, protocol)| (name.trim(), protocol.trim()))
        .collect();
    for listener in listeners {
        let protocol = pairs
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&listener.name))
            .map(|(_, protocol)| *protocol);
        let plain = match protocol {
            Some(protocol) => protocol.eq_ignore_ascii_case(PLAINTEXT),
            None => listener.name == control,
        };
        if !plain {
            return Err(ConfigError::InvalidValue {
                key: "listener.security.protocol.map".to_owned(),
                value: map.to_owned(),
                allowed: format!(
                    "a map that gives listener {} the protocol PLAINTEXT, the only one there is",
                    listener.name
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<Warning>), String> {
        let mut all: Properties = pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        all.entry("zookeeper.connect".to_owned())
            .or_insert_with(|| "localhost:2181".to_owned());
        BrokerConfig::from_properties(&all).map_err(|error| error.to_string())
    }

    fn addresses(listeners: &[Listener]) -> String {
        listeners
            .iter()
            .map(Listener::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    #[test]
    fn an_empty_file_gives_kafkas_defaults() {
        let (config, warnings) = load(&[]).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(config.broker_id, -1);
        assert_eq!(config.log_dirs, ["/tmp/kafka-logs"]);
        assert_eq!(
            addresses(&config.listeners),
            "PLAINTEXT://:9092,CONTROL://:19092"
        );
        assert_eq!(config.advertised_listeners, config.listeners);
        assert_eq!(config.http_port, Some(29092));
        assert_eq!(config.http_host, "127.0.0.1");
        assert_eq!(config.zookeeper_session_timeout_ms, 18_000);
        assert_eq!(config.replica_lag_time_max_ms, 30_000);
        assert_eq!(config.inter_broker_listener_name(), "PLAINTEXT");
    }

    #[test]
    fn zookeeper_must_be_named() {
        let error = load(&[("zookeeper.connect", "")]).unwrap_err();
        assert_eq!(
            error,
            "Missing required configuration \"zookeeper.connect\", which has no default value."
        );
    }

    #[test]
    fn unknown_keys_are_warnings_that_name_them() {
        let (_, warnings) = load(&[
            ("log.segment.byte", "1"),
            ("listener.name.plaintext.num.network.threads", "3"),
        ])
        .unwrap();
        let warnings: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(
            warnings,
            ["Configuration log.segment.byte is not known and has no effect"]
        );
    }

    #[test]
    fn a_key_without_a_field_is_checked_too() {
        assert_eq!(
            load(&[("log.cleaner.threads", "-3")]).unwrap_err(),
            "Invalid value -3 for configuration log.cleaner.threads: must be an integer of 32 bits of at least 0"
        );
    }

    #[test]
    fn listeners_may_name_the_control_plane_and_be_advertised_otherwise() {
        let (config, _) = load(&[
            (
                "listeners",
                "PLAINTEXT://0.0.0.0:9092,CONTROL://0.0.0.0:7000",
            ),
            ("advertised.listeners", "PLAINTEXT://broker-1:9092"),
        ])
        .unwrap();
        assert_eq!(
            addresses(&config.advertised_listeners),
            "PLAINTEXT://broker-1:9092,CONTROL://broker-1:7000"
        );
        assert!(load(&[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")]).is_err());
    }

    #[test]
    fn a_listener_that_wants_protection_is_refused() {
        assert!(
            load(&[("listeners", "SSL://:9093")])
                .unwrap_err()
                .contains("listener SSL the protocol PLAINTEXT")
        );
        assert!(load(&[("listeners", "INTERNAL://:9093")]).is_err());
        let map = ("listener.security.protocol.map", "INTERNAL:PLAINTEXT");
        assert!(load(&[("listeners", "INTERNAL://:9093"), map]).is_ok());
    }

    #[test]
    fn log_dirs_go_before_log_dir() {
        let (config, _) = load(&[("log.dir", "/a"), ("log.dirs", "/b, /c")]).unwrap();
        assert_eq!(config.log_dirs, ["/b", "/c"]);
        assert!(load(&[("log.dirs", ",")]).is_err());
    }

    #[test]
    fn contradictions_name_both_keys() {
        let error = load(&[("broker.id", "1001")]).unwrap_err();
        assert!(
            error.contains("broker.id=1001 and reserved.broker.max.id=1000"),
            "{error}"
        );
        assert!(
            load(&[
                ("broker.id", "1001"),
                ("broker.id.generation.enable", "false")
            ])
            .is_ok()
        );
        assert!(load(&[("broker.id.generation.enable", "false")]).is_err());
        assert!(load(&[("replica.fetch.wait.max.ms", "30001")]).is_err());
    }

    #[test]
    fn http_may_be_turned_off() {
        assert_eq!(load(&[("http.port", "-1")]).unwrap().0.http_port, None);
        assert_eq!(load(&[("http.port", "0")]).unwrap().0.http_port, Some(0));
        assert_eq!(
            load(&[("listeners", "PLAINTEXT://:0")])
                .unwrap()
                .0
                .http_port,
            Some(0)
        );
    }
}
