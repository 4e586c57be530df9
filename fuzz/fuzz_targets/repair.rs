//! See `mq_fuzz::repair`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::repair(bytes));
