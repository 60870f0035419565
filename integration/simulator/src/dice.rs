//! The one source of chance: every choice of a schedule comes from its seed.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

/// A generator that gives the same numbers for the same seed for ever: the seeds of bugs are kept as tests, and an
/// update of a crate must not give them another meaning. SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed))
    }

    /// A generator of its own, so that what one part of a schedule draws does not shift what another gets.
    pub fn fork(&self) -> Dice {
        Dice::new(self.next())
    }

    /// The next 64 bits.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of the range, which must not be empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A time of the range, in milliseconds.
    pub fn ms(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// True `percent` times in a hundred.
    pub fn chance(&self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.within(0..choices.len() as u64) as usize]
    }

    /// Puts them into another order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.within(0..at as u64 + 1) as usize);
        }
    }
}
