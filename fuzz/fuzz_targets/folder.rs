//! See `mq_fuzz::folder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::folder(bytes));
