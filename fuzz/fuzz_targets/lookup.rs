//! See `mq_fuzz::lookup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::lookup(bytes));
