//! The ZooKeeper client protocol, as bytes: jute records, op codes and error codes.
//!
//! What flows through: a frame's body comes in as [`bytes::Bytes`] and leaves as a [`Request`] whose strings and
//! buffers are slices of that frame; replies go out through a [`Writer`] as length-prefixed frames. The same
//! records encode and decode, so a client can be written on this crate as well as a server.
//!
//! ```text
//! frame   := length:i32 body
//! session := ConnectRequest → ConnectResponse, then { RequestHeader Request } → { ReplyHeader Response }
//! event   := ReplyHeader(xid −1, zxid of the change) WatcherEvent
//! ```
//!
//! Every length and count is compared with the bytes that are left before anything is allocated, so a record never
//! costs more memory than its own frame. What must never be here: a socket, a clock, the meaning of an operation.

mod connect;
mod error_code;
mod frame;
mod jute;
mod op_code;
mod record;
mod request;
mod response;

pub use connect::{ConnectRequest, ConnectResponse, PASSWORD_LEN};
pub use error_code::ErrorCode;
pub use frame::{FrameError, frame_len};
pub use jute::{DecodeError, Reader, Writer};
pub use op_code::OpCode;
pub use record::{Acl, ReplyHeader, RequestHeader, Stat, WatchEventType, WatcherEvent, xid};
pub use request::{
    CreateRequest, MultiOp, PathVersion, PathWatch, Request, SetAclRequest, SetDataRequest,
    SetWatches,
};
pub use response::Response;
