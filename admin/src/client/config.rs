//! What a client is told: whom to ask first, and how long to wait.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::options::UsageError;

/// How a client behaves; the names are those of Kafka's clients.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// `bootstrap.servers`: the brokers to ask first, each `host:port`.
    pub(crate) bootstrap_servers: Vec<String>,
    /// `client.id`.
    pub(crate) client_id: String,
    /// `default.api.timeout.ms`: how long a whole command may take to get an answer.
    pub(crate) default_api_timeout: Duration,
    /// `request.timeout.ms`: how long one broker may take to answer a request that changes something.
    pub(crate) request_timeout: Duration,
    /// `retry.backoff.ms`: the first rest between two tries; later ones double, up to a second.
    pub(crate) retry_backoff: Duration,
    /// How long a connection may take to open and to say what it speaks, and how long a question that any broker can
    /// answer waits for one of them. Not an option of Kafka's: it is what keeps a dead broker from holding a command up.
    pub(crate) try_timeout: Duration,
}

impl ClientConfig {
    /// Reads `--bootstrap-server` and a file of client properties.
    ///
    /// # Errors
    /// If an address is not `host:port`, a number is none, or the properties ask for TLS or SASL, which this client
    /// does not speak.
    pub(crate) fn new(
        bootstrap_servers: &str,
        default_client_id: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, UsageError> {
        let servers: Vec<String> = bootstrap_servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            .map(str::to_owned)
            .collect();
        if servers.is_empty() {
            return Err(UsageError(
                "No server given: --bootstrap-server takes host:port, separated by commas"
                    .to_owned(),
            ));
        }
        if let Some(server) = servers.iter().find(|server| !is_address(server)) {
            return Err(UsageError(format!(
                "Invalid server {server}: must be host:port"
            )));
        }
        if let Some(protocol) = properties
            .get("security.protocol")
            .filter(|protocol| protocol.trim() != "PLAINTEXT")
        {
            return Err(UsageError(format!(
                "Invalid value {protocol} for configuration security.protocol: must be PLAINTEXT"
            )));
        }
        let millis = |key: &str, default: u64| {
            match properties.get(key) {
            None => Ok(Duration::from_millis(default)),
            Some(value) => value.trim().parse().map(Duration::from_millis).map_err(|_| {
                UsageError(format!("Invalid value {value} for configuration {key}: must be a number of milliseconds"))
            }),
        }
        };
        Ok(Self {
            bootstrap_servers: servers,
            client_id: properties
                .get("client.id")
                .map_or(default_client_id, String::as_str)
                .to_owned(),
            default_api_timeout: millis("default.api.timeout.ms", 60_000)?,
            request_timeout: millis("request.timeout.ms", 30_000)?,
            retry_backoff: millis("retry.backoff.ms", 100)?,
            try_timeout: Duration::from_secs(3),
        })
    }

    /// How long to rest before the next try; `failures` have gone before.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        let longest = Duration::from_secs(1).max(self.retry_backoff);
        self.retry_backoff
            .saturating_mul(1 << failures.min(10))
            .min(longest)
    }
}

fn is_address(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &str, properties: &[(&str, &str)]) -> Result<ClientConfig, String> {
        let properties = properties
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        ClientConfig::new(servers, "adminclient-1", &properties).map_err(|error| error.0)
    }

    #[test]
    fn servers_are_addresses() {
        assert_eq!(
            config("a:1, [::1]:2,", &[]).unwrap().bootstrap_servers,
            ["a:1", "[::1]:2"]
        );
        assert!(config("", &[]).is_err());
        assert_eq!(
            config("localhost", &[]).unwrap_err(),
            "Invalid server localhost: must be host:port"
        );
        assert!(config("localhost:0", &[]).is_err());
    }

    #[test]
    fn properties_change_the_waits() {
        let config = config(
            "a:1",
            &[("default.api.timeout.ms", "5"), ("client.id", "me")],
        )
        .unwrap();
        assert_eq!(config.default_api_timeout, Duration::from_millis(5));
        assert_eq!(config.client_id, "me");
        assert_eq!(config.backoff(0), Duration::from_millis(100));
        assert_eq!(config.backoff(2), Duration::from_millis(400));
        assert_eq!(config.backoff(40), Duration::from_secs(1));
    }

    #[test]
    fn what_can_not_be_spoken_is_refused() {
        assert!(
            config("a:1", &[("security.protocol", "SSL")])
                .unwrap_err()
                .contains("must be PLAINTEXT")
        );
        assert!(config("a:1", &[("request.timeout.ms", "soon")]).is_err());
    }
}
