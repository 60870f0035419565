//! What each command does, and prints.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zookeeper_client::{Acls, CreateMode, EnsembleUpdate, Error};

use super::commands::Command;
use super::error::ShellError;
use super::print;
use super::quota;
use super::session::{Session, WatchKind, bounded};
use super::words::Arguments;
use crate::options::VERSION;
use crate::terminal::{print as out, print_line};

/// Deletions that `deleteall` has under way at once, unless told.
const BATCH: usize = 1000;

/// Does what a command that needs a session says.
pub(super) async fn perform(
    session: &mut Session,
    command: &Command,
    arguments: &Arguments,
) -> Result<(), ShellError> {
    let argument = |n: usize| arguments.positional().get(n).map(String::as_str);
    let path = argument(0).unwrap_or("/");
    match command.name {
        "ls" => ls(session, path, arguments).await,
        "get" => get(session, path, arguments).await,
        "stat" => stat(session, path, arguments.has("w")).await,
        "create" => create(session, path, arguments).await,
        "set" => set(session, path, arguments).await,
        "delete" => session.delete(path, arguments.number("v")?).await,
        "deleteall" => delete_all(session, path, arguments.number("b")?).await,
        "getAcl" => get_acl(session, path, arguments.has("s")).await,
        "setAcl" => set_acl(session, path, arguments).await,
        "addauth" => {
            let credentials = argument(1).unwrap_or_default();
            bounded(path, session.client().auth(path, credentials.as_bytes())).await
        }
        "addWatch" => {
            let kind = match arguments.value("m").map(str::to_uppercase).as_deref() {
                None | Some("PERSISTENT_RECURSIVE") => WatchKind::PersistentRecursive,
                Some("PERSISTENT") => WatchKind::Persistent,
                Some(_) => return Err(command.misused()),
            };
            session.watch_all(path, kind).await
        }
        "removewatches" => {
            let kinds = [
                ("c", WatchKind::Children),
                ("d", WatchKind::Data),
                ("p", WatchKind::Persistent),
                ("r", WatchKind::PersistentRecursive),
            ];
            let named = kinds.into_iter().find(|(option, _)| arguments.has(option));
            session.unwatch(path, named.map(|(_, kind)| kind))
        }
        "sync" => {
            bounded(path, session.client().sync(path)).await?;
            print_line("Sync is OK");
            Ok(())
        }
        "getAllChildrenNumber" => {
            let count = bounded(path, session.client().count_descendants_number(path)).await?;
            print_line(&count.to_string());
            Ok(())
        }
        "getEphemerals" => {
            let ephemerals = bounded(path, session.client().list_ephemerals(path)).await?;
            out(&print::list(&ephemerals));
            Ok(())
        }
        "listquota" => quota::list(session, path).await,
        "setquota"
            if ["n", "b", "N", "B"]
                .iter()
                .all(|quota| !arguments.has(quota)) =>
        {
            Err(command.misused())
        }
        "setquota" => quota::set(session, path, arguments).await,
        "delquota" => quota::delete(session, path, arguments).await,
        "config" => config(session, arguments).await,
        "reconfig" => reconfig(session, command, arguments).await,
        "whoami" => {
            let identities = bounded("/", session.client().list_auth_users()).await?;
            print_line("Auth scheme: User");
            for identity in identities {
                print_line(&format!("{}: {}", identity.scheme(), identity.user()));
            }
            Ok(())
        }
        "version" => {
            print_line(&format!("coord-shell version: {VERSION}"));
            Ok(())
        }
        other => Err(ShellError::CommandNotFound(other.to_owned())),
    }
}

async fn ls(session: &mut Session, path: &str, arguments: &Arguments) -> Result<(), ShellError> {
    let watched = arguments.has("w");
    if arguments.has("R") {
        for path in session.subtree(path).await? {
            print_line(&path);
            if watched {
                let (_, watcher) =
                    bounded(&path, session.client().list_and_watch_children(&path)).await?;
                session.watch_once(&path, WatchKind::Children, watcher);
            }
        }
        return Ok(());
    }
    let (mut children, stat) = if watched {
        let (children, stat, watcher) =
            bounded(path, session.client().get_and_watch_children(path)).await?;
        session.watch_once(path, WatchKind::Children, watcher);
        (children, stat)
    } else {
        bounded(path, session.client().get_children(path)).await?
    };
    children.sort_unstable();
    out(&print::list(&children));
    if arguments.has("s") {
        out(&print::stat(&stat));
    }
    Ok(())
}

async fn get(session: &mut Session, path: &str, arguments: &Arguments) -> Result<(), ShellError> {
    let (data, stat) = if arguments.has("w") {
        let (data, stat, watcher) =
            bounded(path, session.client().get_and_watch_data(path)).await?;
        session.watch_once(path, WatchKind::Data, watcher);
        (data, stat)
    } else {
        bounded(path, session.client().get_data(path)).await?
    };
    if arguments.has("x") {
        out(&print::hex_dump(&data));
    } else if arguments.has("b") {
        print_line(&BASE64.encode(&data));
    } else {
        print_line(&String::from_utf8_lossy(&data));
    }
    if arguments.has("s") {
        out(&print::stat(&stat));
    }
    Ok(())
}

async fn stat(session: &mut Session, path: &str, watched: bool) -> Result<(), ShellError> {
    let stat = if watched {
        let (stat, watcher) = bounded(path, session.client().check_and_watch_stat(path)).await?;
        session.watch_once(path, WatchKind::Data, watcher);
        stat
    } else {
        session.stat(path).await?
    };
    let stat = stat.ok_or_else(|| ShellError::Keeper {
        error: Error::NoNode,
        path: path.to_owned(),
    })?;
    out(&print::stat(&stat));
    Ok(())
}

async fn create(session: &Session, path: &str, arguments: &Arguments) -> Result<(), ShellError> {
    let ttl_ms = arguments.number::<u64>("t")?;
    let refuse = |why: &str| Err(ShellError::Usage(why.to_owned()));
    let mode = match (arguments.has("e"), arguments.has("s"), arguments.has("c")) {
        (true, _, true) | (_, true, true) => {
            return refuse(
                "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
            );
        }
        (true, ..) if ttl_ms.is_some() => {
            return refuse("TTLs cannot be used with Ephemeral znodes");
        }
        (.., true) if ttl_ms.is_some() => {
            return refuse("TTLs cannot be used with Container znodes");
        }
        (true, true, _) => CreateMode::EphemeralSequential,
        (true, false, _) => CreateMode::Ephemeral,
        (false, true, _) => CreateMode::PersistentSequential,
        (false, false, true) => CreateMode::Container,
        (false, false, false) => CreateMode::Persistent,
    };
    let data = arguments.positional().get(1).map_or("", String::as_str);
    let acl = match arguments.positional().get(2) {
        Some(text) => print::parse_acl(text)?,
        None => Acls::anyone_all().to_vec(),
    };
    let mut options = mode.with_acls(Acls::new(&acl));
    if let Some(ttl_ms) = ttl_ms {
        options = options.with_ttl(Duration::from_millis(ttl_ms));
    }
    let sequence = session.create(path, data.as_bytes(), &options).await?;
    if arguments.has("s") {
        eprintln!("Created {path}{sequence}");
    } else {
        eprintln!("Created {path}");
    }
    Ok(())
}

async fn set(session: &Session, path: &str, arguments: &Arguments) -> Result<(), ShellError> {
    let text = arguments.positional().get(1).map_or("", String::as_str);
    let data = if arguments.has("b") {
        let decoded = BASE64.decode(text);
        decoded.map_err(|error| ShellError::Usage(format!("{text} is not base64: {error}")))?
    } else {
        text.as_bytes().to_vec()
    };
    let version = arguments.number("v")?;
    let stat = bounded(path, session.client().set_data(path, &data, version)).await?;
    if arguments.has("s") {
        out(&print::stat(&stat));
    }
    Ok(())
}

/// Deletes what lies deepest first; what is gone already is no failure.
async fn delete_all(session: &Session, path: &str, batch: Option<usize>) -> Result<(), ShellError> {
    let mut paths = session.subtree(path).await?;
    paths.reverse();
    let mut is_failed = false;
    for batch in paths.chunks(batch.unwrap_or(BATCH).max(1)) {
        // Each is sent as it is made here, and a session's requests are done in order.
        let answers: Vec<_> = batch
            .iter()
            .map(|path| session.client().delete(path, None))
            .collect();
        for (path, answer) in batch.iter().zip(answers) {
            match bounded(path, answer).await {
                Err(error) if !error.is_no_node() => is_failed = true,
                _ => {}
            }
        }
    }
    if is_failed {
        eprintln!("Failed to delete some node(s) in the subtree!");
    }
    Ok(())
}

async fn get_acl(session: &Session, path: &str, with_stat: bool) -> Result<(), ShellError> {
    let (acl, stat) = bounded(path, session.client().get_acl(path)).await?;
    out(&print::acl(&acl));
    if with_stat {
        out(&print::stat(&stat));
    }
    Ok(())
}

async fn set_acl(session: &Session, path: &str, arguments: &Arguments) -> Result<(), ShellError> {
    let text = arguments.positional().get(1).map_or("", String::as_str);
    let (acl, version) = (print::parse_acl(text)?, arguments.number("v")?);
    let paths = if arguments.has("R") {
        session.subtree(path).await?
    } else {
        vec![path.to_owned()]
    };
    for path in &paths {
        let stat = bounded(path, session.client().set_acl(path, &acl, version)).await?;
        if arguments.has("s") {
            out(&print::stat(&stat));
        }
    }
    Ok(())
}

async fn config(session: &mut Session, arguments: &Arguments) -> Result<(), ShellError> {
    const PATH: &str = "/zookeeper/config";
    let (data, stat) = if arguments.has("w") {
        let (data, stat, watcher) = bounded(PATH, session.client().get_and_watch_config()).await?;
        session.watch_once(PATH, WatchKind::Data, watcher);
        (data, stat)
    } else {
        bounded(PATH, session.client().get_config()).await?
    };
    let text = String::from_utf8_lossy(&data);
    if arguments.has("c") {
        print_line(&connect_string(&text));
    } else {
        print_line(&text);
    }
    if arguments.has("s") {
        out(&print::stat(&stat));
    }
    Ok(())
}

/// The configuration's version, and where its members answer clients.
fn connect_string(config: &str) -> String {
    let lines = || config.lines().filter_map(|line| line.split_once('='));
    let version = lines().find(|(key, _)| *key == "version");
    let clients: Vec<String> = lines()
        .filter(|(key, _)| key.starts_with("server."))
        .filter_map(|(_, server)| {
            let (_, client) = server.split_once(';')?;
            Some(match client.contains(':') {
                true => client.to_owned(),
                false => format!("0.0.0.0:{client}"),
            })
        })
        .collect();
    format!(
        "{} {}",
        version.map_or("", |(_, version)| version),
        clients.join(",")
    )
}

async fn reconfig(
    session: &Session,
    command: &Command,
    arguments: &Arguments,
) -> Result<(), ShellError> {
    let lower = |name: &str| arguments.value(name).map(str::to_lowercase);
    let (joining, leaving) = (lower("add"), lower("remove"));
    let members = match (lower("members"), arguments.value("file")) {
        (Some(_), Some(_)) => {
            return Err(ShellError::Usage(
                "Can't use -file and -members together (conflicting non-incremental modes)"
                    .to_owned(),
            ));
        }
        (None, Some(path)) => Some(members_of(path)?),
        (members, None) => members,
    };
    let is_incremental = joining.is_some() || leaving.is_some();
    let update = match &members {
        None if !is_incremental => return Err(command.misused()),
        Some(_) if is_incremental => {
            return Err(ShellError::Usage(
                "Can't use -file or -members together with -add or -remove (mixing incremental and \
                 non-incremental modes is not allowed)"
                    .to_owned(),
            ));
        }
        Some(members) => EnsembleUpdate::New {
            ensemble: Some(members.as_str()).into_iter(),
        },
        None => EnsembleUpdate::Incremental {
            joinings: joining.as_deref().into_iter(),
            leavings: leaving.as_deref().into_iter(),
        },
    };
    let version = arguments.value("v").map(|hex| {
        i64::from_str_radix(hex, 16).map_err(|_| {
            ShellError::Usage("-v must be followed by a long (configuration version)".to_owned())
        })
    });
    let answer = session
        .client()
        .update_ensemble(update, version.transpose()?);
    let (config, stat) = bounded("/zookeeper/config", answer).await?;
    print_line(&format!(
        "Committed new configuration:\n{}",
        String::from_utf8_lossy(&config)
    ));
    if arguments.has("s") {
        out(&print::stat(&stat));
    }
    Ok(())
}

/// The `server.N` lines of a configuration file.
fn members_of(path: &str) -> Result<String, ShellError> {
    let failure = |cause: String| ShellError::File {
        path: path.to_owned(),
        cause,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failure(error.to_string()))?;
    let members: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("server."))
        .collect();
    if members.is_empty() {
        return Err(failure("it names no server.N".to_owned()));
    }
    Ok(members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_where_members_answer() {
        let config = "server.1=a:2888:3888:participant;2181\nserver.2=b:2888:3888:observer;b:2182\n\
                      server.3=c:2888:3888\nversion=100000000";
        assert_eq!(connect_string(config), "100000000 0.0.0.0:2181,b:2182");
    }

    #[test]
    fn members_are_the_server_lines_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zoo.cfg");
        let path = path.to_str().unwrap();
        std::fs::write(path, "tickTime=1\nserver.1=a:1:2\n  server.2=b:1:2  \n").unwrap();
        assert_eq!(members_of(path).unwrap(), "server.1=a:1:2,server.2=b:1:2");
        std::fs::write(path, "tickTime=1\n").unwrap();
        assert_eq!(
            members_of(path).unwrap_err().to_string(),
            format!("Error processing {path}: it names no server.N")
        );
    }
}
