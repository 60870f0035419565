//! Which offset is the last one of each key: in as much memory as it was given, whatever the keys.
//!
//! A slot holds sixteen bytes of a key's hash and an offset, and no key. So two keys with the same hash would be one, and
//! the older of them lost. Kafka hashes with MD5, for which anybody can make such keys; here the hash is SipHash under two
//! secrets of the process, for which nobody can, and which takes a third of the time.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: u64 = 24;
/// Fewer slots are not worth saving.
const MIN_SLOTS: u64 = 1024;

/// What stands for a key.
pub(crate) type KeyHash = [u64; 2];

/// So many keys at a time are best hashed, sought and then looked up.
pub(crate) const KEYS_AT_ONCE: usize = 128;

/// Two words of hash, and the offset plus one, so that an empty slot is zero: memory of zeros costs nothing until it is
/// written.
type Slot = [u64; 3];

/// The map is full: it has no room for one more key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The last offsets of keys. Open addressing; nothing is ever removed.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    hashers: [RandomState; 2],
    max_slots: u64,
    load_factor: f64,
    slots: Vec<Slot>,
    /// How many of the slots are in use this round.
    size: u64,
    keys: u64,
    max_keys: u64,
    /// What lies above has not been looked at; -1 if nothing has.
    latest_offset: i64,
}

impl OffsetMap {
    /// A map that takes at most `max_bytes`, and is full once `load_factor` of its slots are.
    pub(crate) fn new(max_bytes: u64, load_factor: f64) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            max_slots: max_bytes / SLOT_BYTES,
            load_factor: load_factor.clamp(0.0, 1.0),
            slots: Vec::new(),
            size: 0,
            keys: 0,
            max_keys: 0,
            latest_offset: -1,
        }
    }

    /// Empties the map for a round that meets `keys` keys at most. One that needs few slots is spread over few, which stay
    /// in the processor's cache.
    pub(crate) fn begin(&mut self, keys: u64) {
        let wanted = keys.saturating_mul(2).max(MIN_SLOTS);
        self.size = wanted.min(self.max_slots);
        self.max_keys = ((self.size as f64 * self.load_factor) as u64).min(self.size);
        if self.size as usize > self.slots.len() {
            self.slots = vec![[0; 3]; self.size as usize];
        } else {
            self.slots[..self.size as usize].fill([0; 3]);
        }
        self.keys = 0;
        self.latest_offset = -1;
    }

    /// What lies above has not been looked at; -1 if nothing has.
    pub(crate) fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// Says that all up to `offset` is in the map.
    pub(crate) fn raise_latest_offset(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// How much of the memory that it may take is in use, from 0 to 1.
    pub(crate) fn utilization(&self) -> f64 {
        self.keys as f64 / (self.max_slots as f64).max(1.0)
    }

    /// What stands for the key.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let [first, second] = &self.hashers;
        [first, second].map(|hasher| {
            let mut hasher = hasher.build_hasher();
            hasher.write(key);
            hasher.finish()
        })
    }

    /// Where a hash goes if nothing is in its way: the high part of the product is spread as evenly as the hash, and lies
    /// below the size.
    #[inline]
    fn home(&self, hash: KeyHash) -> usize {
        ((u128::from(hash[0]) * u128::from(self.size)) >> 64) as usize
    }

    /// Brings into the processor's cache where these hashes go. A large map is not in it, and the processor waits for one
    /// place after the other if it must decide at each what comes next; here it waits for all of them at once.
    #[inline]
    pub(crate) fn seek(&self, hashes: impl Iterator<Item = KeyHash>) {
        let touched = hashes.fold(0, |touched, hash| {
            touched ^ self.slots.get(self.home(hash)).map_or(0, |slot| slot[2])
        });
        std::hint::black_box(touched);
    }

    /// The slot that holds the hash, or the empty one where it would go; `None` if there is neither.
    #[inline]
    fn find(&self, hash: KeyHash) -> Option<usize> {
        let slots = &self.slots[..self.size as usize];
        let home = self.home(hash);
        let (before, from) = slots.split_at_checked(home)?;
        let here = |slot: &Slot| slot[2] == 0 || slot[..2] == hash;
        let found = from.iter().position(here).map(|found| home + found);
        found.or_else(|| before.iter().position(here))
    }

    /// Says that the key's last record is at `offset`, which is not negative and not below any that was put before.
    #[inline]
    pub(crate) fn put(&mut self, hash: KeyHash, offset: i64) -> Result<(), Full> {
        let index = self.find(hash).ok_or(Full)?;
        if self.slots[index][2] == 0 {
            if self.keys == self.max_keys {
                return Err(Full);
            }
            self.keys += 1;
        }
        self.slots[index] = [hash[0], hash[1], offset as u64 + 1];
        Ok(())
    }

    /// The offset of the key's last record, if any was met.
    #[inline]
    pub(crate) fn get(&self, hash: KeyHash) -> Option<i64> {
        let found = self.slots[self.find(hash)?][2];
        found.checked_sub(1).map(|offset| offset as i64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn put(map: &mut OffsetMap, key: &[u8], offset: i64) -> Result<(), Full> {
        let hash = map.hash(key);
        map.seek([hash].into_iter());
        map.put(hash, offset)
    }

    fn get(map: &OffsetMap, key: &[u8]) -> Option<i64> {
        map.get(map.hash(key))
    }

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(1 << 20, 0.9);
        let mut expected = HashMap::new();
        map.begin(20_000);
        for offset in 0..20_000i64 {
            let key = (offset * 7919 % 3001).to_be_bytes();
            put(&mut map, &key, offset).unwrap();
            expected.insert(key, offset);
        }
        for (key, offset) in &expected {
            assert_eq!(get(&map, key), Some(*offset));
        }
        assert_eq!(get(&map, b"none"), None);
        assert!((map.utilization() - 3001.0 / (1 << 20) as f64 * 24.0).abs() < 0.001);
        map.begin(5);
        assert_eq!(get(&map, &0i64.to_be_bytes()), None, "another round");
        put(&mut map, b"", 0).unwrap();
        assert_eq!(get(&map, b""), Some(0), "an empty key is a key");
    }

    #[test]
    fn a_map_is_full_at_its_load_factor_and_takes_known_keys_still() {
        let mut map = OffsetMap::new(10 * SLOT_BYTES + 3, 0.9);
        map.begin(1000);
        for key in 0..9u8 {
            put(&mut map, &[key], i64::from(key)).unwrap();
        }
        assert_eq!(put(&mut map, &[9], 9), Err(Full));
        put(&mut map, &[3], 10).unwrap();
        assert_eq!((get(&map, &[3]), get(&map, &[9])), (Some(10), None));
    }

    #[test]
    fn a_map_without_room_is_full_at_once() {
        for (bytes, load_factor) in [(0, 0.9), (23, 0.9), (24, 0.9), (1 << 20, 0.0)] {
            let mut map = OffsetMap::new(bytes, load_factor);
            map.begin(1000);
            assert_eq!(put(&mut map, b"key", 0), Err(Full), "{bytes} bytes");
            assert_eq!(get(&map, b"key"), None);
        }
        let mut all = OffsetMap::new(3 * SLOT_BYTES, 1.0);
        all.begin(3);
        for key in 0..3u8 {
            put(&mut all, &[key], 7).unwrap();
        }
        assert_eq!((put(&mut all, &[3], 8), get(&all, &[3])), (Err(Full), None));
    }
}
