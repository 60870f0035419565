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

mod confirm;
mod contact;
mod disk;
mod election;
mod event;
mod files;
mod forward;
mod founding;
mod frames;
pub mod grpc;
mod handle;
mod log;
mod machine;
mod member;
mod membership;
mod network;
mod payload;
mod propose;
mod receive;
mod recovery;
mod roles;
mod runtime;
mod service;
mod settings;
mod snapshot;
mod static_list;
#[cfg(test)]
mod tests;
mod transport;
mod types;
mod upkeep;
mod vote;

pub use disk::{Disk, DiskFile, LockError, StdDisk, Work};
pub use event::{MembershipError, RaftEvent, Role};
pub use handle::{RaftHandle, RaftStatus, StartError};
pub use log::{LogError, LogFigures};
pub use payload::{Batch, Begin, Content, Payload, PayloadError};
pub use recovery::{Recovered, RecoveryError, Storage, recover};
pub use runtime::{CoordRuntime, HeldUp, HoldUp, hold_up_tasks, spawn_on_local_set};
pub use service::Service;
pub use settings::{Fatal, Settings};
pub use snapshot::SnapshotFile;
pub use transport::{
    Envelope, Rejected, Request, Response, StatusResponse, Stream, StreamKind, Transport,
    TransportError,
};
pub use types::{Entry, LogId, Membership, TypeConfig, Vote};
pub use vote::VoteError;
