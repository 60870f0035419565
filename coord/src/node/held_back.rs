//! What waits until less is on its way: requests, and clients that connect. The end of a connection is never held back by
//! them, nor is any other sign of it.

use std::collections::{HashSet, VecDeque};

use coord_core::{ConnectionId, Event};

use super::inbox::Input;

/// What waits, oldest first. Each connection's share bounds how much it has here.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    inputs: VecDeque<Input>,
    /// Those that wait to be connected and are still there.
    connecting: HashSet<ConnectionId>,
}

impl HeldBack {
    /// Gives back what is to be taken now. What leads to a decision is not while others wait, nor unless `taking`: of what
    /// has to wait it says who sent it.
    pub(super) fn pass(&mut self, input: Input, taking: bool) -> Result<Input, ConnectionId> {
        let takes_all = taking && self.inputs.is_empty();
        let connection = match &input {
            Input::Connect { connect, .. } if !takes_all => {
                self.connecting.insert(connect.connection);
                connect.connection
            }
            Input::Event {
                event: Event::Request { connection, .. },
                ..
            } if !takes_all => *connection,
            Input::Event {
                event: Event::Disconnected { connection },
                ..
            } => {
                self.connecting.remove(connection);
                return Ok(input);
            }
            _ => return Ok(input),
        };
        self.inputs.push_back(input);
        Err(connection)
    }

    /// The oldest, if they are taken. Whoever has gone before it was connected is not connected any more: nobody would tell
    /// of its end.
    pub(super) fn next_if(&mut self, taking: bool) -> Option<Input> {
        if !taking {
            return None;
        }
        loop {
            let input = self.inputs.pop_front()?;
            match &input {
                Input::Connect { connect, .. } if !self.connecting.remove(&connect.connection) => {}
                _ => return Some(input),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coord_core::request::{Read, Request};
    use coord_core::{Connect, SessionId, Zxid};

    use super::*;
    use crate::node::Sender;

    fn connect(connection: u64) -> Input {
        let connect = Connect {
            connection: ConnectionId(connection),
            last_zxid_seen: Zxid(0),
            timeout_ms: 1000,
            session: SessionId(0),
            password: Bytes::new(),
            new_password: [1; 16],
            read_only: false,
            identities: Vec::new(),
        };
        let (sender, ..) = Sender::new();
        Input::Connect { connect, sender }
    }

    fn request(xid: i32) -> Input {
        let event = Event::Request {
            connection: ConnectionId(1),
            xid,
            request: Request::Read(Read::Ping),
        };
        Input::Event {
            event,
            charge: None,
        }
    }

    fn xid(input: Option<Input>) -> i32 {
        match input {
            Some(Input::Event {
                event: Event::Request { xid, .. },
                ..
            }) => xid,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_a_connection_is_heard_though_no_requests_are_taken() {
        let mut held_back = HeldBack::default();
        let connection = ConnectionId(1);
        assert_eq!(held_back.pass(request(1), false).unwrap_err(), connection);
        let end = Input::Event {
            event: Event::Disconnected { connection },
            charge: None,
        };
        assert!(held_back.pass(end, false).is_ok());
        assert!(held_back.pass(request(2), true).is_err(), "one waits");
        assert!(held_back.next_if(false).is_none());
        assert_eq!(xid(held_back.next_if(true)), 1);
        assert_eq!(xid(held_back.next_if(true)), 2);
        assert!(held_back.is_empty());
        assert_eq!(xid(held_back.pass(request(3), true).ok()), 3);
    }

    #[test]
    fn who_connects_waits_too_and_is_not_connected_if_it_has_gone_meanwhile() {
        let mut held_back = HeldBack::default();
        for connection in 1..=3 {
            let held = held_back.pass(connect(connection), false);
            assert_eq!(held.unwrap_err(), ConnectionId(connection));
        }
        for connection in [1, 3] {
            let connection = ConnectionId(connection);
            let end = Input::Event {
                event: Event::Disconnected { connection },
                charge: None,
            };
            assert!(held_back.pass(end, false).is_ok());
        }
        let Some(Input::Connect { connect: next, .. }) = held_back.next_if(true) else {
            panic!("one waits")
        };
        assert_eq!(next.connection, ConnectionId(2));
        assert!(held_back.next_if(true).is_none());
        assert!(held_back.pass(connect(4), true).is_ok());
    }
}
