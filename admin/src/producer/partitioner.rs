//! Which partition a record goes to: by its key, as Java's producer has it, or, without one, in turns of a batch each.

use super::record::ProducerRecord;

/// Picks partitions for the records of one topic.
pub(super) struct Partitioner {
    /// The bytes after which records without a key go elsewhere.
    batch_size: usize,
    /// Where they go now, and how many bytes went there.
    current: Option<(usize, usize)>,
}

impl Partitioner {
    pub(super) fn new(batch_size: usize) -> Self {
        Self {
            batch_size,
            current: None,
        }
    }

    /// The partition of a record, of `count` (at least one), of which those in `available` have a leader. A key's
    /// partition does not depend on who leads it.
    pub(super) fn partition(
        &mut self,
        record: &ProducerRecord,
        count: usize,
        available: &[usize],
    ) -> usize {
        if let Some(key) = &record.key {
            let hash = murmur2(key) & 0x7fff_ffff;
            return hash as usize % count.max(1);
        }
        let (partition, bytes) = match self.current {
            Some((partition, bytes)) if bytes < self.batch_size && partition < count => {
                (partition, bytes)
            }
            _ => (any(count, available), 0),
        };
        self.current = Some((partition, bytes + record.size()));
        partition
    }
}

fn any(count: usize, available: &[usize]) -> usize {
    match available {
        [] => rand::random_range(0..count.max(1)),
        available => available[rand::random_range(0..available.len())],
    }
}

/// MurmurHash2 of 32 bits with the seed that Java's producer uses, so that a key's partition is the same whoever
/// writes it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(key: Option<&'static str>, value: &'static str) -> ProducerRecord {
        ProducerRecord {
            line: 1,
            timestamp: 0,
            key: key.map(Bytes::from),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        }
    }

    /// The values are those that Java's `Utils.murmur2` gives.
    #[test]
    fn hashes_are_javas() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_key_decides() {
        let mut partitioner = Partitioner::new(1);
        let partitions: Vec<usize> = (0..10)
            .map(|_| partitioner.partition(&record(Some("k"), "v"), 7, &[3]))
            .collect();
        assert!(
            partitions
                .iter()
                .all(|partition| *partition == partitions[0])
        );
    }

    #[test]
    fn without_a_key_a_batch_stays_together() {
        let mut partitioner = Partitioner::new(100);
        let first = partitioner.partition(&record(None, "0123456789"), 3, &[0, 1, 2]);
        for _ in 0..3 {
            assert_eq!(
                partitioner.partition(&record(None, "0123456789"), 3, &[0, 1, 2]),
                first
            );
        }
        let others: Vec<usize> = (0..400)
            .map(|_| partitioner.partition(&record(None, "0123456789"), 3, &[0, 1, 2]))
            .collect();
        assert!(
            (0..3).all(|partition| others.contains(&partition)),
            "all partitions get their turn"
        );
    }

    #[test]
    fn partitions_without_a_leader_are_left_out() {
        let mut partitioner = Partitioner::new(1);
        assert!((0..50).all(|_| partitioner.partition(&record(None, "v"), 3, &[1]) == 1));
        assert!(partitioner.partition(&record(None, "v"), 3, &[]) < 3);
    }
}
