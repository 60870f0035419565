//! The two systems: how each is started, as one server or as an ensemble, from the same zoo.cfg.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration::{
    LIMIT, Lifetime, PortBlock, Process, ProcessState, Properties, await_some, four_letter_figure,
};
use rustix::process::Signal;

use crate::connection::Connection;

/// What ZooKeeper's own start script gives the server at most.
const JVM_HEAP: &str = "-Xmx1000m";
/// A server that is starting may accept a connection and never answer on it: so long is waited before the next is tried.
const SESSION_PATIENCE: Duration = Duration::from_millis(250);
/// The unit of CPU times in `/proc`, in seconds.
const CPU_TICK_S: f64 = 0.01;

/// A system under test.
#[derive(Debug, Clone)]
pub(crate) enum System {
    /// Apache ZooKeeper, with the directory of its jars.
    ZooKeeper { jars: PathBuf },
    /// coord, with its program.
    Coord { program: PathBuf },
}

impl System {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            System::ZooKeeper { .. } => "ZooKeeper",
            System::Coord { .. } => "coord",
        }
    }

    fn command(&self, config: &Path) -> Command {
        match self {
            System::ZooKeeper { jars } => {
                let mut command = Command::new("java");
                command
                    .arg(JVM_HEAP)
                    .arg("-cp")
                    .arg(format!("{0}/*:{0}", jars.display()))
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
                    .arg(config);
                command
            }
            System::Coord { program } => {
                let mut command = Command::new(program);
                command.arg("--config").arg(config);
                command
            }
        }
    }
}

/// The servers of one system.
#[derive(Debug)]
pub(crate) struct Ensemble {
    system: System,
    dir: PathBuf,
    ports: PortBlock,
    /// By the number of the server, counted from 0.
    servers: Vec<Option<Process>>,
}

impl Ensemble {
    /// `servers` servers that do not run yet and have no data.
    ///
    /// # Errors
    /// When there are no ports, or `dir` cannot be written.
    pub(crate) fn new(system: System, servers: usize, dir: &Path) -> Result<Ensemble> {
        let ensemble = Ensemble {
            dir: dir.join(format!("{}-{servers}", system.name())),
            system,
            ports: PortBlock::reserve()?,
            servers: (0..servers).map(|_| None).collect(),
        };
        if ensemble.dir.exists() {
            fs::remove_dir_all(&ensemble.dir)?;
        }
        for n in 0..servers {
            ensemble.configure(n)?;
        }
        Ok(ensemble)
    }

    fn server_dir(&self, n: usize) -> PathBuf {
        self.dir.join((n + 1).to_string())
    }

    fn configure(&self, n: usize) -> Result<()> {
        let (dir, data_dir) = (self.server_dir(n), self.server_dir(n).join("data"));
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot create {}", data_dir.display()))?;
        let first = self.ports.ports().base_port;
        let mut config = Properties::default();
        config.set("dataDir", data_dir.display());
        config.set("clientPort", self.address(n).port());
        config.set("clientPortAddress", Ipv4Addr::LOCALHOST);
        config.set("tickTime", 2000);
        config.set("initLimit", 10);
        config.set("syncLimit", 5);
        config.set("maxClientCnxns", 0);
        config.set("4lw.commands.whitelist", "srvr,ruok,mntr");
        if matches!(self.system, System::ZooKeeper { .. }) {
            config.set("admin.enableServer", false);
        }
        if self.servers.len() > 1 {
            for peer in 0..self.servers.len() {
                let port = first + peer as u16;
                let spec = format!("127.0.0.1:{}:{}", port + 10_000, port + 20_000);
                config.set(format!("server.{}", peer + 1), spec);
            }
            fs::write(data_dir.join("myid"), format!("{}\n", n + 1))?;
        }
        fs::write(dir.join("zoo.cfg"), config.text())?;
        Ok(())
    }

    pub(crate) fn name(&self) -> &'static str {
        self.system.name()
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Where server `n` answers clients.
    pub(crate) fn address(&self, n: usize) -> SocketAddr {
        let port = self.ports.ports().base_port + n as u16;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Where all servers answer clients.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.len()).map(|n| self.address(n)).collect()
    }

    /// Starts one server; does not wait for anything.
    ///
    /// # Errors
    /// When the program cannot be executed.
    pub(crate) fn start(&mut self, n: usize) -> Result<()> {
        let dir = self.server_dir(n);
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))?;
        let mut command = self.system.command(&dir.join("zoo.cfg"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.servers[n] = Some(Process::spawn(&mut command, Lifetime::Attached)?);
        Ok(())
    }

    /// Starts all servers and waits until each of them gives sessions.
    ///
    /// # Errors
    /// When one ends instead, or does not in time.
    pub(crate) fn start_all(&mut self) -> Result<()> {
        for n in 0..self.len() {
            self.start(n)?;
        }
        (0..self.len()).try_for_each(|n| self.await_session(n))
    }

    /// Waits until server `n` gives a session.
    ///
    /// # Errors
    /// When it ends instead, or does not in time.
    pub(crate) fn await_session(&self, n: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let failure = match Connection::open(self.address(n), SESSION_PATIENCE)
                .and_then(Connection::close)
            {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let process = self.servers[n].as_ref().context("it was not started")?;
            if process.state() == ProcessState::Ended || started.elapsed() > LIMIT {
                let log = fs::read_to_string(self.server_dir(n).join("log")).unwrap_or_default();
                bail!(
                    "{} server {} gives no session: {failure:#}; it logged:\n{}",
                    self.name(),
                    n + 1,
                    integration::last_lines(&log)
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL; returns at once after the signal.
    ///
    /// # Errors
    /// When the server does not run.
    pub(crate) fn kill(&mut self, n: usize) -> Result<Process> {
        let process = self.servers[n].take().context("it does not run")?;
        process.signal(Signal::KILL)?;
        Ok(process)
    }

    /// SIGKILL to all, and away with what they wrote.
    ///
    /// # Errors
    /// When a server does not end, or a file is not to be removed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.kill_all();
        fs::remove_dir_all(&self.dir)?;
        Ok(())
    }

    fn kill_all(&mut self) {
        for n in 0..self.len() {
            if let Ok(process) = self.kill(n) {
                process.reap();
            }
        }
    }

    /// The resident memory of server `n`, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn resident_bytes(&self, n: usize) -> Result<u64> {
        let process = self.servers[n].as_ref().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse().ok())
            .context("/proc/<pid>/status tells no VmRSS")?;
        Ok(kib * 1024)
    }

    /// The CPU time that all servers have used, in seconds.
    ///
    /// # Errors
    /// When one does not run.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let mut ticks = 0;
        for process in &self.servers {
            let process = process.as_ref().context("it does not run")?;
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
            // Behind the program's name, which may hold anything: user time is the 12th field, system time the 13th.
            let (_, fields) = stat.rsplit_once(')').context("/proc/<pid>/stat is short")?;
            for field in fields.split_whitespace().skip(11).take(2) {
                ticks += field.parse::<u64>()?;
            }
        }
        Ok(ticks as f64 * CPU_TICK_S)
    }

    /// The server that leads, by what `srvr` says.
    ///
    /// # Errors
    /// When none does in time.
    pub(crate) fn await_leader(&self) -> Result<usize> {
        await_some("a leader", LIMIT, || {
            let leads = |n: &usize| matches!(self.mode(*n).as_deref(), Ok("leader"));
            Ok((0..self.len()).find(leads))
        })
    }

    /// `leader`, `follower` or `standalone`.
    ///
    /// # Errors
    /// When the server does not serve.
    pub(crate) fn mode(&self, n: usize) -> Result<String> {
        ensure!(self.servers[n].is_some(), "it does not run");
        four_letter_figure(self.address(n), "srvr", "Mode")
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.kill_all();
    }
}
