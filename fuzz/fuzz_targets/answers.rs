//! See `mq_fuzz::answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::answers(bytes));
