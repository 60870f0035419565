//! Reads beside those of one znode.

use std::sync::Arc;

use bytes::Bytes;
use coord_core::OpError;
use coord_core::names::Names;
use coord_core::request::{Read, Request, Response};

use crate::harness::{
    EPHEMERAL, Harness, PERSISTENT, create, create_with, entry, exists, get, open_acl,
};

fn count(path: &str) -> Request {
    Request::Read(Read::GetAllChildrenNumber { path: path.into() })
}

#[test]
fn all_below_a_znode_are_counted() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for path in ["/a", "/a/b", "/a/b/c", "/a/d", "/ab"] {
        h.answer(a, create(path, PERSISTENT)).unwrap();
    }
    assert_eq!(h.answer(a, count("/a")), Ok(Response::Count(3)));
    assert_eq!(h.answer(a, count("/ab")), Ok(Response::Count(0)));
    let reserved = 3;
    assert_eq!(h.answer(a, count("/")), Ok(Response::Count(5 + reserved)));
    assert_eq!(h.answer(a, count("/no")), Err(OpError::NoNode));
}

#[test]
fn a_session_is_told_its_own_ephemerals() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let (b, _) = h.open();
    h.answer(a, create("/p", PERSISTENT)).unwrap();
    for (connection, path) in [(a, "/p/1"), (b, "/p/2"), (a, "/q")] {
        h.answer(connection, create(path, EPHEMERAL)).unwrap();
    }
    for (prefix, expected) in [
        ("", vec!["/p/1", "/q"]),
        (" / ", vec!["/p/1", "/q"]),
        ("/p", vec!["/p/1"]),
        ("/p/2", vec![]),
    ] {
        let request = Request::Read(Read::GetEphemerals {
            prefix: prefix.into(),
        });
        let expected: Vec<Arc<str>> = expected.into_iter().map(Into::into).collect();
        assert_eq!(
            h.answer(a, request),
            Ok(Response::Children(Names::whole(expected))),
            "{prefix:?}"
        );
    }
}

#[test]
fn each_read_of_several_is_answered_by_itself() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    h.answer(a, create_with("/a", b"1", open_acl())).unwrap();
    let hidden = vec![entry(31, "ip", "10.0.0.1")];
    h.answer(a, create_with("/a/hidden", b"", hidden)).unwrap();
    let data = |path: &str| Read::GetData {
        path: path.into(),
        watch: false,
    };
    let names = Read::GetChildren {
        path: "/a".into(),
        watch: false,
        with_stat: false,
    };
    let reads = vec![data("/a"), data("/no"), data("/a/hidden"), names];
    let Ok(Response::MultiRead(results)) = h.answer(a, Request::Read(Read::Multi(reads))) else {
        panic!("an answer to each");
    };
    assert!(
        matches!(&results[0], Ok(Response::Data(Some(data), _)) if data.as_ref() == b"1"),
        "{results:?}"
    );
    assert_eq!(
        results[1..],
        [
            Err(OpError::NoNode),
            Err(OpError::NoAuth),
            Ok(Response::Children(Names::whole(vec!["hidden".into()])))
        ]
    );
}

#[test]
fn cve_2017_5637_a_short_request_is_not_answered_with_a_gigabyte() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    let data = Bytes::from(vec![0; 1024 * 1024]);
    h.answer(a, create_with("/a", &data, open_acl())).unwrap();
    let read = Read::GetData {
        path: "/a".into(),
        watch: false,
    };
    let of = |count| Request::Read(Read::Multi(vec![read.clone(); count]));
    assert!(matches!(
        h.answer(a, of(16)),
        Ok(Response::MultiRead(results)) if results.len() == 16
    ));
    assert_eq!(h.answer(a, of(17)), Err(OpError::BadArguments));
}

#[test]
fn the_reserved_znodes_hold_empty_data() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for path in ["", "/", "/zookeeper", "/zookeeper/quota"] {
        let answer = h.answer(a, get(path, false));
        assert!(
            matches!(&answer, Ok(Response::Data(Some(data), _)) if data.is_empty()),
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn a_path_that_cannot_exist_does_not_exist() {
    let mut h = Harness::new();
    let (a, _) = h.open();
    for path in ["a", "/a//b", "/a/", "/.."] {
        assert_eq!(h.answer(a, get(path, true)), Err(OpError::NoNode), "{path}");
        assert_eq!(
            h.answer(a, exists(path, false)),
            Err(OpError::NoNode),
            "{path}"
        );
    }
}
