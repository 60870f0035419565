//! Log directories that fail.
//!
//! The storage engine takes a directory offline at its first error. Here its replicas end: who waits for them hears
//! KAFKA_STORAGE_ERROR, they fetch no more, and whoever follows [`ReplicaManager::offline_log_dirs`] tells the controller,
//! which lets others lead (KIP-112). After the last directory the broker halts, without another word to the disk and
//! without the file that tells of a clean shutdown, so that its session ends and the next start mends the logs.

use std::sync::Arc;

use log::{DirectoryDescription, OfflineDirectory};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ReplicaManager;

/// Why the broker halts, and the way out, in one line.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "no log directory is left: {last}; the broker halts so that others lead: mend the disk and start it again"
)]
pub struct LogFailure {
    last: OfflineDirectory,
}

/// The log directories that are offline, as they came to be.
#[derive(Debug)]
pub(super) struct LogFailures {
    /// As the storage engine says it.
    failed: watch::Sender<Vec<OfflineDirectory>>,
    /// How many of them have no replica any more that serves.
    handled: watch::Sender<usize>,
    /// Set after the last one.
    last: watch::Sender<Option<LogFailure>>,
}

impl Default for LogFailures {
    fn default() -> Self {
        Self {
            failed: watch::Sender::new(Vec::new()),
            handled: watch::Sender::new(0),
            last: watch::Sender::new(None),
        }
    }
}

impl ReplicaManager {
    /// Ends the replicas of each log directory that fails.
    pub(super) fn follow_log_failures(self: &Arc<Self>) -> JoinHandle<()> {
        let failed = self.log_failures.failed.clone();
        self.logs.on_offline(move |directory| {
            failed.send_modify(|all| all.push(directory.clone()));
        });
        let mut failed = self.log_failures.failed.subscribe();
        failed.mark_changed();
        let manager = Arc::downgrade(self);
        tokio::spawn(async move {
            while failed.changed().await.is_ok() {
                let all = failed.borrow_and_update().clone();
                let Some(manager) = manager.upgrade() else {
                    return;
                };
                let ended = tokio::task::spawn_blocking(move || manager.end_offline_replicas(&all));
                if let Err(error) = ended.await {
                    tracing::error!(%error, "replicas of a failed log directory were not ended");
                }
            }
        })
    }

    fn end_offline_replicas(&self, failed: &[OfflineDirectory]) {
        let Some(last) = failed.last() else { return };
        let mut ended = 0;
        for replica in self.replicas() {
            if replica.log().offline().is_some() {
                replica.log_failed();
                ended += 1;
            }
        }
        tracing::warn!(
            directories = failed.len(),
            replicas = ended,
            "replicas are offline with their log directories"
        );
        self.log_failures.handled.send_replace(failed.len());
        if self.logs.all_offline() {
            let last = LogFailure { last: last.clone() };
            self.log_failures.last.send_replace(Some(last));
        }
    }

    /// All log directories, and what lies in those that work.
    pub(crate) fn describe_log_dirs(&self) -> (Vec<DirectoryDescription>, Vec<OfflineDirectory>) {
        self.logs.describe()
    }

    /// How many log directories are offline and have no replica any more that serves: the controller is to hear of each.
    pub fn offline_log_dirs(&self) -> watch::Receiver<usize> {
        self.log_failures.handled.subscribe()
    }

    /// Returns once no log directory is left. The broker halts then.
    pub async fn log_failure(&self) -> LogFailure {
        let mut failures = self.log_failures.last.subscribe();
        match failures.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(failure)) => failure.clone(),
            Ok(None) | Err(_) => unreachable!("the sender lives as long as self"),
        }
    }
}
