//! What others got wrong about sessions and their requests.

use coord_core::request::{Read, Request, Response};
use coord_core::{OpError, Zxid};

use crate::ensemble::{Client, Ensemble};
use crate::harness::{EPHEMERAL, PERSISTENT, answers_of, create, exists, get, set_write};

fn set(path: &str, data: &[u8]) -> Request {
    Request::Write(set_write(path, data, -1))
}

/// The number that a request of `pipeline` has to be answered with: of the write before it, or its own.
fn shown(answer: &Result<Response, OpError>) -> Option<i32> {
    match answer {
        Ok(Response::Data(_, stat) | Response::Stat(stat)) => Some(stat.version),
        _ => None,
    }
}

/// Asks for writes of `path` with reads between them, all at once.
fn pipeline(e: &mut Ensemble, client: Client, path: &str) {
    for _ in 0..5 {
        e.ask(client, set(path, b"x"));
        e.ask(client, get(path, false));
        e.ask(
            client,
            Request::Sync {
                path: path.to_owned().into(),
            },
        );
        e.ask(client, exists(path, false));
        e.ask(client, Request::Read(Read::Ping));
    }
}

#[test]
fn bug_zookeeper_1863_each_session_is_answered_in_its_order_whatever_commits_come_between() {
    let mut e = Ensemble::new(3);
    let clients: Vec<(Client, String)> = [1, 2, 2, 3]
        .into_iter()
        .zip(0..)
        .map(|(node, number)| {
            let (client, _) = e.open(node);
            let path = format!("/{number}");
            e.answer(client, create(&path, PERSISTENT)).unwrap();
            (client, path)
        })
        .collect();
    for round in 0..4 {
        for (client, path) in &clients {
            pipeline(&mut e, *client, path);
            // Commits come at other places each time.
            if round % 2 == 0 {
                e.pass_forwards();
                e.commit();
                e.apply(1 + round / 2);
            }
        }
        e.run();
        for node in 1..=3 {
            let sent = e.sent(node);
            for (client, path) in clients.iter().filter(|(client, _)| client.node == node) {
                let answers = answers_of(&sent, client.connection);
                assert_eq!(answers.len(), 25, "{path}");
                let before = 5 * round as i32;
                for (at, five) in answers.chunks(5).enumerate() {
                    let version = Some(before + at as i32 + 1);
                    let versions: Vec<_> = five.iter().map(shown).collect();
                    assert_eq!(versions, [version, version, None, version, None]);
                    assert!(matches!(&five[2], Ok(Response::Path(of)) if **of == **path));
                    assert_eq!(five[4], Ok(Response::Empty));
                }
            }
        }
    }
}

/// Whoever finds its own old ephemeral sees by the owner that it is an older session's, and may wait for that one's end,
/// which nothing brings back.
#[test]
fn bug_zookeeper_2985_an_ephemeral_says_whose_it_is_and_a_session_that_has_ended_stays_so() {
    let mut e = Ensemble::new(3);
    let (old, session) = e.open(2);
    e.answer(old, create("/broker", EPHEMERAL)).unwrap();
    let (new, other) = e.open(3);
    let taken = e.answer(new, create("/broker", EPHEMERAL));
    assert_eq!(taken, Err(OpError::NodeExists));
    let owner = |answer| match answer {
        Ok(Response::Stat(stat)) => stat.ephemeral_owner,
        other => panic!("{other:?}"),
    };
    assert_eq!(owner(e.answer(new, exists("/broker", false))), session);
    for _ in 0..4 {
        e.advance(500);
        e.ask(new, Request::Read(Read::Ping));
        e.run();
    }
    e.sent(3);
    // Its client comes back too late, also where the end is not applied yet.
    let late = e.connect(2, session, Zxid(0));
    e.run();
    assert_eq!(e.accepted(late), None);
    assert!(!e.state(1).sessions.contains_key(&session));
    e.answer(new, create("/broker", EPHEMERAL)).unwrap();
    assert_eq!(owner(e.answer(new, exists("/broker", false))), other);
}

#[test]
fn bug_zookeeper_2623_a_check_that_stands_by_itself_is_answered() {
    let mut e = Ensemble::new(1);
    let (a, _) = e.open(1);
    let check = |path: &str, version| {
        let path = path.to_owned().into();
        Request::Write(coord_core::request::Write::Check { path, version })
    };
    assert_eq!(e.answer(a, check("/", 0)), Ok(Response::Empty));
    assert_eq!(e.answer(a, check("/", 7)), Err(OpError::BadVersion));
    assert_eq!(e.answer(a, check("/none", -1)), Err(OpError::NoNode));
}
