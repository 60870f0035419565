//! The Kafka protocol: frames, headers, messages, record batches; pure and bounded.
