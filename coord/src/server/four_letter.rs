//! Four-letter words: a connection may begin with one instead of a session. The texts are ZooKeeper's, for tools read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use coord_core::Coordinator;
use coord_core::server_spec::HostPort;
use coord_core::watch::WatchSummary;

use crate::config::FOUR_LETTER_WORDS;
use crate::server::connection::CONNECT_TIMEOUT;
use crate::server::inspector::{Inspector, Sessions};
use crate::stats::{self, ConnectionStats, ServerState, VERSION};

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The answer, if the first four bytes of a connection are a word and no length.
pub(super) async fn answer(first: [u8; 4], inspector: &Inspector) -> Option<String> {
    let word = FOUR_LETTER_WORDS
        .into_iter()
        .find(|word| word.as_bytes() == first)?;
    let allowed = &inspector.config.four_letter_words;
    if !allowed.contains(word) {
        return Some(format!(
            "{word} is not executed because it is not in the whitelist.\n"
        ));
    }
    Some(match word {
        "ruok" => "imok".to_owned(),
        "envi" => environment(inspector),
        "isro" => read_only(inspector.stats.state()).to_owned(),
        _ if !inspector.is_serving() => NOT_SERVING.to_owned(),
        "srvr" | "stat" => {
            inspector.count_members().await;
            server(inspector, word == "stat")
        }
        "mntr" => {
            inspector.count_members().await;
            stats::mntr(&inspector.stats)
        }
        "cons" => connections(inspector, false),
        "conf" => configuration(inspector).await,
        "dirs" => {
            let sizes = inspector.disk_sizes().await;
            format!(
                "datadir_size: {}\nlogdir_size: {}\n",
                sizes.data_dir, sizes.data_log_dir
            )
        }
        "crst" => {
            inspector.reset_connections();
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            inspector.stats.reset();
            "Server stats reset.\n".to_owned()
        }
        "dump" => {
            let sessions = inspector.sessions().await.map(sessions);
            sessions.unwrap_or_default() + &connection_deadlines(inspector)
        }
        "wchs" => watch_summary(inspector).await,
        "wchc" => watches_by_session(inspector).await,
        _ => watches_by_path(inspector).await,
    })
}

fn read_only(state: ServerState) -> &'static str {
    match state {
        ServerState::NotServing => "null",
        ServerState::ReadOnly => "ro",
        _ => "rw",
    }
}

fn environment(inspector: &Inspector) -> String {
    let mut text = "Environment:\n".to_owned();
    for (key, value) in inspector.environment() {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn server(inspector: &Inspector, with_clients: bool) -> String {
    use std::sync::atomic::Ordering::Relaxed;
    let stats = &inspector.stats;
    let state = stats.state();
    let mut text = format!("Zookeeper version: {VERSION}\n");
    if state == ServerState::ReadOnly {
        text += "READ-ONLY mode; serving only read-only clients\n";
    }
    if with_clients {
        text += "Clients:\n";
        text += &connections(inspector, true);
    }
    let latency = stats.latency();
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{:?}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {:#x}\n\
         Mode: {}\nNode count: {}\n",
        latency.min_ms as u64,
        latency.average_ms(),
        latency.max_ms as u64,
        stats.packets_received.load(Relaxed),
        stats.packets_sent.load(Relaxed),
        stats.connections.load(Relaxed),
        stats.outstanding.load(Relaxed),
        stats.zxid.load(Relaxed),
        state.mode(),
        stats.znodes.load(Relaxed),
    );
    if state == ServerState::Leader {
        let sizes = stats.ensemble.figures().proposals;
        let _ = writeln!(
            text,
            "Proposal sizes last/min/max: {}/{}/{}",
            sizes.last, sizes.min, sizes.max
        );
    }
    text
}

/// One line each, and an empty one behind them.
fn connections(inspector: &Inspector, brief: bool) -> String {
    let mut text = String::new();
    for connection in inspector.connections() {
        line(&connection, brief, &mut text);
    }
    text.push('\n');
    text
}

fn peer(connection: &ConnectionStats) -> HostPort {
    HostPort {
        host: connection.peer.ip().to_string(),
        port: connection.peer.port(),
    }
}

fn line(connection: &ConnectionStats, brief: bool, text: &mut String) {
    let figures = connection.figures();
    let peer = peer(connection);
    // What it is interested in: to read, or, before it has a session, nothing.
    let interest = u8::from(figures.session != 0);
    let _ = write!(
        text,
        " /{peer}[{interest}](queued={},recved={},sent={}",
        figures.queued, figures.received, figures.sent
    );
    if !brief && figures.session != 0 {
        let _ = write!(
            text,
            ",sid={:#x},lop={},est={},to={}",
            figures.session, figures.last_op, connection.established_ms, figures.session_timeout_ms
        );
        if figures.last_xid >= 0 {
            let _ = write!(text, ",lcxid={:#x}", figures.last_xid);
        }
        let _ = write!(
            text,
            ",lzxid={:#x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            figures.last_zxid,
            figures.last_response_ms,
            figures.last_latency_ms,
            figures.min_latency_ms,
            figures.avg_latency_ms,
            figures.max_latency_ms
        );
    }
    text.push_str(")\n");
}

async fn configuration(inspector: &Inspector) -> String {
    let config = &inspector.config;
    let sizes = inspector.disk_sizes().await;
    let mut text = format!(
        "clientPort={}\nsecureClientPort={}\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
         maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        inspector.client_port,
        inspector.secure_client_port,
        config.data_dir.display(),
        sizes.data_dir,
        config.data_log_dir.display(),
        sizes.data_log_dir,
        config.tick_time_ms,
        config.max_client_cnxns,
        config.min_session_timeout_ms,
        config.max_session_timeout_ms,
        config.ensemble.my_id,
    );
    if let (false, Some(me)) = (config.ensemble.standalone, inspector.me()) {
        let _ = write!(
            text,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{}",
            config.ensemble.init_limit_ticks,
            config.ensemble.sync_limit_ticks,
            me.election_port,
            me.quorum_port,
            inspector.peer_type(),
            members(inspector).await,
        );
    }
    text
}

/// What `/zookeeper/config` shows.
async fn members(inspector: &Inspector) -> String {
    let config = inspector.see(|coordinator| {
        let config = coordinator.state().tree.get("/zookeeper/config");
        config.and_then(|config| config.data.clone())
    });
    let config = config.await.flatten().unwrap_or_default();
    String::from_utf8_lossy(&config).into_owned()
}

fn sessions(sessions: Sessions) -> String {
    let mut text = "SessionTracker dump:\n".to_owned();
    match &sessions.expiring {
        Some(sets) => {
            let _ = writeln!(
                text,
                "Session Sets ({})/({}):",
                sets.len(),
                sessions.open.len()
            );
            for (at_ms, set) in sets {
                let _ = writeln!(text, "{} expire at {}:", set.len(), date(*at_ms));
                for session in set {
                    let _ = writeln!(text, "\t{:#x}", session.0);
                }
            }
        }
        None => {
            let _ = writeln!(text, "Global Sessions({}):", sessions.open.len());
            for (session, timeout_ms) in &sessions.open {
                let _ = writeln!(text, "{:#x}\t{timeout_ms}ms", session.0);
            }
        }
    }
    let _ = writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        sessions.ephemerals.len()
    );
    for (session, paths) in &sessions.ephemerals {
        let _ = writeln!(text, "{:#x}:", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text
}

/// When each connection is closed unless it is heard before, in the steps that ZooKeeper looks after them.
fn connection_deadlines(inspector: &Inspector) -> String {
    let tick_ms = i64::from(inspector.config.tick_time_ms);
    let mut sets: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let connections = inspector.connections();
    for connection in &connections {
        let figures = connection.figures();
        let heard_ms = connection.established_ms.max(figures.last_response_ms);
        let left_ms = match figures.session {
            0 => CONNECT_TIMEOUT.as_millis() as i64,
            _ => figures.session_timeout_ms.into(),
        };
        let at = ((heard_ms + left_ms) / tick_ms + 1) * tick_ms;
        let line = format!(
            "\tip: /{} sessionId: {:#x}\n",
            peer(connection),
            figures.session
        );
        sets.entry(at).or_default().push(line);
    }
    let mut text = format!(
        "Connections dump:\nConnections Sets ({})/({}):\n",
        sets.len(),
        connections.len()
    );
    for (at_ms, lines) in sets {
        let _ = writeln!(text, "{} expire at {}:", lines.len(), date(at_ms));
        text.extend(lines);
    }
    text
}

async fn watch_summary(inspector: &Inspector) -> String {
    let summary = inspector.see(Coordinator::watch_summary).await;
    let line = |summary: WatchSummary| {
        format!(
            "{} connections watching {} paths\nTotal watches:{}\n",
            summary.connections, summary.paths, summary.watches
        )
    };
    summary.map(line).unwrap_or_default()
}

async fn watches_by_session(inspector: &Inspector) -> String {
    let mut text = String::new();
    let watches = inspector.see(Coordinator::watches_by_session).await;
    for (session, paths) in watches.unwrap_or_default() {
        let _ = writeln!(text, "{:#x}", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text + "\n"
}

async fn watches_by_path(inspector: &Inspector) -> String {
    let mut text = String::new();
    let watches = inspector.see(Coordinator::watches_by_path).await;
    for (path, sessions) in watches.unwrap_or_default() {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t{:#x}", session.0);
        }
    }
    text + "\n"
}

/// As Java prints a date: `Sat Nov 21 15:36:04 UTC 2026`.
fn date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at the end; 1 March of the year 0 is 719 468 days before 1970.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_java_prints_them() {
        for (ms, expected) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_795_275_364_999, "Sat Nov 21 15:36:04 UTC 2026"),
            (4_107_542_399_000, "Sun Feb 28 23:59:59 UTC 2100"),
        ] {
            assert_eq!(date(ms), expected);
        }
    }
}
