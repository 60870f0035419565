//! What clients see of coordinators whose log is in memory, and what a replay of that log makes.

mod coordinator;
mod ensemble;
mod forward;
mod harness;
mod members;
mod reconfig;
mod replay;
