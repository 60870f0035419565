//! Which strings are paths of znodes.

use crate::error::OpError;

/// Znodes that exist from the start and can not be deleted.
pub const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Checks an absolute path as ZooKeeper does: no empty, `.` or `..` names, no trailing slash, no control characters,
/// none of the private or special blocks, and nothing that takes two UTF-16 units.
pub fn validate(path: &str) -> Result<(), OpError> {
    let Some(names) = path.strip_prefix('/') else {
        return Err(OpError::BadArguments);
    };
    if names.is_empty() {
        return Ok(());
    }
    let bad_name = |name: &str| matches!(name, "" | "." | "..");
    let bad_char = |c: char| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..);
    if names.split('/').any(bad_name) || names.contains(bad_char) {
        Err(OpError::BadArguments)
    } else {
        Ok(())
    }
}

/// The parent's path and the znode's own name; `None` for the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    match (parent, name) {
        ("", "") => None,
        ("", name) => Some(("/", name)),
        _ => Some((parent, name)),
    }
}

/// The parent of a path that a client asks to create or delete at, checked no further than ZooKeeper does before it looks
/// for that parent: a parent that cannot exist does not exist.
pub fn parent_asked_for(path: &str) -> Result<&str, OpError> {
    match path.rsplit_once('/') {
        Some(("", _)) if !path.contains('\0') => Ok("/"),
        Some((parent, _)) if !path.contains('\0') => Ok(parent),
        _ => Err(OpError::BadArguments),
    }
}

/// The znode that a read of this path means: of the empty one too, the root.
pub fn to_read(path: &str) -> &str {
    match path {
        "" => "/",
        path => path,
    }
}

/// The path itself and those above it, the root last.
pub fn and_ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| split(path).map(|(parent, _)| parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_paths() {
        for path in ["/", "/a", "/a/b", "/a.b", "/...", "/ü", "/a b"] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
        for path in [
            "",
            "a",
            "a/b",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/a/..",
            "/../a",
            "/a\0",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{e000}",
            "/\u{fff1}",
            "/\u{1f600}",
        ] {
            assert_eq!(validate(path), Err(OpError::BadArguments), "{path:?}");
        }
    }

    #[test]
    fn split_gives_parent_and_name() {
        assert_eq!(split("/"), None);
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
    }

    #[test]
    fn the_root_is_above_all() {
        let above = |path: &'static str| and_ancestors(path).collect::<Vec<_>>();
        assert_eq!(above("/a/b"), ["/a/b", "/a", "/"]);
        assert_eq!(above("/"), ["/"]);
    }

    #[test]
    fn a_parent_is_asked_for_before_the_path_is_checked() {
        assert_eq!(parent_asked_for("/a//b"), Ok("/a/"));
        assert_eq!(parent_asked_for("/a"), Ok("/"));
        assert_eq!(parent_asked_for("a"), Err(OpError::BadArguments));
        assert_eq!(parent_asked_for("/a\0"), Err(OpError::BadArguments));
    }
}
