//! A walk through part of the tree.

use std::collections::btree_set;
use std::sync::Arc;

use super::{Tree, Znode};

/// Goes through a znode and all below it.
#[derive(Debug)]
pub struct Subtree<'t> {
    tree: &'t Tree,
    root: Option<&'t Znode>,
    /// The children that are still to be visited, by depth.
    unvisited: Vec<btree_set::Iter<'t, Arc<str>>>,
}

impl<'t> Subtree<'t> {
    pub(super) fn new(tree: &'t Tree, path: &str) -> Subtree<'t> {
        Subtree {
            tree,
            root: tree.get(path),
            unvisited: Vec::new(),
        }
    }

    fn visit(&mut self, node: &'t Znode) -> &'t Znode {
        if !node.children.is_empty() {
            self.unvisited.push(node.children.iter());
        }
        node
    }
}

impl<'t> Iterator for Subtree<'t> {
    type Item = &'t Znode;

    fn next(&mut self) -> Option<&'t Znode> {
        if let Some(root) = self.root.take() {
            return Some(self.visit(root));
        }
        loop {
            let Some(path) = self.unvisited.last_mut()?.next() else {
                self.unvisited.pop();
                continue;
            };
            // Every child has its znode.
            let node = self.tree.get(path)?;
            return Some(self.visit(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl;
    use crate::ephemeral_type::EphemeralType;
    use crate::zxid::Zxid;

    #[test]
    fn a_subtree_is_all_that_is_below_and_nothing_beside() {
        let mut tree = Tree::default();
        let paths = [
            "/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e", "/ab", "/a/e/f", "/a-",
        ];
        for (at, path) in paths.iter().enumerate() {
            let zxid = Zxid(at as i64 + 1);
            let node = Znode::new(None, acl::open(), EphemeralType::Void, zxid, 0);
            tree.create(path, node).unwrap();
        }
        let below = |path: &str| {
            let mut zxids: Vec<i64> = tree.subtree(path).map(|node| node.czxid.0).collect();
            zxids.sort_unstable();
            zxids
        };
        assert_eq!(below("/a"), [1, 2, 3, 4, 5, 7]);
        assert_eq!(below("/a/e"), [5, 7]);
        assert_eq!(below("/ab"), [6]);
        assert!(below("/nothing").is_empty());
        assert_eq!(below("/").len(), tree.len());
        // What is counted without a walk, also once much of it is gone and in a tree that was put together anew.
        let counted = |tree: &Tree| {
            for path in ["/a", "/a/e", "/ab", "/", "/nothing"] {
                let walked = tree.subtree(path).count().saturating_sub(1);
                assert_eq!(tree.descendants_len(path), walked, "{path}");
            }
        };
        counted(&tree);
        let mut again = Tree::empty();
        for (path, node) in tree.iter() {
            let children = Default::default();
            again.restore(
                path.clone(),
                Znode {
                    children,
                    ..node.clone()
                },
            );
        }
        assert_eq!(again.link_children(), None);
        counted(&again);
        for path in ["/a/b/d", "/a/b/c", "/a/e/f", "/ab"] {
            tree.delete(path, Zxid(9)).unwrap();
            counted(&tree);
        }
    }
}
