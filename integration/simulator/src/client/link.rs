//! A client's connection to a node: two directions of the virtual network, each in order, either of which may break.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use coord_core::acl::Identity;
use coord_core::request::Request;
use coord_core::{Connect, ConnectionId, NodeId, SessionId, Zxid};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::network::{Host, Network};
use crate::node::{Door, FromNode};

/// What a client shows a node first.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The session to resume, or none.
    pub session: SessionId,
    /// Its password.
    pub password: Bytes,
    /// The timeout that it would like, in milliseconds.
    pub timeout_ms: i32,
    /// The newest state that it has seen.
    pub last_zxid_seen: Zxid,
}

/// The client's end.
#[derive(Debug)]
pub struct Link {
    requests: mpsc::UnboundedSender<(Instant, i32, Request)>,
    frames: mpsc::UnboundedReceiver<FromNode>,
    cut: Rc<Cut>,
}

/// The fate of a connection, shared by its two directions.
#[derive(Debug, Default)]
struct Cut {
    done: Cell<bool>,
    told: Notify,
}

impl Cut {
    fn cut(&self) {
        self.done.set(true);
        self.told.notify_waiters();
    }

    async fn until(&self) {
        while !self.done.get() {
            self.told.notified().await;
        }
    }
}

/// Opens connections and breaks them.
#[derive(Debug)]
pub struct Dialer {
    network: Network,
    dice: Dice,
    next: Cell<u64>,
    open: RefCell<Vec<(NodeId, Rc<Cut>)>>,
}

impl Dialer {
    /// Over this network.
    pub fn new(network: Network, dice: Dice) -> Dialer {
        Dialer {
            network,
            dice,
            next: Cell::new(1),
            open: RefCell::default(),
        }
    }

    /// A name for the next connection.
    pub fn name(&self) -> ConnectionId {
        self.next.set(self.next.get() + 1);
        ConnectionId(self.next.get())
    }

    /// Breaks some of the open connections.
    pub fn break_some(&self) {
        self.open.borrow_mut().retain(|(_, cut)| !cut.done.get());
        for (_, cut) in &*self.open.borrow() {
            if self.dice.chance(50) {
                cut.cut();
            }
        }
    }

    /// Breaks every connection to a node: its process ends.
    pub fn break_node(&self, node: NodeId) {
        for (_, cut) in self.open.borrow().iter().filter(|(of, _)| *of == node) {
            cut.cut();
        }
    }

    /// Opens a connection to a node. Whether anybody is there shows in what comes.
    pub fn open(
        &self,
        client: usize,
        node: NodeId,
        connection: ConnectionId,
        introduction: Introduction,
        door: Option<Door>,
    ) -> Link {
        let (here, there) = (Host::Client(client), Host::Node(node));
        let (requests, from_client) = mpsc::unbounded_channel();
        let (to_client, frames) = mpsc::unbounded_channel();
        let cut = Rc::new(Cut::default());
        self.open.borrow_mut().push((node, cut.clone()));
        let link = Link {
            requests,
            frames,
            cut: cut.clone(),
        };
        let Some(door) = door else {
            return link;
        };
        let mut password = [0; 16];
        password[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        let connect = Connect {
            connection,
            last_zxid_seen: introduction.last_zxid_seen,
            timeout_ms: introduction.timeout_ms,
            session: introduction.session,
            password: introduction.password,
            new_password: password,
            read_only: false,
            identities: vec![Identity {
                scheme: "ip".into(),
                id: "127.0.0.1".into(),
            }],
        };
        // Whether the node notices at once that a connection broke, or only much later.
        let half_open = self.dice.chance(30);
        let linger = self.dice.ms(1000..20_000);
        let network = self.network.clone();
        let lines = Lines {
            network,
            here,
            there,
            cut,
        };
        spawn_local(async move {
            lines.network.travel(here, there).await;
            let Some(from_node) = door.connect(connect).await else {
                return;
            };
            let down = spawn_local(lines.clone().down(from_node, to_client));
            lines.clone().up(&door, connection, from_client).await;
            lines.cut.cut();
            if half_open {
                tokio::time::sleep(linger).await;
            }
            // Gone with the node, if that is gone.
            door.disconnected(connection).await;
            down.abort();
        });
        link
    }
}

#[derive(Debug, Clone)]
struct Lines {
    network: Network,
    here: Host,
    there: Host,
    cut: Rc<Cut>,
}

impl Lines {
    /// Carries requests until either end lets go.
    async fn up(
        self,
        door: &Door,
        connection: ConnectionId,
        mut requests: mpsc::UnboundedReceiver<(Instant, i32, Request)>,
    ) {
        let Lines {
            network,
            here,
            there,
            cut,
        } = self;
        let carry = async {
            while let Some((arrival, xid, request)) = requests.recv().await {
                network.arrive(here, there, arrival).await;
                if !door.request(connection, xid, request).await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = cut.until() => {}
            () = carry => {}
        }
    }

    /// Carries what the node says until either end lets go.
    async fn down(
        self,
        mut from_node: mpsc::UnboundedReceiver<FromNode>,
        to_client: mpsc::UnboundedSender<FromNode>,
    ) {
        let Lines {
            network,
            here,
            there,
            cut,
        } = self;
        let (on_the_way, mut arriving) = mpsc::unbounded_channel();
        let leaving = network.clone();
        let leave = spawn_local(async move {
            while let Some(frame) = from_node.recv().await {
                let _ = on_the_way.send((leaving.arrival(there, here), frame));
            }
        });
        let carry = async {
            while let Some((arrival, frame)) = arriving.recv().await {
                network.arrive(there, here, arrival).await;
                if to_client.send(frame).is_err() {
                    return;
                }
            }
            network.travel(there, here).await;
        };
        tokio::select! {
            biased;
            () = cut.until() => {}
            () = carry => {}
        }
        leave.abort();
        cut.cut();
    }
}

impl Link {
    /// Sends a request; `false` if the connection is known to be gone.
    pub fn send(
        &self,
        network: &Network,
        client: usize,
        node: NodeId,
        xid: i32,
        request: Request,
    ) -> bool {
        let arrival = network.arrival(Host::Client(client), Host::Node(node));
        self.requests.send((arrival, xid, request)).is_ok()
    }

    /// What comes next; `None` once the connection is gone.
    pub async fn receive(&mut self) -> Option<FromNode> {
        self.frames.recv().await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut.cut();
    }
}
