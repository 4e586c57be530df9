//! See `mq_fuzz::snappy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::snappy(bytes));
