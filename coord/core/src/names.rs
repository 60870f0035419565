//! Names of znodes, as the tree has them: the ends of their paths.

use std::sync::Arc;

/// Names that are told, each the end of a path, without a copy of any.
#[derive(Debug, Clone, Default)]
pub struct Names {
    paths: Vec<Arc<str>>,
    /// Bytes of each path before its name.
    before: usize,
}

impl Names {
    /// The paths themselves.
    pub fn whole(paths: Vec<Arc<str>>) -> Names {
        Names { paths, before: 0 }
    }

    /// Of these children of the znode at `parent`.
    pub fn below(parent: &str, paths: Vec<Arc<str>>) -> Names {
        // The root's path ends with the slash that stands before each child's name.
        let before = parent.trim_end_matches('/').len() + 1;
        Names { paths, before }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|path| &path[self.before..])
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Names) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_end_of_a_path() {
        let names = |parent, paths: &[&str]| {
            let names = Names::below(parent, paths.iter().map(|&path| path.into()).collect());
            names.iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names("/", &["/a", "/b"]), ["a", "b"]);
        assert_eq!(names("/a", &["/a/b", "/a/ü"]), ["b", "ü"]);
        let whole = Names::whole(vec!["b".into()]);
        assert_eq!(whole, Names::below("/a", vec!["/a/b".into()]));
        assert_ne!(whole, Names::below("/", vec!["/a/b".into()]));
    }
}
