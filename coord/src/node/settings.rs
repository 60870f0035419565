//! What a node is told at its start.

use std::time::Duration;

use coord_core::coordinator::{ReconfigRules, SessionLimits};
use coord_core::decide::Rules;
use coord_core::reaper::ReaperSettings;
use coord_core::{NodeId, RequestId};

use super::witness::Witness;
use crate::config::Config;
use crate::raft::{self, Fatal};

/// The most bytes of one log entry, but for a single larger transaction.
pub(crate) const BATCH_MAX_LEN: usize = 1024 * 1024;

/// A leader that no majority has answered for so long is told so; from then on its clients have the same grace as those
/// of a member that hears no leader.
const QUORUM_GRACE: Duration = Duration::from_millis(1000);

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What decides.
    pub coordinator: coord_core::Settings,
    /// What replicates.
    pub raft: raft::Settings,
    /// Who is told of what it does.
    pub witness: Witness,
}

impl Settings {
    /// As the configuration says; everything random follows from `seed`.
    pub fn new(config: &Config, seed: u64) -> Settings {
        let ensemble = &config.ensemble;
        let node = NodeId(ensemble.my_id);
        let tick = Duration::from_millis(config.tick_time_ms.into());
        // As long as ZooKeeper's followers wait for their leader.
        let leaderless_grace = tick * ensemble.sync_limit_ticks;
        let servers = match ensemble.standalone {
            true => Default::default(),
            false => ensemble
                .servers
                .iter()
                .map(|(&id, server)| (NodeId(id), server.clone()))
                .collect(),
        };
        Settings {
            coordinator: coord_core::Settings {
                node,
                limits: SessionLimits {
                    min_timeout_ms: config.min_session_timeout_ms,
                    max_timeout_ms: config.max_session_timeout_ms,
                },
                leaderless_grace,
                read_only_mode: config.read_only_mode_enabled,
                required_schemes: config.auth.required_schemes,
                rules: Rules {
                    extended_types_enabled: config.extended_types_enabled,
                    enforce_quota: config.enforce_quota,
                },
                reconfig: ReconfigRules {
                    enabled: ensemble.reconfig_enabled,
                    min_voters: if ensemble.standalone_enabled { 2 } else { 1 },
                },
                reaper: ReaperSettings {
                    check_interval: Duration::from_millis(config.containers.check_interval_ms),
                    max_per_minute: config.containers.max_per_minute,
                    max_never_used_interval: Duration::from_millis(
                        config.containers.max_never_used_interval_ms,
                    ),
                },
                first_request: RequestId(seed),
            },
            raft: raft::Settings {
                node,
                servers,
                data_dir: config.data_log_dir.clone(),
                zookeeper_dirs: vec![config.data_dir.clone(), config.data_log_dir.clone()],
                tick_time_ms: config.tick_time_ms,
                sync_limit: ensemble.sync_limit_ticks,
                init_limit: ensemble.init_limit_ticks,
                snap_count: config.snap_count,
                batch_max_len: BATCH_MAX_LEN,
                quorum_grace: QUORUM_GRACE,
                seed,
                fatal: Fatal::default(),
            },
            witness: Witness::default(),
        }
    }
}
