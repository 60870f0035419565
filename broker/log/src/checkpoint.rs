//! The small text files that say how far something came.
//!
//! Both kinds are a version line `0`, a line with the number of entries, and one line for each: `topic partition offset`
//! for a log directory, `epoch start_offset` for a partition. They are replaced as a whole, never changed in place.
//! One that cannot be understood is never a reason not to start: whoever reads it gets told, and does without.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use kafka_wire::{ByteString, TopicPartition, valid_topic_name};

use crate::file_system::{
    Durability, FileSystem, Found, StorageError, read_small, write_replacing,
};

/// Far above any true file: two hundred thousand partitions with the longest names make 55 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Offsets of partitions.
pub(crate) type Offsets = BTreeMap<TopicPartition, i64>;

/// Reads an offset checkpoint.
pub(crate) fn read_offsets(
    fs: &dyn FileSystem,
    path: &Path,
) -> Result<Found<Offsets>, StorageError> {
    let content = read_small(fs, path, MAX_BYTES)?;
    let found = parse(content, |line| {
        let mut words = line.split(' ');
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        valid_topic_name(topic).ok()?;
        let partition = partition
            .parse()
            .ok()
            .filter(|partition: &i32| *partition >= 0)?;
        let offset = offset.parse().ok().filter(|offset: &i64| *offset >= 0)?;
        words.next().is_none().then(|| {
            (
                TopicPartition {
                    topic: ByteString::from(topic),
                    partition,
                },
                offset,
            )
        })
    });
    Ok(found.and_then(|entries| Ok(entries.into_iter().collect())))
}

/// Writes an offset checkpoint.
pub(crate) fn write_offsets(
    fs: &dyn FileSystem,
    path: &Path,
    offsets: &Offsets,
) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    write_replacing(fs, path, text.as_bytes(), Durability::Synced)
}

/// Reads a leader epoch checkpoint: pairs of epoch and start offset, both rising. An empty file is as good as none: Apache
/// Kafka makes one for a log that no leader has written to.
pub(crate) fn read_epochs(
    fs: &dyn FileSystem,
    path: &Path,
) -> Result<Found<Vec<(i32, i64)>>, StorageError> {
    let content = match read_small(fs, path, MAX_BYTES)? {
        Found::Intact(content) if content.is_empty() => return Ok(Found::Missing),
        content => content,
    };
    let found = parse(content, |line| {
        let (epoch, start_offset) = line.split_once(' ')?;
        let epoch = epoch.parse().ok().filter(|epoch: &i32| *epoch >= 0)?;
        let start_offset = start_offset
            .parse()
            .ok()
            .filter(|offset: &i64| *offset >= 0)?;
        Some((epoch, start_offset))
    });
    if let Found::Intact(entries) = &found
        && !entries.is_sorted_by(|earlier, later| earlier.0 < later.0 && earlier.1 < later.1)
    {
        return Ok(Found::Rubbish(
            "epochs or offsets that do not rise".to_owned(),
        ));
    }
    Ok(found)
}

/// Writes a leader epoch checkpoint.
pub(crate) fn write_epochs(
    fs: &dyn FileSystem,
    path: &Path,
    entries: impl ExactSizeIterator<Item = (i32, i64)>,
    durability: Durability,
) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, start_offset) in entries {
        let _ = writeln!(text, "{epoch} {start_offset}");
    }
    write_replacing(fs, path, text.as_bytes(), durability)
}

fn parse<T>(content: Found<Vec<u8>>, line: impl Fn(&str) -> Option<T>) -> Found<Vec<T>> {
    content.and_then(|content| parse_lines(&content, line))
}

fn parse_lines<T>(content: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "bytes that are no text".to_owned())?;
    let mut lines = text.lines();
    match lines.next() {
        None => return Err("nothing".to_owned()),
        Some("0") => {}
        Some(other) => return Err(format!("version {:.20} instead of 0", other)),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| "no number of entries".to_owned())?;
    // A power cut may leave the first digits of a number, which are a number, too.
    if !text.ends_with('\n') {
        return Err("a last line that is cut off".to_owned());
    }
    let mut entries = Vec::new();
    for line in lines {
        entries.push(parse(line).ok_or_else(|| format!("the line {line:.80}"))?);
    }
    if entries.len() != count {
        return Err(format!("{} entries instead of {count}", entries.len()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::StdFileSystem;

    #[test]
    fn offsets_are_written_to_the_letter_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replication-offset-checkpoint");
        assert_eq!(read_offsets(&StdFileSystem, &path).unwrap(), Found::Missing);
        let topic_partition = |topic: &str, partition| TopicPartition {
            topic: ByteString::from(topic),
            partition,
        };
        let offsets = Offsets::from([(topic_partition("t", 1), 7), (topic_partition("a.b", 0), 0)]);
        write_offsets(&StdFileSystem, &path, &offsets).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "0\n2\na.b 0 0\nt 1 7\n"
        );
        assert_eq!(
            read_offsets(&StdFileSystem, &path).unwrap(),
            Found::Intact(offsets)
        );
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_number_that_is_cut_off_is_no_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leader-epoch-checkpoint");
        let whole = b"0\n2\n0 0\n1 11\n";
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let found = read_epochs(&StdFileSystem, &path).unwrap();
            assert!(
                !matches!(found, Found::Intact(entries) if !entries.is_empty()),
                "cut at {cut}"
            );
        }
        std::fs::write(&path, whole).unwrap();
        let found = read_epochs(&StdFileSystem, &path).unwrap();
        assert_eq!(found, Found::Intact(vec![(0, 0), (1, 11)]));
    }

    #[test]
    fn epochs_are_written_to_the_letter_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leader-epoch-checkpoint");
        write_epochs(
            &StdFileSystem,
            &path,
            [(0, 0), (3, 15)].into_iter(),
            Durability::Buffered,
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n2\n0 0\n3 15\n");
        assert_eq!(
            read_epochs(&StdFileSystem, &path).unwrap(),
            Found::Intact(vec![(0, 0), (3, 15)])
        );
    }

    #[test]
    fn what_apache_kafka_writes_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        std::fs::write(&path, "0\n2\norders 10 1000\n__consumer_offsets 0 0\n").unwrap();
        let offsets = [
            (TopicPartition::new("__consumer_offsets", 0), 0),
            (TopicPartition::new("orders", 10), 1000),
        ];
        assert_eq!(
            read_offsets(&StdFileSystem, &path).unwrap(),
            Found::Intact(Offsets::from(offsets)),
            "in any order"
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            read_epochs(&StdFileSystem, &path).unwrap(),
            Found::Missing,
            "of a log without records"
        );
    }

    #[test]
    fn rubbish_is_named_and_never_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        for content in [
            &b""[..],
            b"1\n0\n",
            b"0\n",
            b"0\nx\n",
            b"0\n2\nt 0 1\n",
            b"0\n1\nt 0\n",
            b"0\n1\nt 0 -1\n",
            b"0\n1\nt 0 1 2\n",
            b"0\n1\n../x 0 1\n",
            b"\0\0\0\0\0\0",
            b"\xff\xfe\n",
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(
                matches!(
                    read_offsets(&StdFileSystem, &path).unwrap(),
                    Found::Rubbish(_)
                ),
                "{content:?}"
            );
        }
        for content in [
            "0\n2\n1 0\n1 5\n",
            "0\n2\n1 5\n2 5\n",
            "0\n1\n-1 0\n",
            "0\n1\n1\n",
        ] {
            std::fs::write(&path, content).unwrap();
            assert!(
                matches!(
                    read_epochs(&StdFileSystem, &path).unwrap(),
                    Found::Rubbish(_)
                ),
                "{content:?}"
            );
        }
    }
}
