//! A disk that is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::Ensemble;
use crate::load::Load;

/// A small filesystem of its own; unmounted when dropped.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount() -> Option<Tmpfs> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
            .arg(dir.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Tmpfs(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left; gives back the file that holds it.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut ballast = File::create(&path).expect("a ballast file");
        for block in [vec![0; 1 << 16], vec![0; 1]] {
            while ballast.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Nothing is left to do for one that stays mounted.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// It ends rather than acknowledge what it cannot write; the others go on; with room again, it does too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_ends() {
    let mut disks = Vec::new();
    let mut builder = Ensemble::of(3);
    for member in 1..=3 {
        let Some(disk) = Tmpfs::mount() else {
            integration::skip("mounting a tmpfs needs root");
            return;
        };
        builder = builder.disk(member, disk.path());
        disks.push(disk);
    }
    let mut ensemble = builder.start();
    let load = Load::start(&ensemble).await;
    let leader = ensemble.await_leader();
    let ballast = disks[usize::from(leader) - 1].fill();
    ensemble.await_end(leader);
    load.goes_on().await;
    fs::remove_file(ballast).unwrap();
    ensemble.start(leader);
    load.goes_on().await;
    load.stop().await.is_on_every_member(&ensemble).await;
}
