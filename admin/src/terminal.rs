//! What the user sees: results on standard output, and on standard error lines in the form of Kafka's logs,
//! `[2026-11-21 12:00:00,000] WARN message (logger)`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::utc::Utc;

/// Writes results. A reader that has seen enough, as `head` does, is no error.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Writes a line of results.
pub(crate) fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Warn,
    Error,
}

/// Writes one line.
pub(crate) fn log(level: Level, message: &str, logger: &str) {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let level = match level {
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let at = timestamp(since_epoch.as_secs(), since_epoch.subsec_millis());
    eprintln!("[{at}] {level} {message} ({logger})");
}

/// A moment as `yyyy-MM-dd HH:mm:ss,SSS`, in UTC.
fn timestamp(seconds: u64, millis: u32) -> String {
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Utc::at(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn moments_are_dates() {
        assert_eq!(timestamp(0, 7), "1970-01-01 00:00:00,007");
        assert_eq!(timestamp(951_782_399, 999), "2000-02-28 23:59:59,999");
        assert_eq!(timestamp(951_782_400, 0), "2000-02-29 00:00:00,000");
        assert_eq!(timestamp(1_795_262_754, 0), "2026-11-21 12:05:54,000");
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01 00:00:00,000");
    }
}
