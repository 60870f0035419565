//! The gRPC contracts between our own processes, generated from the `.proto` files beside this
//! crate's manifest. Nothing is decided here, and nothing but generated code belongs here.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// Controller and brokers: see `control.proto`.
pub mod control {
    tonic::include_proto!("gregor.control");
}

/// The members of coord's ensemble: see `raft.proto`.
pub mod raft {
    tonic::include_proto!("gregor.raft");
}
