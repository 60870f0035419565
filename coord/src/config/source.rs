//! From a file and `--set` to keys and values, and from those to typed values.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// What ZooKeeper puts in front of the keys that it takes as JVM properties; here any key may have it.
const PREFIX: &str = "zookeeper.";

/// The largest file that is read for settings, in bytes.
const FILE_MAX_LEN: u64 = 1024 * 1024;

/// The keys and values of a file (TOML if its name ends in .toml, else properties as in zoo.cfg), then those of `set`.
pub fn load(file: Option<&Path>, set: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut pairs = BTreeMap::new();
    if let Some(file) = file {
        let is_toml = file
            .extension()
            .is_some_and(|extension| extension == "toml");
        if is_toml {
            toml_file(file, &mut pairs)?;
        } else {
            properties_file(file, &mut pairs)?;
        }
    }
    for line in set {
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| ConfigError::NotAPair { line: line.clone() })?;
        insert(&mut pairs, key, value);
    }
    Ok(pairs)
}

fn insert(pairs: &mut BTreeMap<String, String>, key: &str, value: &str) {
    let key = key.trim();
    let key = key.strip_prefix(PREFIX).unwrap_or(key);
    pairs.insert(key.to_owned(), value.trim().to_owned());
}

/// The whole of a file that is named in the settings, or the settings themselves.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |cause: String| ConfigError::Unreadable {
        path: path.display().to_string(),
        cause,
    };
    let len = std::fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if len > FILE_MAX_LEN {
        return Err(unreadable(format!(
            "{len} bytes, and {FILE_MAX_LEN} are taken"
        )));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}

/// A Java properties file, as ZooKeeper reads zoo.cfg.
pub(super) fn properties_file(
    path: &Path,
    pairs: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let text = read_file(path)?;
    java_properties::PropertiesIter::new(&text[..])
        .read_into(|key, value| insert(pairs, &key, &value))
        .map_err(|error| ConfigError::Malformed {
            path: path.display().to_string(),
            cause: error.to_string(),
        })
}

fn toml_file(path: &Path, pairs: &mut BTreeMap<String, String>) -> Result<(), ConfigError> {
    let malformed = |cause: String| ConfigError::Malformed {
        path: path.display().to_string(),
        cause,
    };
    let text = String::from_utf8(read_file(path)?).map_err(|error| malformed(error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| malformed(error.message().to_owned()))?;
    flatten("", &table, pairs);
    Ok(())
}

/// Nested tables are dotted keys: `[admin] serverPort` is `admin.serverPort`. Lists are joined by commas.
fn flatten(prefix: &str, table: &toml::Table, pairs: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, pairs),
            toml::Value::Array(items) => {
                let items: Vec<_> = items.iter().map(scalar).collect();
                insert(pairs, &key, &items.join(","));
            }
            value => insert(pairs, &key, &scalar(value)),
        }
    }
}

fn scalar(value: &toml::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The keys and values that are left to take.
pub(super) struct Pairs(pub(super) BTreeMap<String, String>);

impl Pairs {
    /// Takes the value of `key`; an empty one counts as not set.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).filter(|value| !value.is_empty())
    }

    /// Takes every key that begins with `prefix`; gives back what stands behind it, with the values.
    pub(super) fn take_all(&mut self, prefix: &str) -> Vec<(String, String)> {
        let keys: Vec<String> = self
            .0
            .range(prefix.to_owned()..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(prefix))
            .collect();
        keys.into_iter()
            .filter_map(|key| {
                let value = self.take(&key)?;
                Some((key[prefix.len()..].to_owned(), value))
            })
            .collect()
    }

    /// A whole number, in decimal or, as in Java, in hexadecimal behind `0x`.
    pub(super) fn number(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let parsed = match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => value.parse::<u64>(),
        };
        match parsed {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let allowed = format!("a whole number from {} to {}", range.start(), range.end());
                Err(ConfigError::value(key, value, allowed))
            }
        }
    }

    /// `true` or `false`, in any case.
    pub(super) fn switch(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(ConfigError::value(key, value, "true or false")),
        }
    }

    /// Likewise, and `yes` or `no`, as ZooKeeper has some properties of its JVM.
    pub(super) fn yes_or_no(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.0.get(key).map(String::as_str) {
            Some(value @ ("yes" | "no")) => {
                let yes = value == "yes";
                self.take(key);
                Ok(yes)
            }
            _ => self.switch(key, default),
        }
    }

    pub(super) fn port(&mut self, key: &str) -> Result<Option<u16>, ConfigError> {
        let port = self.number(key, 0..=u64::from(u16::MAX))?;
        Ok(port.map(|port| port as u16))
    }

    /// The address to listen on: an IP address, or a name that stands for one.
    pub(super) fn address(&mut self, key: &str, default: IpAddr) -> Result<IpAddr, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(value) => resolve(key, &value, 0).map(|address| address.ip()),
        }
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.take(key).map(PathBuf::from)
    }

    /// Refuses to go on without a protection that was asked for and is not there.
    pub(super) fn refuse_true(&mut self, key: &str) -> Result<(), ConfigError> {
        if self.switch(key, false)? {
            let allowed =
                "false: there is no such check here, and going on without it would hide that";
            return Err(ConfigError::value(key, "true".to_owned(), allowed));
        }
        Ok(())
    }
}

/// The address of `host`, which is the value of `key` or a part of it.
pub(super) fn resolve(key: &str, host: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let addresses = (host, port).to_socket_addrs();
    addresses
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| {
            let allowed = "an IPv4 or IPv6 address, or a name that has one";
            ConfigError::value(key, host.to_owned(), allowed)
        })
}
