//! What coord knows and decides: the znode tree, sessions, watches and transactions. Sans-io: no tokio, file, socket
//! or clock; time and randomness are handed in, and what is to be done comes out as plain data.
//!
//! ```text
//!  Event ──► Coordinator::handle ──► Action
//!              │  reads: the applied state, nothing else
//!              │  writes, here if this member leads:   decide ──► Txn ──► Action::Append ──► (Raft makes it durable)
//!              │  writes, if another one leads:        Action::Forward ──► Event::Forwarded there, and so on
//!              └─ Event::Committed on every member ──► State::apply ──► replies, watch events, then the reads that waited
//! ```
//!
//! # Why writes are decided ahead and applied late
//!
//! A [`Txn`] carries what was decided (the final path of a sequential znode, the new version, the new ACL as it
//! will be), so that applying it needs no judgement: live, at recovery and on every member of the ensemble
//! [`State::apply`] does the same. A write is decided by the leader against the applied state *plus* what was decided
//! before and is not applied yet ([`decide::Outstanding`]), so hundreds of writes can share one fsync. It is applied only
//! once a majority has it on disk. Therefore:
//!
//! - nobody ever sees a state that a crash could take back, without holding back any reply or read for it;
//! - a leader that loses its term just forgets the outstanding changes; nothing has to be undone in the tree;
//! - a transaction names the request that it answers ([`Origin`]), and the member whose client asked answers when it
//!   applies it: its clients read their own writes, whoever decided them;
//! - an error is an answer about the outstanding changes too, so it waits for them likewise;
//! - the transaction that gives a session to a connection is that connection's [claim](session::Session::claim) to it. What
//!   comes with an older one is refused, whoever leads by then: a session's writes happen in its order wherever it spoke;
//! - requests of one connection are answered strictly in order: a read behind a write of its own session waits in the
//!   connection's queue until that write is applied, everything else is answered at once.
//!
//! What must never be here: an await, a lock, a panic on input, a wall clock, the word Kafka.

pub mod acl;
mod codec;
pub mod coordinator;
pub mod decide;
pub mod digest_md5;
mod ephemeral_type;
mod error;
pub mod forward;
pub mod names;
mod origin;
pub mod path;
pub mod quota;
pub mod reaper;
pub mod reconfig;
pub mod request;
pub mod required_schemes;
pub mod server_spec;
pub mod session;
pub mod snapshot;
pub mod state;
pub mod tree;
pub mod txn;
pub mod watch;
mod zxid;

pub use codec::CodecError;
pub use coordinator::{
    Action, CloseReason, Connect, ConnectionId, Coordinator, Event, Members, Now, Settings,
    Standing,
};
pub use ephemeral_type::{EphemeralType, MAX_TTL_MS};
pub use error::OpError;
pub use forward::{Forward, ForwardAnswer};
pub use origin::{Origin, RequestId};
pub use server_spec::{ServerRole, ServerSpec};
pub use state::State;
pub use txn::Txn;
pub use zxid::{NodeId, SessionId, Zxid};
