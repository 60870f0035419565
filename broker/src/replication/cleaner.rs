//! Runs the cleaner: `log.cleaner.threads` threads that compact the dirtiest log, again and again, and rest for
//! `log.cleaner.backoff.ms` when none is due.
//!
//! A changed `log.cleaner.*` takes effect at once: the threads end, even in the midst of a log, which stays as it is, and
//! others begin.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use broker_core::config::BrokerConfig;
use kafka_wire::TopicPartition;
use log::{Cleaner, CleanerBuffers, CleaningStats, LogManager, Pace};

use crate::clock::now_ms;

/// What of `log.cleaner.*` concerns the threads.
#[derive(Debug, Clone, PartialEq)]
struct CleanerConfig {
    threads: usize,
    dedupe_buffer_bytes: u64,
    load_factor: f64,
    io_buffer_bytes: usize,
    io_max_bytes_per_second: f64,
    backoff: Duration,
}

impl CleanerConfig {
    fn new(config: &BrokerConfig) -> Self {
        let threads = match config.log_cleaner_enable {
            true => usize::try_from(config.log_cleaner_threads).unwrap_or_default(),
            false => 0,
        };
        Self {
            threads,
            dedupe_buffer_bytes: u64::try_from(config.log_cleaner_dedupe_buffer_size)
                .unwrap_or_default(),
            load_factor: config.log_cleaner_io_buffer_load_factor,
            io_buffer_bytes: usize::try_from(config.log_cleaner_io_buffer_size).unwrap_or_default(),
            io_max_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
            backoff: Duration::from_millis(
                u64::try_from(config.log_cleaner_backoff_ms).unwrap_or_default(),
            ),
        }
    }

    /// One thread's share.
    fn buffers(&self) -> CleanerBuffers {
        CleanerBuffers::new(
            self.dedupe_buffer_bytes / self.threads.max(1) as u64,
            self.load_factor,
            self.io_buffer_bytes / self.threads.max(1),
        )
    }
}

/// Spreads bytes over time. Pure.
#[derive(Debug)]
struct Throttle {
    bytes_per_second: f64,
    /// When all that was let through so far will have had its time.
    free_at: Duration,
}

impl Throttle {
    fn new(bytes_per_second: f64) -> Self {
        Self {
            // Slower than a byte a second is no speed.
            bytes_per_second: bytes_per_second.max(1.0),
            free_at: Duration::ZERO,
        }
    }

    /// How long to wait after `bytes` more, at `now` since whenever. What was not used in the past is lost.
    fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let takes = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second);
        self.free_at = self
            .free_at
            .max(now)
            .saturating_add(takes.unwrap_or(Duration::MAX));
        self.free_at - now
    }
}

/// What the threads that run under one configuration share.
#[derive(Debug)]
struct Crew {
    config: CleanerConfig,
    throttle: Mutex<Throttle>,
    since: Instant,
    stopped: Mutex<bool>,
    stop: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crew {
    fn new(config: CleanerConfig) -> Arc<Self> {
        Arc::new(Self {
            throttle: Mutex::new(Throttle::new(config.io_max_bytes_per_second)),
            config,
            since: Instant::now(),
            stopped: Mutex::default(),
            stop: Condvar::new(),
        })
    }

    fn stop(&self) {
        *locked(&self.stopped) = true;
        self.stop.notify_all();
    }

    /// A break as soon as the crew is to stop.
    fn rest(&self, duration: Duration) -> ControlFlow<()> {
        let stopped = locked(&self.stopped);
        let rested = self
            .stop
            .wait_timeout_while(stopped, duration, |stopped| !*stopped);
        let (stopped, _) = rested.unwrap_or_else(PoisonError::into_inner);
        match *stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// A compaction in time.
struct Timed<'a> {
    crew: &'a Crew,
    began: Instant,
    keys_read: Option<Instant>,
}

impl Pace for Timed<'_> {
    fn advance(&mut self, bytes: u64) -> ControlFlow<()> {
        let wait = locked(&self.crew.throttle).take(self.crew.since.elapsed(), bytes);
        self.crew.rest(wait)
    }

    fn keys_are_read(&mut self) {
        self.keys_read = Some(Instant::now());
    }
}

/// Where to learn the high watermark of a partition; `None` for one that has none yet.
pub(super) type HighWatermarks = dyn Fn(&TopicPartition) -> Option<i64> + Send + Sync;

type Running = (Arc<Crew>, Vec<JoinHandle<()>>);

/// The threads.
pub(super) struct CleanerThreads {
    cleaner: Arc<Cleaner>,
    high_watermark: Arc<HighWatermarks>,
    running: Mutex<Option<Running>>,
}

impl CleanerThreads {
    /// None yet.
    pub(super) fn new(logs: Arc<LogManager>, high_watermark: Arc<HighWatermarks>) -> Self {
        Self {
            cleaner: Arc::new(Cleaner::new(logs)),
            high_watermark,
            running: Mutex::default(),
        }
    }

    /// Has as many run as the configuration says, and as it says. Those that run otherwise end by themselves.
    pub(super) fn configure(&self, config: &BrokerConfig) {
        let config = CleanerConfig::new(config);
        let mut running = locked(&self.running);
        if let Some((crew, _)) = &*running {
            if crew.config == config {
                return;
            }
            crew.stop();
        }
        let crew = Crew::new(config);
        let spawn = |id: usize| {
            let (crew, cleaner, high_watermark) = (
                crew.clone(),
                self.cleaner.clone(),
                self.high_watermark.clone(),
            );
            let thread = std::thread::Builder::new().name(format!("log-cleaner-{id}"));
            thread.spawn(move || work(id, &crew, &cleaner, &*high_watermark))
        };
        let mut threads = Vec::new();
        for id in 0..crew.config.threads {
            match spawn(id) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::error!(%error, "the log cleaner has {id} threads instead of {}", crew.config.threads);
                    break;
                }
            }
        }
        *running = Some((crew, threads));
    }

    /// Ends them all, and returns once they have.
    pub(super) fn shut_down(&self) {
        let Some((crew, threads)) = locked(&self.running).take() else {
            return;
        };
        crew.stop();
        for thread in threads {
            // The last one to hold the replica manager may be one of them.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the log cleaner has panicked");
            }
        }
    }
}

impl Drop for CleanerThreads {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn work(id: usize, crew: &Crew, cleaner: &Cleaner, high_watermark: &HighWatermarks) {
    let mut buffers = crew.config.buffers();
    loop {
        let wait = match cleaner.begin(now_ms(), high_watermark) {
            Some(cleaning) => {
                let partition = cleaning.partition().clone();
                let mut pace = Timed {
                    crew,
                    began: Instant::now(),
                    keys_read: None,
                };
                if let Some(stats) = cleaning.run(&mut buffers, &mut pace) {
                    report(id, &partition, &stats, &pace);
                }
                Duration::ZERO
            }
            None => crew.config.backoff,
        };
        if crew.rest(wait).is_break() {
            return;
        }
    }
}

fn report(id: usize, partition: &TopicPartition, stats: &CleaningStats, pace: &Timed<'_>) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let all = pace.began.elapsed().as_secs_f64();
    let keys = pace
        .keys_read
        .map_or(all, |at| (at - pace.began).as_secs_f64());
    let speed = |bytes: u64, seconds: f64| mebibytes(bytes) / seconds.max(1e-6);
    let smaller =
        |left: u64, before: u64| 100.0 * (1.0 - left as f64 / (before as f64).max(1.0)).max(0.0);
    tracing::info!(
        %partition,
        thread = id,
        "compacted the log, of which {} to {} was dirty: {:.1} MB ({} records) to {:.1} MB ({} records), {:.1}% smaller, in {all:.1} s ({:.1} MB/s); \
         keys of {:.1} MB noted in {keys:.1} s ({:.1} MB/s), {:.1}% of the dedupe buffer used",
        stats.first_dirty_offset,
        stats.next_dirty_offset,
        mebibytes(stats.bytes_read),
        stats.records_read,
        mebibytes(stats.bytes_written),
        stats.records_written,
        smaller(stats.bytes_written, stats.bytes_read),
        speed(stats.bytes_read, all),
        mebibytes(stats.index_bytes_read),
        speed(stats.index_bytes_read, keys),
        100.0 * stats.buffer_utilization,
    );
    if stats.keyless_records > 0 {
        let count = stats.keyless_records;
        tracing::warn!(%partition, "{count} records without a key are gone from the log, which is kept by key");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_throttle_spreads_bytes_over_time_and_saves_nothing_up() {
        let mut throttle = Throttle::new(100.0);
        assert_eq!(throttle.take(Duration::ZERO, 50), SECOND / 2);
        assert_eq!(throttle.take(Duration::ZERO, 100), SECOND * 3 / 2);
        assert_eq!(throttle.take(SECOND, 0), SECOND / 2);
        assert_eq!(throttle.take(SECOND * 10, 100), SECOND);
    }

    #[test]
    fn a_throttle_takes_any_number() {
        let mut free = Throttle::new(f64::MAX);
        assert_eq!(free.take(SECOND, u64::MAX), Duration::ZERO);
        for odd in [0.0, -5.0, f64::NAN] {
            assert_eq!(Throttle::new(odd).take(SECOND, 2), 2 * SECOND);
        }
        let mut slow = Throttle::new(1.0);
        slow.take(SECOND, u64::MAX);
        assert!(slow.take(SECOND, u64::MAX) > SECOND);
    }

    #[test]
    fn who_rests_is_woken_by_the_end() {
        let properties = [("zookeeper.connect".to_owned(), "localhost:2181".to_owned())];
        let config = BrokerConfig::from_properties(&properties.into()).unwrap().0;
        let crew = Crew::new(CleanerConfig::new(&config));
        assert!(crew.rest(Duration::ZERO).is_continue());
        let resting = {
            let crew = crew.clone();
            std::thread::spawn(move || crew.rest(Duration::from_secs(600)))
        };
        crew.stop();
        assert!(resting.join().unwrap().is_break());
        assert!(crew.rest(Duration::ZERO).is_break());
    }
}
