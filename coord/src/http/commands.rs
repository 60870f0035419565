//! The commands of ZooKeeper's AdminServer, with its keys.

use std::sync::atomic::Ordering::Relaxed;

use coord_core::server_spec::{HostPort, ServerRole, ServerSpec};
use coord_core::{Coordinator, NodeId, SessionId, Zxid};
use serde_json::{Map, Value, json};

use crate::server::Inspector;
use crate::stats::{ConnectionStats, Metric, Number, ServerState, VERSION};

/// Each command's names: the one that it is listed and answered under, then its others; and whether it is answered by a
/// server that serves nobody too.
const COMMANDS: [(&[&str], bool); 21] = [
    (&["configuration", "conf", "config"], false),
    (&["connection_stat_reset", "crst"], false),
    (&["connections", "cons"], false),
    (&["dirs"], false),
    (&["dump"], false),
    (&["environment", "env", "envi"], true),
    (&["hash"], false),
    (&["initial_configuration", "icfg"], false),
    (&["is_read_only", "isro"], false),
    (&["last_snapshot", "lsnp"], false),
    (&["leader", "lead"], false),
    (&["monitor", "mntr"], true),
    (&["observers", "obsr"], false),
    (&["ruok"], true),
    (&["server_stats", "srvr"], false),
    (&["stat_reset", "srst"], false),
    (&["stats", "stat"], false),
    (&["voting_view"], false),
    (&["watch_summary", "wchs"], false),
    (&["watches", "wchc"], false),
    (&["watches_by_path", "wchp"], false),
];

/// `zabstate` is apart, for it is answered by those who serve nobody too, and asks the owner of the tree.
const ZAB_STATE: &str = "zabstate";

/// The names that commands are listed under.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let listed = COMMANDS.iter().map(|(names, _)| names[0]);
    listed.chain([ZAB_STATE])
}

/// Runs a command; what is wrong is told under the key `error`, as ZooKeeper does.
pub(super) async fn run(name: &str, inspector: &Inspector) -> Map<String, Value> {
    let Some((command, always)) = find(name) else {
        return failed(name, &format!("Unknown command: {name}"));
    };
    if !always && !inspector.is_serving() {
        let error = "This ZooKeeper instance is not currently serving requests";
        return failed(name, error);
    }
    let mut answer = match data(command, inspector).await {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    answer.insert("command".to_owned(), command.into());
    answer.entry("error").or_insert(Value::Null);
    answer
}

fn find(name: &str) -> Option<(&'static str, bool)> {
    let known = COMMANDS.iter().find(|(names, _)| names.contains(&name));
    known
        .map(|(names, always)| (names[0], *always))
        .or_else(|| (name == ZAB_STATE).then_some((ZAB_STATE, true)))
}

fn failed(command: &str, error: &str) -> Map<String, Value> {
    let failed = [("command", command), ("error", error)];
    failed
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into_iter()
        .collect()
}

async fn data(command: &str, inspector: &Inspector) -> Value {
    let stats = &inspector.stats;
    if matches!(command, "monitor" | "observers" | "server_stats" | "stats") {
        inspector.count_members().await;
    }
    match command {
        "configuration" => configuration(inspector),
        "connection_stat_reset" => {
            inspector.reset_connections();
            Value::Null
        }
        "connections" => connections(inspector, false),
        "dirs" => {
            let sizes = inspector.disk_sizes().await;
            json!({"datadir_size": sizes.data_dir, "logdir_size": sizes.data_log_dir})
        }
        "dump" => sessions(inspector).await,
        "environment" => {
            let environment = inspector.environment();
            environment
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect::<Map<_, _>>()
                .into()
        }
        "hash" => json!({"digests": []}),
        "initial_configuration" => {
            json!({"initial_configuration": inspector.configured_servers()})
        }
        "is_read_only" => json!({"read_only": stats.state() == ServerState::ReadOnly}),
        "last_snapshot" => last_snapshot(inspector),
        "leader" => leader(inspector).await,
        "monitor" => monitor(inspector),
        "observers" => {
            let synced = stats.ensemble.figures().synced_observers;
            json!({"synced_observers": synced, "observers": []})
        }
        "server_stats" => server(inspector).into(),
        "stats" => {
            let mut answer = server(inspector);
            if let Value::Object(connections) = connections(inspector, true) {
                answer.extend(connections);
            }
            answer.into()
        }
        "stat_reset" => {
            stats.reset();
            Value::Null
        }
        "voting_view" => voting_view(inspector).await,
        ZAB_STATE => zab_state(inspector).await,
        "watch_summary" => match inspector.see(Coordinator::watch_summary).await {
            Some(summary) => json!({
                "num_connections": summary.connections,
                "num_paths": summary.paths,
                "num_total_watches": summary.watches,
            }),
            None => Value::Null,
        },
        "watches" => {
            let watches = inspector.see(Coordinator::watches_by_session).await;
            let watches = watches.unwrap_or_default().into_iter();
            let by_session: Map<_, _> = watches
                .map(|(session, paths)| (key(session), json!(texts(&paths))))
                .collect();
            json!({"session_id_to_watched_paths": by_session})
        }
        "watches_by_path" => {
            let watches = inspector.see(Coordinator::watches_by_path).await;
            let watches = watches.unwrap_or_default().into_iter();
            let by_path: Map<_, _> = watches
                .map(|(path, sessions)| (path.to_string(), json!(ids(&sessions))))
                .collect();
            json!({"path_to_session_ids": by_path})
        }
        _ => Value::Null,
    }
}

fn configuration(inspector: &Inspector) -> Value {
    let config = &inspector.config;
    json!({
        "client_port": inspector.client_port,
        "data_dir": config.data_dir.display().to_string(),
        "data_log_dir": config.data_log_dir.display().to_string(),
        "tick_time": config.tick_time_ms,
        "max_client_cnxns": config.max_client_cnxns,
        "min_session_timeout": config.min_session_timeout_ms,
        "max_session_timeout": config.max_session_timeout_ms,
        "server_id": config.ensemble.my_id,
        "client_port_listen_backlog": -1,
    })
}

fn connections(inspector: &Inspector, brief: bool) -> Value {
    let all = inspector.connections();
    let list = |secure: bool| -> Vec<Value> {
        let wanted = all.iter().filter(|connection| connection.secure == secure);
        wanted
            .map(|connection| connection_info(connection, brief))
            .collect()
    };
    json!({"connections": list(false), "secure_connections": list(true)})
}

fn connection_info(connection: &ConnectionStats, brief: bool) -> Value {
    let figures = connection.figures();
    let mut info = json!({
        "remote_socket_address": connection.peer.to_string(),
        "interest_ops": 1,
        "outstanding_requests": figures.queued,
        "packets_received": figures.received,
        "packets_sent": figures.sent,
    });
    let more = json!({
        "session_id": figures.session,
        "last_operation": figures.last_op,
        "established": connection.established_ms,
        "session_timeout": figures.session_timeout_ms,
        "last_cxid": figures.last_xid,
        "last_zxid": figures.last_zxid,
        "last_response_time": figures.last_response_ms,
        "last_latency": figures.last_latency_ms,
        "min_latency": figures.min_latency_ms,
        "avg_latency": figures.avg_latency_ms,
        "max_latency": figures.max_latency_ms,
    });
    if let (false, Value::Object(info), Value::Object(more)) = (brief, &mut info, more) {
        info.extend(more);
    }
    info
}

async fn sessions(inspector: &Inspector) -> Value {
    let Some(sessions) = inspector.sessions().await else {
        return Value::Null;
    };
    let expiring: Map<_, _> = sessions
        .expiring
        .unwrap_or_default()
        .into_iter()
        .map(|(at_ms, sessions)| (at_ms.to_string(), json!(ids(&sessions))))
        .collect();
    let ephemerals: Map<_, _> = sessions
        .ephemerals
        .into_iter()
        .map(|(session, paths)| (key(session), json!(texts(&paths))))
        .collect();
    json!({
        "expiry_time_to_session_ids": expiring,
        "session_id_to_ephemeral_paths": ephemerals,
    })
}

fn last_snapshot(inspector: &Inspector) -> Value {
    let snapshot = inspector.stats.last_snapshot();
    let zxid = snapshot.map_or(-1, |(zxid, _)| zxid);
    let at_ms = snapshot.map_or(-1, |(_, at_ms)| at_ms);
    json!({"zxid": format!("{zxid:x}"), "timestamp": at_ms})
}

async fn leader(inspector: &Inspector) -> Value {
    let view = inspector.ensemble().await;
    match view {
        Some(view) if !inspector.config.ensemble.standalone => {
            let leader = view.leader.and_then(|id| view.members.get(&id));
            json!({
                "is_leader": inspector.stats.state() == ServerState::Leader,
                "leader_id": view.leader.map_or(-1, |id| id.0 as i64),
                "leader_ip": leader.map_or("", |leader| leader.host.as_str()),
            })
        }
        _ => json!({"error": "server is not initialized"}),
    }
}

fn monitor(inspector: &Inspector) -> Value {
    let stats = &inspector.stats;
    let words = stats.words().into_iter();
    let mut answer: Map<_, _> = words
        .map(|(name, word)| (name.to_owned(), word.into()))
        .collect();
    for (name, number) in stats.metrics().iter().flat_map(Metric::flat) {
        let number = match number {
            Number::Whole(number) => json!(number),
            Number::Fraction(number) => json!(number),
        };
        answer.insert(name, number);
    }
    answer.into()
}

fn server(inspector: &Inspector) -> Map<String, Value> {
    let stats = &inspector.stats;
    let state = stats.state();
    let latency = stats.latency();
    let sizes = inspector.stats.responses.figures();
    let mut answer = Map::new();
    answer.insert("version".to_owned(), VERSION.into());
    answer.insert(
        "read_only".to_owned(),
        (state == ServerState::ReadOnly).into(),
    );
    answer.insert(
        "server_stats".to_owned(),
        json!({
            "packets_sent": stats.packets_sent.load(Relaxed),
            "packets_received": stats.packets_received.load(Relaxed),
            "num_alive_client_connections": stats.connections.load(Relaxed),
            "outstanding_requests": stats.outstanding.load(Relaxed),
            "last_processed_zxid": stats.zxid.load(Relaxed),
            "server_state": state.mode(),
            "min_latency": latency.min_ms as u64,
            "avg_latency": latency.average_ms(),
            "max_latency": latency.max_ms as u64,
            "auth_failed_count": stats.auth_failures.load(Relaxed),
            "uptime": stats.uptime_ms(),
            "provider_null": false,
        }),
    );
    let buffers = |sizes: crate::stats::SizeFigures| {
        json!({
            "last_buffer_size": sizes.last,
            "min_buffer_size": sizes.min,
            "max_buffer_size": sizes.max,
        })
    };
    answer.insert("client_response".to_owned(), buffers(sizes));
    if state == ServerState::Leader {
        let proposals = stats.ensemble.figures().proposals;
        answer.insert("proposal_stats".to_owned(), buffers(proposals));
    }
    answer.insert("node_count".to_owned(), stats.znodes.load(Relaxed).into());
    answer
}

async fn voting_view(inspector: &Inspector) -> Value {
    let view = inspector.ensemble().await;
    let members = view.map(|view| view.members).unwrap_or_default();
    let voters: Map<_, _> = members
        .iter()
        .filter(|(_, server)| server.role == ServerRole::Participant)
        .map(|(id, server)| {
            let client = server.client.as_ref().map(HostPort::to_string);
            let info = json!({
                "server_addresses": [address(server, server.quorum_port)],
                "election_addresses": [address(server, server.election_port)],
                "client_address": client.unwrap_or_default(),
                "learner_type": server.role.to_string(),
            });
            (id.0.to_string(), info)
        })
        .collect();
    json!({"current_config": voters})
}

async fn zab_state(inspector: &Inspector) -> Value {
    let view = inspector.ensemble().await;
    let me = NodeId(inspector.config.ensemble.my_id);
    let server = view.as_ref().and_then(|view| view.members.get(&me));
    let (Some(server), false) = (server, inspector.config.ensemble.standalone) else {
        return json!({"voting": false, "zabstate": ""});
    };
    let stats = &inspector.stats;
    let zxid = stats.zxid.load(Relaxed);
    let state = match stats.state() {
        ServerState::NotServing | ServerState::ReadOnly => "election",
        _ => "broadcast",
    };
    let client = server.client.as_ref().map(HostPort::to_string);
    json!({
        "myid": me.0,
        "is_leader": stats.state() == ServerState::Leader,
        "quorum_address": address(server, server.quorum_port),
        "election_address": address(server, server.election_port),
        "client_address": client.unwrap_or_default(),
        "voting": server.role == ServerRole::Participant,
        "last_zxid": format!("{:#x}", Zxid(zxid as i64).0),
        "zab_epoch": zxid >> 32,
        "zab_counter": zxid & 0xffff_ffff,
        "zabstate": state,
    })
}

fn address(server: &ServerSpec, port: u16) -> String {
    HostPort {
        host: server.host.clone(),
        port,
    }
    .to_string()
}

/// A session as a key; JSON has no others but texts.
fn key(session: SessionId) -> String {
    session.0.to_string()
}

fn ids<'a>(sessions: impl IntoIterator<Item = &'a SessionId>) -> Vec<i64> {
    sessions.into_iter().map(|session| session.0).collect()
}

fn texts<'a>(paths: impl IntoIterator<Item = &'a std::sync::Arc<str>>) -> Vec<&'a str> {
    paths.into_iter().map(AsRef::as_ref).collect()
}
