use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::await_some;

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have gone well.
    ///
    /// # Errors
    /// When its exit code is not 0, with all that it said.
    pub fn success(self) -> Result<String> {
        match self.code {
            Some(0) => Ok(self.stdout),
            code => bail!(
                "exit code {code:?}\nstdout: {}\nstderr: {}",
                self.stdout,
                self.stderr
            ),
        }
    }
}

/// Runs `command` with `stdin` as its input, and ends it where it has not ended itself after `limit`.
///
/// # Errors
/// When it cannot be started, or was ended here.
pub fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Output> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut input = child.stdin.take().context("no pipe to the command")?;
    let output = child.stdout.take().context("no pipe from the command")?;
    let complaints = child.stderr.take().context("no pipe from the command")?;
    thread::scope(|scope| {
        scope.spawn(move || {
            // A command that ends without reading its input may do so.
            let _ = input.write_all(stdin);
        });
        let stdout = scope.spawn(move || read_all(output));
        let stderr = scope.spawn(move || read_all(complaints));
        let status = await_some(&format!("the end of {name}"), limit, || {
            Ok(child.try_wait()?)
        });
        if status.is_err() {
            // It may have ended by now.
            let _ = child.kill();
            let _ = child.wait();
        }
        let join = |reader: thread::ScopedJoinHandle<'_, String>| reader.join().unwrap_or_default();
        let (stdout, stderr) = (join(stdout), join(stderr));
        match status {
            Ok(status) => Ok(Output {
                code: status.code(),
                stdout,
                stderr,
            }),
            Err(e) => Err(e.context(format!("stdout: {stdout}\nstderr: {stderr}"))),
        }
    })
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before a failure is what there is to show.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A tool of others that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Debian's `kcat`.
    Kcat,
    /// A Python that can import kazoo.
    Kazoo,
    /// A Java that finds [`JAVA_ZOOKEEPER_JARS`].
    JavaZooKeeper,
    /// A container engine that answers.
    Docker,
}

/// The class path of the Java ZooKeeper client, as `scripts/test.sh` gets it from Maven Central.
pub const JAVA_ZOOKEEPER_JARS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/java-zookeeper/*");

/// The program of `tool`, or `None` where this machine lacks it: the test is then skipped, as by [`skip`].
///
/// # Panics
/// As [`skip`].
pub fn tool(tool: Tool) -> Option<PathBuf> {
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venv/bin/python3");
    let (name, candidates, probe): (_, &[&str], &[&str]) = match tool {
        Tool::Kcat => ("kcat", &["kcat"], &["-V"]),
        Tool::Kazoo => ("kazoo", &[venv, "python3"], &["-c", "import kazoo"]),
        Tool::JavaZooKeeper => (
            "the Java ZooKeeper client",
            &["java"],
            &["-cp", JAVA_ZOOKEEPER_JARS, "org.apache.zookeeper.Version"],
        ),
        Tool::Docker => ("a container engine", &["docker"], &["version"]),
    };
    let works = |program: &&&str| {
        let probed = run(
            Command::new(program).args(probe),
            b"",
            Duration::from_secs(20),
        );
        probed.is_ok_and(|output| output.code == Some(0))
    };
    if let Some(program) = candidates.iter().find(works) {
        return Some(PathBuf::from(program));
    }
    skip(&format!("{name} is missing"));
    None
}

/// Notes that this machine cannot run the test of this thread: in the file that `GREGOR_SKIPPED` names, for the last
/// lines of `scripts/test.sh`.
///
/// # Panics
/// With `CI=true`: there a skip is a failure.
pub fn skip(reason: &str) {
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "{reason}, and with CI=true nothing is skipped"
    );
    let test = thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped {test}: {reason}");
    if let Some(path) = env::var_os("GREGOR_SKIPPED") {
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{test}: {reason}"))
            .expect("the file that GREGOR_SKIPPED names is written");
    }
}
