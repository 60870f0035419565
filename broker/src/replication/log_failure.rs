//! A disk that fails ends the broker.
//!
//! A replica whose log has failed can neither lead nor follow, and the controller does not see it: it
//! would lead for ever. So the first failure is told to who runs the broker, which halts as Kafka does
//! when its last log directory is offline: without another word to the disk and without the file that
//! tells of a clean shutdown, so that its session ends, others lead, and the next start mends the logs.
//! All log directories go together: taking one of them offline is not known here yet.

use std::sync::Arc;

use log::LogError;
use tokio::sync::watch;

/// What failed, why, and the way out, in one line.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{what} failed: {cause}; the broker halts so that others lead: mend the disk and start it again"
)]
pub struct LogFailure {
    what: String,
    cause: String,
}

/// Where failures are told; the first one counts.
#[derive(Debug, Clone, Default)]
pub(super) struct LogFailures(Arc<watch::Sender<Option<LogFailure>>>);

impl LogFailures {
    pub(super) fn tell(&self, what: &str, cause: &LogError) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| LogFailure {
                what: what.to_owned(),
                cause: cause.to_string(),
            });
            is_first
        });
    }

    /// Returns once there is one.
    pub(super) async fn first(&self) -> LogFailure {
        let mut failures = self.0.subscribe();
        match failures.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(failure)) => failure.clone(),
            Ok(None) | Err(_) => unreachable!("the sender lives as long as self"),
        }
    }
}
