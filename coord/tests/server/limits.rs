//! What nobody gets more of than is his share, and a whole zoo.cfg that says so.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use zookeeper_wire::{PathWatch, Request, RequestHeader};

use crate::process::{Coord, DEADLINE};
use crate::raw::{self, RawClient, read_frame};

#[test]
fn there_are_so_many_connections_in_all() {
    let coord = Coord::start_with(&["maxClientCnxns=0", "maxCnxns=2", "admin.serverPort=0"]);
    let first = RawClient::connect(coord.address, 20_000);
    let mut second = RawClient::connect(coord.address, 20_000);
    assert!(read_frame(&mut raw::open(coord.address)).is_none());
    drop(first);
    let deadline = std::time::Instant::now() + DEADLINE;
    // The place is free once coord has noticed.
    loop {
        let mut stream = raw::open(coord.address);
        let mut answer = String::new();
        let sent = stream.write_all(b"ruok");
        if sent.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer == "imok" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the place is free");
    }
    assert_eq!(second.ask(1, &Request::Ping).error, 0);
}

#[test]
fn the_largest_request_is_as_jute_maxbuffer_says() {
    let coord = Coord::start_with(&["jute.maxbuffer=0x1000"]);
    let mut client = RawClient::connect(coord.address, 20_000);
    client.send_raw(1, 9999, |w| w.buffer(Some(&[0; 0x1000 - 12])));
    assert_eq!(client.receive().unwrap().error, -6);
    let mut client = RawClient::connect(coord.address, 20_000);
    client.send_raw(1, 9999, |w| w.buffer(Some(&[0; 0x1000 - 11])));
    assert!(client.receive().is_none());
}

#[test]
fn requests_of_all_clients_hold_so_much_memory_and_who_waits_for_it_lives() {
    let coord = Coord::start_with(&["largeRequestMaxBytes=4096", "jute.maxbuffer=4096"]);
    let mut large = RawClient::connect(coord.address, 20_000);
    let frame = raw::frame(|w| {
        RequestHeader {
            xid: 1,
            op_code: 9999,
        }
        .encode(w);
        w.buffer(Some(&[0; 3500]));
    });
    // Its memory is there for it as soon as it says how long it is.
    large.stream.write_all(&frame[..100]).unwrap();
    large.stream.flush().unwrap();
    let mut waiting = RawClient::connect(coord.address, 300);
    let root = PathWatch {
        path: "/".into(),
        watch: false,
    };
    // A small request may still be taken before the large one is seen: then comes the next.
    waiting.stream.set_nonblocking(true).unwrap();
    let mut xid = 1;
    waiting.send(xid, &Request::GetData(root.clone()));
    let deadline = std::time::Instant::now() + DEADLINE;
    while !mntr(&coord).contains("zk_request_throttle_wait_count\t1\n") {
        if waiting.stream.peek(&mut [0]).is_ok() {
            waiting.stream.set_nonblocking(false).unwrap();
            assert_eq!(waiting.receive().unwrap().xid, xid);
            waiting.stream.set_nonblocking(true).unwrap();
            xid += 1;
            waiting.send(xid, &Request::GetData(root.clone()));
        }
        assert!(std::time::Instant::now() < deadline, "a request waits");
    }
    waiting.stream.set_nonblocking(false).unwrap();
    // Another session that says nothing, of the same timeout, goes meanwhile.
    let mut silent = RawClient::connect(coord.address, 300);
    assert!(silent.receive().is_none());
    large.stream.write_all(&frame[100..]).unwrap();
    assert_eq!(large.receive().unwrap().error, -6);
    let answer = waiting.receive().expect("it lives");
    assert_eq!((answer.xid, answer.error), (xid, 0));
    assert_eq!(waiting.ask(xid + 1, &Request::GetData(root)).error, 0);
}

fn mntr(coord: &Coord) -> String {
    let mut stream = raw::open(coord.address);
    stream.write_all(b"mntr").unwrap();
    let mut figures = String::new();
    stream.read_to_string(&mut figures).unwrap();
    figures
}

#[test]
fn a_zoo_cfg_as_it_stands_is_served_with_one_warning() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let file = dir.path().join("zoo.cfg");
    let lines = format!(
        "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort=0\n\
         maxClientCnxns=60\nautopurge.snapRetainCount=3\nautopurge.purgeInterval=1\n\
         metricsProvider.exportJvmInfo=true\n4lw.commands.whitelist=*\nadmin.enableServer=false\n\
         zookeeper.extendedTypesEnabled=true\n",
        data_dir.display()
    );
    std::fs::write(&file, lines).unwrap();
    let mut coord = Command::new(env!("CARGO_BIN_EXE_coord"))
        .args(["--config".as_ref(), file.as_os_str()])
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut warnings = Vec::new();
    let mut lines = BufReader::new(coord.stderr.take().unwrap()).lines();
    let address: std::net::SocketAddr = loop {
        let line = lines.next().expect("it listens").unwrap();
        if line.contains(" WARN ") {
            warnings.push(line);
        } else if let Some((_, address)) = line.split_once("clientPort ") {
            break address.trim().parse().unwrap();
        }
    };
    let mut stream = raw::open(([127, 0, 0, 1], address.port()).into());
    stream.write_all(b"conf").unwrap();
    let mut conf = String::new();
    stream.read_to_string(&mut conf).unwrap();
    coord.kill().unwrap();
    coord.wait().unwrap();
    assert!(conf.contains("\nmaxSessionTimeout=40000\n"), "{conf}");
    assert!(
        conf.contains(&format!("\ndataDir={}\n", data_dir.display())),
        "{conf}"
    );
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    let unused = "settings without effect here: autopurge.purgeInterval, autopurge.snapRetainCount, metricsProvider.exportJvmInfo";
    assert!(warning.ends_with(unused), "{warning}");
}
