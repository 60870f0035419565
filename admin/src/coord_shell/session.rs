//! A session with its watches: what the commands ask of the client, each with a limit and with the znode in its error.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use zookeeper_client::{
    AddWatchMode, Client, CreateOptions, CreateSequence, Error, EventType, OneshotWatcher,
    SessionState, Stat, WatchedEvent,
};

use super::error::ShellError;
use super::print;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long the first session may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How long the end of the session may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// What is asked for; the server may give less.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Events that are remembered: as many as one watch may be told before another one is told the first of them.
const TOLD_MAX: usize = 1024;

/// Where events are printed.
pub(super) struct Events {
    /// Whether they are: `printwatches`.
    pub(super) shown: AtomicBool,
    printer: Mutex<Printer>,
}

struct Printer {
    print: Box<dyn FnMut(String) + Send>,
    /// The last changes that were printed, each with the watches that have seen it.
    told: VecDeque<(WatchedEvent, Vec<(String, WatchKind)>)>,
}

impl Events {
    pub(super) fn new(print: Box<dyn FnMut(String) + Send>) -> Arc<Events> {
        Arc::new(Events {
            shown: AtomicBool::new(true),
            printer: Mutex::new(Printer {
                print,
                told: VecDeque::new(),
            }),
        })
    }

    fn tell(&self, event: &WatchedEvent) {
        self.print(print::event(event));
    }

    /// Tells of a change to a znode, once, however many watches see it. A server that does not say which change it was
    /// leaves that open; and a transaction may do the same twice, which each watch then sees twice.
    fn tell_change(&self, event: WatchedEvent, path: &str, kind: WatchKind) {
        if event.zxid != WatchedEvent::NO_ZXID {
            let mut printer = self.printer.lock().unwrap_or_else(PoisonError::into_inner);
            let watch = (path.to_owned(), kind);
            let mut told = printer.told.iter_mut();
            let other = told.find(|(told, seen)| *told == event && !seen.contains(&watch));
            if let Some((_, seen)) = other {
                return seen.push(watch);
            }
            if printer.told.len() == TOLD_MAX {
                printer.told.pop_front();
            }
            printer.told.push_back((event.clone(), vec![watch]));
        }
        self.tell(&event);
    }

    fn print(&self, text: String) {
        if self.shown.load(Relaxed) {
            let mut printer = self.printer.lock().unwrap_or_else(PoisonError::into_inner);
            (printer.print)(text);
        }
    }
}

/// What a watch is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchKind {
    Data,
    Children,
    Persistent,
    PersistentRecursive,
}

impl WatchKind {
    /// The event that tells of its removal.
    fn removed(self) -> &'static str {
        match self {
            WatchKind::Data => "DataWatchRemoved",
            WatchKind::Children => "ChildWatchRemoved",
            WatchKind::Persistent | WatchKind::PersistentRecursive => "PersistentWatchRemoved",
        }
    }
}

/// A watch that has not ended yet, unless its task has.
struct Watch {
    path: String,
    kind: WatchKind,
    task: JoinHandle<()>,
}

/// A session.
pub(super) struct Session {
    client: Client,
    watches: Vec<Watch>,
    events: Arc<Events>,
    states: JoinHandle<()>,
}

impl Session {
    /// Opens a session with one of `servers`, `host:port[,host:port…][/chroot]`.
    pub(super) async fn connect(servers: &str, events: Arc<Events>) -> Result<Session, ShellError> {
        let connecting = async {
            loop {
                let connector = Client::connector()
                    .with_session_timeout(SESSION_TIMEOUT)
                    .with_fail_eagerly();
                match connector.connect(servers).await {
                    Ok(client) => return Ok(client),
                    Err(error @ Error::BadArguments(_)) => return Err(error),
                    // An ensemble that is about to elect its leader gives sessions soon.
                    Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
                }
            }
        };
        let cause = match timeout(CONNECT_LIMIT, connecting).await {
            Ok(Ok(client)) => return Ok(Session::new(client, events)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no server gave a session within {CONNECT_LIMIT:?}"),
        };
        Err(ShellError::Unreachable {
            servers: servers.to_owned(),
            cause,
        })
    }

    fn new(client: Client, events: Arc<Events>) -> Session {
        events.tell(&WatchedEvent::new_session(client.state()));
        let mut watcher = client.state_watcher();
        let told = events.clone();
        let states = tokio::spawn(async move {
            loop {
                let state = watcher.changed().await;
                told.tell(&WatchedEvent::new_session(state));
                if state.is_terminated() {
                    return;
                }
            }
        });
        Session {
            client,
            watches: Vec::new(),
            events,
            states,
        }
    }

    /// As the prompt shows it.
    pub(super) fn state(&self) -> &'static str {
        match self.client.state() {
            SessionState::SyncConnected => "CONNECTED",
            SessionState::ConnectedReadOnly => "CONNECTEDREADONLY",
            SessionState::Disconnected => "CONNECTING",
            SessionState::AuthFailed => "AUTH_FAILED",
            SessionState::Expired | SessionState::Closed => "CLOSED",
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.client.state().is_terminated()
    }

    /// Ends the session, and waits until the server knows.
    pub(super) async fn close(self) {
        let Session {
            client,
            watches,
            mut states,
            ..
        } = self;
        watches.into_iter().for_each(|watch| watch.task.abort());
        drop(client);
        if timeout(CLOSE_LIMIT, &mut states).await.is_err() {
            states.abort();
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>, ShellError> {
        let (data, _) = bounded(path, self.client.get_data(path)).await?;
        Ok(data)
    }

    pub(super) async fn set(&self, path: &str, data: &[u8]) -> Result<(), ShellError> {
        bounded(path, self.client.set_data(path, data, None)).await?;
        Ok(())
    }

    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>, ShellError> {
        bounded(path, self.client.check_stat(path)).await
    }

    pub(super) async fn create(
        &self,
        path: &str,
        data: &[u8],
        options: &CreateOptions<'_>,
    ) -> Result<CreateSequence, ShellError> {
        let (_, sequence) = bounded(path, self.client.create(path, data, options)).await?;
        Ok(sequence)
    }

    /// Creates a znode, and those above it that are missing.
    pub(super) async fn make(
        &self,
        path: &str,
        options: &CreateOptions<'_>,
    ) -> Result<(), ShellError> {
        bounded(path, self.client.mkdir(path, options)).await
    }

    pub(super) async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), ShellError> {
        bounded(path, self.client.delete(path, version)).await
    }

    /// The names of a znode's children, sorted.
    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, ShellError> {
        let mut children = bounded(path, self.client.list_children(path)).await?;
        children.sort_unstable();
        Ok(children)
    }

    /// The paths of a znode and all below it, each before those below it; one that goes away meanwhile may be missing.
    pub(super) async fn subtree(&self, path: &str) -> Result<Vec<String>, ShellError> {
        let mut found = Vec::new();
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            match self.children(&path).await {
                Ok(children) => {
                    let parent = path.trim_end_matches('/');
                    let paths = children.iter().map(|child| format!("{parent}/{child}"));
                    waiting.extend(paths.rev());
                }
                Err(error) if error.is_no_node() && !found.is_empty() => continue,
                Err(error) => return Err(error),
            }
            found.push(path);
        }
        Ok(found)
    }

    /// Prints the event of a watch that ends with it.
    pub(super) fn watch_once(&mut self, path: &str, kind: WatchKind, watcher: OneshotWatcher) {
        let (events, watched) = (self.events.clone(), path.to_owned());
        self.watch(path, kind, async move {
            let event = watcher.changed().await;
            // What becomes of the session is told once, and not by every watch.
            if event.event_type != EventType::Session {
                events.tell_change(event, &watched, kind);
            }
        });
    }

    /// Prints all events of a watch that stays.
    pub(super) async fn watch_all(
        &mut self,
        path: &str,
        kind: WatchKind,
    ) -> Result<(), ShellError> {
        let mode = match kind {
            WatchKind::Persistent => AddWatchMode::Persistent,
            _ => AddWatchMode::PersistentRecursive,
        };
        let mut watcher = bounded(path, self.client.watch(path, mode)).await?;
        let (events, watched) = (self.events.clone(), path.to_owned());
        self.watch(path, kind, async move {
            loop {
                let event = watcher.changed().await;
                if event.event_type != EventType::Session {
                    events.tell_change(event, &watched, kind);
                } else if event.session_state.is_terminated() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// One task for each znode and kind, however often it is watched.
    fn watch(
        &mut self,
        path: &str,
        kind: WatchKind,
        told: impl Future<Output = ()> + Send + 'static,
    ) {
        self.watches.retain(|watch| !watch.task.is_finished());
        let same = |watch: &Watch| watch.path == path && watch.kind == kind;
        if !self.watches.iter().any(same) {
            self.watches.push(Watch {
                path: path.to_owned(),
                kind,
                task: tokio::spawn(told),
            });
        }
    }

    /// Removes the watches of a znode, of one kind or of all.
    pub(super) fn unwatch(
        &mut self,
        path: &str,
        kind: Option<WatchKind>,
    ) -> Result<(), ShellError> {
        self.watches.retain(|watch| !watch.task.is_finished());
        let mut removed = BTreeSet::new();
        self.watches.retain(|watch| {
            let is_meant = watch.path == path && kind.is_none_or(|kind| kind == watch.kind);
            if is_meant {
                watch.task.abort();
                removed.insert(watch.kind.removed());
            }
            !is_meant
        });
        let state = self.client.state();
        for event_type in &removed {
            self.events
                .print(print::watch_removed(state, event_type, path));
        }
        if removed.is_empty() {
            return Err(ShellError::Keeper {
                error: Error::NoWatcher,
                path: path.to_owned(),
            });
        }
        Ok(())
    }
}

/// Waits for an answer about the znode at `path`.
pub(super) async fn bounded<T>(
    path: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, ShellError> {
    let path = || path.to_owned();
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| ShellError::Keeper {
            error,
            path: path(),
        }),
        Err(_) => Err(ShellError::Silent { path: path() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_however_many_watches_see_it() {
        let printed = Arc::new(Mutex::new(0));
        let count = printed.clone();
        let events = Events::new(Box::new(move |_| *count.lock().unwrap() += 1));
        let changed = |zxid| WatchedEvent::new(EventType::NodeDataChanged, "/a").with_zxid(zxid);
        let tell = |zxid, kind| {
            events.tell_change(changed(zxid), "/a", kind);
            *printed.lock().unwrap()
        };
        assert_eq!(tell(7, WatchKind::Persistent), 1);
        assert_eq!(tell(7, WatchKind::PersistentRecursive), 1);
        assert_eq!(
            tell(7, WatchKind::Persistent),
            2,
            "a multi has set it twice"
        );
        assert_eq!(tell(7, WatchKind::PersistentRecursive), 2);
        assert_eq!(tell(8, WatchKind::PersistentRecursive), 3);
        assert_eq!(tell(WatchedEvent::NO_ZXID, WatchKind::Persistent), 4);
        assert_eq!(
            tell(WatchedEvent::NO_ZXID, WatchKind::PersistentRecursive),
            5
        );
    }
}
