//! Addresses that a broker listens on and tells others.

use std::fmt;

use super::error::ConfigError;

/// The listener of clients and followers, where no other is named.
pub const PLAINTEXT: &str = "PLAINTEXT";
/// The listener of the control plane.
pub const CONTROL: &str = "CONTROL";

/// How far above its client port a broker's control plane listens by default.
const CONTROL_PORT_OFFSET: u16 = 10_000;

/// One named address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listener {
    /// The listener's name, in capitals.
    pub name: String,
    /// The host; empty means all interfaces, or, where it is advertised, this machine's own name.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl Listener {
    /// The address as `host:port`, which a socket can be bound to; an empty host becomes `0.0.0.0`.
    pub fn bind_address(&self) -> String {
        match self.host.as_str() {
            "" => format!("0.0.0.0:{}", self.port),
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }

    /// Reads one `NAME://host:port`; a host with colons stands in brackets.
    fn parse(text: &str) -> Option<Self> {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let name_is_sound = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let host_is_sound =
            !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']'));
        (name_is_sound && host_is_sound).then_some(())?;
        Some(Self {
            name: name.to_ascii_uppercase(),
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    /// Reads a list of listeners, each name once.
    pub(super) fn parse_list(key: &str, text: &str) -> Result<Vec<Self>, ConfigError> {
        let invalid = |allowed: &str| ConfigError::InvalidValue {
            key: key.to_owned(),
            value: text.to_owned(),
            allowed: allowed.to_owned(),
        };
        let mut listeners: Vec<Self> = Vec::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let listener = Self::parse(item).ok_or_else(|| {
                invalid("a list of NAME://host:port, separated by commas, with ports up to 65535")
            })?;
            if listeners.iter().any(|other| other.name == listener.name) {
                return Err(invalid("a list in which each listener's name stands once"));
            }
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Err(invalid("a list of at least one NAME://host:port"));
        }
        Ok(listeners)
    }

    /// Adds the control plane's listener to a list that names none: on the host of the first listener, 10000 above
    /// its port. A system-chosen port stays system-chosen.
    pub(super) fn with_control(
        key: &str,
        name: &str,
        mut listeners: Vec<Self>,
    ) -> Result<Vec<Self>, ConfigError> {
        if listeners.iter().any(|listener| listener.name == name) {
            return Ok(listeners);
        }
        let Some(first) = listeners.first().cloned() else {
            return Ok(listeners);
        };
        let port = match first.port {
            0 => Some(0),
            port => port.checked_add(CONTROL_PORT_OFFSET),
        };
        let port = port.ok_or_else(|| ConfigError::InvalidValue {
            key: key.to_owned(),
            value: first.to_string(),
            allowed: format!(
                "a list that names {name}, for its default, 10000 above port {}, is no port",
                first.port
            ),
        })?;
        listeners.push(Self {
            name: name.to_owned(),
            port,
            ..first
        });
        Ok(listeners)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}://[{}]:{}", self.name, self.host, self.port),
            false => write!(f, "{}://{}:{}", self.name, self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        let text = "PLAINTEXT://localhost:9092,CONTROL://[::1]:19092,INTERNAL://:0";
        let listeners = Listener::parse_list("listeners", text).unwrap();
        let written: Vec<String> = listeners.iter().map(Listener::to_string).collect();
        assert_eq!(written.join(","), text);
        let bound: Vec<String> = listeners.iter().map(Listener::bind_address).collect();
        assert_eq!(bound, ["localhost:9092", "[::1]:19092", "0.0.0.0:0"]);
    }

    #[test]
    fn a_wrong_list_is_one_clear_error() {
        for text in [
            "localhost:9092",
            "PLAINTEXT://localhost",
            "PLAINTEXT://h:70000",
            "P T://h:1",
            "A://h:1/x",
            "",
        ] {
            let error = Listener::parse_list("listeners", text)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(&format!(
                    "Invalid value {text} for configuration listeners: must be "
                )),
                "{error}"
            );
        }
        assert!(Listener::parse_list("listeners", "A://h:1,a://h:2").is_err());
    }

    #[test]
    fn the_control_plane_listens_10000_above() {
        let parse = |text: &str| {
            Listener::with_control(
                "listeners",
                CONTROL,
                Listener::parse_list("listeners", text)?,
            )
        };
        assert_eq!(
            parse("PLAINTEXT://h:9093").unwrap()[1].to_string(),
            "CONTROL://h:19093"
        );
        assert_eq!(
            parse("PLAINTEXT://h:0").unwrap()[1].to_string(),
            "CONTROL://h:0"
        );
        assert_eq!(parse("PLAINTEXT://h:1,CONTROL://h:2").unwrap().len(), 2);
        assert!(parse("PLAINTEXT://h:60000").is_err());
    }
}
