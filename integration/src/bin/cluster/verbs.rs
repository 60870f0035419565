//! The verbs, one function each.

use std::fs::{self, File};
use std::io;
use std::path::{Path, absolute};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use integration::{
    Blow, Cluster, ClusterSpec, Host, Lifetime, Node, Ports, ProcessState, Processes, Programs,
    Properties,
};

use crate::Up;

const SPEC: &str = "cluster.properties";

/// Makes the cluster what was asked for, and starts what does not run.
pub(crate) fn up(dir: &Path, asked: &Up) -> Result<()> {
    let started = Instant::now();
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let _lock = lock(dir)?;
    let path = dir.join(SPEC);
    let known = path
        .is_file()
        .then(|| ClusterSpec::load(&path))
        .transpose()?;
    let spec = merge(known.as_ref(), asked)?;
    if let Some(known) = &known
        && known.coords != spec.coords
    {
        bail!(
            "the cluster in {} was made with --coords {}, and its coords know each other: reset it to change that",
            dir.display(),
            known.coords
        );
    }
    let before = open(dir, known.clone().unwrap_or_else(|| spec.clone()))?;
    let running: Vec<Node> = before
        .spec()
        .nodes()
        .filter(|n| before.state(*n) != ProcessState::Ended)
        .collect();
    if let Some(known) = &known
        && !running.is_empty()
    {
        if known.ports != spec.ports {
            bail!(
                "the cluster in {} runs on ports {} and {}: end it first with cluster.sh down",
                dir.display(),
                known.ports.base_port,
                known.ports.coord_port
            );
        }
        if known.brokers > spec.brokers {
            bail!(
                "the cluster in {} has {} brokers, and partitions may live on each: reset it to make it smaller",
                dir.display(),
                known.brokers
            );
        }
        if known.broker_settings != spec.broker_settings {
            println!("What is set anew holds for a running broker from its next start.");
        }
    }
    for node in &running {
        if before.state(*node) == ProcessState::Stopped {
            bail!("{node} is stopped: let it go on with cluster.sh cont {node}");
        }
    }
    spec.save(&path)?;
    let mut cluster = Cluster::on(open(dir, spec)?);
    cluster.bring_up()?;
    print_status(&cluster)?;
    println!("Up after {:.2} s.", started.elapsed().as_secs_f64());
    Ok(())
}

/// What was known, with what is asked for now over it.
fn merge(known: Option<&ClusterSpec>, asked: &Up) -> Result<ClusterSpec> {
    let mut spec = known.cloned().unwrap_or(ClusterSpec {
        brokers: 3,
        coords: 1,
        ports: Ports {
            base_port: 9092,
            coord_port: 2181,
        },
        broker_settings: Properties::default(),
        coord_settings: Properties::default(),
    });
    spec.brokers = asked.brokers.unwrap_or(spec.brokers);
    spec.coords = asked.coords.unwrap_or(spec.coords);
    spec.ports.base_port = asked.base_port.unwrap_or(spec.ports.base_port);
    spec.ports.coord_port = asked.coord_port.unwrap_or(spec.ports.coord_port);
    for setting in &asked.set {
        let Some((key, value)) = setting.split_once('=') else {
            bail!("--set {setting}: a setting is written key=value");
        };
        spec.broker_settings.set(key.trim(), value.trim());
    }
    Ok(spec)
}

/// Prints a line for every node.
pub(crate) fn status(dir: &Path) -> Result<()> {
    print_status(&existing(dir)?)
}

fn print_status(cluster: &Cluster) -> Result<()> {
    let controller = cluster.view().ok().and_then(|view| view.controller);
    println!(
        "{:<10} {:>8}  {:<16} {:<12} WHERE IT LOGS",
        "NODE", "PID", "LISTENS ON", "STATE"
    );
    for node in cluster.host().spec().nodes() {
        let state = match cluster.state(node) {
            ProcessState::Running if !cluster.is_ready(node) => "not ready".to_owned(),
            ProcessState::Running => ready_as(cluster, node, controller),
            ProcessState::Stopped => "stopped".to_owned(),
            ProcessState::Ended => "down".to_owned(),
        };
        let pid = match cluster.host().process(node) {
            Some(process) => process.pid().to_string(),
            None => "-".to_owned(),
        };
        let address = cluster.address(node)?.to_string();
        println!(
            "{node:<10} {pid:>8}  {address:<16} {state:<12} {}",
            cluster.host().log_path(node).display()
        );
    }
    Ok(())
}

/// What a node that is ready is to the others.
fn ready_as(cluster: &Cluster, node: Node, controller: Option<i32>) -> String {
    match node {
        Node::Coord(_) if cluster.host().spec().coords > 1 => cluster.coord_state(node).ok(),
        _ => is_controller(node, controller).then(|| "controller".to_owned()),
    }
    .unwrap_or_else(|| "ready".to_owned())
}

fn is_controller(node: Node, controller: Option<i32>) -> bool {
    matches!(node, Node::Broker(id) if controller == Some(i32::from(id)))
}

/// Ends brokers one after another, the controller last, so that each hands its partitions over; then the coords.
pub(crate) fn down(dir: &Path) -> Result<()> {
    let _lock = lock(dir)?;
    let mut cluster = existing(dir)?;
    let controller = cluster.view().ok().and_then(|view| view.controller);
    let mut nodes: Vec<Node> = cluster.host().spec().nodes().collect();
    nodes.sort_by_key(|node| {
        (
            matches!(node, Node::Coord(_)),
            is_controller(*node, controller),
        )
    });
    for node in nodes {
        if cluster.state(node) != ProcessState::Ended {
            cluster.term(node)?;
            println!("{node} has ended.");
        }
    }
    Ok(())
}

/// Kills all nodes and removes the directory.
pub(crate) fn reset(dir: &Path) -> Result<()> {
    if !dir.join(SPEC).is_file() {
        return Ok(());
    }
    let _lock = lock(dir)?;
    let mut cluster = existing(dir)?;
    for node in cluster.host().spec().nodes() {
        if cluster.state(node) != ProcessState::Ended {
            cluster.kill(node)?;
        }
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    println!("{} is gone.", dir.display());
    Ok(())
}

/// SIGKILL.
pub(crate) fn kill(dir: &Path, node: Node) -> Result<()> {
    strike(dir, node, Blow::Kill)
}

/// SIGTERM.
pub(crate) fn term(dir: &Path, node: Node) -> Result<()> {
    strike(dir, node, Blow::Term)
}

/// SIGSTOP.
pub(crate) fn stop(dir: &Path, node: Node) -> Result<()> {
    strike(dir, node, Blow::Stop)
}

/// SIGCONT.
pub(crate) fn cont(dir: &Path, node: Node) -> Result<()> {
    strike(dir, node, Blow::Cont)
}

fn strike(dir: &Path, node: Node, blow: Blow) -> Result<()> {
    let _lock = lock(dir)?;
    let mut cluster = existing(dir)?;
    match blow {
        Blow::Kill => cluster.kill(node)?,
        Blow::Term => cluster.term(node)?,
        Blow::Stop => cluster.stop(node)?,
        Blow::Cont => cluster.cont(node)?,
    }
    let done = match blow {
        Blow::Kill => "is killed",
        Blow::Term => "has ended",
        Blow::Stop => "is stopped",
        Blow::Cont => "goes on",
    };
    println!("{node} {done}.");
    Ok(())
}

/// Starts one node.
pub(crate) fn start(dir: &Path, node: Node) -> Result<()> {
    let _lock = lock(dir)?;
    let mut cluster = existing(dir)?;
    cluster.start(node)?;
    println!("{node} is ready.");
    Ok(())
}

/// Prints a node's log.
pub(crate) fn logs(dir: &Path, node: Node) -> Result<()> {
    let path = existing(dir)?.host().log_path(node);
    let mut log = File::open(&path)
        .with_context(|| format!("{node} has not logged yet: {}", path.display()))?;
    match io::copy(&mut log, &mut io::stdout()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("cannot print the log"),
        _ => Ok(()),
    }
}

fn existing(dir: &Path) -> Result<Cluster> {
    let path = dir.join(SPEC);
    if !path.is_file() {
        bail!(
            "there is no cluster in {}: bring one up with cluster.sh up",
            dir.display()
        );
    }
    Ok(Cluster::on(open(dir, ClusterSpec::load(&path)?)?))
}

fn open(dir: &Path, spec: ClusterSpec) -> Result<Processes> {
    // Absolute, for the nodes keep their paths and not our directory.
    Processes::new(
        spec,
        &absolute(dir)?,
        Programs::beside_this()?,
        Lifetime::Detached,
    )
}

/// One verb at a time changes a cluster.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| {
            format!(
                "there is no cluster in {}: bring one up with cluster.sh up",
                dir.display()
            )
        })?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
