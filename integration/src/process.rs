use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal, setsid,
};

use crate::Lifetime;

/// A process that this harness started, held by a pidfd: no signal ever reaches another that got its number later.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    /// Ours to reap, unless an earlier run of the harness started it.
    child: Option<Child>,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs, or could.
    Running,
    /// SIGSTOP holds it.
    Stopped,
    /// It has ended.
    Ended,
}

impl Process {
    /// Starts `command`, to end with the calling thread or to outlive the calling process.
    ///
    /// # Errors
    /// When the program cannot be executed.
    pub fn spawn(command: &mut Command, lifetime: Lifetime) -> Result<Process> {
        let before_exec = move || {
            match lifetime {
                Lifetime::Attached => set_parent_process_death_signal(Some(Signal::KILL))?,
                Lifetime::Detached => drop(setsid()?),
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes one system call, and neither allocates nor takes a lock.
        unsafe { command.pre_exec(before_exec) };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("cannot open a pidfd")?;
        Ok(Process {
            pid,
            pidfd,
            child: Some(child),
        })
    }

    /// The process that a pid file tells of, if it still is the one that the file was written for.
    ///
    /// # Errors
    /// When the file is there and holds something else.
    pub fn from_pid_file(path: &Path) -> Result<Option<Process>> {
        let Ok(identity) = fs::read_to_string(path) else {
            return Ok(None);
        };
        let pid = identity
            .split_whitespace()
            .next()
            .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .with_context(|| format!("{} is no pid file of ours", path.display()))?;
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(e) => return Err(e).context("cannot open a pidfd"),
        };
        // Compared once the pidfd is held: what it holds is now known to be what the file means.
        let process = Process {
            pid,
            pidfd,
            child: None,
        };
        match process.identity() {
            Ok(found) if found == identity && process.state() != ProcessState::Ended => {
                Ok(Some(process))
            }
            _ => Ok(None),
        }
    }

    /// Writes the pid, with the start time and the boot that make it mean this process alone.
    ///
    /// # Errors
    /// When the file cannot be written, or the process has ended.
    pub fn write_pid_file(&self, path: &Path) -> Result<()> {
        fs::write(path, self.identity()?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The process's number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What the process is doing now.
    pub fn state(&self) -> ProcessState {
        if self.await_end(Duration::ZERO).is_ok() {
            return ProcessState::Ended;
        }
        match self
            .stat()
            .as_deref()
            .ok()
            .and_then(|stat| stat.chars().next())
        {
            Some('T') => ProcessState::Stopped,
            _ => ProcessState::Running,
        }
    }

    /// Sends `signal`; to a process that has ended, nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("cannot signal process {}", self.pid())),
        }
    }

    /// Returns when the process has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn await_end(&self, limit: Duration) -> Result<()> {
        let timeout = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut ended, Some(&timeout)) {
            Ok(0) => bail!("process {} still runs after {limit:?}", self.pid()),
            Ok(_) => Ok(()),
            Err(e) => Err(e).context("cannot wait for a process"),
        }
    }

    /// Takes an ended child off the system's table.
    pub fn reap(mut self) {
        if let Some(child) = &mut self.child {
            // It has ended; there is no one left to tell of a failure.
            let _ = child.wait();
        }
    }

    fn identity(&self) -> Result<String> {
        // Field 22, counted from the state as field 3: start time in clock ticks since boot.
        let stat = self.stat()?;
        let start_time = stat
            .split_whitespace()
            .nth(19)
            .context("/proc/<pid>/stat is too short")?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(format!("{} {start_time} {}\n", self.pid(), boot.trim()))
    }

    /// `/proc/<pid>/stat` from its third field on; the second, the program's name, may hold anything.
    fn stat(&self) -> Result<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, rest) = stat
            .rsplit_once(')')
            .context("/proc/<pid>/stat names no program")?;
        Ok(rest.trim_start().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn sleeper() -> Process {
        Process::spawn(Command::new("sleep").arg("60"), Lifetime::Attached).unwrap()
    }

    #[test]
    fn a_pid_file_means_one_life_of_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let process = sleeper();
        process.write_pid_file(&path).unwrap();
        let again = Process::from_pid_file(&path).unwrap().unwrap();
        assert_eq!(again.pid(), process.pid());

        // The same number with another start time is another process.
        let identity = fs::read_to_string(&path).unwrap();
        let other: Vec<&str> = identity.split_whitespace().collect();
        fs::write(&path, format!("{} {}1 {}\n", other[0], other[1], other[2])).unwrap();
        assert!(Process::from_pid_file(&path).unwrap().is_none());

        fs::write(&path, identity).unwrap();
        process.signal(Signal::KILL).unwrap();
        process.await_end(LIMIT).unwrap();
        assert!(
            Process::from_pid_file(&path).unwrap().is_none(),
            "an ended process is none"
        );
        process.reap();
    }

    #[test]
    fn a_stopped_process_says_so() {
        let process = sleeper();
        process.signal(Signal::STOP).unwrap();
        crate::await_true("the stop", LIMIT, || {
            Ok(process.state() == ProcessState::Stopped)
        })
        .unwrap();
        process.signal(Signal::CONT).unwrap();
        crate::await_true("the continuation", LIMIT, || {
            Ok(process.state() == ProcessState::Running)
        })
        .unwrap();
        process.signal(Signal::KILL).unwrap();
        process.await_end(LIMIT).unwrap();
        assert_eq!(process.state(), ProcessState::Ended);
        process.reap();
    }
}
