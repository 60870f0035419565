//! The records field of Produce and Fetch: record batches, kept as the bytes that they are.

use std::fmt;

use bytes::Bytes;

/// Record batches of one partition. A request's are a slice of its frame; a response's may stay in their file.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Records {
    /// No records, not even an empty list.
    #[default]
    Null,
    /// The bytes themselves.
    Inline(Bytes),
    /// `len` bytes that the sender of the frame takes from a file. Only for encoding; decoding never yields it.
    Deferred {
        /// Bytes of the file's range.
        len: u32,
    },
}

impl Records {
    /// Bytes of all batches; null has none.
    pub fn len(&self) -> usize {
        match self {
            Records::Null => 0,
            Records::Inline(bytes) => bytes.len(),
            Records::Deferred { len } => *len as usize,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The length instead of the bytes, since a log line should not hold a megabyte.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Records::Null => f.write_str("Null"),
            Records::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Records::Deferred { len } => write!(f, "Deferred({len} bytes)"),
        }
    }
}
