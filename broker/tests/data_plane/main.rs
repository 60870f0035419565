//! The data plane over real sockets and files: produce, fetch, replicate, fail over.

mod client;
mod cluster;
mod compaction;
mod log_dirs;
mod periodic;
mod protocol;
mod replication;
mod retention;
mod scarce_files;
mod transactions;
mod validation;
