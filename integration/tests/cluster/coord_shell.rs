//! `coord-shell` against a coord, as a user calls it.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::Result;
use integration::{Cluster, LIMIT, Node, Output, Programs, run};

struct Shell {
    cluster: Cluster,
}

impl Shell {
    fn start() -> Result<Shell> {
        let cluster = Cluster::builder()
            .brokers(0)
            .set_coord("enforceQuota", true)
            .start()?;
        Ok(Shell { cluster })
    }

    fn servers(&self) -> Result<String> {
        Ok(self.cluster.address(Node::Coord(1))?.to_string())
    }

    /// One command, as words.
    fn once(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(Programs::under_test()?.path("admin"));
        command.args(["coord-shell", &self.servers()?]).args(words);
        run(&mut command, b"", LIMIT)
    }

    /// What one command that goes well prints behind the news of the connection.
    fn result(&self, words: &[&str]) -> Result<String> {
        let printed = self.once(words)?.success()?;
        let connected = format!(
            "Connecting to {}\n\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n",
            self.servers()?
        );
        let result = printed.strip_prefix(&connected);
        Ok(result.unwrap_or(&printed).to_owned())
    }

    /// Many commands, as lines.
    fn lines(&self, lines: &[&str]) -> Result<Output> {
        let mut command = Command::new(Programs::under_test()?.path("admin"));
        command.args(["coord-shell", &self.servers()?]);
        run(&mut command, lines.join("\n").as_bytes(), LIMIT)
    }
}

#[test]
fn one_command_prints_as_zookeepers_shell_does() -> Result<()> {
    let shell = Shell::start()?;
    let created = shell.once(&["create", "/a", "two words", "world:anyone:cdrwa"])?;
    assert_eq!(
        (created.code, created.stderr.as_str()),
        (Some(0), "Created /a\n")
    );
    shell.once(&["create", "-s", "/a/b-"])?.success()?;
    assert_eq!(shell.result(&["ls", "/a"])?, "[b-0000000000]\n");
    assert_eq!(shell.result(&["ls", "-R", "/a"])?, "/a\n/a/b-0000000000\n");
    assert_eq!(
        shell.result(&["getAcl", "/a"])?,
        "'world,'anyone\n: cdrwa\n"
    );
    assert_eq!(shell.result(&["getAllChildrenNumber", "/a"])?, "1\n");
    assert_eq!(shell.result(&["sync", "/a"])?, "Sync is OK\n");
    assert_eq!(
        shell.result(&["whoami"])?,
        "Auth scheme: User\nip: 127.0.0.1\n"
    );
    let got = shell.result(&["get", "-s", "/a"])?;
    assert!(got.starts_with("two words\ncZxid = 0x"), "{got}");
    assert!(
        got.ends_with("\ndataLength = 9\nnumChildren = 1\n"),
        "{got}"
    );

    shell.once(&["deleteall", "/a"])?.success()?;
    assert_eq!(shell.result(&["ls", "/"])?, "[zookeeper]\n");
    Ok(())
}

#[test]
fn a_refusal_is_one_line_and_an_exit_code() -> Result<()> {
    let shell = Shell::start()?;
    shell.once(&["create", "/a"])?.success()?;
    shell.once(&["create", "/a/b"])?.success()?;
    for (words, line) in [
        (&["get", "/x"][..], "Node does not exist: /x"),
        (&["stat", "/x"], "Node does not exist: /x"),
        (&["create", "/a"], "Node already exists: /a"),
        (&["delete", "/a"], "Node not empty: /a"),
        (
            &["set", "-v", "7", "/a", "x"],
            "version No is not valid : /a",
        ),
        (
            &["create", "/c", "x", "nobody"],
            "nobody does not have the form scheme:id:perm",
        ),
        (&["delete"], "delete [-v version] path"),
        (
            &["reconfig", "-add", "server.9=127.0.0.1:1:2"],
            "KeeperErrorCode = Reconfig is disabled for /zookeeper/config",
        ),
    ] {
        let refused = shell.once(words)?;
        assert_eq!(
            (refused.code, refused.stderr.as_str()),
            (Some(1), format!("{line}\n").as_str()),
            "{words:?}"
        );
    }
    let unknown = shell.once(&["mkdir", "/a"])?;
    assert_eq!(unknown.code, Some(127));
    assert!(
        unknown.stderr.ends_with("\nCommand not found: mkdir\n"),
        "{}",
        unknown.stderr
    );
    Ok(())
}

#[test]
fn lines_share_a_session_and_its_watches() -> Result<()> {
    let shell = Shell::start()?;
    let output = shell.lines(&[
        "create -e /live 'it is'",
        "getEphemerals",
        "get -w /live",
        "set /live over",
        "addWatch /tree",
        "addWatch -m PERSISTENT /tree/leaf",
        "create /tree x",
        "create /tree/leaf y",
        "removewatches /tree",
        "removewatches /tree/leaf",
        "delete /tree/leaf",
        "get /none",
        "get nope",
        "redo 3",
        "history",
        "quit",
    ])?;
    assert_eq!(
        output.stderr,
        "Created /live\nCreated /tree\nCreated /tree/leaf\nNode does not exist: /none\nPath must start with / character\n"
    );
    let stdout = &output.stdout;
    for line in [
        "[/live]",
        "it is",
        "type:NodeDataChanged path:/live",
        "type:NodeCreated path:/tree ",
        "type:NodeCreated path:/tree/leaf ",
        "type:PersistentWatchRemoved path:/tree zxid: -1",
        "13 - set /live over",
        "state:Closed",
    ] {
        assert_eq!(stdout.matches(line).count(), 1, "{line} in {stdout}");
    }
    assert!(!stdout.contains("NodeDeleted"), "{stdout}");
    assert_eq!(output.code, Some(0));
    // The session is closed, so what lived in it is gone.
    assert_eq!(shell.result(&["ls", "/"])?, "[tree, zookeeper]\n");
    Ok(())
}

#[test]
fn quotas_are_set_shown_and_removed() -> Result<()> {
    let shell = Shell::start()?;
    shell.once(&["create", "/a"])?.success()?;
    assert_eq!(shell.result(&["setquota", "-N", "2", "/a"])?, "");
    assert_eq!(
        shell.result(&["listquota", "/a"])?,
        "Output quota for /a count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2\n\
         Output stat for /a count=1,bytes=0\n"
    );
    shell.once(&["create", "/a/1"])?.success()?;
    let refused = shell.once(&["create", "/a/2"])?;
    assert_eq!(refused.stderr, "Quota has exceeded : /a/2\n");
    let nested = shell.once(&["setquota", "-n", "5", "/a/1"])?;
    assert_eq!(nested.stderr, "/a/1 has a parent /a which has a quota\n");
    shell.once(&["delquota", "/a"])?.success()?;
    assert_eq!(shell.result(&["ls", "/zookeeper/quota"])?, "[]\n");
    Ok(())
}

#[test]
fn it_answers_to_the_name_that_kafka_gives_it() -> Result<()> {
    let shell = Shell::start()?;
    let name = shell.cluster.dir()?.join("zookeeper-shell.sh");
    symlink(Programs::under_test()?.path("admin"), &name)?;
    let chroot = format!("{}/zookeeper", shell.servers()?);
    let listed = run(Command::new(&name).args([&chroot, "ls", "/"]), b"", LIMIT)?.success()?;
    assert!(listed.ends_with("\n[config, quota]\n"), "{listed}");
    let help = run(&mut Command::new(&name), b"", LIMIT)?;
    assert_eq!(help.code, Some(1));
    assert!(help.stderr.contains("USAGE: "), "{}", help.stderr);
    Ok(())
}
