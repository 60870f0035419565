//! The storage engine: segments, indexes, epochs, recovery, checkpoints.
