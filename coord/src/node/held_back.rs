//! Requests that wait until fewer are on their way. Whatever else a connection sends is never held back by them.

use std::collections::VecDeque;

use coord_core::{ConnectionId, Event};

use super::inbox::Input;

/// The requests, oldest first. Each connection's share bounds how many it has here.
#[derive(Debug, Default)]
pub(super) struct HeldBack(VecDeque<Input>);

impl HeldBack {
    /// Gives back what is to be taken now. Requests are not while others wait, nor unless `taking`: of one that has to
    /// wait it says who sent it.
    pub(super) fn pass(&mut self, input: Input, taking: bool) -> Result<Input, ConnectionId> {
        match input {
            Input::Event {
                event: Event::Request { connection, .. },
                ..
            } if !(taking && self.0.is_empty()) => {
                self.0.push_back(input);
                Err(connection)
            }
            input => Ok(input),
        }
    }

    /// The oldest, if requests are taken.
    pub(super) fn next_if(&mut self, taking: bool) -> Option<Input> {
        taking.then(|| self.0.pop_front()).flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use coord_core::request::{Read, Request};

    use super::*;

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
}
