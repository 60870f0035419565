//! The tools under Kafka's names: they build no more than they need.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const ZOOKEEPER_SHELL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../scripts/bin/zookeeper-shell"
);

/// A program that prints its name and its words.
fn program(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\necho \"${0##*/} $*\"\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The shell, where cargo is a program that only prints and `target` is its directory.
fn run(bin: &Path, target: &Path) -> Output {
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    Command::new(ZOOKEEPER_SHELL)
        .args(["localhost:1", "ls"])
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("GREGOR_PROFILE")
        .output()
        .unwrap()
}

#[test]
fn a_tool_builds_itself_alone_and_only_where_it_is_missing() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scripts");
    let (bin, target) = (dir.join("bin"), dir.join("target"));
    let _ = fs::remove_dir_all(&dir);
    program(&bin.join("cargo"));

    let missing = run(&bin, &target);
    let said = String::from_utf8(missing.stderr).unwrap();
    let mut lines = said.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("Building admin (release)"),
        "{said}"
    );
    assert_eq!(
        lines.next(),
        Some("cargo build --profile release -p admin --bins")
    );
    assert_eq!(missing.stdout, b"");

    program(&target.join("release/admin"));
    let there = run(&bin, &target);
    assert_eq!(there.stderr, b"");
    assert_eq!(there.stdout, b"admin zookeeper-shell localhost:1 ls\n");
}
