//! When containers and znodes past their time to live are removed. The leader alone does so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::coordinator::Now;
use crate::ephemeral_type::EphemeralType;
use crate::tree::{Tree, Znode};

/// How often is looked, and how much is removed at most.
#[derive(Debug, Clone, Copy)]
pub struct ReaperSettings {
    /// The time between two looks (`znode.container.checkIntervalMs`).
    pub check_interval: Duration,
    /// The most that are removed in a minute (`znode.container.maxPerMinute`).
    pub max_per_minute: u32,
    /// How long a container that never had a child is kept (`znode.container.maxNeverUsedIntervalMs`); zero is for ever.
    pub max_never_used_interval: Duration,
}

impl Default for ReaperSettings {
    fn default() -> ReaperSettings {
        ReaperSettings {
            check_interval: Duration::from_secs(60),
            max_per_minute: 10_000,
            max_never_used_interval: Duration::ZERO,
        }
    }
}

/// Finds what to remove, and spreads the removals so that a thousand containers left empty at once are no burst of
/// writes.
#[derive(Debug)]
pub struct Reaper {
    settings: ReaperSettings,
    /// When to look next.
    next_look: Duration,
    /// When to remove the next one.
    next_removal: Duration,
    /// What the last look has found, to be removed one by one.
    found: VecDeque<Arc<str>>,
}

impl Reaper {
    /// Looks for the first time one interval after `now`, time since any fixed start.
    pub fn new(settings: ReaperSettings, now: Duration) -> Reaper {
        Reaper {
            settings,
            next_look: now + settings.check_interval,
            next_removal: now,
            found: VecDeque::new(),
        }
    }

    /// When to call [`Reaper::next`] again.
    pub fn poll_timeout(&self) -> Duration {
        match self.found.is_empty() {
            true => self.next_look,
            false => self.next_removal,
        }
    }

    /// A znode to remove now, by [`Outstanding::decide_delete_container`](crate::decide::Outstanding); to be called
    /// until there is none.
    pub fn next(&mut self, now: Now, tree: &Tree) -> Option<Arc<str>> {
        if self.found.is_empty() && now.elapsed >= self.next_look {
            self.next_look = now.elapsed + self.settings.check_interval;
            let outlived = |path: &&Arc<str>| self.is_outlived(tree, path, now.wall_ms);
            self.found = tree.reapable().filter(outlived).cloned().collect();
        }
        while now.elapsed >= self.next_removal
            && let Some(path) = self.found.pop_front()
        {
            // It may have got a child, or been set, since the look.
            if self.is_outlived(tree, &path, now.wall_ms) {
                let pause = Duration::from_secs(60) / self.settings.max_per_minute.max(1);
                self.next_removal = now.elapsed + pause;
                return Some(path);
            }
        }
        None
    }

    fn is_outlived(&self, tree: &Tree, path: &str, wall_ms: i64) -> bool {
        let never_used_ms = self.settings.max_never_used_interval.as_millis() as i64;
        tree.get(path)
            .is_some_and(|node| is_outlived(node, wall_ms, never_used_ms))
    }
}

/// Whether a znode without children is a container that had some, or that never had one for longer than is allowed, or
/// was not set during its time to live.
fn is_outlived(node: &Znode, wall_ms: i64, max_never_used_ms: i64) -> bool {
    let unset_ms = wall_ms.saturating_sub(node.mtime_ms);
    node.children.is_empty()
        && match node.ephemeral_type {
            EphemeralType::Container => {
                node.child_creates != 0 || (max_never_used_ms != 0 && unset_ms > max_never_used_ms)
            }
            EphemeralType::Ttl(ttl_ms) => unset_ms > ttl_ms,
            EphemeralType::Void | EphemeralType::Normal(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl;
    use crate::zxid::Zxid;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn reaper(max_per_minute: u32, never_used: Duration) -> Reaper {
        let settings = ReaperSettings {
            check_interval: INTERVAL,
            max_per_minute,
            max_never_used_interval: never_used,
        };
        Reaper::new(settings, Duration::ZERO)
    }

    fn now(seconds: u64) -> Now {
        Now {
            elapsed: Duration::from_secs(seconds),
            wall_ms: seconds as i64 * 1_000,
        }
    }

    fn put(tree: &mut Tree, path: &str, ephemeral_type: EphemeralType) {
        let node = Znode::new(None, acl::open(), ephemeral_type, Zxid(1), 0);
        tree.create(path, node).unwrap();
    }

    fn used(tree: &mut Tree, path: &str) {
        put(tree, path, EphemeralType::Container);
        let child = format!("{path}/c");
        put(tree, &child, EphemeralType::Void);
        tree.delete(&child, Zxid(2)).unwrap();
    }

    #[test]
    fn a_container_goes_at_the_first_look_after_its_last_child() {
        let mut tree = Tree::default();
        put(&mut tree, "/never-used", EphemeralType::Container);
        put(&mut tree, "/persistent", EphemeralType::Void);
        used(&mut tree, "/used");
        used(&mut tree, "/in-use");
        put(&mut tree, "/in-use/d", EphemeralType::Void);
        let mut reaper = reaper(60_000, Duration::ZERO);
        assert_eq!(reaper.poll_timeout(), INTERVAL);
        assert_eq!(reaper.next(now(9), &tree), None);
        assert_eq!(reaper.next(now(10), &tree).as_deref(), Some("/used"));
        tree.delete("/used", Zxid(3)).unwrap();
        assert_eq!(reaper.next(now(11), &tree), None);
        assert_eq!(reaper.poll_timeout(), INTERVAL * 2);
    }

    #[test]
    fn a_container_without_any_child_goes_after_the_interval_for_it() {
        let mut tree = Tree::default();
        put(&mut tree, "/c", EphemeralType::Container);
        let mut reaper = reaper(60_000, Duration::from_secs(15));
        assert_eq!(reaper.next(now(10), &tree), None);
        assert_eq!(reaper.next(now(20), &tree).as_deref(), Some("/c"));
    }

    #[test]
    fn a_znode_goes_when_its_time_to_live_is_over_and_not_when_it_was_set_since_the_look() {
        let mut tree = Tree::default();
        for path in ["/a", "/b"] {
            put(&mut tree, path, EphemeralType::Ttl(5_000));
        }
        put(&mut tree, "/long", EphemeralType::Ttl(60_000));
        let mut reaper = reaper(60, Duration::ZERO);
        assert_eq!(reaper.next(now(10), &tree).as_deref(), Some("/a"));
        tree.get_mut("/b").unwrap().mtime_ms = 10_500;
        assert_eq!(reaper.next(now(11), &tree), None);
    }

    #[test]
    fn removals_are_spread_over_the_minute() {
        let mut tree = Tree::default();
        for path in ["/a", "/b"] {
            used(&mut tree, path);
        }
        let mut reaper = reaper(30, Duration::ZERO);
        assert_eq!(reaper.next(now(10), &tree).as_deref(), Some("/a"));
        tree.delete("/a", Zxid(3)).unwrap();
        assert_eq!(reaper.next(now(11), &tree), None);
        assert_eq!(reaper.poll_timeout(), Duration::from_secs(12));
        assert_eq!(reaper.next(now(12), &tree).as_deref(), Some("/b"));
    }
}
