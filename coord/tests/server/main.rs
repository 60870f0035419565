//! coord as a process, as its clients see it: through the `zookeeper-client` crate, and byte by byte where timing or
//! damage matters.

mod admin;
mod durability;
mod limits;
mod operations;
mod process;
mod protocol;
mod raw;
mod security;
mod sessions;
mod shapes;
