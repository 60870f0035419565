//! Replicas that move to another log directory of this broker (KIP-113).
//!
//! One thread copies, a piece of each log in turn, as long as any moves; clients are served by others meanwhile.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_wire::{ErrorCode, TopicPartition, valid_topic_name};
use log::{MoveError, MoveProgress};

use super::ReplicaManager;
use crate::clock::now_ms;

/// How much is copied at a time.
const PIECE_BYTES: u32 = 1 << 20;

/// After a piece in which there was nothing to copy: what was in the way is given time.
const EMPTY_PIECE_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct State {
    /// The thread is there, or is about to be.
    running: bool,
    stopping: bool,
}

/// The thread that copies.
#[derive(Debug, Default)]
pub(super) struct LogDirMover {
    state: Mutex<State>,
    changed: Condvar,
}

impl LogDirMover {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is to be a thread, and is none yet.
    fn begins(&self) -> bool {
        let mut state = self.state();
        let begins = !state.running && !state.stopping;
        state.running |= begins;
        begins
    }

    /// Waits, or until the thread is to end. True if it is.
    fn pause(&self, duration: Duration) -> bool {
        let waiting = |state: &mut State| !state.stopping;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), duration, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.stopping
    }

    /// Returns once nothing is copied any more.
    pub(super) fn shut_down(&self) {
        let mut state = self.state();
        state.stopping = true;
        self.changed.notify_all();
        let ended = self.changed.wait_while(state, |state| state.running);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }
}

impl ReplicaManager {
    /// Has the replica of that partition lie in that directory of `log.dirs`.
    pub(crate) fn alter_log_dir(
        self: &Arc<Self>,
        partition: &TopicPartition,
        path: &Path,
    ) -> Result<(), ErrorCode> {
        if valid_topic_name(&partition.topic).is_err() || partition.partition < 0 {
            return Err(ErrorCode::InvalidTopicException);
        }
        let moved = self.logs.move_to(partition, path, now_ms());
        let code = match moved {
            Ok(()) => {
                self.begin_moving();
                return Ok(());
            }
            Err(MoveError::UnknownDirectory(_)) => ErrorCode::LogDirNotFound,
            Err(MoveError::NameTooLong(_)) => ErrorCode::InvalidTopicException,
            Err(MoveError::Log(_)) => ErrorCode::KafkaStorageError,
            Err(MoveError::NoLog(_)) => match self.missing(&partition.topic, partition.partition) {
                ErrorCode::NotLeaderOrFollower => ErrorCode::ReplicaNotAvailable,
                code => code,
            },
        };
        let path = path.display();
        tracing::info!(%partition, %path, error = code.name(), "the replica does not move");
        Err(code)
    }

    /// Goes on with what moves. Called at the start, too.
    pub(super) fn begin_moving(self: &Arc<Self>) {
        if self.logs.moving().is_empty() || !self.mover.begins() {
            return;
        }
        let manager = self.clone();
        let copy = move || manager.move_logs();
        let thread = std::thread::Builder::new().name("log-dir-mover".to_owned());
        if let Err(error) = thread.spawn(copy) {
            tracing::error!(%error, "no thread that moves logs: they move after the next start");
            self.mover.state().running = false;
        }
    }

    fn move_logs(&self) {
        loop {
            let moving = self.logs.moving();
            if moving.is_empty() {
                let mut state = self.mover.state();
                // What begins to move from here on finds no thread.
                if self.logs.moving().is_empty() {
                    state.running = false;
                    return self.mover.changed.notify_all();
                }
            }
            for partition in moving {
                let pause = self.copy_piece(&partition);
                if self.mover.pause(pause) {
                    self.mover.state().running = false;
                    return self.mover.changed.notify_all();
                }
            }
        }
    }

    /// How long to wait after it, so that no more is copied than `replica.alter.log.dirs.io.max.bytes.per.second`.
    fn copy_piece(&self, partition: &TopicPartition) -> Duration {
        let limit = self.config().replica_alter_log_dirs_io_max_bytes_per_second;
        let limit = u64::try_from(limit).unwrap_or_default().max(1);
        let piece = u32::try_from(limit).map_or(PIECE_BYTES, |limit| limit.min(PIECE_BYTES));
        let began = Instant::now();
        match self.logs.copy_to_future(partition, piece, now_ms()) {
            Ok(MoveProgress::Copied(0) | MoveProgress::None) => EMPTY_PIECE_PAUSE,
            Ok(MoveProgress::Copied(bytes)) => {
                let due = Duration::from_secs_f64(bytes as f64 / limit as f64);
                due.saturating_sub(began.elapsed())
            }
            Ok(MoveProgress::Moved) => Duration::ZERO,
            Err(error) => {
                tracing::error!(%partition, %error, "the replica stays in its log directory");
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_and_none_after_the_end() {
        let mover = LogDirMover::default();
        assert!(mover.begins());
        assert!(!mover.begins());
        assert!(!mover.pause(Duration::ZERO));
        mover.state().running = false;
        mover.shut_down();
        assert!(!mover.begins());
        assert!(mover.pause(Duration::from_secs(60)));
    }
}
