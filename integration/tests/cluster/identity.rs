//! Who a broker is: an id belongs to one live broker, and a log directory to one broker.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use integration::{Cluster, Node, Programs, run};

/// Starts a broker beside the cluster, which must refuse to start; what it complains.
fn refused(cluster: &Cluster, settings: &[(&str, String)]) -> Result<String> {
    let mut command = Command::new(Programs::under_test()?.path("broker"));
    command.env("RUST_LOG", "off");
    for (key, value) in settings {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let coord = cluster.address(Node::Coord(1))?;
    command.args(["--set", &format!("zookeeper.connect={coord}")]);
    command.args(["--set", "zookeeper.session.timeout.ms=1000"]);
    let output = run(&mut command, b"", Duration::from_secs(30))?;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    Ok(output.stderr)
}

#[test]
fn an_id_an_address_and_a_directory_belong_to_one_broker() -> Result<()> {
    let mut cluster = Cluster::builder()
        .brokers(1)
        .set("zookeeper.session.timeout.ms", 1_000)
        .start()?;
    let free = "PLAINTEXT://127.0.0.1:0,CONTROL://127.0.0.1:0".to_owned();
    let other = cluster.dir()?.join("other").display().to_string();
    let base = |broker_id: i32, log_dir: &str| {
        vec![
            ("broker.id", broker_id.to_string()),
            ("log.dirs", log_dir.to_owned()),
            ("listeners", free.clone()),
            ("http.port", "-1".to_owned()),
        ]
    };

    let complaint = refused(&cluster, &base(1, &other))?;
    assert!(
        complaint.contains("broker.id=1 is taken by a live broker"),
        "{complaint}"
    );

    let mut same_address = base(2, &cluster.dir()?.join("third").display().to_string());
    let taken = cluster.address(Node::Broker(1))?;
    same_address.push(("advertised.listeners", format!("PLAINTEXT://{taken}")));
    let complaint = refused(&cluster, &same_address)?;
    assert!(
        complaint.contains("is already registered by broker 1"),
        "{complaint}"
    );

    cluster.term(Node::Broker(1))?;
    let directory = cluster.data_dir(Node::Broker(1)).display().to_string();
    let complaint = refused(&cluster, &base(2, &directory))?;
    assert!(complaint.contains("belongs to broker 1"), "{complaint}");
    Ok(())
}
