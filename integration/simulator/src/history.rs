//! What happened in a schedule, in the one order of virtual time: what the invariants judge, and what a reader of a
//! failure is shown.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytestring::ByteString;
use coord::raft::Role;
use coord_core::request::{Request, Response};
use coord_core::watch::WatchEventType;
use coord_core::{ConnectionId, Members, NodeId, OpError, SessionId, State, Txn, Zxid};
use tokio::time::Instant;

/// A process of a node, from start to crash: the node, and how often it was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// Whose.
    pub node: NodeId,
    /// Its starts before this one.
    pub number: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} (life {})", self.node.0, self.number)
    }
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client opened a connection and asked for a session.
    Connecting {
        /// The client.
        client: usize,
        /// The connection, never used twice.
        connection: ConnectionId,
        /// To which node.
        node: NodeId,
        /// The session to resume, or none.
        session: SessionId,
        /// The newest state that the client has seen.
        last_zxid_seen: Zxid,
    },
    /// The client was given its session.
    Connected {
        /// On which connection.
        connection: ConnectionId,
        /// The session.
        session: SessionId,
        /// Its timeout, in milliseconds.
        timeout_ms: i32,
    },
    /// The client was told that its session is over.
    Expired {
        /// On which connection.
        connection: ConnectionId,
    },
    /// The client sent a request.
    Sent {
        /// On which connection.
        connection: ConnectionId,
        /// Its number.
        xid: i32,
        /// What it asks.
        request: Request,
    },
    /// The client was answered.
    Replied {
        /// On which connection.
        connection: ConnectionId,
        /// The request's number.
        xid: i32,
        /// The state that the answer shows.
        zxid: Zxid,
        /// The answer.
        result: Result<Response, OpError>,
    },
    /// The client was told of a watched change.
    Notified {
        /// On which connection.
        connection: ConnectionId,
        /// The transaction; −1 if it was missed.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
    /// The client knows that the connection is gone.
    Lost {
        /// Which.
        connection: ConnectionId,
    },
    /// The client gives its session up without a word: it is to expire.
    Abandoned {
        /// The client.
        client: usize,
        /// Its session.
        session: SessionId,
    },
    /// A node holds a state that was not made by applying one transaction more: recovered, installed from another's
    /// snapshot, or looked at in the end.
    Holds {
        /// Which process.
        life: Life,
        /// The whole of it.
        state: Whole,
        /// Why there is one to look at.
        why: &'static str,
    },
    /// A node applied a transaction.
    Applied {
        /// Which process.
        life: Life,
        /// Its number.
        zxid: Zxid,
        /// What it does.
        txn: Arc<Txn>,
    },
    /// A process ended by itself, or could not start.
    Ended {
        /// Which.
        life: Life,
        /// Why.
        why: String,
    },
    /// Raft told a node what it is.
    Role {
        /// Which process.
        life: Life,
        /// What it is.
        role: Role,
    },
    /// A node applied its own first entry of a term: from now on it decides.
    Began {
        /// Which process applied it.
        life: Life,
        /// The term.
        term: u32,
        /// Whose term it is.
        leader: NodeId,
    },
    /// A node spoke as the leader of a term.
    SpokeAsLeader {
        /// Which.
        node: NodeId,
        /// Of which term.
        term: u64,
    },
    /// An entry of a Raft log was sent: its place, its term, and a digest of what it says.
    Entry {
        /// By which node.
        node: NodeId,
        /// Its place.
        index: u64,
        /// Its term.
        term: u64,
        /// A digest of its bytes.
        digest: u64,
    },
    /// Raft told a node who the members are.
    Members {
        /// Which process.
        life: Life,
        /// All of them.
        members: Members,
    },
    /// A change of the members was granted.
    Reconfigured {
        /// What `/zookeeper/config` shows then.
        config: String,
    },
    /// Something was broken or mended on purpose, in words.
    Fault(String),
    /// No fault from here on.
    Calm,
}

/// A state that prints as little as identifies it.
#[derive(Clone)]
pub struct Whole(pub Arc<State>);

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State {
            tree,
            sessions,
            last_zxid,
            ..
        } = &*self.0;
        write!(
            f,
            "{} znodes, {} sessions at {last_zxid}",
            tree.len(),
            sessions.len()
        )
    }
}

/// An event and its time.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// Since the schedule's start.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  {:?}", self.at.as_secs_f64(), self.event)
    }
}

/// Where everybody writes down what happened.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    events: Mutex<Vec<Stamped>>,
}

impl Recorder {
    /// Starts at the present virtual time.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Recorder {
        Recorder {
            start: Instant::now(),
            events: Mutex::default(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes an event down.
    pub fn record(&self, event: Event) {
        let at = self.elapsed();
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Stamped { at, event });
    }

    /// Who was told last that it leads.
    pub fn leader(&self) -> Option<NodeId> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().find_map(|stamped| match stamped.event {
            Event::Role {
                life,
                role: Role::Leader { .. },
            } => Some(life.node),
            _ => None,
        })
    }

    /// All that was written down.
    pub fn finish(&self) -> History {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        History(std::mem::take(&mut events))
    }
}

/// The whole story of a schedule.
#[derive(Debug, Clone, Default)]
pub struct History(pub Vec<Stamped>);

impl History {
    /// A number that two runs share only if the same happened at the same times.
    pub fn digest(&self) -> u64 {
        struct Hashing(DefaultHasher);
        impl Write for Hashing {
            fn write_str(&mut self, s: &str) -> fmt::Result {
                self.0.write(s.as_bytes());
                Ok(())
            }
        }
        let mut hashing = Hashing(DefaultHasher::new());
        for stamped in &self.0 {
            // A hasher takes everything.
            let _ = writeln!(hashing, "{stamped}");
        }
        hashing.0.finish()
    }
}
