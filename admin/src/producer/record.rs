//! One record on its way to a broker.

use bytes::Bytes;

/// What a batch adds to a record's own bytes, at most: lengths, deltas, attributes.
const RECORD_OVERHEAD: usize = 21;
/// What a record adds to a header's own bytes, at most.
const HEADER_OVERHEAD: usize = 10;

/// A record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerRecord {
    /// The line of the input that it comes from, for messages.
    pub(crate) line: u64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    /// The key, or null.
    pub(crate) key: Option<Bytes>,
    /// The value, or null.
    pub(crate) value: Option<Bytes>,
    /// Headers, in order.
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

impl ProducerRecord {
    /// How many bytes it takes in a batch, at most.
    pub(crate) fn size(&self) -> usize {
        let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(key, value)| HEADER_OVERHEAD + key.len() + length(value))
            .sum();
        RECORD_OVERHEAD + length(&self.key) + length(&self.value) + headers
    }
}
