//! What connections send to the node.

use coord_core::{Connect, Event};

use super::look::Look;
use super::outgoing::{Charge, Sender};

/// One thing in the node's inbox.
#[derive(Debug)]
pub enum Input {
    /// A handshake, and where to answer.
    Connect {
        /// What the client asks for.
        connect: Connect,
        /// The node's end of the connection.
        sender: Sender,
    },
    /// A question of an administrator.
    Look(Look),
    /// A client's request, or the end of its connection.
    Event {
        /// What happened.
        event: Event,
        /// What a request comes with; it goes back with the answer.
        charge: Option<Charge>,
    },
}
