//! What the user sees: results on standard output, and on standard error lines in the form of Kafka's logs,
//! `[2026-11-21 12:00:00,000] WARN message (logger)`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

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
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last; day 0 is 0000-03-01.
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02} {:02}:{:02}:{:02},{millis:03}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
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
