//! Which strings are paths of znodes.

use crate::error::OpError;

/// Znodes that exist from the start and can not be deleted.
pub const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Checks an absolute path as ZooKeeper does: no empty, `.` or `..` names, no trailing slash, no control characters,
/// none of the private or special blocks.
pub fn validate(path: &str) -> Result<(), OpError> {
    let Some(names) = path.strip_prefix('/') else {
        return Err(OpError::BadArguments);
    };
    if names.is_empty() {
        return Ok(());
    }
    let bad_name = |name: &str| matches!(name, "" | "." | "..");
    let bad_char = |c: char| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
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
}
