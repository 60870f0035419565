//! What nobody gets more of than is his share, and a whole zoo.cfg that says so.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use zookeeper_wire::{OpCode, PathWatch, Request, RequestHeader};

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
fn large_requests_hold_so_much_memory_and_small_ones_do_not_wait_for_it() {
    let coord = Coord::start_with(&["largeRequestMaxBytes=397312", "jute.maxbuffer=200000"]);
    // Of 97 KiB, which is a quarter, for a znode that there is not.
    let large = |xid| {
        raw::frame(|w| {
            let op_code = OpCode::SetData.code();
            RequestHeader { xid, op_code }.encode(w);
            w.string("/none");
            w.buffer(Some(&[0; 100_000]));
            w.i32(-1);
        })
    };
    let begun = large(1);
    let (begin, end) = begun.split_at(90_000);
    let mut holders: Vec<RawClient> = Vec::new();
    for _ in 0..4 {
        let mut holder = RawClient::connect(coord.address, 20_000);
        holder.stream.write_all(begin).unwrap();
        holders.push(holder);
    }
    // One more may be taken before all of those are seen: then comes the next.
    let mut waiting = RawClient::connect(coord.address, 1000);
    let mut xid = 1;
    waiting.stream.write_all(&large(xid)).unwrap();
    let deadline = std::time::Instant::now() + DEADLINE;
    while !mntr(&coord).contains("zk_request_throttle_wait_count\t1\n") {
        waiting.stream.set_nonblocking(true).unwrap();
        let is_answered = waiting.stream.peek(&mut [0]).is_ok();
        waiting.stream.set_nonblocking(false).unwrap();
        if is_answered {
            assert_eq!(waiting.receive().unwrap().xid, xid);
            xid += 1;
            waiting.stream.write_all(&large(xid)).unwrap();
        }
        assert!(std::time::Instant::now() < deadline, "a request waits");
    }
    let mut small = RawClient::connect(coord.address, 20_000);
    let root = PathWatch {
        path: "/".into(),
        watch: false,
    };
    assert_eq!(small.ask(1, &Request::GetData(root.clone())).error, 0);
    let children = Request::GetChildren(root);
    assert_eq!(small.ask(2, &children).error, 0);
    // Who waits lives as long as it sends. Other sessions of the same timeout go meanwhile: one that says nothing, and one
    // that only waits.
    let mut dead = RawClient::connect(coord.address, 1000);
    dead.stream.write_all(&large(1)).unwrap();
    let mut silent = RawClient::connect(coord.address, 1000);
    for gone in [&mut silent, &mut dead] {
        let short = std::time::Duration::from_millis(50);
        gone.stream.set_read_timeout(Some(short)).unwrap();
        while !matches!(gone.stream.peek(&mut [0]), Ok(0)) {
            waiting.send(-2, &Request::Ping);
            assert!(std::time::Instant::now() < deadline, "it expires");
        }
    }
    for holder in &mut holders {
        holder.stream.write_all(end).unwrap();
        assert_eq!(holder.receive().unwrap().error, -101);
    }
    let answer = waiting.receive().expect("it lives");
    assert_eq!((answer.xid, answer.error), (xid, -101));
    assert_eq!(waiting.receive().unwrap().xid, -2);
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
