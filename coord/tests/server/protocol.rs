//! The edges of the protocol: what is unknown, malformed, too large or too much.

use std::io::{Read, Write};

use zookeeper_wire::{MultiReadOp, PathVersion, PathWatch, Request, SetDataRequest};

use crate::process::{self, Coord};
use crate::raw::{self, RawClient, read_frame};

#[test]
fn bytes_that_are_no_record_are_refused_and_an_unknown_operation_ends_the_connection() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    client.send_raw(8, 4, |w| w.i32(i32::MAX));
    let reply = client.receive().unwrap();
    assert_eq!((reply.xid, reply.error), (8, -5));
    assert_eq!(client.ask(9, &Request::Ping).error, 0);
    client.send_raw(7, 9999, |w| w.string("whatever"));
    let reply = client.receive().unwrap();
    assert_eq!((reply.xid, reply.error), (7, -6));
    assert!(client.receive().is_none());
}

#[test]
fn a_path_that_is_empty_is_read_as_the_root_and_one_that_is_null_is_no_record() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    let watch = |path: &'static str| PathWatch {
        path: path.into(),
        watch: false,
    };
    type Read = fn(&'static str) -> Request;
    let reads: [Read; 3] = [
        |path| Request::GetAcl(path.into()),
        |path| Request::GetAllChildrenNumber(path.into()),
        |path| Request::MultiRead(vec![MultiReadOp::GetChildren(path.into())]),
    ];
    let watching: [fn(PathWatch) -> Request; 3] =
        [Request::Exists, Request::GetData, Request::GetChildren2];
    let pairs = watching.map(|read| (read(watch("")), read(watch("/"))));
    for (of_nothing, of_root) in reads
        .map(|read| (read(""), read("/")))
        .into_iter()
        .chain(pairs)
    {
        let (nothing, root) = (client.ask(1, &of_nothing), client.ask(2, &of_root));
        assert_eq!((nothing.error, root.error), (0, 0), "{of_nothing:?}");
        assert_eq!(rest(nothing), rest(root), "{of_nothing:?}");
    }
    // exists, delete
    for op_code in [3, 2] {
        client.send_raw(3, op_code, |w| {
            w.nullable_string(None);
            w.i32(0);
        });
        assert_eq!(client.receive().unwrap().error, -5);
    }
}

/// What a reply has behind its header.
fn rest(mut reply: raw::Reply) -> Vec<u8> {
    let mut bytes = Vec::new();
    while reply.body.remaining() > 3 {
        bytes.extend(reply.body.i32().unwrap().to_be_bytes());
    }
    bytes
}

#[test]
fn a_check_stands_in_a_multi_only() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    let check = Request::Check(PathVersion {
        path: "/".into(),
        version: 0,
    });
    assert_eq!(client.ask(1, &check).error, -6);
    assert!(client.receive().is_none());
}

#[test]
fn who_authenticates_without_credentials_is_refused() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    let auth = |credentials: Option<&'static [u8]>| Request::Auth {
        scheme: "digest".into(),
        credentials: credentials.map(Into::into),
    };
    assert_eq!(client.ask(-4, &auth(Some(b"user:password"))).error, 0);
    assert_eq!(client.ask(-4, &auth(None)).error, -115);
    assert!(client.receive().is_none());
}

#[test]
fn a_frame_above_jute_maxbuffer_ends_only_its_connection() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    client
        .stream
        .write_all(&0x10_0000u32.to_be_bytes())
        .unwrap();
    assert!(client.receive().is_none());
    let mut largest = RawClient::connect(coord.address, 20_000);
    largest.send_raw(1, 9999, |w| w.buffer(Some(&vec![0; 0xf_ffff - 12])));
    assert_eq!(largest.receive().unwrap().error, -6);
}

#[test]
fn a_stranger_gets_no_memory_for_a_large_first_frame() {
    let coord = Coord::start();
    for len in [1025u32, 0x7fff_ffff, 0xffff_ffff] {
        let mut stream = raw::open(coord.address);
        stream.write_all(&len.to_be_bytes()).unwrap();
        assert!(read_frame(&mut stream).is_none());
    }
}

#[test]
fn an_address_gets_so_many_connections() {
    let coord = Coord::start_with(&["maxClientCnxns=2"]);
    let first = RawClient::connect(coord.address, 20_000);
    let _second = RawClient::connect(coord.address, 20_000);
    let mut third = raw::open(coord.address);
    assert!(read_frame(&mut third).is_none());
    drop(first);
    let deadline = std::time::Instant::now() + process::DEADLINE;
    // The place is free once coord has noticed, so the word is not always answered at the first try.
    loop {
        let mut stream = raw::open(coord.address);
        let mut answer = String::new();
        let sent = stream
            .write_all(b"ruok")
            .and_then(|()| stream.read_to_string(&mut answer));
        if sent.is_ok() && answer == "imok" {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the place is free again"
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let coord = Coord::start();
    let mut client = RawClient::connect(coord.address, 20_000);
    for round in 0..200 {
        let path = format!("/{round}");
        client.send(3 * round, &raw::create(&path, 0));
        client.send(
            3 * round + 1,
            &Request::Exists(PathWatch {
                path: path.clone().into(),
                watch: false,
            }),
        );
        client.send(3 * round + 2, &raw::create(&path, 0));
    }
    for round in 0..200 {
        for (xid, error) in [(3 * round, 0), (3 * round + 1, 0), (3 * round + 2, -110)] {
            let reply = client.receive().unwrap();
            assert_eq!((reply.xid, reply.error), (xid, error));
        }
    }
}

#[test]
fn bad_settings_are_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = process::refused(dir.path(), &["clientPort=high"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "coord: clientPort=high is not allowed: it must be a whole number from 0 to 65535\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn bug_zookeeper_2201_a_slow_reader_is_held_back_and_holds_up_nobody() {
    let coord = Coord::start();
    let mut other = RawClient::connect(coord.address, 20_000);
    assert_eq!(other.ask(1, &raw::create("/large", 0)).error, 0);
    let data = Some(vec![7; 512 * 1024].into());
    let set = Request::SetData(SetDataRequest {
        path: "/large".into(),
        data,
        version: -1,
    });
    assert_eq!(other.ask(2, &set).error, 0);
    let get = Request::GetData(PathWatch {
        path: "/large".into(),
        watch: false,
    });
    let mut slow = RawClient::connect(coord.address, 20_000);
    const REQUESTS: i32 = 300;
    for xid in 0..REQUESTS {
        slow.send(xid, &get);
    }
    assert_eq!(other.ask(3, &get).error, 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", coord.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(
        kib < 64 * 1024,
        "{kib} KiB, where {REQUESTS} answers take 150 MiB"
    );
    for xid in 0..REQUESTS {
        let mut reply = slow.receive().unwrap();
        assert_eq!((reply.xid, reply.error), (xid, 0));
        assert_eq!(
            reply.body.buffer().unwrap().map(|data| data.len()),
            Some(512 * 1024)
        );
    }
}
