//! How Kafka names what lies in a log directory.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use kafka_wire::{ByteString, TopicPartition, valid_topic_name};

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TRANSACTION_INDEX: &str = "txnindex";
pub(crate) const PRODUCER_SNAPSHOT: &str = "snapshot";

/// Marks a file that is to be unlinked.
pub(crate) const DELETED: &str = ".deleted";
/// Marks the unfinished output of a compaction.
pub(crate) const CLEANED: &str = ".cleaned";
/// Marks the finished output of a compaction that is about to replace its input.
pub(crate) const SWAP: &str = ".swap";
/// Marks a file that was being written when the broker ended.
pub(crate) const TEMPORARY: &str = ".tmp";

pub(crate) const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_START_OFFSET_CHECKPOINT: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
pub(crate) const CLEANER_OFFSET_CHECKPOINT: &str = "cleaner-offset-checkpoint";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const LOCK: &str = ".lock";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// The longest name that a directory may have.
const MAX_NAME_BYTES: usize = 255;
const DELETE_MARK: &str = "-delete";
/// How the directory of a log ends that is to replace another.
const FUTURE_MARK: &str = "-future";
/// How the directory of a log that nobody asked for ends.
const STRAY_MARK: &str = "-stray";

/// `<offset in 20 digits>.<extension>` in `directory`.
pub(crate) fn segment_file(directory: &Path, offset: i64, extension: &str) -> PathBuf {
    directory.join(format!("{offset:020}.{extension}"))
}

/// The offset and the rest (`log`, `log.swap`, …) of a segment file's name; `None` for any other name.
pub(crate) fn parse_segment_file(name: &str) -> Option<(i64, &str)> {
    let (digits, rest) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

/// `<topic>-<partition>`.
pub(crate) fn partition_directory(topic_partition: &TopicPartition) -> String {
    format!("{}-{}", topic_partition.topic, topic_partition.partition)
}

/// The partition that a directory's name stands for; `None` if it stands for none.
pub(crate) fn parse_partition_directory(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    valid_topic_name(topic).ok()?;
    if partition.is_empty() || !partition.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let partition: i32 = partition.parse().ok()?;
    Some(TopicPartition {
        topic: ByteString::from(topic),
        partition,
    })
}

/// A fresh name for the directory of a deleted partition: `<topic>-<partition>.<32 hex digits>-delete`, the topic cut
/// short where the whole would be too long for a file system.
pub(crate) fn deleted_partition_directory(topic_partition: &TopicPartition) -> String {
    marked_partition_directory(topic_partition, DELETE_MARK)
}

/// Likewise for a log that nobody asked for: `<topic>-<partition>.<32 hex digits>-stray`.
pub(crate) fn stray_partition_directory(topic_partition: &TopicPartition) -> String {
    marked_partition_directory(topic_partition, STRAY_MARK)
}

/// The name of the directory of a log that is to replace the partition's log in another directory:
/// `<topic>-<partition>.<id>-future`. `None` where that is too long for a file system (KAFKA-4893).
pub(crate) fn future_partition_directory(
    topic_partition: &TopicPartition,
    id: &str,
) -> Option<String> {
    let name = format!("{}.{id}{FUTURE_MARK}", partition_directory(topic_partition));
    (name.len() <= MAX_NAME_BYTES).then_some(name)
}

/// The partition and the id of a directory that is named so; `None` for any other.
pub(crate) fn parse_future_directory(name: &str) -> Option<(TopicPartition, &str)> {
    let (partition, id) = name.strip_suffix(FUTURE_MARK)?.rsplit_once('.')?;
    if !is_id(id) {
        return None;
    }
    Some((parse_partition_directory(partition)?, id))
}

/// The name of the directory of the log that a future log of that id replaces.
pub(crate) fn replaced_partition_directory(topic_partition: &TopicPartition, id: &str) -> String {
    named_partition_directory(topic_partition, id, DELETE_MARK)
}

/// Thirty-two hexadecimal digits that no other name has.
pub(crate) fn fresh_id() -> String {
    format!("{:016x}{:016x}", random(), random())
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn marked_partition_directory(topic_partition: &TopicPartition, mark: &str) -> String {
    named_partition_directory(topic_partition, &fresh_id(), mark)
}

fn named_partition_directory(topic_partition: &TopicPartition, id: &str, mark: &str) -> String {
    let suffix = format!(".{id}{mark}");
    let mut name = partition_directory(topic_partition);
    name.truncate(MAX_NAME_BYTES - suffix.len());
    name + &suffix
}

/// Whether a directory's name is one of [`deleted_partition_directory`].
pub(crate) fn is_deleted_partition_directory(name: &str) -> bool {
    name.strip_suffix(DELETE_MARK)
        .and_then(|rest| rest.rsplit_once('.'))
        .is_some_and(|(_, id)| is_id(id))
}

/// Sixty-four bits that nobody guesses and that need no seed: the standard library keys each hash map with them.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_file_is_named_by_twenty_digits() {
        let path = segment_file(Path::new("d"), 42, LOG);
        assert_eq!(path, Path::new("d/00000000000000000042.log"));
        assert_eq!(
            parse_segment_file("00000000000000000042.log"),
            Some((42, "log"))
        );
        assert_eq!(
            parse_segment_file("00000000000000000042.log.swap"),
            Some((42, "log.swap"))
        );
        for other in [
            "42.log",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "leader-epoch-checkpoint",
        ] {
            assert_eq!(parse_segment_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_partition_directory_is_read_back_and_nothing_else_is() {
        let topic_partition = parse_partition_directory("my-topic-12").unwrap();
        assert_eq!(
            (topic_partition.topic.as_ref(), topic_partition.partition),
            ("my-topic", 12)
        );
        assert_eq!(partition_directory(&topic_partition), "my-topic-12");
        for other in [
            "topic",
            "topic-",
            "-1",
            "topic--1x",
            "topic-+1",
            "a/b-1",
            "topic-99999999999",
            "..-0",
        ] {
            assert!(parse_partition_directory(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_future_directory_is_read_back_or_not_made() {
        let topic_partition = TopicPartition::new("a.b", 3);
        let id = fresh_id();
        let name = future_partition_directory(&topic_partition, &id).unwrap();
        assert_eq!(name, format!("a.b-3.{id}-future"));
        assert_eq!(
            parse_future_directory(&name),
            Some((topic_partition.clone(), id.as_str()))
        );
        assert!(parse_partition_directory(&name).is_none());
        assert!(!is_deleted_partition_directory(&name));
        let replaced = replaced_partition_directory(&topic_partition, &id);
        assert!(is_deleted_partition_directory(&replaced));
        for other in [
            "a.b-3",
            "a.b-3.1-future",
            "a.b-3-future",
            "../x-0.00000000000000000000000000000000-future",
        ] {
            assert!(parse_future_directory(other).is_none(), "{other}");
        }
        let longest = TopicPartition::new("x".repeat(249), 0);
        assert!(future_partition_directory(&longest, &id).is_none());
    }

    #[test]
    fn a_deleted_directory_fits_a_file_system_and_is_no_partition() {
        let topic_partition = TopicPartition {
            topic: ByteString::from("x".repeat(249)),
            partition: 7,
        };
        let name = deleted_partition_directory(&topic_partition);
        assert_eq!(name.len(), 255);
        assert!(is_deleted_partition_directory(&name));
        assert!(parse_partition_directory(&name).is_none());
        assert_ne!(name, deleted_partition_directory(&topic_partition));
        assert!(!is_deleted_partition_directory("topic-0.123-delete"));
    }
}
