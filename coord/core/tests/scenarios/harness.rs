//! A coordinator with a log in memory that is committed when the test says so.

use bytes::Bytes;
use coord_core::acl::{Acl, Identity};
use coord_core::coordinator::SessionLimits;
use coord_core::request::{CreateMode, Read, Request, Response, Write};
use coord_core::{
    Action, Connect, ConnectionId, Coordinator, Event, LogEntry, Now, OpError, SessionId, State,
    Zxid,
};
use std::time::Duration;

pub(crate) const LIMITS: SessionLimits = SessionLimits {
    min_timeout_ms: 100,
    max_timeout_ms: 10_000,
};

pub(crate) struct Harness {
    pub(crate) coordinator: Coordinator,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) now: Now,
    committed: u64,
    connections: u64,
    xid: i32,
}

/// What a test sees of an action; the log's entries are kept apart.
pub(crate) type Replies = Vec<Action>;

impl Harness {
    pub(crate) fn new() -> Harness {
        let now = Now {
            elapsed: Duration::ZERO,
            wall_ms: 1_000,
        };
        let coordinator = Coordinator::new(State::default(), 0, 1, LIMITS, now);
        Harness {
            coordinator,
            log: Vec::new(),
            now,
            committed: 0,
            connections: 0,
            xid: 0,
        }
    }

    /// What a crash leaves: the log, as far as it was committed, applied to an empty state.
    pub(crate) fn restart(&mut self) {
        self.log.truncate(self.committed as usize);
        let mut state = State::default();
        for entry in &self.log {
            state
                .apply(entry.zxid, &entry.txn)
                .expect("what was decided applies");
        }
        let term = self.log.last().map_or(0, |entry| entry.term) + 1;
        self.coordinator = Coordinator::new(state, self.committed, term, LIMITS, self.now);
    }

    pub(crate) fn handle(&mut self, event: Event) -> Replies {
        let mut actions = Vec::new();
        self.coordinator
            .handle(self.now, event, &mut actions)
            .expect("what was decided applies");
        let mut replies = Vec::new();
        for action in actions {
            match action {
                Action::Append(entry) => self.log.push(entry),
                other => replies.push(other),
            }
        }
        replies
    }

    /// Makes everything in the log durable.
    pub(crate) fn commit(&mut self) -> Replies {
        self.commit_to(self.log.last().map_or(0, |entry| entry.index))
    }

    pub(crate) fn commit_to(&mut self, index: u64) -> Replies {
        self.committed = index;
        self.handle(Event::Committed { index })
    }

    pub(crate) fn advance(&mut self, ms: u64) -> Replies {
        self.now.elapsed += Duration::from_millis(ms);
        self.now.wall_ms += ms as i64;
        self.handle(Event::Timeout)
    }

    pub(crate) fn connect_as(
        &mut self,
        session: SessionId,
        password: &[u8],
        seen: Zxid,
    ) -> (ConnectionId, Replies) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let replies = self.handle(Event::Connect(Connect {
            connection,
            last_zxid_seen: seen,
            timeout_ms: 1_000,
            session,
            password: Bytes::copy_from_slice(password),
            new_password: [7; 16],
            identities: vec![Identity {
                scheme: "ip".into(),
                id: "127.0.0.1".into(),
            }],
        }));
        (connection, replies)
    }

    /// A new session, committed.
    pub(crate) fn open(&mut self) -> (ConnectionId, SessionId) {
        let (connection, mut replies) = self.connect_as(SessionId::NONE, b"", Zxid(0));
        replies.extend(self.commit());
        let session = replies.iter().find_map(|action| match action {
            Action::Accept {
                connection: to,
                session,
                ..
            } if *to == connection => Some(*session),
            _ => None,
        });
        (connection, session.expect("the session is accepted"))
    }

    pub(crate) fn ask(&mut self, connection: ConnectionId, request: Request) -> Replies {
        self.xid += 1;
        self.handle(Event::Request {
            connection,
            xid: self.xid,
            request,
        })
    }

    /// Asks and commits; the answer to just this.
    pub(crate) fn answer(
        &mut self,
        connection: ConnectionId,
        request: Request,
    ) -> Result<Response, OpError> {
        let mut replies = self.ask(connection, request);
        replies.extend(self.commit());
        let xid = self.xid;
        let answer = replies.into_iter().find_map(|action| match action {
            Action::Reply {
                connection: to,
                xid: of,
                result,
                ..
            } if to == connection && of == xid => Some(result),
            _ => None,
        });
        answer.expect("the request is answered")
    }
}

/// The answers among the actions.
pub(crate) fn answers(actions: Replies) -> Vec<Result<Response, OpError>> {
    let answer = |action| match action {
        Action::Reply { result, .. } => Some(result),
        _ => None,
    };
    actions.into_iter().filter_map(answer).collect()
}

pub(crate) fn open_acl() -> Vec<Acl> {
    coord_core::acl::open().to_vec()
}

pub(crate) fn create_write(path: &str, mode: CreateMode) -> Write {
    Write::Create {
        path: path.into(),
        data: Some(Bytes::new()),
        acl: open_acl(),
        mode,
        with_stat: false,
    }
}

pub(crate) const PERSISTENT: CreateMode = CreateMode {
    ephemeral: false,
    sequential: false,
};
pub(crate) const EPHEMERAL: CreateMode = CreateMode {
    ephemeral: true,
    sequential: false,
};
pub(crate) const SEQUENTIAL: CreateMode = CreateMode {
    ephemeral: false,
    sequential: true,
};

pub(crate) fn create(path: &str, mode: CreateMode) -> Request {
    Request::Write(create_write(path, mode))
}

pub(crate) fn delete_write(path: &str, version: i32) -> Write {
    Write::Delete {
        path: path.into(),
        version,
    }
}

pub(crate) fn set_write(path: &str, data: &[u8], version: i32) -> Write {
    Write::SetData {
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        version,
    }
}

pub(crate) fn get(path: &str, watch: bool) -> Request {
    Request::Read(Read::GetData {
        path: path.into(),
        watch,
    })
}

pub(crate) fn exists(path: &str, watch: bool) -> Request {
    Request::Read(Read::Exists {
        path: path.into(),
        watch,
    })
}

pub(crate) fn children(path: &str, watch: bool) -> Request {
    Request::Read(Read::GetChildren {
        path: path.into(),
        watch,
        with_stat: false,
    })
}
