//! A coordinator with a log in memory that is committed when the test says so.

use bytes::Bytes;
use coord_core::acl::{Acl, Identity};
use coord_core::coordinator::ReconfigRules;
use coord_core::coordinator::SessionLimits;
use coord_core::decide::Rules;
use coord_core::reaper::ReaperSettings;
use coord_core::request::{CreateMode, NodeType, Read, Request, Response, Write};
use coord_core::required_schemes::RequiredSchemes;
use coord_core::watch::WatchEventType;
use coord_core::{
    Action, CloseReason, Connect, ConnectionId, Coordinator, Event, NodeId, Now, OpError,
    RequestId, SessionId, Settings, State, Txn, Zxid,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const LIMITS: SessionLimits = SessionLimits {
    min_timeout_ms: 100,
    max_timeout_ms: 10_000,
};

/// Long enough for no test to come to its end by accident.
pub(crate) const GRACE: Duration = Duration::from_millis(5_000);

pub(crate) fn settings(node: u64) -> Settings {
    Settings {
        node: NodeId(node),
        limits: LIMITS,
        leaderless_grace: GRACE,
        read_only_mode: false,
        required_schemes: RequiredSchemes::default(),
        rules: Rules {
            extended_types_enabled: true,
            enforce_quota: true,
        },
        reconfig: ReconfigRules {
            enabled: true,
            min_voters: 1,
        },
        reaper: ReaperSettings::default(),
        first_request: RequestId(node << 32),
    }
}

pub(crate) struct Harness {
    pub(crate) coordinator: Coordinator,
    pub(crate) log: Vec<(Zxid, Arc<Txn>)>,
    pub(crate) now: Now,
    committed: usize,
    term: u32,
    connections: u64,
    xid: i32,
}

/// What a test sees of an action; the log's entries are kept apart.
pub(crate) type Replies = Vec<Action>;

impl Harness {
    pub(crate) fn new() -> Harness {
        Harness::with(settings(1), State::default())
    }

    /// The leader of an ensemble of one that is set up so, on this state.
    pub(crate) fn with(settings: Settings, state: State) -> Harness {
        let now = Now {
            elapsed: Duration::ZERO,
            wall_ms: 1_000,
        };
        let mut harness = Harness {
            coordinator: Coordinator::new(settings, state, now),
            log: Vec::new(),
            now,
            committed: 0,
            term: 1,
            connections: 0,
            xid: 0,
        };
        harness.handle(Event::Leading { term: 1 });
        harness
    }

    /// What a crash leaves: the log, as far as it was committed, applied to an empty state.
    pub(crate) fn restart(&mut self) {
        self.log.truncate(self.committed);
        let mut state = State::default();
        for (zxid, txn) in &self.log {
            state.apply(*zxid, txn).expect("what was decided applies");
        }
        self.coordinator = Coordinator::new(settings(1), state, self.now);
        self.term += 1;
        let term = self.term;
        self.handle(Event::Leading { term });
    }

    pub(crate) fn handle(&mut self, event: Event) -> Replies {
        let mut actions = Vec::new();
        self.coordinator
            .handle(self.now, event, &mut actions)
            .expect("what was decided applies");
        let mut replies = Vec::new();
        for action in actions {
            match action {
                Action::Append { zxid, txn, .. } => self.log.push((zxid, txn)),
                other => replies.push(other),
            }
        }
        replies
    }

    /// Makes everything in the log durable.
    pub(crate) fn commit(&mut self) -> Replies {
        self.commit_to(self.log.len())
    }

    /// Makes the first `len` entries of the log durable.
    pub(crate) fn commit_to(&mut self, len: usize) -> Replies {
        let txns = self.log[self.committed..len].to_vec();
        self.committed = len;
        self.handle(Event::Committed { txns })
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
            read_only: false,
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

    /// The session goes on over a new connection, committed.
    pub(crate) fn resume(&mut self, session: SessionId, seen: Zxid) -> ConnectionId {
        let (connection, mut replies) = self.connect_as(session, &[7; 16], seen);
        replies.extend(self.commit());
        let accepted = |action: &Action| matches!(action, Action::Accept { connection: to, .. } if *to == connection);
        assert!(replies.iter().any(accepted), "{replies:?}");
        connection
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

pub(crate) fn close(connection: ConnectionId, reason: CloseReason) -> Action {
    Action::Close { connection, reason }
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
    node_type: NodeType::Persistent,
    sequential: false,
};
pub(crate) const EPHEMERAL: CreateMode = CreateMode {
    node_type: NodeType::Ephemeral,
    sequential: false,
};
pub(crate) const SEQUENTIAL: CreateMode = CreateMode {
    node_type: NodeType::Persistent,
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

pub(crate) fn identity(scheme: &'static str, id: &'static str) -> Identity {
    Identity {
        scheme: scheme.into(),
        id: id.into(),
    }
}

/// Someone who may do `perms`.
pub(crate) fn entry(perms: i32, scheme: &'static str, id: &'static str) -> Acl {
    Acl {
        perms,
        identity: identity(scheme, id),
    }
}

pub(crate) fn create_with(path: &str, data: &[u8], acl: Vec<Acl>) -> Request {
    Request::Write(Write::Create {
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl,
        mode: PERSISTENT,
        with_stat: false,
    })
}

/// What one connection is answered among the actions, in order.
pub(crate) fn answers_of(actions: &[Action], of: ConnectionId) -> Vec<Result<Response, OpError>> {
    let answer = |action: &Action| match action {
        Action::Reply {
            connection, result, ..
        } if *connection == of => Some(result.clone()),
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

/// The watch events among the actions.
pub(crate) fn events(actions: &[Action]) -> Vec<(ConnectionId, WatchEventType, &str)> {
    let mut events = Vec::new();
    for action in actions {
        if let Action::Notify {
            connection,
            event,
            path,
            ..
        } = action
        {
            events.push((*connection, *event, &**path));
        }
    }
    events
}
