//! What administrators and their tools ask: four-letter words, and HTTP.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};
use zookeeper_wire::{PathWatch, Request};

use crate::process::{Coord, DEADLINE};
use crate::raw::{self, RawClient};

fn word(address: SocketAddr, word: &str) -> String {
    let mut stream = raw::open(address);
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The status line, and what follows the headers.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = raw::open(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: coord\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap();
    (status.to_owned(), body.to_owned())
}

/// One with a session that has an ephemeral `/e` and watches `/a`, which is not there, and the children of `/`.
fn with_session(set: &[&str]) -> (Coord, RawClient) {
    let coord = Coord::start_with(set);
    let mut client = RawClient::connect(coord.address, 20_000);
    assert_eq!(client.ask(1, &raw::create("/e", 1)).error, 0);
    let watch = |path: &'static str| PathWatch {
        path: path.into(),
        watch: true,
    };
    assert_eq!(client.ask(2, &Request::Exists(watch("/a"))).error, -101);
    assert_eq!(client.ask(3, &Request::GetChildren(watch("/"))).error, 0);
    (coord, client)
}

/// Whether `text` has such a line.
fn has(text: &str, line: &str) -> bool {
    text.lines().any(|have| have == line)
}

#[test]
fn four_letter_words_are_answered_if_whitelisted() {
    let coord = Coord::start();
    let refused =
        |word: &str| format!("{word} is not executed because it is not in the whitelist.\n");
    assert_eq!(word(coord.address, "ruok"), "imok");
    assert_eq!(word(coord.address, "wchp"), refused("wchp"));
    assert_eq!(word(coord.address, "nope"), "");

    let coord = Coord::start_with(&["4lw.commands.whitelist=conf"]);
    assert_eq!(word(coord.address, "ruok"), refused("ruok"));
    assert!(word(coord.address, "srvr").starts_with("Zookeeper version: 3.9"));
}

#[test]
fn the_words_say_what_zookeepers_say() {
    let (coord, client) = with_session(&["4lw.commands.whitelist=*"]);
    let ask = |name: &str| word(coord.address, name);
    let session = format!("{:#x}", client.session);

    let srvr = ask("srvr");
    assert!(srvr.starts_with("Zookeeper version: 3.9"), "{srvr}");
    for line in [
        "Mode: standalone",
        "Node count: 5",
        "Connections: 2",
        "Outstanding: 0",
    ] {
        assert!(has(&srvr, line), "{line} in {srvr}");
    }
    let stat = ask("stat");
    let (_, clients) = stat.split_once("\nClients:\n").unwrap();
    assert!(clients.starts_with(" /127.0.0.1:"), "{stat}");
    assert!(
        clients.contains("[1](queued=0,recved=4,sent=4)\n"),
        "{stat}"
    );
    assert!(
        stat.ends_with("Mode: standalone\nNode count: 5\n"),
        "{stat}"
    );

    let mntr = ask("mntr");
    for line in [
        "zk_server_state\tstandalone",
        "zk_ephemerals_count\t1",
        "zk_znode_count\t5",
        "zk_watch_count\t2",
        "zk_global_sessions\t1",
        "zk_cnt_updatelatency\t1",
        "zk_connection_request_count\t1",
        "zk_connection_drop_count\t0",
        "zk_stale_sessions_expired\t0",
        "zk_proposal_count\t2",
        "zk_commit_count\t2",
        "zk_looking_count\t0",
        "zk_unrecoverable_error_count\t0",
        "zk_large_requests_rejected\t0",
        "zk_sessionless_connections_expired\t0",
    ] {
        assert!(has(&mntr, line), "{line} in {mntr}");
    }

    let cons = ask("cons");
    let line = cons.lines().find(|line| line.contains(&session)).unwrap();
    let of_session = format!("](queued=0,recved=4,sent=4,sid={session},lop=GETC,est=");
    assert!(
        line.contains(&of_session) && line.contains(",to=20000,lcxid=0x3,lzxid=0x"),
        "{line}"
    );
    assert_eq!(ask("crst"), "Connection stats reset.\n");
    assert!(ask("cons").contains(&format!("](queued=0,recved=0,sent=0,sid={session},lop=NA,")));

    assert_eq!(ask("srst"), "Server stats reset.\n");
    assert!(has(&ask("mntr"), "zk_cnt_updatelatency\t0"));

    assert_eq!(ask("isro"), "rw");
    assert_eq!(
        ask("wchs"),
        "1 connections watching 2 paths\nTotal watches:2\n"
    );
    assert_eq!(ask("wchc"), format!("{session}\n\t/\n\t/a\n\n"));
    assert_eq!(ask("wchp"), format!("/\n\t{session}\n/a\n\t{session}\n\n"));

    let dump = ask("dump");
    assert!(
        dump.starts_with("SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at "),
        "{dump}"
    );
    let rest = format!(
        ":\n\t{session}\nephemeral nodes dump:\nSessions with Ephemerals (1):\n{session}:\n\t/e\nConnections dump:\nConnections Sets ("
    );
    let (_, connections) = dump.split_once(&rest).expect(&dump);
    // This client, and whoever asks or has just asked.
    let listed = |of_session: &str| {
        let line = format!(" sessionId: {of_session}");
        let is_it = |have: &&str| have.starts_with("\tip: /127.0.0.1:") && have.ends_with(&line);
        connections.lines().filter(is_it).count()
    };
    assert_eq!(listed(&session), 1, "{dump}");
    let asking = listed("0x0");
    assert!(asking >= 1, "{dump}");
    let head = format!(")/({}):\n1 expire at ", 1 + asking);
    assert!(connections.contains(&head), "{dump}");

    let conf = ask("conf");
    for line in [
        &format!("clientPort={}", coord.address.port()),
        &format!("dataDir={}", coord.dir().display()),
        "secureClientPort=-1",
        "maxSessionTimeout=20000",
        "serverId=0",
    ] {
        assert!(has(&conf, line), "{line} in {conf}");
    }
    let dirs = ask("dirs");
    assert!(
        dirs.starts_with("datadir_size: ") && dirs.contains("\nlogdir_size: "),
        "{dirs}"
    );
    assert!(!has(&dirs, "logdir_size: 0"), "{dirs}");
    assert!(ask("envi").starts_with("Environment:\nzookeeper.version=3.9"));
}

#[test]
fn commands_answer_in_json_with_zookeepers_keys() {
    let (coord, client) = with_session(&["admin.serverPort=0"]);
    let admin = coord.listens("admin.serverPort");
    assert!(admin.ip().is_loopback());
    let ask = |name: &str| -> Value {
        let (status, body) = get(admin, &format!("/commands/{name}"));
        assert_eq!(status, "HTTP/1.1 200 OK");
        serde_json::from_str(&body).unwrap()
    };
    let session = client.session;

    assert_eq!(
        ask("nope"),
        json!({"command": "nope", "error": "Unknown command: nope"})
    );

    assert_eq!(ask("mntr")["server_state"], "standalone");
    assert_eq!(ask("mntr")["znode_count"], 5);
    assert_eq!(ask("isro")["read_only"], false);
    assert_eq!(ask("conf")["client_port"], coord.address.port());
    assert_eq!(ask("stat")["server_stats"]["server_state"], "standalone");
    assert_eq!(ask("stat")["connections"].as_array().unwrap().len(), 1);
    let connections = ask("cons");
    let connection = &connections["connections"][0];
    assert_eq!(
        (&connection["session_id"], &connection["last_operation"]),
        (&json!(session), &json!("GETC"))
    );
    assert_eq!(ask("wchs")["num_total_watches"], 2);
    assert_eq!(
        ask("wchc")["session_id_to_watched_paths"][session.to_string()],
        json!(["/", "/a"])
    );
    assert_eq!(ask("wchp")["path_to_session_ids"]["/a"], json!([session]));
    assert_eq!(
        ask("dump")["session_id_to_ephemeral_paths"][session.to_string()],
        json!(["/e"])
    );
    assert_eq!(
        ask("dump")["expiry_time_to_session_ids"]
            .as_object()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(ask("zabstate")["voting"], false);
    let (_, list) = get(admin, "/commands");
    for line in list.lines().step_by(2) {
        let (_, name) = line.trim_end_matches("</a>").rsplit_once('>').unwrap();
        let answer = ask(name);
        assert_eq!(
            (&answer["command"], &answer["error"].is_string()),
            (&json!(name), &(name == "leader"))
        );
    }
    ask("crst");
    assert_eq!(ask("cons")["connections"][0]["packets_received"], 0);
}

#[test]
fn http_says_that_it_lives_and_counts() {
    let coord = Coord::start_with(&[
        "admin.serverPort=0",
        "metricsProvider.httpPort=0",
        "admin.commandURL=/zk",
    ]);
    let admin = coord.listens("admin.serverPort");
    for path in ["/livez", "/readyz", "/zk/ruok"] {
        assert_eq!(get(admin, path).0, "HTTP/1.1 200 OK");
    }
    let (_, metrics) = get(admin, "/metrics");
    assert!(
        metrics.contains("\n# TYPE zk_znode_count gauge\nzk_znode_count 4\n"),
        "{metrics}"
    );
    let provider = coord.listens("metricsProvider.httpPort");
    assert!(get(provider, "/metrics").1.contains("\nzk_znode_count 4\n"));
    for (address, path) in [
        (admin, "/"),
        (admin, "/commands/ruok"),
        (provider, "/livez"),
    ] {
        assert!(get(address, path).0.starts_with("HTTP/1.1 404"));
    }
}

/// Two participants and an observer.
fn members() -> Vec<Coord> {
    let free: Vec<_> = (0..6)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports: Vec<u16> = free
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    drop(free);
    let lines: Vec<String> = ["participant", "participant", "observer"]
        .iter()
        .enumerate()
        .map(|(at, role)| {
            let (id, ports) = (at + 1, &ports[2 * at..]);
            format!("server.{id}=127.0.0.1:{}:{}:{role}", ports[0], ports[1])
        })
        .collect();
    let mut set: Vec<&str> = lines.iter().map(String::as_str).collect();
    set.extend([
        "4lw.commands.whitelist=*",
        "admin.serverPort=0",
        "readonlymode.enabled=true",
        "tickTime=500",
        "syncLimit=2",
    ]);
    (1..=3).map(|id| Coord::start_member(id, &set)).collect()
}

/// Asks `coord` until the answer is as wanted.
fn await_answer(coord: &Coord, name: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let answer = word(coord.address, name);
        if wanted(&answer) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{name}: {answer}");
    }
}

/// Asks `coord` until the answer has every one of `lines`.
fn await_lines(coord: &Coord, name: &str, lines: &[&str]) {
    await_answer(coord, name, |answer| {
        lines.iter().all(|line| has(answer, line))
    });
}

#[test]
fn members_say_what_they_are_and_who_follows() {
    let mut members = members();
    let observer = members.pop().unwrap();
    await_lines(&observer, "srvr", &["Mode: observer"]);
    let leads = |coord: &Coord| word(coord.address, "srvr").contains("\nMode: leader\n");
    if !leads(&members[0]) {
        members.reverse();
    }
    let mut follower = members.pop().unwrap();
    let leader = members.pop().unwrap();
    await_lines(&follower, "srvr", &["Mode: follower"]);
    let lines = [
        "zk_server_state\tleader",
        "zk_peer_state\tleading - broadcast",
        "zk_quorum_size\t2",
        "zk_learners\t2",
        "zk_synced_followers\t1",
        "zk_synced_observers\t1",
    ];
    await_lines(&leader, "mntr", &lines);
    assert!(word(leader.address, "srvr").contains("\nProposal sizes last/min/max: "));
    await_answer(&observer, "conf", |conf| {
        has(conf, "peerType=1") && conf.contains(":observer\nversion=")
    });

    let ready = |coord: &Coord| get(coord.listens("admin.serverPort"), "/readyz").0;
    assert_eq!(ready(&observer), "HTTP/1.1 200 OK");
    let (_, view) = get(leader.listens("admin.serverPort"), "/commands/voting_view");
    let view: Value = serde_json::from_str(&view).unwrap();
    assert_eq!(view["current_config"].as_object().unwrap().len(), 2);

    drop(observer);
    await_lines(
        &leader,
        "mntr",
        &["zk_learners\t1", "zk_synced_observers\t0"],
    );
    drop(leader);
    let not_serving = "This ZooKeeper instance is not currently serving requests";
    await_lines(&follower, "mntr", &[not_serving]);
    assert_eq!(ready(&follower), "HTTP/1.1 503 Service Unavailable");
    await_lines(&follower, "srvr", &["Mode: read-only"]);
    assert_eq!(word(follower.address, "isro"), "ro");
    follower.kill();
}
