//! The connections that the node answers on.

use std::collections::{HashMap, VecDeque};

use coord_core::{Action, ConnectionId, Event};
use zookeeper_wire::ConnectResponse;

use super::outgoing::{Charge, Outgoing, Sender};

/// The clients that are connected, by the names that the shell gave them.
#[derive(Debug, Default)]
pub(super) struct Clients(HashMap<ConnectionId, Client>);

#[derive(Debug)]
struct Client {
    sender: Sender,
    /// Of the requests not answered yet, oldest first: answers come in the same order.
    charges: VecDeque<Charge>,
}

impl Clients {
    /// Somebody connected, and is answered through `sender`.
    pub(super) fn connected(&mut self, connection: ConnectionId, sender: Sender) {
        let client = Client {
            sender,
            charges: VecDeque::new(),
        };
        self.0.insert(connection, client);
    }

    /// Takes note of what a client does; `None` if it comes from a connection that was closed from here and still sends
    /// until it notices.
    pub(super) fn heard(&mut self, event: Event, charge: Option<Charge>) -> Option<Event> {
        match &event {
            Event::Disconnected { connection } => {
                self.0.remove(connection);
            }
            Event::Request { connection, .. } => {
                self.0.get_mut(connection)?.charges.extend(charge);
            }
            _ => {}
        }
        Some(event)
    }

    /// Tells a client; what is to be done elsewhere is not done here.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Accept {
                connection,
                session,
                password,
                timeout_ms,
                read_only,
            } => {
                let response = ConnectResponse {
                    timeout_ms: timeout_ms as i32,
                    session_id: session.0,
                    password,
                    read_only: Some(read_only),
                };
                self.send(connection, |_| Outgoing::Connected(Some(response)));
            }
            Action::Expired { connection } => {
                self.send(connection, |_| Outgoing::Connected(None));
            }
            Action::Reply {
                connection,
                xid,
                zxid,
                result,
            } => self.send(connection, |client| Outgoing::Reply {
                xid,
                zxid,
                result,
                charge: client.charges.pop_front(),
            }),
            Action::Notify {
                connection,
                zxid,
                event,
                path,
            } => self.send(connection, |_| Outgoing::Event { zxid, event, path }),
            Action::Close { connection, reason } => {
                tracing::debug!("connection {} is closed: {reason}", connection.0);
                self.0.remove(&connection);
            }
            Action::Append { .. }
            | Action::Forward(_)
            | Action::Answer { .. }
            | Action::ConfirmLeadership { .. }
            | Action::ChangeMembership { .. } => {}
        }
    }

    /// Sends what `make` makes; a client that reads too slowly is dropped, and resumes its session when it can.
    fn send(&mut self, connection: ConnectionId, make: impl FnOnce(&mut Client) -> Outgoing) {
        let Some(client) = self.0.get_mut(&connection) else {
            return;
        };
        let outgoing = make(client);
        if !client.sender.send(outgoing) {
            tracing::warn!(
                "connection {} is dropped: its client does not read what it is sent",
                connection.0
            );
            self.0.remove(&connection);
        }
    }
}
