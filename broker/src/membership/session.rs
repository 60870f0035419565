//! Sessions with coord: opening one, knowing the present one, and remembering the last one's id.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

/// Whether a connection was lost before its request was answered: what coord did of it is not known, and
/// the same request may be made again. A connection that ends politely says `ConnectionLoss`; one that
/// is reset, broken or silent gives the socket's own error.
pub(crate) fn is_connection_loss(error: &Error) -> bool {
    matches!(error, Error::ConnectionLoss | Error::Custom(_))
}

/// How long to wait before coord is tried again while it does not answer.
const CONNECT_RETRY: Duration = Duration::from_millis(50);
/// The file in each log directory that holds the session's id.
const SESSION_FILE: &str = "session";
/// A session's id is at most 20 digits.
const MAX_SESSION_FILE_BYTES: u64 = 64;

/// How persistent nodes are created: open to all, as Kafka does without `zookeeper.set.acl`.
pub(crate) fn persistent() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

/// Likewise, with a number that coord appends to the name.
pub(crate) fn persistent_sequential() -> CreateOptions<'static> {
    CreateMode::PersistentSequential.with_acls(Acls::anyone_all())
}

/// How nodes that end with the session are created.
pub(crate) fn ephemeral() -> CreateOptions<'static> {
    CreateMode::Ephemeral.with_acls(Acls::anyone_all())
}

/// There is no session with coord at the moment; one is being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no session with coord: a new one is being opened")]
pub struct NoSession;

/// The present session with coord, for all who need it.
#[derive(Debug)]
pub struct Coord {
    session: watch::Sender<Option<Client>>,
}

impl Default for Coord {
    fn default() -> Self {
        Self {
            session: watch::Sender::new(None),
        }
    }
}

impl Coord {
    /// The client of the present session. It reconnects by itself; after the session's end it fails
    /// for good, and the next call gives the next session's.
    pub fn client(&self) -> Result<Client, NoSession> {
        self.session.borrow().clone().ok_or(NoSession)
    }

    /// This is the session from now on.
    pub(crate) fn set(&self, client: Client) {
        self.session.send_replace(Some(client));
    }

    /// There is no session any more.
    pub(crate) fn leave(&self) {
        self.session.send_replace(None);
    }
}

/// Coord cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "coord at {connect} cannot be reached within {timeout_ms} ms (zookeeper.connection.timeout.ms): {source}"
)]
pub struct ConnectError {
    connect: String,
    timeout_ms: u64,
    source: Error,
}

/// Opens a session at `zookeeper.connect`, trying again until the time is up; creates the chroot.
pub(super) async fn connect(
    connect: &str,
    session_timeout: Duration,
    connection_timeout: Duration,
) -> Result<Client, ConnectError> {
    let (hosts, chroot) = match connect.split_once('/') {
        Some((hosts, chroot)) => (hosts, format!("/{}", chroot.trim_end_matches('/'))),
        None => (connect, "/".to_owned()),
    };
    let deadline = Instant::now() + connection_timeout;
    let failed = |source| ConnectError {
        connect: connect.to_owned(),
        timeout_ms: u64::try_from(connection_timeout.as_millis()).unwrap_or(u64::MAX),
        source,
    };
    let client = loop {
        let attempt = Client::connector()
            .with_session_timeout(session_timeout)
            .with_fail_eagerly()
            .connect(hosts);
        match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Ok(client)) => break client,
            Ok(Err(error @ Error::BadArguments(_))) => return Err(failed(error)),
            Ok(Err(error)) if Instant::now() + CONNECT_RETRY > deadline => {
                return Err(failed(error));
            }
            Ok(Err(_)) => tokio::time::sleep(CONNECT_RETRY).await,
            Err(_) => return Err(failed(Error::Timeout)),
        }
    };
    if chroot == "/" {
        return Ok(client);
    }
    client.mkdir(&chroot, &persistent()).await.map_err(failed)?;
    client
        .chroot(chroot)
        .map_err(|_| failed(Error::BadArguments(&"the path after the hosts")))
}

/// Remembers the id of the session across lives of the process, in each log directory.
///
/// A log directory is locked by one process, so a session whose id is found here belongs to a life
/// that is over: its ephemeral nodes may be removed at once rather than waited for. That is all that it is for: a
/// directory that cannot be used costs a wait of one session timeout at most.
#[derive(Debug, Clone)]
pub(super) struct SessionFiles(Vec<PathBuf>);

impl SessionFiles {
    pub(super) fn in_directories(directories: &[String]) -> Self {
        let paths = directories
            .iter()
            .map(|directory| Path::new(directory).join(SESSION_FILE));
        Self(paths.collect())
    }

    /// The ids that were written last; more than one where a directory was offline for a while.
    pub(super) fn read(&self) -> BTreeSet<i64> {
        let read = self.0.iter().filter_map(|path| {
            read_session_id(path)
                .inspect_err(|error| tracing::warn!(file = %path.display(), %error, "the last session is unknown"))
                .ok()?
        });
        read.collect()
    }

    pub(super) fn write(&self, session_id: i64) {
        for path in &self.0 {
            if let Err(error) = write_session_id(path, session_id) {
                tracing::warn!(file = %path.display(), %error, "the session is not remembered");
            }
        }
    }
}

/// A file that says nothing sensible counts as none.
fn read_session_id(path: &Path) -> std::io::Result<Option<i64>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    match file.take(MAX_SESSION_FILE_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        read => read.map(|_| text.trim().parse().ok()),
    }
}

/// Readable by the owner alone. A torn write reads as no id, so it is not synced.
fn write_session_id(path: &Path, session_id: i64) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{session_id}")?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_session_files_hold_the_last_id_and_are_private() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = |index: usize| directories[index].path().join(SESSION_FILE);
        let names = directories
            .iter()
            .map(|directory| directory.path().display().to_string());
        let files = SessionFiles::in_directories(&names.collect::<Vec<_>>());
        assert_eq!(files.read(), BTreeSet::new());
        for id in [72_057_599_037_927_936, -5, i64::MAX] {
            files.write(id);
            assert_eq!(files.read(), BTreeSet::from([id]));
        }
        let mode = std::fs::metadata(path(0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(path(0), [0xff; 200]).unwrap();
        assert_eq!(files.read(), BTreeSet::from([i64::MAX]));
        // A directory that cannot be used.
        std::fs::remove_file(path(0)).unwrap();
        std::fs::create_dir(path(0)).unwrap();
        files.write(7);
        assert_eq!(files.read(), BTreeSet::from([7]));
    }

    /// A coord that opens a session, then resets the connection at the first request.
    async fn reset_at_the_first_request(listener: TcpListener) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        assert_ne!(socket.read(&mut buffer).await.unwrap(), 0);
        let mut answer = [0; 41];
        answer[3] = 37;
        // The protocol's version, the timeout of 6000 ms, the session's id, 16 bytes of password.
        answer[8..12].copy_from_slice(&6000_i32.to_be_bytes());
        answer[19] = 1;
        answer[23] = 16;
        socket.write_all(&answer).await.unwrap();
        // The client pings, and waits for the pong: xid -2, zxid 0, no error.
        assert_ne!(socket.read(&mut buffer).await.unwrap(), 0);
        let mut pong = [0; 20];
        pong[3] = 16;
        pong[4..8].copy_from_slice(&(-2_i32).to_be_bytes());
        socket.write_all(&pong).await.unwrap();
        assert_ne!(socket.read(&mut buffer).await.unwrap(), 0);
        socket.set_zero_linger().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hosts = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(reset_at_the_first_request(listener));
        let timeout = Duration::from_secs(6);
        let client = connect(&hosts, timeout, timeout).await.unwrap();
        let error = client.get_data("/controller").await.unwrap_err();
        assert_ne!(error, Error::ConnectionLoss);
        assert!(is_connection_loss(&error), "{error}");
        assert!(!is_connection_loss(&Error::NoNode));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_coord_is_one_clear_line() {
        let error = connect(
            "127.0.0.1:1",
            Duration::from_secs(6),
            Duration::from_millis(120),
        )
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("coord at 127.0.0.1:1 cannot be reached within 120 ms"),
            "{text}"
        );
    }
}
