//! `meta.properties`: whose log directory this is.

use std::path::Path;

use crate::file_names::META_PROPERTIES;
use crate::file_system::{
    Durability, FileSystem, Found, StorageError, read_small, write_replacing,
};

const MAX_BYTES: u64 = 64 << 10;

/// The identity that a log directory carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// `broker.id`; `None` in a directory that was never given one.
    pub broker_id: Option<i32>,
    /// `cluster.id`; `None` in a directory of a Kafka before 0.10.1.
    pub cluster_id: Option<String>,
}

/// Reads the identity of a log directory.
pub(crate) fn read(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Found<MetaProperties>, StorageError> {
    let found = read_small(fs, &directory.join(META_PROPERTIES), MAX_BYTES)?;
    Ok(found.and_then(|content| parse(&content)))
}

fn parse(content: &[u8]) -> Result<MetaProperties, String> {
    let text = std::str::from_utf8(content).map_err(|_| "bytes that are no text".to_owned())?;
    let mut version = None;
    let mut properties = MetaProperties {
        broker_id: None,
        cluster_id: None,
    };
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("the line {line:.80}"))?;
        match (key.trim(), value.trim()) {
            ("version", value) => version = Some(value),
            ("broker.id", value) => {
                let id = value
                    .parse()
                    .map_err(|_| format!("broker.id {value:.20}"))?;
                properties.broker_id = Some(id);
            }
            ("cluster.id", value) => properties.cluster_id = Some(value.to_owned()),
            _ => {}
        }
    }
    match version {
        Some("0") => Ok(properties),
        Some("1") => Err("version 1, which is a KRaft broker's".to_owned()),
        Some(other) => Err(format!("version {other:.20}")),
        None => Err("no version".to_owned()),
    }
}

/// Writes the identity of a log directory.
pub(crate) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    broker_id: i32,
    cluster_id: &str,
) -> Result<(), StorageError> {
    let content = format!("#\nversion=0\nbroker.id={broker_id}\ncluster.id={cluster_id}\n");
    write_replacing(
        fs,
        &directory.join(META_PROPERTIES),
        content.as_bytes(),
        Durability::Synced,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn is_read_back_and_as_apache_kafka_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&StdFileSystem, directory.path()).unwrap(),
            Found::Missing
        );
        write(&StdFileSystem, directory.path(), 3, "abc").unwrap();
        let mine = MetaProperties {
            broker_id: Some(3),
            cluster_id: Some("abc".to_owned()),
        };
        assert_eq!(
            read(&StdFileSystem, directory.path()).unwrap(),
            Found::Intact(mine.clone())
        );
        let theirs =
            b"#\n#Sat Nov 21 12:00:00 UTC 2026\ncluster.id=abc\nversion=0\nbroker.id=3\nother=x\n";
        assert_eq!(parse(theirs), Ok(mine));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for content in [
            &b""[..],
            b"version=1\nnode.id=1\n",
            b"version=0\nbroker.id=x\n",
            b"\0\0\0",
            b"rubbish",
            b"\xff",
        ] {
            assert!(parse(content).is_err(), "{content:?}");
        }
    }
}
