//! Raft between the members of an ensemble: openraft on our disk and our wires. An ensemble of one goes the same way.
//!
//! ```text
//!  node ──propose──► RaftHandle ──► openraft ──► log (one thread: write, fdatasync)
//!   ▲                                 │  ▲  └──► Transport ──► the other members' Service
//!   │                                 ▼  └────── Service ◄──── the other members' Transport
//!   └──── RaftEvent ◄──────── state machine ──► snapshots
//! ```
//!
//! What must never be here: a decision about a znode or a session, a wall clock, a random number that the seed in
//! [`Settings`] does not decide.

#![allow(dead_code)]

mod disk;
mod event;
mod payload;
mod runtime;
mod settings;
mod snapshot;
mod transport;
mod types;

pub use disk::{Disk, DiskFile, LockError, StdDisk, Work};
pub use event::{MembershipError, RaftEvent, Role};
pub use payload::{Batch, Begin, Content, Payload, PayloadError};
pub use runtime::CoordRuntime;
pub use settings::{Fatal, Settings};
pub use snapshot::SnapshotFile;
pub use transport::{
    Envelope, Rejected, Request, Response, StatusResponse, Stream, StreamKind, Transport,
    TransportError,
};
pub use types::{Entry, LogId, Membership, TypeConfig, Vote};
