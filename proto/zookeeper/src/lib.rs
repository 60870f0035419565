//! The ZooKeeper client protocol, as bytes: jute records, op codes and error codes.
//!
//! What flows through a server: a frame's body comes in as [`bytes::Bytes`] and leaves as a [`Request`] whose strings
//! and buffers are slices of that frame; replies go out through a [`Writer`] as length-prefixed frames. A client goes
//! the other way: it writes a [`RequestHeader`] and a [`Request`], and reads a [`ReplyHeader`], then by its xid a
//! [`WatcherEvent`] or the [`Response`] to the op code that it had asked for.
//!
//! ```text
//! frame   := length:i32 body
//! session := ConnectRequest → ConnectResponse, then { RequestHeader Request } → { ReplyHeader Response }
//! event   := ReplyHeader(xid −1, zxid of the change) WatcherEvent
//! ```
//!
//! Every length and count is compared with the bytes that are left before anything is allocated, so a record costs at
//! most a few times the memory of its own frame. What must never be here: a socket, a clock, the meaning of an operation.

mod connect;
mod error_code;
mod frame;
mod jute;
mod multi;
mod op_code;
mod record;
mod request;
mod response;

pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_LEN};
pub use error_code::ErrorCode;
pub use frame::{FrameError, frame_len};
pub use jute::{DecodeError, Reader, Writer};
pub use multi::{MultiOp, MultiReadOp};
pub use op_code::OpCode;
pub use record::{
    Acl, AddWatchMode, ClientInfo, ReplyHeader, RequestHeader, Stat, WatchEventType, WatcherEvent,
    WatcherType, xid,
};
pub use request::{
    CreateRequest, CreateTtlRequest, PathVersion, PathWatch, ReconfigRequest, Request,
    SetAclRequest, SetDataRequest, SetWatches, SetWatches2,
};
pub use response::{MultiResult, Response};
