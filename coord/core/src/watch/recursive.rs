//! Where recursive watches stand, to find those above a path in one pass over it, however deep it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Paths under recursive watches, by their hashes.
#[derive(Debug, Default)]
pub(super) struct RecursivePaths {
    hashes: RandomState,
    /// How many watches stand at paths of each hash.
    counts: HashMap<u64, usize>,
}

impl RecursivePaths {
    /// One more watch stands at `path`.
    pub(super) fn add(&mut self, path: &str) {
        *self.counts.entry(self.hash(path)).or_insert(0) += 1;
    }

    /// One that was added is gone.
    pub(super) fn remove(&mut self, path: &str) {
        let hash = self.hash(path);
        if let Some(count) = self.counts.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&hash);
            }
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The ancestors of `path` that recursive watches stand at. One at which none does is among them if its hash is that
    /// of another; none is missing.
    pub(super) fn above<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let root = (path != "/").then_some(("/", self.hash("/")));
        let ancestors = self
            .prefixes(path)
            .filter(move |(prefix, _)| *prefix != path);
        let watched = ancestors.chain(root);
        let watched = watched.filter(|(_, hash)| self.counts.contains_key(hash));
        watched.map(|(prefix, _)| prefix)
    }

    fn hash(&self, path: &str) -> u64 {
        self.prefixes(path).last().map_or(0, |(_, hash)| hash)
    }

    /// What stands before each slash but the first, and the whole path, each with its hash.
    fn prefixes<'p>(&self, path: &'p str) -> impl Iterator<Item = (&'p str, u64)> {
        let slashes = path.match_indices('/').map(|(at, _)| at);
        let ends = slashes.filter(|&at| at > 0).chain([path.len()]);
        let mut hasher = self.hashes.build_hasher();
        let mut from = 0;
        ends.map(move |end| {
            hasher.write(&path.as_bytes()[from..end]);
            from = end;
            (&path[..end], hasher.finish())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_above_are_found_and_no_others() {
        let mut paths = RecursivePaths::default();
        for path in ["/", "/a", "/a/b", "/a/b", "/ab", "", "x", "/a/"] {
            paths.add(path);
        }
        let above =
            |paths: &RecursivePaths, path: &'static str| paths.above(path).collect::<Vec<_>>();
        assert_eq!(above(&paths, "/a/b/c/d"), ["/a", "/a/b", "/"]);
        assert_eq!(above(&paths, "/a/b"), ["/a", "/"]);
        assert_eq!(above(&paths, "/a"), ["/"]);
        assert!(above(&paths, "/").is_empty());
        paths.remove("/a/b");
        assert_eq!(
            above(&paths, "/a/b/c"),
            ["/a", "/a/b", "/"],
            "another stands there"
        );
        paths.remove("/a/b");
        paths.remove("/");
        assert_eq!(above(&paths, "/a/b/c"), ["/a"]);
        for path in ["/a", "/ab", "", "x", "/a/"] {
            assert!(!paths.is_empty());
            paths.remove(path);
        }
        assert!(paths.is_empty());
    }
}
