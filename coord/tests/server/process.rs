//! coord processes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take that has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A coord with a data directory of its own, on a free port; killed when dropped.
pub(crate) struct Coord {
    dir: TempDir,
    child: Child,
    set: Vec<String>,
    pub(crate) address: SocketAddr,
    /// Where it listens beside that, by the key that asked for it.
    others: HashMap<String, SocketAddr>,
}

/// `coord` on `dir` with more settings.
pub(crate) fn command(dir: &Path, set: &[String]) -> Command {
    with_settings(Command::new(env!("CARGO_BIN_EXE_coord")), dir, set)
}

fn with_settings(mut command: Command, dir: &Path, set: &[String]) -> Command {
    command.args(["--set", &format!("dataDir={}", dir.display())]);
    for pair in set {
        command.args(["--set", pair]);
    }
    command
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .stdin(Stdio::null());
    command
}

/// Runs `coord` to its end, which it is expected to find at once.
pub(crate) fn refused(dir: &Path, set: &[&str]) -> Output {
    let set: Vec<String> = set.iter().map(|pair| pair.to_string()).collect();
    command(dir, &set).output().expect("coord runs")
}

impl Coord {
    /// Session timeouts from 100 ms to 20 s, whatever is asked for, so that tests are quick.
    pub(crate) fn start() -> Coord {
        Coord::start_with(&[])
    }

    pub(crate) fn start_with(set: &[&str]) -> Coord {
        Coord::start_in(tempfile::tempdir().expect("a temporary directory"), set)
    }

    /// The member `my_id` of the ensemble that `set` lists.
    pub(crate) fn start_member(my_id: usize, set: &[&str]) -> Coord {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("myid"), my_id.to_string()).expect("a file myid");
        Coord::start_in(dir, set)
    }

    fn start_in(dir: TempDir, set: &[&str]) -> Coord {
        let defaults = [
            "minSessionTimeout=100",
            "maxSessionTimeout=20000",
            "clientPortAddress=127.0.0.1",
        ];
        let set: Vec<String> = defaults
            .iter()
            .chain(set)
            .map(|pair| pair.to_string())
            .collect();
        let (child, address, others) = spawn(command(dir.path(), &set), 0);
        Coord {
            dir,
            child,
            set,
            address,
            others,
        }
    }

    /// One whose files cannot grow above `blocks` of 512 bytes: a disk that is full.
    pub(crate) fn start_with_full_disk(blocks: u32) -> Coord {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let set = vec!["clientPortAddress=127.0.0.1".to_owned()];
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""),
        ]);
        shell.arg(env!("CARGO_BIN_EXE_coord"));
        let (child, address, others) = spawn(with_settings(shell, dir.path(), &set), 0);
        Coord {
            dir,
            child,
            set,
            address,
            others,
        }
    }

    /// Waits for its own end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("coord has ended")
    }

    /// Where it listens as `key` asked for, which may have been port 0.
    pub(crate) fn listens(&self, key: &str) -> SocketAddr {
        self.others[key]
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("coord can be killed");
        self.child.wait().expect("coord has ended");
    }

    /// SIGTERM; gives back the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("coord can be told to stop");
        self.child.wait().expect("coord has ended").code()
    }

    /// Starts again after [`Coord::kill`] or [`Coord::terminate`], on the same port and data.
    pub(crate) fn restart(&mut self) {
        (self.child, self.address, self.others) =
            spawn(command(self.dir.path(), &self.set), self.address.port());
    }

    pub(crate) async fn client(&self, session_timeout: Duration) -> zookeeper_client::Client {
        zookeeper_client::Client::connector()
            .with_session_timeout(session_timeout)
            .connect(&self.address.to_string())
            .await
            .expect("a session")
    }
}

impl Drop for Coord {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the process and waits until it says where it listens.
fn spawn(mut command: Command, port: u16) -> (Child, SocketAddr, HashMap<String, SocketAddr>) {
    let mut child = command
        .args(["--set", &format!("clientPort={port}")])
        .spawn()
        .expect("coord starts");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
    let mut seen = String::new();
    let mut others = HashMap::new();
    let address = loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("coord ended before it listened:\n{seen}")
        };
        if let Some((_, address)) = line.split_once("clientPort ") {
            break address.trim().parse().expect("an address");
        }
        for key in [
            "admin.serverPort",
            "metricsProvider.httpPort",
            "secureClientPort",
        ] {
            if let Some((_, address)) = line.split_once(&format!("{key} ")) {
                let address = address.trim().parse().expect("an address");
                others.insert(key.to_owned(), address);
            }
        }
        seen += &line;
        seen.push('\n');
    };
    // The rest has to be read, or coord would stop at a full pipe.
    std::thread::spawn(move || {
        lines.for_each(|line| eprintln!("coord: {}", line.unwrap_or_default()))
    });
    (child, address, others)
}
