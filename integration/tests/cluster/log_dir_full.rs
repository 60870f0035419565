//! One of a broker's log directories runs full: others lead what lies there, and the broker serves the rest.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::client::Client;
use integration::{
    Cluster, LIMIT, Lifetime, Node, PortBlock, Process, Programs, await_some, await_true, skip,
};
use kafka_wire::metadata::MetadataRequest;
use rustix::process::Signal;

/// A volume of a few megabytes, gone with this value.
struct SmallVolume(PathBuf);

impl SmallVolume {
    fn mount(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path)?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(&path);
        ensure!(mount.status()?.success(), "no tmpfs at {}", path.display());
        Ok(Self(path))
    }

    /// Leaves no room.
    fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.0.join("filler"))?;
        while filler.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        // What a process still holds open goes with that.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(
            std::thread::panicking() || unmounted.is_ok_and(|status| status.success()),
            "{} is still mounted",
            self.0.display()
        );
    }
}

/// Broker 3, which a test's cluster does not start, for it has directories of its own.
struct Broker<'a> {
    cluster: &'a Cluster,
    ports: PortBlock,
    directories: [PathBuf; 2],
}

impl Broker<'_> {
    fn start(&self) -> Result<Process> {
        let port = self.ports.ports().client(Node::Broker(1));
        let control_port = port + 10_000;
        let directories = self.directories.each_ref().map(|path| path.display());
        let [small, large] = directories;
        let coord = self.cluster.address(Node::Coord(1))?;
        let settings = [
            ("broker.id", "3".to_owned()),
            ("zookeeper.connect", coord.to_string()),
            ("zookeeper.session.timeout.ms", "2000".to_owned()),
            ("log.dirs", format!("{small},{large}")),
            ("log.index.size.max.bytes", "4096".to_owned()),
            (
                "listeners",
                format!("PLAINTEXT://127.0.0.1:{port},CONTROL://127.0.0.1:{control_port}"),
            ),
            ("http.port", "-1".to_owned()),
        ];
        let mut command = Command::new(Programs::under_test()?.path("broker"));
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.cluster.dir()?.join("broker-3.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::spawn(&mut command, Lifetime::Attached)
    }

    fn client(&self) -> Result<Client> {
        let port = self.ports.ports().client(Node::Broker(1));
        Client::connect(([127, 0, 0, 1], port).into(), Duration::from_secs(5))
    }

    /// Which directory holds the partition.
    fn holder(&self, partition: i32) -> Result<&Path> {
        let name = format!("t-{partition}");
        let mut directories = self.directories.iter();
        let holder = directories.find(|path| path.join(&name).is_dir());
        Ok(holder.context("no directory holds it")?)
    }

    /// What the broker tells of the partition's replicas that are offline.
    fn offline(&self, partition: i32) -> Result<Vec<i32>> {
        let request = MetadataRequest::default();
        let response = self.client()?.call(12, &request)?;
        let topics = response.topics.into_iter();
        let mut partitions = topics.flat_map(|topic| topic.partitions);
        let found = partitions.find(|found| found.partition_index == partition);
        Ok(found.context("it is unknown")?.offline_replicas)
    }
}

#[test]
fn others_lead_what_lies_in_a_full_directory_and_the_broker_serves_the_rest() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        skip("only root mounts a small volume");
        return Ok(());
    }
    let cluster = Cluster::builder().brokers(2).start()?;
    let volume = SmallVolume::mount(cluster.dir()?.join("small"))?;
    let broker = Broker {
        cluster: &cluster,
        ports: PortBlock::reserve()?,
        directories: [volume.0.clone(), cluster.dir()?.join("large")],
    };
    let process = broker.start()?;
    await_true("broker 3 to register", LIMIT, || {
        Ok(cluster.view()?.brokers.contains(&3))
    })?;
    let created = cluster.admin(
        "topics",
        &[
            "--create",
            "--topic",
            "t",
            "--replica-assignment",
            "3:1:2,3:1:2",
        ],
        b"",
    )?;
    created.success()?;
    for partition in [0, 1] {
        cluster.await_isr("t", partition, &[1, 2, 3])?;
        let value = format!("before-{partition}");
        await_some("broker 3 to lead", LIMIT, || {
            let produced = broker
                .client()?
                .produce("t", partition, std::slice::from_ref(&value));
            Ok(Some(produced?))
        })?;
    }
    let (lost, kept) = match broker.holder(0)? == volume.0 {
        true => (0, 1),
        false => (1, 0),
    };
    ensure!(
        broker.holder(kept)? != volume.0,
        "both lie in one directory"
    );

    volume.fill()?;
    let refused = broker.client()?.produce("t", lost, &["lost".repeat(5000)]);
    ensure!(refused.is_err(), "there is no room for it");
    cluster.await_isr("t", lost, &[1, 2])?;
    let leader = cluster.await_leader("t", lost)?;
    ensure!(leader != Node::Broker(3), "it has no log");
    await_true("the replica to be shown as offline", LIMIT, || {
        Ok(broker.offline(lost)? == [3] && broker.offline(kept)?.is_empty())
    })?;
    cluster
        .client(leader)?
        .produce("t", lost, &["after".to_owned()])?;
    // The rest is as it was.
    broker.client()?.produce("t", kept, &["after".to_owned()])?;
    cluster.await_isr("t", kept, &[1, 2, 3])?;
    let described = cluster.admin("log-dirs", &["--describe", "--broker-list", "3"], b"")?;
    let described = described.success()?;
    let small = volume.0.display();
    let offline = format!(
        r#"{{"partitions":[],"error":"org.apache.kafka.common.errors.KafkaStorageException","logDir":"{small}"}}"#
    );
    ensure!(described.contains(&offline), "{described}");
    ensure!(
        described.contains(&format!(r#""partition":"t-{kept}""#)),
        "{described}"
    );

    // Room alone brings nothing back; a start does.
    volume.make_room()?;
    process.signal(Signal::KILL)?;
    process.await_end(LIMIT)?;
    process.reap();
    let process = broker.start()?;
    for partition in [0, 1] {
        cluster.await_isr("t", partition, &[1, 2, 3])?;
        ensure!(broker.offline(partition)?.is_empty());
    }
    process.signal(Signal::TERM)?;
    process.await_end(LIMIT)?;
    process.reap();
    Ok(())
}
