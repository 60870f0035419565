//! What a broker decides: partitions, the controller, configuration, metadata; sans-io.
//!
//! Every core here has one shape: it is handed the time and what happened, and answers with what the
//! shell (the crate `broker`) shall do. Nothing here may know tokio, a file, a socket or a clock.

pub mod assignment;
pub mod config;
pub mod controller;
pub mod fetch_session;
pub mod metadata;
pub mod partition;
pub mod znode;
