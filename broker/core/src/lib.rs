//! What a broker decides: partitions, the controller, configuration, metadata; sans-io.

pub mod config;
