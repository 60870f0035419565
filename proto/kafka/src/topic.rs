//! Topic names and partitions.

use std::fmt;

use bytestring::ByteString;

/// The longest topic name, in bytes: its directory's name must still fit with a partition number and a suffix.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// One partition of one topic; written `topic-partition`, as log directories are named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: ByteString,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<ByteString>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Why a topic cannot have this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No name at all.
    #[error("a topic needs a name")]
    Empty,
    /// `.` or `..`, which name directories.
    #[error("'.' and '..' cannot be names of topics")]
    Dots,
    /// Longer than [`MAX_TOPIC_NAME_LENGTH`].
    #[error(
        "the topic name '{start}…' has {length} characters, of {MAX_TOPIC_NAME_LENGTH} that it may have"
    )]
    TooLong {
        /// The name's first characters.
        start: String,
        /// The name's length in bytes.
        length: usize,
    },
    /// A character that is not an ASCII letter or digit, `.`, `_` or `-`.
    #[error("the topic name '{name}' may only hold letters and digits of ASCII, '.', '_' and '-'")]
    Character {
        /// The name.
        name: String,
    },
}

/// Checks a topic's name by Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, but neither `.` nor `..`.
/// A valid name is also a safe part of a file's name.
pub fn valid_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > MAX_TOPIC_NAME_LENGTH {
        return Err(TopicNameError::TooLong {
            start: name.chars().take(32).collect(),
            length: name.len(),
        });
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err(TopicNameError::Character {
            name: name.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["t", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(valid_topic_name(good), Ok(()), "{good}");
        }
        assert_eq!(valid_topic_name(""), Err(TopicNameError::Empty));
        assert_eq!(valid_topic_name("."), Err(TopicNameError::Dots));
        assert_eq!(valid_topic_name(".."), Err(TopicNameError::Dots));
        assert!(matches!(
            valid_topic_name(&"x".repeat(250)),
            Err(TopicNameError::TooLong { .. })
        ));
        for bad in ["a/b", "../etc", "a b", "é", "a\0", "a:b"] {
            assert!(
                matches!(valid_topic_name(bad), Err(TopicNameError::Character { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_partition_is_written_as_its_directory() {
        assert_eq!(TopicPartition::new("t", 0).to_string(), "t-0");
    }
}
