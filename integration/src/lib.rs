//! The cluster harness, and the end-to-end and compatibility tests.
