#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| log::fuzzing::message_sets(data));
