//! What clients see of a coordinator whose log is in memory, and what a replay of that log makes.

mod coordinator;
mod forward;
mod harness;
mod replay;
