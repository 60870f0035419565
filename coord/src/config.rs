//! The settings: ZooKeeper's names and defaults, from a zoo.cfg or a TOML file and `--set key=value`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The keys, for `--help`.
pub(crate) const HELP: &str = "\
Keys, as in ZooKeeper (times in milliseconds):
  dataDir                    where the log and the snapshots are; has no default
  clientPort                 2181; 0 takes a free one, which stderr tells
  clientPortAddress          0.0.0.0
  tickTime                   2000; only the unit of the next two
  minSessionTimeout          2 * tickTime
  maxSessionTimeout          20 * tickTime
  maxClientCnxns             60 connections per client address; 0 is unlimited
  4lw.commands.whitelist     srvr,ruok,mntr; also envi; * is all
  admin.serverPort           off; /livez, /readyz and /metrics over HTTP
  admin.serverAddress        127.0.0.1
  snapCount                  100000 log entries between two snapshots
  jute.maxbuffer             1048575 bytes in the largest request";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// `dataDir`: where the log and the snapshots are. Has no default.
    pub(crate) data_dir: PathBuf,
    /// `clientPortAddress` and `clientPort`: where clients connect. Port 0 takes a free one.
    pub(crate) client_address: SocketAddr,
    /// `minSessionTimeout`, in milliseconds; twice `tickTime` if not set.
    pub(crate) min_session_timeout_ms: u32,
    /// `maxSessionTimeout`, in milliseconds; twenty times `tickTime` if not set.
    pub(crate) max_session_timeout_ms: u32,
    /// `maxClientCnxns`: connections per client address; 0 is unlimited.
    pub(crate) max_client_cnxns: usize,
    /// `4lw.commands.whitelist`: the four-letter words that are answered.
    pub(crate) four_letter_words: Vec<String>,
    /// `admin.serverAddress` and `admin.serverPort`: HTTP; off unless a port is set.
    pub(crate) admin_address: Option<SocketAddr>,
    /// `snapCount`: log entries between two snapshots.
    pub(crate) snap_count: u64,
    /// `jute.maxbuffer`: the largest request, in bytes.
    pub(crate) jute_maxbuffer: usize,
}

/// What to tell the user, in one line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {cause}")]
    Unreadable { path: String, cause: String },
    #[error("{path}: {cause}")]
    NotToml { path: String, cause: String },
    #[error("{place}: {line:?} is not of the form key=value")]
    NotAPair { place: String, line: String },
    #[error("{key}={value} is not allowed: it must be {allowed}")]
    Value {
        key: String,
        value: String,
        allowed: String,
    },
    #[error(
        "dataDir is not set: name a directory for the log and the snapshots, in the file or by --set dataDir=DIR"
    )]
    NoDataDir,
}

/// The keys and values of a file (TOML if its name ends in .toml, else properties as in zoo.cfg), then those of `set`.
pub(crate) fn load(
    file: Option<&Path>,
    set: &[String],
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut pairs = BTreeMap::new();
    if let Some(file) = file {
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
            path: path.clone(),
            cause: error.to_string(),
        })?;
        if file
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let table: toml::Table =
                text.parse()
                    .map_err(|error: toml::de::Error| ConfigError::NotToml {
                        path,
                        cause: error.message().to_owned(),
                    })?;
            flatten("", &table, &mut pairs);
        } else {
            properties(&path, &text, &mut pairs)?;
        }
    }
    for line in set {
        insert_pair("--set", line, &mut pairs)?;
    }
    Ok(pairs)
}

fn properties(
    path: &str,
    text: &str,
    pairs: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with(['#', '!']) {
            insert_pair(&format!("{path}, line {}", at + 1), line, pairs)?;
        }
    }
    Ok(())
}

fn insert_pair(
    place: &str,
    line: &str,
    pairs: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let not_a_pair = || ConfigError::NotAPair {
        place: place.to_owned(),
        line: line.to_owned(),
    };
    let (key, value) = line.split_once('=').ok_or_else(not_a_pair)?;
    pairs.insert(key.trim().to_owned(), value.trim().to_owned());
    Ok(())
}

/// Nested tables are dotted keys: `[admin] serverPort` is `admin.serverPort`. Lists are joined by commas.
fn flatten(prefix: &str, table: &toml::Table, pairs: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, pairs),
            toml::Value::Array(items) => {
                pairs.insert(key, items.iter().map(scalar).collect::<Vec<_>>().join(","));
            }
            value => {
                pairs.insert(key, scalar(value));
            }
        }
    }
}

fn scalar(value: &toml::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The keys and values that are left to take.
struct Pairs(BTreeMap<String, String>);

impl Pairs {
    /// Takes `key`, with ZooKeeper's prefix for JVM properties or without.
    fn take(&mut self, key: &str) -> Option<String> {
        let prefixed = self.0.remove(&format!("zookeeper.{key}"));
        self.0.remove(key).or(prefixed)
    }

    fn number(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.parse::<u64>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let allowed = format!("a whole number from {} to {}", range.start(), range.end());
                Err(ConfigError::Value {
                    key: key.to_owned(),
                    value,
                    allowed,
                })
            }
        }
    }

    fn address(&mut self, key: &str, default: IpAddr) -> Result<IpAddr, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(default);
        };
        value.parse().map_err(|_| ConfigError::Value {
            key: key.to_owned(),
            value,
            allowed: "an IPv4 or IPv6 address".to_owned(),
        })
    }
}

/// The four-letter words that exist here.
pub(crate) const FOUR_LETTER_WORDS: [&str; 4] = ["ruok", "srvr", "mntr", "envi"];

impl Config {
    /// Checks every key; gives back those that mean nothing here too.
    pub(crate) fn from_pairs(
        pairs: BTreeMap<String, String>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        const MS: std::ops::RangeInclusive<u64> = 1..=24 * 3600 * 1000;
        let mut pairs = Pairs(pairs);
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let tick_time_ms = pairs.number("tickTime", 1..=60_000)?.unwrap_or(2000);
        let min = pairs
            .number("minSessionTimeout", MS)?
            .unwrap_or(2 * tick_time_ms);
        let max_value = pairs.number("maxSessionTimeout", MS)?;
        let max = max_value.unwrap_or((20 * tick_time_ms).max(min));
        if max < min {
            return Err(ConfigError::Value {
                key: "maxSessionTimeout".to_owned(),
                value: max.to_string(),
                allowed: format!("at least minSessionTimeout, which is {min}"),
            });
        }
        let client_ip = pairs.address("clientPortAddress", any)?;
        let client_port = pairs.number("clientPort", 0..=65535)?.unwrap_or(2181) as u16;
        let admin_ip = pairs.address("admin.serverAddress", loopback)?;
        let admin_port = pairs
            .number("admin.serverPort", 0..=65535)?
            .filter(|&port| port != 0);
        let words = pairs
            .take("4lw.commands.whitelist")
            .unwrap_or_else(|| "srvr,ruok,mntr".to_owned());
        let config = Config {
            data_dir: pairs
                .take("dataDir")
                .filter(|dir| !dir.is_empty())
                .ok_or(ConfigError::NoDataDir)?
                .into(),
            client_address: SocketAddr::new(client_ip, client_port),
            min_session_timeout_ms: min as u32,
            max_session_timeout_ms: max as u32,
            max_client_cnxns: pairs.number("maxClientCnxns", 0..=1_000_000)?.unwrap_or(60) as usize,
            four_letter_words: whitelist(&words),
            admin_address: admin_port.map(|port| SocketAddr::new(admin_ip, port as u16)),
            snap_count: pairs
                .number("snapCount", 2..=1_000_000_000)?
                .unwrap_or(100_000),
            jute_maxbuffer: pairs
                .number("jute.maxbuffer", 1024..=1 << 30)?
                .unwrap_or(0xf_ffff) as usize,
        };
        Ok((config, pairs.0.into_keys().collect()))
    }
}

fn whitelist(words: &str) -> Vec<String> {
    let words = words.split(',').map(str::trim);
    if words.clone().any(|word| word == "*") {
        return FOUR_LETTER_WORDS.map(str::to_owned).to_vec();
    }
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
        let set: Vec<String> = ["dataDir=/d"]
            .iter()
            .chain(set)
            .map(|pair| pair.to_string())
            .collect();
        Config::from_pairs(load(None, &set)?)
    }

    #[test]
    fn defaults_are_zookeepers() {
        let (config, unknown) = config(&[]).unwrap();
        assert!(unknown.is_empty());
        assert_eq!(config.client_address, "0.0.0.0:2181".parse().unwrap());
        assert_eq!(
            (config.min_session_timeout_ms, config.max_session_timeout_ms),
            (4000, 40_000)
        );
        assert_eq!(
            (
                config.max_client_cnxns,
                config.snap_count,
                config.jute_maxbuffer
            ),
            (60, 100_000, 0xf_ffff)
        );
        assert_eq!(config.four_letter_words, ["srvr", "ruok", "mntr"]);
        assert_eq!(config.admin_address, None);
    }

    #[test]
    fn a_bad_value_names_key_value_and_what_is_allowed() {
        let error = config(&["clientPort=99999"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "clientPort=99999 is not allowed: it must be a whole number from 0 to 65535"
        );
        let error = config(&["maxSessionTimeout=10"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "maxSessionTimeout=10 is not allowed: it must be at least minSessionTimeout, which is 4000"
        );
        assert_eq!(
            Config::from_pairs(BTreeMap::new()).unwrap_err(),
            ConfigError::NoDataDir
        );
        assert!(matches!(
            config(&["clientPort"]),
            Err(ConfigError::NotAPair { .. })
        ));
    }

    #[test]
    fn unknown_keys_come_back() {
        let (_, unknown) = config(&["initLimit=5", "tickTime=100"]).unwrap();
        assert_eq!(unknown, ["initLimit"]);
    }

    #[test]
    fn both_file_formats_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let properties = dir.path().join("zoo.cfg");
        std::fs::write(
            &properties,
            "# a comment\ndataDir = /d\nadmin.serverPort=8080\n4lw.commands.whitelist=*\n",
        )
        .unwrap();
        let toml = dir.path().join("coord.toml");
        std::fs::write(
            &toml,
            "dataDir = '/d'\n\"4lw.commands.whitelist\" = ['*']\n[admin]\nserverPort = 8080\n",
        )
        .unwrap();
        let properties = load(Some(&properties), &[]).unwrap();
        assert_eq!(properties, load(Some(&toml), &[]).unwrap());
        let (config, _) = Config::from_pairs(properties).unwrap();
        assert_eq!(
            config.admin_address,
            Some("127.0.0.1:8080".parse().unwrap())
        );
        assert_eq!(config.four_letter_words, FOUR_LETTER_WORDS);
    }
}
