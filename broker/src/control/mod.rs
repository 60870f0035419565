//! The control plane between brokers: gRPC on the CONTROL listener.
//!
//! Every broker serves both services of `control.proto`: what the controller tells it, and what
//! brokers ask the controller, which all but one answer with NOT_CONTROLLER. [`ControllerChannel`]
//! is the asking side. Nothing is decided here.

mod client;
mod server;

pub(crate) use client::connect_lazily;
pub use client::{ControllerAddress, ControllerChannel, ControllerUnavailable};
pub(crate) use server::{ControlServices, serve};

/// The largest message: a batch of all partitions of a large cluster fits, and nothing more is decoded.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
