//! Someone who changes the members of the ensemble while it works and suffers.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use coord_core::acl;
use coord_core::reconfig::Reconfig;
use coord_core::request::{Request, Response};
use coord_core::{Connect, Members, NodeId, OpError, ServerRole, ServerSpec, SessionId, Zxid};
use tokio::time::{sleep, timeout};

use crate::client::Surroundings;
use crate::dice::Dice;
use crate::history::Event;
use crate::node::{FromNode, MAX_SESSION_TIMEOUT_MS};

/// How long a node may take to open a session before another is tried.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(12);

/// How long it takes at most to bring all members together again.
const REUNITED: Duration = Duration::from_secs(120);

/// See the module.
pub struct Administrator {
    dice: Dice,
    around: Rc<Surroundings>,
    members: Members,
}

impl Administrator {
    /// One for an ensemble that was founded by `members`.
    pub fn new(dice: Dice, around: Rc<Surroundings>, members: Members) -> Administrator {
        Administrator {
            dice,
            around,
            members,
        }
    }

    /// Has members come, go and change what they are, for ever.
    pub async fn run(&self) {
        loop {
            sleep(self.dice.ms(20..1500)).await;
            let node = *self.dice.pick(&self.around.nodes.addresses());
            self.ask(node, self.wish()).await;
        }
    }

    /// Has all be members again, as they were at first; `false` if that does not succeed.
    pub async fn reunite(&self) -> bool {
        let all = async {
            let nodes = self.around.nodes.addresses();
            for &node in nodes.iter().cycle() {
                if self.ask(node, self.all()).await {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(REUNITED, all).await.is_ok()
    }

    fn all(&self) -> Reconfig {
        let lines = self.members.iter();
        let lines = lines.map(|(node, server)| line(*node, server));
        Reconfig {
            new_members: Some(lines.collect::<Vec<_>>().join(",").into()),
            config_version: -1,
            ..Reconfig::default()
        }
    }

    fn wish(&self) -> Reconfig {
        let leaves = || self.any().0.0.to_string().into();
        let joins = || {
            let (node, server) = self.any();
            let role = match self.dice.chance(70) {
                true => ServerRole::Participant,
                false => ServerRole::Observer,
            };
            let server = ServerSpec {
                role,
                ..server.clone()
            };
            line(node, &server).into()
        };
        let what = self.dice.within(0..10);
        Reconfig {
            leaving: (what < 6).then(leaves),
            joining: (what > 3).then(joins),
            new_members: None,
            config_version: -1,
        }
    }

    fn any(&self) -> (NodeId, &ServerSpec) {
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        let node = *self.dice.pick(&nodes);
        (node, &self.members[&node])
    }

    /// Asks for a change at a node; whether it was granted.
    async fn ask(&self, node: NodeId, reconfig: Reconfig) -> bool {
        let recorder = &self.around.recorder;
        recorder.record(Event::Fault(format!(
            "node {} is asked for {reconfig:?}",
            node.0
        )));
        match self.converse(node, reconfig).await {
            Some(Ok(Response::Data(Some(config), _))) => {
                let config = String::from_utf8_lossy(&config).into_owned();
                recorder.record(Event::Reconfigured { config });
                true
            }
            answer => {
                recorder.record(Event::Fault(format!("it answers {answer:?}")));
                false
            }
        }
    }

    async fn converse(
        &self,
        node: NodeId,
        reconfig: Reconfig,
    ) -> Option<Result<Response, OpError>> {
        let door = self.around.nodes.door(node)?;
        let connection = self.around.dialer.name();
        let connect = Connect {
            connection,
            last_zxid_seen: Zxid(0),
            timeout_ms: MAX_SESSION_TIMEOUT_MS as i32,
            session: SessionId::NONE,
            password: Bytes::new(),
            new_password: [9; 16],
            read_only: false,
            identities: vec![acl::super_user()],
        };
        let connected = async {
            let mut frames = door.connect(connect).await?;
            let connected = frames.recv().await?;
            matches!(connected, FromNode::Connected { .. }).then_some(frames)
        };
        let mut frames = timeout(CONNECT, connected).await.ok()??;
        let answer = async {
            let asked = door
                .request(connection, 1, Request::Reconfig(reconfig))
                .await;
            asked.then_some(())?;
            loop {
                if let FromNode::Reply { result, .. } = frames.recv().await? {
                    return Some(result);
                }
            }
        };
        let answer = timeout(ANSWER, answer).await.ok().flatten();
        // A node that stands still does not hear it, and finds out by itself.
        let _ = timeout(CONNECT, door.disconnected(connection)).await;
        answer
    }
}

fn line(node: NodeId, server: &ServerSpec) -> String {
    format!("server.{}={server}", node.0)
}
