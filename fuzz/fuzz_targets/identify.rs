//! See `mq_fuzz::identify`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::identify(bytes));
