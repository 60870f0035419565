//! A history told by connection and by transaction: what the invariants ask for, found once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use coord_core::request::{Request, Response};
use coord_core::watch::WatchEventType;
use coord_core::{ConnectionId, NodeId, OpError, SessionId, State, Txn, Zxid};

use crate::history::{Event, History};
use crate::invariants::Violation;
use crate::model::Model;

/// A place in the history: the one order of all that happened.
pub type Place = usize;

/// A request and what became of it.
#[derive(Debug)]
pub struct Asked {
    /// When it was sent.
    pub sent: Place,
    /// The client's number for it.
    pub xid: i32,
    /// What.
    pub request: Request,
    /// The answer, if one came.
    pub answer: Option<Answer>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// When it came.
    pub at: Place,
    /// The state that it shows.
    pub zxid: Zxid,
    /// What it says.
    pub result: Result<Response, OpError>,
}

/// What a client received.
#[derive(Debug)]
pub enum Frame {
    /// The answer to the request with this number in [`Conversation::asked`].
    Answer(usize),
    /// A watch event.
    Notice {
        /// When it came.
        at: Place,
        /// The transaction; −1 if it was missed.
        zxid: Zxid,
        /// What happened.
        event: WatchEventType,
        /// Where.
        path: ByteString,
    },
}

/// One connection, from the client's side.
#[derive(Debug)]
pub struct Conversation {
    /// Which.
    pub connection: ConnectionId,
    /// Whose.
    pub client: usize,
    /// With which node.
    pub node: NodeId,
    /// The newest state that the client had seen before.
    pub last_zxid_seen: Zxid,
    /// The session that was asked for, or none.
    pub asked_session: SessionId,
    /// When, and which session it got, and its timeout in milliseconds.
    pub session: Option<(Place, SessionId, i32)>,
    /// When the client was told that its session is over.
    pub expired: Option<Place>,
    /// When the client knew that the connection was gone.
    pub lost: Option<Place>,
    /// The requests, in the order of sending.
    pub asked: Vec<Asked>,
    /// What came, in order.
    pub frames: Vec<Frame>,
    unanswered: VecDeque<usize>,
}

/// A transaction that some node applied.
#[derive(Debug)]
pub struct Committed {
    /// Its number.
    pub zxid: Zxid,
    /// What it does. Unknown if no node applied it before the eyes of the clients: what all processes that knew of it took
    /// to their end, a restart finds in the log. Its state then stands for all such transactions before it.
    pub txn: Option<Arc<Txn>>,
    /// When a node first applied it, or held its state.
    pub applied: Place,
    /// The state behind it.
    pub after: Model,
}

/// See the module.
#[derive(Debug)]
pub struct Story<'a> {
    /// The history itself.
    pub history: &'a History,
    /// By the time of connecting.
    pub conversations: Vec<Conversation>,
    /// By zxid.
    pub committed: Vec<Committed>,
    /// The state before the first transaction.
    pub empty: Model,
    /// At each place, the newest state that any client had seen before.
    pub floor: Vec<Zxid>,
}

impl Story<'_> {
    /// Reads a history.
    pub fn of(history: &History) -> Result<Story<'_>, Violation> {
        let mut conversations: Vec<Conversation> = Vec::new();
        let mut number: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        let mut txns: BTreeMap<Zxid, (Arc<Txn>, Place)> = BTreeMap::new();
        let mut held: BTreeMap<Zxid, (Arc<State>, Place)> = BTreeMap::new();
        let mut floor = Vec::with_capacity(history.0.len() + 1);
        let mut newest = Zxid(0);
        for (place, stamped) in history.0.iter().enumerate() {
            floor.push(newest);
            match &stamped.event {
                Event::Connecting {
                    client,
                    connection,
                    node,
                    session,
                    last_zxid_seen,
                } => {
                    number.insert(*connection, conversations.len());
                    conversations.push(Conversation {
                        connection: *connection,
                        client: *client,
                        node: *node,
                        last_zxid_seen: *last_zxid_seen,
                        asked_session: *session,
                        session: None,
                        expired: None,
                        lost: None,
                        asked: Vec::new(),
                        frames: Vec::new(),
                        unanswered: VecDeque::new(),
                    });
                }
                Event::Applied { life, zxid, txn } => {
                    let (known, _) = txns.entry(*zxid).or_insert_with(|| (txn.clone(), place));
                    if known != txn {
                        return Err(Violation::at(
                            "same_transactions_everywhere",
                            place,
                            format!("{life} applied {txn:?} as {zxid}, others {known:?}"),
                        ));
                    }
                }
                Event::Holds { state, .. } => {
                    let state = &state.0;
                    let held = held.entry(state.last_zxid);
                    held.or_insert_with(|| (state.clone(), place));
                }
                event => {
                    let Some(conversation) = connection_of(event)
                        .and_then(|connection| number.get(&connection))
                        .and_then(|&number| conversations.get_mut(number))
                    else {
                        continue;
                    };
                    newest = newest.max(conversation.take(place, event)?);
                }
            }
        }
        floor.push(newest);
        let empty = Model::default();
        let committed = follow(&empty, txns, held)?;
        Ok(Story {
            history,
            conversations,
            committed,
            empty,
            floor,
        })
    }

    /// The time of a place.
    pub fn at(&self, place: Place) -> Duration {
        self.history.0[place].at
    }

    /// The number of a transaction in [`Story::committed`].
    pub fn number_of(&self, zxid: Zxid) -> Option<usize> {
        self.committed
            .binary_search_by_key(&zxid, |committed| committed.zxid)
            .ok()
    }

    /// The state before the transaction of this number.
    pub fn before(&self, number: usize) -> &Model {
        match number.checked_sub(1) {
            None => &self.empty,
            Some(former) => &self.committed[former].after,
        }
    }

    /// The state that a zxid names; `None` if there never was one.
    pub fn state(&self, zxid: Zxid) -> Option<&Model> {
        if zxid == Zxid(0) {
            return Some(&self.empty);
        }
        self.number_of(zxid)
            .map(|number| &self.committed[number].after)
    }

    /// The numbers of the transactions above `from`, up to and with `to`; none if that is not later.
    pub fn between(&self, from: Zxid, to: Zxid) -> Range<usize> {
        let above = |zxid: Zxid| {
            self.committed
                .partition_point(|committed| committed.zxid <= zxid)
        };
        above(from)..above(to.max(from))
    }
}

/// The states that the transactions make, one after the other.
fn follow(
    empty: &Model,
    mut txns: BTreeMap<Zxid, (Arc<Txn>, Place)>,
    held: BTreeMap<Zxid, (Arc<State>, Place)>,
) -> Result<Vec<Committed>, Violation> {
    let mut model = empty.clone();
    let mut committed = Vec::with_capacity(txns.len());
    let zxids: BTreeSet<Zxid> = txns.keys().chain(held.keys()).copied().collect();
    for zxid in zxids {
        let (txn, applied) = match (txns.remove(&zxid), held.get(&zxid)) {
            (Some((txn, applied)), _) => {
                model.apply(zxid, &txn).map_err(|why| {
                    let why = format!("transaction {zxid}: {why}");
                    Violation::at("committed_transactions_fit", applied, why)
                })?;
                (Some(txn), applied)
            }
            (None, Some((state, place))) if zxid > model.zxid => {
                model = Model::of(state);
                (None, *place)
            }
            _ => continue,
        };
        committed.push(Committed {
            zxid,
            txn,
            applied,
            after: model.clone(),
        });
    }
    Ok(committed)
}

fn connection_of(event: &Event) -> Option<ConnectionId> {
    match event {
        Event::Connected { connection, .. }
        | Event::Expired { connection }
        | Event::Sent { connection, .. }
        | Event::Replied { connection, .. }
        | Event::Notified { connection, .. }
        | Event::Lost { connection } => Some(*connection),
        _ => None,
    }
}

impl Conversation {
    /// Takes an event of this connection; gives back the state that it shows to the client.
    fn take(&mut self, place: Place, event: &Event) -> Result<Zxid, Violation> {
        match event {
            Event::Connected {
                session,
                timeout_ms,
                ..
            } => self.session = Some((place, *session, *timeout_ms)),
            Event::Expired { .. } => self.expired = Some(place),
            Event::Lost { .. } => self.lost = Some(place),
            Event::Sent { xid, request, .. } => {
                self.unanswered.push_back(self.asked.len());
                self.asked.push(Asked {
                    sent: place,
                    xid: *xid,
                    request: request.clone(),
                    answer: None,
                });
            }
            Event::Replied {
                xid, zxid, result, ..
            } => {
                let next = self.unanswered.pop_front();
                let asked = next.and_then(|number| self.asked.get_mut(number));
                let Some((number, asked)) = next.zip(asked).filter(|(_, asked)| asked.xid == *xid)
                else {
                    let why = format!(
                        "request {xid} of {:?} is answered out of turn",
                        self.connection
                    );
                    return Err(Violation::at("session_order", place, why));
                };
                asked.answer = Some(Answer {
                    at: place,
                    zxid: *zxid,
                    result: result.clone(),
                });
                self.frames.push(Frame::Answer(number));
                return Ok(*zxid);
            }
            Event::Notified {
                zxid, event, path, ..
            } => {
                self.frames.push(Frame::Notice {
                    at: place,
                    zxid: *zxid,
                    event: *event,
                    path: path.clone(),
                });
                return Ok(*zxid);
            }
            _ => {}
        }
        Ok(Zxid(0))
    }
}
