//! How long things took, cheaply enough to count each of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Steps between one power of two and the next: a figure is no more than an eighth above what was measured.
const STEPS: u64 = 8;

/// Enough for 19 hours; what took longer counts as that.
const BUCKETS: usize = 280;

/// Durations by size, in microseconds. Any thread counts, any thread reads.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    min_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_us: AtomicU64::new(0),
            min_us: AtomicU64::new(u64::MAX),
            max_us: AtomicU64::new(0),
        }
    }
}

/// What a [`Histogram`] held at some time; times in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) sum_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) max_ms: f64,
    /// The median, and the 95th, 99th and 99.9th percentile.
    pub(crate) percentiles_ms: [f64; 4],
}

/// The quantiles of [`Summary::percentiles_ms`], with the name that ZooKeeper gives each.
pub(crate) const QUANTILES: [(f64, &str); 4] =
    [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p999")];

impl Histogram {
    /// Something took this long.
    pub(crate) fn record(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        // Read before written: most are neither, and a shared line that is only read costs next to nothing.
        if us < self.min_us.load(Relaxed) {
            self.min_us.fetch_min(us, Relaxed);
        }
        if us > self.max_us.load(Relaxed) {
            self.max_us.fetch_max(us, Relaxed);
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
        self.sum_us.store(0, Relaxed);
        self.min_us.store(u64::MAX, Relaxed);
        self.max_us.store(0, Relaxed);
    }

    /// What there is by now.
    pub(crate) fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        if count == 0 {
            return Summary::default();
        }
        let max_us = self.max_us.load(Relaxed);
        let percentile = |(quantile, _): (f64, &str)| {
            let rank = (count as f64 * quantile).ceil() as u64;
            let mut passed = 0;
            let at = counts.iter().position(|&count| {
                passed += count;
                passed >= rank
            });
            ms(at.map_or(max_us, upper_bound).min(max_us))
        };
        Summary {
            count,
            sum_ms: ms(self.sum_us.load(Relaxed)),
            min_ms: ms(self.min_us.load(Relaxed).min(max_us)),
            max_ms: ms(max_us),
            percentiles_ms: QUANTILES.map(percentile),
        }
    }
}

impl Summary {
    /// Rounded to four digits, as ZooKeeper does.
    pub(crate) fn average_ms(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.sum_ms / self.count as f64 * 10_000.0).round() / 10_000.0
    }

    /// Both together; percentiles cannot be added, and are not there.
    pub(crate) fn and(self, other: Summary) -> Summary {
        if self.count == 0 {
            return other;
        }
        if other.count == 0 {
            return self;
        }
        Summary {
            count: self.count + other.count,
            sum_ms: self.sum_ms + other.sum_ms,
            min_ms: self.min_ms.min(other.min_ms),
            max_ms: self.max_ms.max(other.max_ms),
            percentiles_ms: [0.0; 4],
        }
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Buckets of one microsecond each, then [`STEPS`] to each power of two.
fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let shift = us.ilog2() - STEPS.ilog2();
    let at = u64::from(shift) * STEPS + (us >> shift);
    (at as usize).min(BUCKETS - 1)
}

/// The largest that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let at = bucket as u64;
    if at < STEPS {
        return at;
    }
    let shift = at / STEPS - 1;
    ((at % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says() {
        let mut before = None;
        for us in (0..5_000).chain((0..36).map(|power| 3 << power)) {
            let at = bucket(us);
            assert!(before <= Some(at) || us < 5_000, "{us}");
            before = Some(at);
            assert!(us <= upper_bound(at), "{us} is above its bucket's end");
            assert!(
                upper_bound(at) <= us + us / STEPS,
                "{us} is far below its bucket's end"
            );
            assert!(
                at == 0 || upper_bound(at - 1) < us,
                "{us} is in an earlier bucket"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), Summary::default());
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        let summary = histogram.summary();
        assert_eq!(
            (summary.count, summary.min_ms, summary.max_ms),
            (1000, 1.0, 1000.0)
        );
        assert_eq!(summary.average_ms(), 500.5);
        for (percentile, exact) in summary
            .percentiles_ms
            .into_iter()
            .zip([500.0, 950.0, 990.0, 999.0])
        {
            assert!(
                (exact..=exact * 1.125).contains(&percentile),
                "{percentile} for {exact}"
            );
        }
        histogram.reset();
        assert_eq!(histogram.summary(), Summary::default());
    }
}
