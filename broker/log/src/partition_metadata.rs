//! `partition.metadata`: which topic a partition's directory belongs to, for a topic's name may be used again.

use std::path::Path;

use kafka_wire::Uuid;

use crate::file_names::PARTITION_METADATA;
use crate::file_system::{
    Durability, FileSystem, Found, StorageError, read_small, write_replacing,
};

const MAX_BYTES: u64 = 4096;

/// Reads the topic's id from a partition's directory.
pub(crate) fn read(fs: &dyn FileSystem, directory: &Path) -> Result<Found<Uuid>, StorageError> {
    let found = read_small(fs, &directory.join(PARTITION_METADATA), MAX_BYTES)?;
    Ok(found.and_then(|content| parse(&content).ok_or_else(|| "no topic id".to_owned())))
}

fn parse(content: &[u8]) -> Option<Uuid> {
    let mut lines = std::str::from_utf8(content).ok()?.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let id = lines.next()?.strip_prefix("topic_id:")?.trim();
    let id = id.parse().ok().filter(|id| *id != Uuid::ZERO)?;
    (version == "0").then_some(id)
}

/// Writes the topic's id. It is not synced: a partition that lost it in a power cut is given it again by the controller.
pub(crate) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    topic_id: Uuid,
) -> Result<(), StorageError> {
    let content = format!("version: 0\ntopic_id: {topic_id}");
    write_replacing(
        fs,
        &directory.join(PARTITION_METADATA),
        content.as_bytes(),
        Durability::Buffered,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn is_written_to_the_letter_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&StdFileSystem, directory.path()).unwrap(),
            Found::Missing
        );
        let id: Uuid = "AAAAAAAAAAAAAAAAAAAAKg".parse().unwrap();
        write(&StdFileSystem, directory.path(), id).unwrap();
        let path = directory.path().join("partition.metadata");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAKg"
        );
        assert_eq!(
            read(&StdFileSystem, directory.path()).unwrap(),
            Found::Intact(id)
        );
        for rubbish in [
            "",
            "version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAKg",
            "version: 0\n",
            "version: 0\ntopic_id: x",
        ] {
            std::fs::write(&path, rubbish).unwrap();
            assert!(
                matches!(
                    read(&StdFileSystem, directory.path()).unwrap(),
                    Found::Rubbish(_)
                ),
                "{rubbish}"
            );
        }
    }
}
