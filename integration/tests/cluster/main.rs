//! End-to-end stories with real processes, one file each. Every test has a cluster of its own, so they run side by
//! side.

mod admin_requests;
mod all_brokers_restarted;
mod broker_paused;
mod cluster_verbs;
mod controller_killed;
mod coord_bench;
mod coord_ensemble;
mod coord_restarted;
mod coord_shell;
mod damage_at_rest;
mod identity;
mod java;
mod kazoo;
mod kcat;
mod leader_killed;
mod load;
mod log_dir_full;
mod produce_and_consume;
mod reading;
mod seed_004_compaction;
mod seed_004_leader_none;
mod seed_004_retention;
mod seed_004_rolling;
mod takeover;
