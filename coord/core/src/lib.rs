//! The znode tree, sessions, watches and transactions: sans-io.
