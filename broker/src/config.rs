//! Loading a configuration: a file in Java's properties syntax or in TOML, and `--set key=value` on top.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use broker_core::config::{BrokerConfig, ConfigError, Properties, Warning};

/// The largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a broker has no configuration. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can not be read.
    #[error("Configuration file {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("Configuration file {}: larger than {MAX_FILE_BYTES} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is neither properties nor TOML, or not sound.
    #[error("Configuration file {}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// An option `--set` without a key.
    #[error("--set {option}: must be key=value")]
    Set {
        /// What was given.
        option: String,
    },
    /// A value, or several together, that can not be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Reads the file, if there is one, lays the `key=value` options over it, and checks everything.
///
/// # Errors
/// One line that names the file or the key.
pub fn load(
    path: Option<&Path>,
    options: &[String],
) -> Result<(BrokerConfig, Vec<Warning>), LoadError> {
    let mut properties = path.map(read_file).transpose()?.unwrap_or_default();
    for option in options {
        let (key, value) = option
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
            .ok_or_else(|| LoadError::Set {
                option: option.clone(),
            })?;
        properties.insert(key.trim().to_owned(), value.to_owned());
    }
    Ok(BrokerConfig::from_properties(&properties)?)
}

fn read_file(path: &Path) -> Result<Properties, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
        });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let malformed = |reason| LoadError::Malformed {
        path: path.to_owned(),
        reason,
    };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => parse_toml(&bytes).map_err(malformed),
        Some("properties") => parse_properties(&bytes).map_err(malformed),
        _ => parse_toml(&bytes)
            .or_else(|_| parse_properties(&bytes))
            .map_err(malformed),
    }
}

fn parse_properties(bytes: &[u8]) -> Result<Properties, String> {
    java_properties::read(bytes)
        .map(|pairs| pairs.into_iter().collect())
        .map_err(|error| error.to_string())
}

fn parse_toml(bytes: &[u8]) -> Result<Properties, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        let advice = "; a key that continues another, as broker.id.generation.enable does broker.id, stands in quotes";
        format!("line {line}: {}{advice}", error.message().replace('\n', " "))
    })?;
    let mut properties = BTreeMap::new();
    flatten("", &table, &mut properties)?;
    Ok(properties)
}

/// Joins the names of nested tables with dots, as Kafka's keys are written.
fn flatten(prefix: &str, table: &toml::Table, properties: &mut Properties) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, properties)?,
            value => {
                let text = scalar(value).ok_or_else(|| {
                    format!("{key}: must be a text, number, boolean or list of those")
                })?;
                properties.insert(key, text);
            }
        }
    }
    Ok(())
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => Some(
            items
                .iter()
                .map(scalar)
                .collect::<Option<Vec<_>>>()?
                .join(","),
        ),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn loaded(name: &str, text: &str, options: &[&str]) -> Result<BrokerConfig, String> {
        let (_dir, path) = file(name, text);
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        load(Some(&path), &options)
            .map(|(config, _)| config)
            .map_err(|error| error.to_string())
    }

    const PROPERTIES: &str = "# a comment\n! another\nbroker.id=1\n zookeeper.connect : a:2181,\\\n    b:2181/kafka\n\
                              log.dirs /tmp/a\nlisteners=PLAINTEXT\\://localhost:9093\nlog.retention.ms=\n";
    const TOML: &str = "broker.id = 1\nlog.dirs = [\"/tmp/a\"]\nlisteners = \"PLAINTEXT://localhost:9093\"\n\
                        [zookeeper]\nconnect = [\"a:2181\", \"b:2181/kafka\"]\n";

    #[test]
    fn both_syntaxes_say_the_same() {
        for (name, text) in [
            ("server.properties", PROPERTIES),
            ("broker.toml", TOML),
            ("by-its-contents", PROPERTIES),
            ("by-its-contents-too", TOML),
        ] {
            let config = loaded(name, text, &[]).unwrap();
            assert_eq!(config.broker_id, 1, "{name}");
            assert_eq!(config.zookeeper_connect, "a:2181,b:2181/kafka", "{name}");
            assert_eq!(config.log_dirs, ["/tmp/a"], "{name}");
            assert_eq!(
                config.listeners[0].to_string(),
                "PLAINTEXT://localhost:9093",
                "{name}"
            );
        }
    }

    #[test]
    fn toml_takes_keys_in_quotes() {
        let text = "\"broker.id\" = 1001\n\"broker.id.generation.enable\" = false\n\"zookeeper.connect\" = \"h:1\"";
        assert_eq!(loaded("broker.toml", text, &[]).unwrap().broker_id, 1001);
        let error = loaded(
            "broker.toml",
            "broker.id = 1\nbroker.id.generation.enable = true",
            &[],
        )
        .unwrap_err();
        assert!(
            error.contains("broker.toml: line 2:") && error.contains("in quotes"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn options_lie_over_the_file() {
        let config = loaded(
            "server.properties",
            PROPERTIES,
            &["broker.id=2", "log.dirs=/tmp/x=y"],
        )
        .unwrap();
        assert_eq!(
            (config.broker_id, config.log_dirs),
            (2, vec!["/tmp/x=y".to_owned()])
        );
        let error = loaded("server.properties", PROPERTIES, &["broker.id"]).unwrap_err();
        assert_eq!(error, "--set broker.id: must be key=value");
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        let error = loaded(
            "broker.toml",
            "num.partitions = \"three\"\nzookeeper.connect = \"h:1\"",
            &[],
        )
        .unwrap_err();
        assert_eq!(
            error,
            "Invalid value three for configuration num.partitions: must be an integer of 32 bits of at least 1"
        );
        let error = load(Some(Path::new("no-such-file.toml")), &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("Configuration file no-such-file.toml: "),
            "{error}"
        );
        let error = loaded("broker.toml", "broker.id = 1979-05-27", &[]).unwrap_err();
        assert!(error.contains("broker.id: must be a text"), "{error}");
    }
}
