//! What clients see of coordinators whose log is in memory, and what a replay of that log makes.

mod acl_oracle;
mod containers;
mod coordinator;
mod ensemble;
mod forward;
mod harness;
mod known_bugs;
mod members;
mod moves;
mod permissions;
mod quotas;
mod reads;
mod reconfig;
mod recovered;
mod replay;
mod watch_kinds;
