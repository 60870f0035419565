//! Random messages for tests, from a seed.

use bytes::Bytes;

use crate::wire::{Form, Nullable};
use crate::{ByteString, Message, Records, Uuid};

/// SplitMix64: small, and the same everywhere for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Mostly short, now and then so long that its length takes two bytes as a varint.
    fn length(&mut self) -> usize {
        if self.one_in(20) {
            120 + self.below(200)
        } else {
            self.below(8)
        }
    }
}

/// A type of which random values can be made.
pub(crate) trait Sample {
    fn sample(random: &mut Random, form: Form) -> Self;
}

/// A random message with values in all fields that `version` has.
pub(crate) fn message<M: Message + Sample>(random: &mut Random, version: i16) -> M {
    M::sample(
        random,
        Form {
            version,
            flexible: version >= M::FIRST_FLEXIBLE,
            nullable: false,
        },
    )
}

macro_rules! integers {
    ($($ty:ty)+) => {
        $(
            impl Sample for $ty {
                fn sample(random: &mut Random, _: Form) -> Self {
                    random.next() as $ty
                }
            }
        )+
    };
}

integers! { i8 i16 i32 i64 }

impl Sample for bool {
    fn sample(random: &mut Random, _: Form) -> Self {
        random.one_in(2)
    }
}

impl Sample for Uuid {
    fn sample(random: &mut Random, _: Form) -> Self {
        Uuid::from_bytes(
            (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes(),
        )
    }
}

impl Sample for ByteString {
    fn sample(random: &mut Random, _: Form) -> Self {
        let length = random.length();
        let letters = ['a', 'Z', '0', '.', '-', 'ß', '猫', '🦀'];
        (0..length)
            .map(|_| letters[random.below(letters.len())])
            .collect::<String>()
            .into()
    }
}

impl Sample for Records {
    fn sample(random: &mut Random, _: Form) -> Self {
        match random.below(4) {
            0 => Records::Null,
            _ => Records::Inline(
                (0..random.length())
                    .map(|_| random.next() as u8)
                    .collect::<Bytes>(),
            ),
        }
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(random: &mut Random, form: Form) -> Self {
        (0..random.below(4))
            .map(|_| T::sample(random, form))
            .collect()
    }
}

impl<T: Sample + Nullable> Sample for Option<T> {
    fn sample(random: &mut Random, form: Form) -> Self {
        let null = form.nullable && random.one_in(4);
        (!null).then(|| T::sample(random, form))
    }
}
