//! See `mq_fuzz::commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::commands(bytes));
