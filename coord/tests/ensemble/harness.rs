//! Ensembles of coord processes on this machine, each member on ports and a data directory of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::{Lifetime, PortBlock, Process, await_some};
use rustix::process::Signal;
use tempfile::TempDir;
use zookeeper_client::{Client, Connector};

/// How long anything may take that has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);
/// Sessions of the tests that are about something else: long enough for a new leader on a machine that is busy.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(15);
/// The password of the super user is "test".
pub(crate) const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// What a member is, by the four-letter word `srvr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Leader,
    Follower,
    Observer,
    ReadOnly,
}

/// What an ensemble is to be.
pub(crate) struct Builder {
    voters: u16,
    observers: u16,
    settings: Vec<String>,
    own_settings: BTreeMap<u16, Vec<String>>,
    disks: BTreeMap<u16, PathBuf>,
}

impl Builder {
    /// Where a member's data directory is, instead of in the ensemble's own directory.
    pub(crate) fn disk(mut self, member: u16, path: &Path) -> Builder {
        self.disks.insert(member, path.join("data"));
        self
    }

    /// A line of every member's zoo.cfg.
    pub(crate) fn set(mut self, line: &str) -> Builder {
        self.settings.push(line.to_owned());
        self
    }

    /// A line of one member's zoo.cfg.
    pub(crate) fn set_for(mut self, member: u16, line: &str) -> Builder {
        let own = self.own_settings.entry(member).or_default();
        own.push(line.to_owned());
        self
    }

    /// Members after the voters that never vote.
    pub(crate) fn observers(mut self, observers: u16) -> Builder {
        self.observers = observers;
        self
    }

    /// Starts all, and returns when each serves clients.
    pub(crate) fn start(self) -> Ensemble {
        let mut ensemble = self.prepare();
        let members: Vec<u16> = ensemble.members().collect();
        for &member in &members {
            ensemble.spawn(member);
        }
        for &member in &members {
            ensemble.await_serving(member);
        }
        ensemble
    }

    /// Starts nobody yet.
    pub(crate) fn prepare(self) -> Ensemble {
        let ports = PortBlock::reserve().expect("free ports");
        let ensemble = Ensemble {
            dir: tempfile::tempdir().expect("a temporary directory"),
            base_port: ports.ports().base_port,
            _ports: ports,
            voters: self.voters,
            observers: self.observers,
            settings: self.settings,
            own_settings: self.own_settings,
            disks: self.disks,
            running: BTreeMap::new(),
        };
        for member in ensemble.members() {
            fs::create_dir_all(ensemble.data_dir(member)).expect("a data directory");
        }
        ensemble
    }
}

/// Members 1 to `voters`, then the observers; killed when dropped.
pub(crate) struct Ensemble {
    dir: TempDir,
    base_port: u16,
    _ports: PortBlock,
    voters: u16,
    observers: u16,
    settings: Vec<String>,
    own_settings: BTreeMap<u16, Vec<String>>,
    disks: BTreeMap<u16, PathBuf>,
    running: BTreeMap<u16, Process>,
}

impl Ensemble {
    pub(crate) fn of(voters: u16) -> Builder {
        Builder {
            voters,
            observers: 0,
            settings: Vec::new(),
            own_settings: BTreeMap::new(),
            disks: BTreeMap::new(),
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.voters + self.observers
    }

    fn data_dir(&self, member: u16) -> PathBuf {
        let own = || self.dir.path().join(member.to_string());
        self.disks.get(&member).cloned().unwrap_or_else(own)
    }

    /// Another voter, whose number is given back. It knows of all, and those that run know nothing of it yet.
    pub(crate) fn add(&mut self) -> u16 {
        assert_eq!(self.observers, 0, "observers come after the voters");
        self.voters += 1;
        fs::create_dir_all(self.data_dir(self.voters)).expect("a data directory");
        self.voters
    }

    pub(crate) fn runs(&self, member: u16) -> bool {
        self.running.contains_key(&member)
    }

    pub(crate) fn address(&self, member: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.base_port + member).into()
    }

    /// Where the other members reach one.
    pub(crate) fn quorum_address(&self, member: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 10_000 + self.base_port + member).into()
    }

    /// All members, as clients want them.
    pub(crate) fn connect_string(&self) -> String {
        let addresses: Vec<String> = self
            .members()
            .map(|m| self.address(m).to_string())
            .collect();
        addresses.join(",")
    }

    /// The member's `server.N` line without its key, as zoo.cfg and reconfig have it.
    pub(crate) fn spec(&self, member: u16) -> String {
        let role = if member > self.voters {
            "observer"
        } else {
            "participant"
        };
        let quorum = self.quorum_address(member).port();
        let election = 20_000 + self.base_port + member;
        let client = self.address(member);
        format!("127.0.0.1:{quorum}:{election}:{role};{client}")
    }

    fn write_config(&self, member: u16) -> PathBuf {
        let data_dir = self.data_dir(member);
        let address = self.address(member);
        let mut lines = vec![
            format!("dataDir={}", data_dir.display()),
            format!("clientPortAddress={}", address.ip()),
            format!("clientPort={}", address.port()),
            "tickTime=500".to_owned(),
            "initLimit=20".to_owned(),
            "syncLimit=4".to_owned(),
            "minSessionTimeout=500".to_owned(),
            "maxSessionTimeout=60000".to_owned(),
            "admin.enableServer=false".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
            "extendedTypesEnabled=true".to_owned(),
            "znode.container.checkIntervalMs=200".to_owned(),
        ];
        if self.voters + self.observers > 1 {
            lines.extend(
                self.members()
                    .map(|peer| format!("server.{peer}={}", self.spec(peer))),
            );
            if member > self.voters {
                lines.push("peerType=observer".to_owned());
            }
            fs::write(data_dir.join("myid"), member.to_string()).expect("myid is written");
        }
        lines.extend(self.settings.iter().cloned());
        lines.extend(
            self.own_settings
                .get(&member)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let path = self.dir.path().join(format!("{member}.cfg"));
        fs::write(&path, lines.join("\n") + "\n").expect("zoo.cfg is written");
        path
    }

    /// Starts a member. `COORD` names another program than the one that was built with the tests.
    pub(crate) fn spawn(&mut self, member: u16) {
        let program =
            std::env::var("COORD").unwrap_or_else(|_| env!("CARGO_BIN_EXE_coord").to_owned());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(member))
            .expect("a log file");
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(self.write_config(member))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        let process = Process::spawn(&mut command, Lifetime::Attached).expect("coord starts");
        self.running.insert(member, process);
    }

    /// Starts a member, and returns when it serves clients.
    pub(crate) fn start(&mut self, member: u16) {
        self.spawn(member);
        self.await_serving(member);
    }

    fn log_path(&self, member: u16) -> PathBuf {
        self.dir.path().join(format!("{member}.log"))
    }

    /// Whether a member has said this, to the operator.
    pub(crate) fn has_said(&self, member: u16, what: &str) -> bool {
        let log = fs::read_to_string(self.log_path(member)).unwrap_or_default();
        log.contains(what)
    }

    fn last_lines(&self, member: u16) -> String {
        let log = fs::read_to_string(self.log_path(member)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What a member says it is, if it serves clients.
    pub(crate) fn mode(&self, member: u16) -> Option<Mode> {
        let answer = four_letters(self.address(member), "srvr").ok()?;
        let mode = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mode: "))?;
        Some(match mode {
            "standalone" => Mode::Standalone,
            "leader" => Mode::Leader,
            "follower" => Mode::Follower,
            "observer" => Mode::Observer,
            "read-only" => Mode::ReadOnly,
            "not serving" => return None,
            other => panic!("member {member} says that its mode is {other}"),
        })
    }

    /// Returns when the member leads, follows or observes.
    pub(crate) fn await_serving(&self, member: u16) -> Mode {
        self.await_mode(member, |mode| mode != Mode::ReadOnly)
    }

    /// Returns when the member's mode is as wanted.
    pub(crate) fn await_mode(&self, member: u16, wanted: impl Fn(Mode) -> bool) -> Mode {
        let awaited = await_some("a member's mode", DEADLINE, || {
            Ok(self.mode(member).filter(|&mode| wanted(mode)))
        });
        awaited.unwrap_or_else(|error| panic!("member {member}: {error:#}"))
    }

    /// The leader, as soon as there is one among these.
    pub(crate) fn await_leader_of(&self, members: &[u16]) -> u16 {
        let leads =
            |&&member: &&u16| matches!(self.mode(member), Some(Mode::Leader | Mode::Standalone));
        let awaited = await_some("a leader", DEADLINE, || {
            Ok(members.iter().find(leads).copied())
        });
        awaited.unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub(crate) fn await_leader(&self) -> u16 {
        let running: Vec<u16> = self.running.keys().copied().collect();
        self.await_leader_of(&running)
    }

    /// A running voter that does not lead.
    pub(crate) fn a_follower(&self) -> u16 {
        let leader = self.await_leader();
        let voters = self
            .running
            .keys()
            .copied()
            .filter(|&member| member <= self.voters);
        voters
            .into_iter()
            .find(|&member| member != leader)
            .expect("a follower")
    }

    /// SIGKILL; returns when the member has ended.
    pub(crate) fn kill(&mut self, member: u16) {
        self.signal(member, Signal::KILL);
        self.await_end(member);
    }

    /// SIGKILL to several, before any of their ends is awaited.
    pub(crate) fn kill_all(&mut self, members: &[u16]) {
        for &member in members {
            self.signal(member, Signal::KILL);
        }
        for &member in members {
            self.await_end(member);
        }
    }

    /// SIGSTOP or SIGCONT, for example.
    pub(crate) fn signal(&self, member: u16, signal: Signal) {
        self.running[&member]
            .signal(signal)
            .expect("a signal is sent");
    }

    /// Returns when the member has ended by itself or was killed.
    pub(crate) fn await_end(&mut self, member: u16) {
        let process = self.running.remove(&member).expect("a member that runs");
        process.await_end(DEADLINE).expect("the member's end");
        process.reap();
    }

    /// Takes all data of a member that does not run.
    pub(crate) fn wipe(&self, member: u16) {
        fs::remove_dir_all(self.data_dir(member)).expect("data is removed");
        fs::create_dir_all(self.data_dir(member)).expect("a data directory");
    }

    /// A client of the whole ensemble.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.connect_string(), SESSION_TIMEOUT).await
    }

    /// A client of one member.
    pub(crate) async fn client_of(&self, member: u16) -> Client {
        connect(&self.address(member).to_string(), SESSION_TIMEOUT).await
    }
}

/// A test that fails shows what its members said.
impl Drop for Ensemble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in self.members() {
                eprintln!("member {member} said last:\n{}", self.last_lines(member));
            }
        }
        let members: Vec<u16> = self.running.keys().copied().collect();
        self.kill_all(&members);
    }
}

/// A session, as soon as one is to be had.
pub(crate) async fn connect(servers: &str, session_timeout: Duration) -> Client {
    patiently(
        servers,
        Client::connector().with_session_timeout(session_timeout),
    )
    .await
}

/// What the connector makes, as soon as it does.
pub(crate) async fn patiently(servers: &str, connector: Connector) -> Client {
    eventually(&format!("a session on {servers}"), || {
        let connecting = connector.clone().connect(servers);
        async { connecting.await.ok() }
    })
    .await
}

/// The answer to a four-letter word.
pub(crate) fn four_letters(address: SocketAddr, word: &str) -> std::io::Result<String> {
    const LIMIT: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks `condition` until it answers with something, and returns that.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = condition().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = tokio::time::timeout(DEADLINE, asking).await;
    asked.unwrap_or_else(|_| panic!("waited {DEADLINE:?} for {what}"))
}
