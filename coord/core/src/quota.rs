//! Quotas: how many znodes, and how many bytes of data, a znode and all below it may have.
//!
//! The quota of `/a` is a pair of znodes that clients create and coord keeps up:
//!
//! ```text
//! /zookeeper/quota/a/zookeeper_limits    what is allowed: a soft and a hard limit each
//! /zookeeper/quota/a/zookeeper_stats     what is used, `/a` itself counted too
//! ```
//!
//! Both hold text like `count=4,bytes=5=;byteHardLimit=10;countHardLimit=10`, −1 for no limit. A soft limit is for
//! people to look at. What lies below several quotas counts for the deepest only, and the root has none, all as in
//! ZooKeeper. Text that cannot be read is no limit, where ZooKeeper refuses every write below.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::OpError;
use crate::tree::Tree;

const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// The longest text that is read, in bytes: four numbers with their names take some 120.
const TEXT_MAX_LEN: usize = 1024;

const COUNT: &str = "count";
const BYTES: &str = "bytes";
const COUNT_HARD_LIMIT: &str = "countHardLimit";
const BYTE_HARD_LIMIT: &str = "byteHardLimit";

/// What the quota whose limits stand at `path` is of; `None` if `path` is no such znode.
pub fn limited_by(path: &str) -> Option<&str> {
    of(path, LIMITS)
}

/// What the quota whose usage stands at `path` is of; `None` if `path` is no such znode.
pub fn counted_by(path: &str) -> Option<&str> {
    of(path, STATS)
}

fn of<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let path = path.strip_prefix(QUOTA)?.strip_suffix(name)?;
    (!path.is_empty()).then_some(path)
}

/// Where the limits of `path` stand.
pub fn limits_path(path: &str) -> String {
    format!("{QUOTA}{path}{LIMITS}")
}

/// Where the usage of `path` stands.
pub fn stats_path(path: &str) -> String {
    format!("{QUOTA}{path}{STATS}")
}

/// The text of limits or of usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsTrack {
    values: BTreeMap<String, i64>,
}

impl StatsTrack {
    /// Reads the text: `key=number`, between commas or semicolons. What is neither is passed over, and so is all of a text
    /// that is much too long, which every write below would have to read.
    pub fn parse(text: &[u8]) -> StatsTrack {
        if text.len() > TEXT_MAX_LEN {
            return StatsTrack::default();
        }
        let text = String::from_utf8_lossy(text);
        let pairs = text.split([',', ';']).filter_map(|pair| {
            let mut parts = pair.split('=');
            let (key, value) = (parts.next()?, parts.next()?);
            Some((key.to_owned(), value.parse().ok()?))
        });
        StatsTrack {
            values: pairs.collect(),
        }
    }

    /// Of usage.
    pub fn used(count: i64, bytes: i64) -> StatsTrack {
        StatsTrack {
            values: [(COUNT.to_owned(), count), (BYTES.to_owned(), bytes)].into(),
        }
    }

    /// Count of znodes, −1 for none given.
    pub fn count(&self) -> i64 {
        self.value(COUNT)
    }

    /// Bytes of data, −1 for none given.
    pub fn bytes(&self) -> i64 {
        self.value(BYTES)
    }

    fn value(&self, key: &str) -> i64 {
        self.values.get(key).copied().unwrap_or(-1)
    }

    fn add(&mut self, key: &str, difference: i64) {
        let value = self.value(key).saturating_add(difference);
        self.values.insert(key.to_owned(), value);
    }

    /// The text. The `=` behind the bytes keeps readers from before hard limits from seeing what follows.
    pub fn text(&self) -> Bytes {
        let mut text = format!("{COUNT}={},{BYTES}={}", self.count(), self.bytes());
        let mut separator = "=;";
        for (key, value) in &self.values {
            if key != COUNT && key != BYTES {
                text.push_str(&format!("{separator}{key}={value}"));
                separator = ";";
            }
        }
        text.into()
    }
}

/// What a write adds to what is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Znodes.
    pub count: i64,
    /// Bytes of data.
    pub bytes: i64,
}

/// Whether `path` may use `more`, by the hard limits above it and the usage that is applied.
pub fn check(tree: &Tree, path: &str, more: Usage) -> Result<(), OpError> {
    let Some(of) = tree.quota_above(path) else {
        return Ok(());
    };
    let track = |path: &str| {
        let data = tree.get(path)?.data.as_deref();
        Some(StatsTrack::parse(data.unwrap_or_default()))
    };
    let (Some(limits), Some(used)) = (track(&limits_path(of)), track(&stats_path(of))) else {
        return Ok(());
    };
    let exceeds = |more: i64, used: i64, hard_limit: i64| {
        more != 0 && hard_limit > -1 && used.saturating_add(more) > hard_limit
    };
    let count = exceeds(more.count, used.count(), limits.value(COUNT_HARD_LIMIT));
    let bytes = exceeds(more.bytes, used.bytes(), limits.value(BYTE_HARD_LIMIT));
    if count || bytes {
        Err(OpError::QuotaExceeded)
    } else {
        Ok(())
    }
}

/// Counts what is used above `path` on by `more`. Versions and zxids of the znode that says so stay, and nobody who
/// watches it is told.
pub fn count(tree: &mut Tree, path: &str, more: Usage) {
    let Some(of) = tree.quota_above(path) else {
        return;
    };
    let stats = stats_path(of);
    if let Some(node) = tree.get(&stats) {
        let mut used = StatsTrack::parse(node.data.as_deref().unwrap_or_default());
        used.add(COUNT, more.count);
        used.add(BYTES, more.bytes);
        put(tree, &stats, &used);
    }
}

/// Counts anew what is used by what the quota at `stats`, just created, is of.
pub fn recount(tree: &mut Tree, stats: &str) {
    let Some(of) = counted_by(stats) else {
        return;
    };
    let (mut count, mut bytes) = (0, 0);
    for node in tree.subtree(of) {
        count += 1;
        bytes += node.data.as_ref().map_or(0, |data| data.len() as i64);
    }
    put(tree, stats, &StatsTrack::used(count, bytes));
}

fn put(tree: &mut Tree, stats: &str, used: &StatsTrack) {
    // It is there: it was just read or created.
    let _ = tree.set_data(stats, Some(&used.text()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written_as_zookeeper_does() {
        let text = b"count=4,bytes=5=;byteHardLimit=10;countHardLimit=9";
        let track = StatsTrack::parse(text);
        assert_eq!((track.count(), track.bytes()), (4, 5));
        assert_eq!(track.value(COUNT_HARD_LIMIT), 9);
        assert_eq!(track.value(BYTE_HARD_LIMIT), 10);
        assert_eq!(track.text().as_ref(), text);
        assert_eq!(StatsTrack::parse(b"").text().as_ref(), b"count=-1,bytes=-1");
        assert_eq!(
            StatsTrack::parse(b"count=,bytes=x;;junk;count=3;\xff=1").count(),
            3
        );
    }

    #[test]
    fn a_text_that_is_too_long_says_nothing() {
        let text = |len: usize| format!("count=7,{}", "x".repeat(len - 8));
        let count = |len| StatsTrack::parse(text(len).as_bytes()).count();
        assert_eq!(count(TEXT_MAX_LEN), 7);
        assert_eq!(count(TEXT_MAX_LEN + 1), -1);
    }

    #[test]
    fn quotas_stand_below_their_own_znode() {
        assert_eq!(
            limited_by("/zookeeper/quota/a/b/zookeeper_limits"),
            Some("/a/b")
        );
        assert_eq!(limited_by("/zookeeper/quota/zookeeper_limits"), None);
        assert_eq!(limited_by("/zookeeper/quota/a/zookeeper_stats"), None);
        assert_eq!(limited_by("/a/zookeeper_limits"), None);
        assert_eq!(stats_path("/a"), "/zookeeper/quota/a/zookeeper_stats");
        assert_eq!(counted_by(&stats_path("/a")), Some("/a"));
        assert_eq!(limited_by(&limits_path("/a")), Some("/a"));
    }
}
