//! Says how far the opening of the logs has come: as a line that changes on a terminal, and in the broker's log.
//!
//! After a clean shutdown it is over before anybody would want to know.

use std::future::Future;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};
use log::LoadProgress;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the line on a terminal changes.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
/// How often a line is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is drawn on stderr; draws nothing where that is no terminal.
static DRAWN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error for log lines: what is drawn there stays below them.
#[derive(Debug, Default)]
pub struct StderrAboveProgress;

impl Write for StderrAboveProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        DRAWN.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Waits for the logs to be opened, and meanwhile says how far that has come.
pub(crate) async fn show<T>(progress: &LoadProgress, opening: impl Future<Output = T>) -> T {
    let mut redraws = interval(REDRAW_INTERVAL);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut logged = started;
    let mut line = None;
    tokio::pin!(opening);
    loop {
        tokio::select! {
            opened = &mut opening => {
                if let Some(line) = line {
                    DRAWN.remove(&line);
                }
                return opened;
            }
            now = redraws.tick() => {
                if now - started < REDRAW_INTERVAL {
                    continue;
                }
                let text = describe(progress, now - started);
                if now - logged >= LOG_INTERVAL {
                    tracing::info!("{text}");
                    logged = now;
                }
                line.get_or_insert_with(new_line).set_message(text);
            }
        }
    }
}

fn new_line() -> ProgressBar {
    let line = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    DRAWN.add(line)
}

/// How far it is, and how long it may still take if it goes on as it did for `elapsed`.
fn describe(progress: &LoadProgress, elapsed: Duration) -> String {
    let (opened, logs) = (progress.opened_logs(), progress.logs());
    let (verified, bytes) = (progress.verified_bytes(), progress.bytes());
    let mut text = format!("opening logs: {opened} of {logs} open");
    if bytes > 0 {
        let percent = verified as f64 / bytes as f64 * 100.0;
        let (read, all) = (BinaryBytes(verified), BinaryBytes(bytes));
        text += &format!(", {read} of {all} verified ({percent:.0} %)");
    }
    if verified > 0 {
        let left = bytes.saturating_sub(verified);
        let left_s = elapsed.as_secs_f64() * left as f64 / verified as f64;
        text += &format!(", about {left_s:.0} s left");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_bytes_where_none_are_verified() {
        let text = describe(&LoadProgress::default(), Duration::from_secs(1));
        assert_eq!(text, "opening logs: 0 of 0 open");
    }

    #[tokio::test]
    async fn what_was_opened_is_handed_on() {
        assert_eq!(show(&LoadProgress::default(), async { 7 }).await, 7);
    }
}
