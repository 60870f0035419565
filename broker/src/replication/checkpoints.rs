//! What is done from time to time: high watermarks and how far the logs are on the disk are written down, old segments
//! go, and producers that have fallen silent are forgotten.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::ReplicaManager;
use crate::clock::now_ms;

const DELETION_INTERVAL: Duration = Duration::from_secs(1);
const PRODUCER_EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

impl ReplicaManager {
    /// Every `replica.high.watermark.checkpoint.interval.ms`.
    pub(super) fn start_high_watermark_checkpoints(self: &Arc<Self>) -> JoinHandle<()> {
        let period = millis(self.config().replica_high_watermark_checkpoint_interval_ms);
        self.every(period, ReplicaManager::checkpoint_high_watermarks)
    }

    /// Every `log.flush.offset.checkpoint.interval.ms`.
    pub(super) fn start_recovery_point_checkpoints(self: &Arc<Self>) -> JoinHandle<()> {
        let period = millis(i64::from(
            self.config().log_flush_offset_checkpoint_interval_ms,
        ));
        self.every(period, |manager| {
            if let Err(error) = manager.logs.checkpoint_recovery_points(now_ms()) {
                tracing::error!(%error, "recovery points were not written");
            }
        })
    }

    /// Every `log.retention.check.interval.ms`, for the first time after `log.initial.task.delay.ms`.
    pub(super) fn start_retention(self: &Arc<Self>) -> JoinHandle<()> {
        let first = millis(self.config().log_initial_task_delay_ms);
        let period = millis(self.config().log_retention_check_interval_ms);
        self.every_after(first, period, |manager| {
            for replica in manager.replicas() {
                replica.delete_old_segments();
            }
        })
    }

    /// What was deleted goes from the disk within a second of its time.
    pub(super) fn start_deletions(self: &Arc<Self>) -> JoinHandle<()> {
        self.every(DELETION_INTERVAL, |manager| {
            if let Err(error) = manager.logs.delete_due(now_ms()) {
                tracing::warn!(%error, "what was deleted stays on the disk until the next start");
            }
        })
    }

    /// Every `log.flush.start.offset.checkpoint.interval.ms`.
    pub(super) fn start_log_start_checkpoints(self: &Arc<Self>) -> JoinHandle<()> {
        let period = millis(i64::from(
            self.config().log_flush_start_offset_checkpoint_interval_ms,
        ));
        self.every(period, |manager| {
            if let Err(error) = manager.logs.checkpoint_log_start_offsets() {
                tracing::error!(%error, "where the logs start was not written");
            }
        })
    }

    /// Every `log.flush.scheduler.interval.ms`, the logs whose `flush.ms` have passed; never if it is the largest number.
    pub(super) fn start_flushes(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let period_ms = self.config().log_flush_scheduler_interval_ms;
        let flush = |manager: &ReplicaManager| {
            if let Err(error) = manager.logs.flush_when_due(now_ms()) {
                tracing::error!(%error, "a log was not flushed");
            }
        };
        (period_ms < i64::MAX).then(|| self.every(millis(period_ms), flush))
    }

    /// Every ten minutes, as Kafka does, or more often where `producer.id.expiration.ms` is less.
    pub(super) fn start_expiry_of_producers(self: &Arc<Self>) -> JoinHandle<()> {
        let period = millis(i64::from(self.config().producer_id_expiration_ms));
        self.every(period.min(PRODUCER_EXPIRY_INTERVAL), |manager| {
            manager.logs.remove_expired_producers(now_ms());
        })
    }

    /// Writes the high watermarks of all replicas that the controller has spoken of. Those of others stay
    /// as they are on file (KAFKA-1647).
    pub(super) fn checkpoint_high_watermarks(&self) {
        let replicas = self.replicas();
        let high_watermarks: Vec<_> = replicas
            .iter()
            .map(|replica| {
                (
                    replica.shared_log().clone(),
                    replica.inspect(|core| core.high_watermark()),
                )
            })
            .collect();
        if let Err(error) = self.logs.checkpoint_high_watermarks(&high_watermarks) {
            tracing::error!(%error, "high watermarks were not written");
        }
    }
}

fn millis(period_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(period_ms).unwrap_or_default().max(1))
}
