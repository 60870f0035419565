//! Clients that write all the time, and know what was acknowledged to them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use zookeeper_client::{Client, Error};

use crate::client::{EPHEMERAL, PERSISTENT};
use crate::harness::{Ensemble, connect, eventually};

const WRITERS: usize = 4;
/// Writes of each writer that make "it goes on".
const SOME: u64 = 20;
/// A connection that is silent for two fifths of it is given up by the client, which leaves time to find another.
const SESSION_TIMEOUT: Duration = Duration::from_secs(12);

/// Writers, each with a session, an ephemeral node `/load/alive-W`, and nodes `/load/W-N` one after the other.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<Writer>,
}

struct Writer {
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<(Client, Vec<String>)>,
}

/// What the writers were told, with their sessions, which still hold.
pub(crate) struct Written {
    clients: Vec<Client>,
    acknowledged: BTreeSet<String>,
}

impl Load {
    /// Starts on the whole ensemble, and returns when every writer has written.
    pub(crate) async fn start(ensemble: &Ensemble) -> Load {
        let members: Vec<u16> = ensemble.members().collect();
        Load::start_on(ensemble, &members).await
    }

    /// Likewise, on some members.
    pub(crate) async fn start_on(ensemble: &Ensemble, members: &[u16]) -> Load {
        let servers: Vec<String> = members
            .iter()
            .map(|&member| ensemble.address(member).to_string())
            .collect();
        let servers = servers.join(",");
        let client = connect(&servers, SESSION_TIMEOUT).await;
        client
            .create("/load", b"", &PERSISTENT)
            .await
            .expect("/load is made");
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = connect(&servers, SESSION_TIMEOUT).await;
            // The writer's member may be behind the one that made /load.
            client.sync("/").await.expect("a member in sync");
            let alive = format!("/load/alive-{writer}");
            client
                .create(&alive, b"", &EPHEMERAL)
                .await
                .expect("an ephemeral node");
            let acknowledged = Arc::new(AtomicU64::new(0));
            let task = tokio::spawn(write(client, writer, acknowledged.clone(), stop.clone()));
            writers.push(Writer { acknowledged, task });
        }
        let load = Load { stop, writers };
        load.goes_on().await;
        load
    }

    /// Returns when every writer had some writes acknowledged from now on.
    pub(crate) async fn goes_on(&self) {
        let counts = || {
            self.writers
                .iter()
                .map(|writer| writer.acknowledged.load(Ordering::Relaxed))
        };
        let before: Vec<u64> = counts().collect();
        eventually("every writer to go on", || {
            let all = counts()
                .zip(&before)
                .all(|(now, before)| now >= before + SOME);
            let ended = self.writers.iter().any(|writer| writer.task.is_finished());
            assert!(!ended, "a writer lost its session, or was refused");
            async move { all.then_some(()) }
        })
        .await;
    }

    /// Ends the writing.
    pub(crate) async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Written {
            clients: Vec::new(),
            acknowledged: BTreeSet::new(),
        };
        for writer in self.writers {
            let (client, paths) = writer.task.await.expect("a writer that was not refused");
            written.clients.push(client);
            written.acknowledged.extend(paths);
        }
        written
    }
}

/// Writes until told to stop. A lost connection leaves a write open; anything else is an error.
async fn write(
    client: Client,
    writer: usize,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> (Client, Vec<String>) {
    let mut paths = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{writer}-{n}");
        match client
            .create(&format!("/load/{name}"), name.as_bytes(), &PERSISTENT)
            .await
        {
            Ok(_) => {
                paths.push(name);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::ConnectionLoss | Error::Custom(_)) => {}
            Err(error) => panic!("writer {writer}, write {n}: {error}"),
        }
    }
    (client, paths)
}

impl Written {
    /// Every member has everything that was acknowledged, and all have the same; the writers' sessions go on.
    pub(crate) async fn is_on_every_member(&self, ensemble: &Ensemble) {
        for (writer, client) in self.clients.iter().enumerate() {
            let alive = format!("/load/alive-{writer}");
            let owner = eventually("a connection", || async {
                client.check_stat(&alive).await.ok()
            })
            .await;
            let owner = owner.map(|stat| stat.ephemeral_owner);
            assert_eq!(
                owner,
                Some(client.session_id().0),
                "{alive} is its writer's"
            );
        }
        let mut first: Option<BTreeSet<String>> = None;
        for member in ensemble.members().filter(|&member| ensemble.runs(member)) {
            let client = ensemble.client_of(member).await;
            client.sync("/load").await.expect("a member in sync");
            let names: BTreeSet<String> = client
                .list_children("/load")
                .await
                .expect("/load is there")
                .into_iter()
                .collect();
            let lost: Vec<&String> = self.acknowledged.difference(&names).take(5).collect();
            assert!(
                lost.is_empty(),
                "acknowledged, and not on member {member}: {lost:?} and more"
            );
            match &first {
                Some(first) => assert_eq!(&names, first, "member {member} differs from the first"),
                None => first = Some(names),
            }
        }
    }
}
