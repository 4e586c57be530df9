//! See `mq_fuzz::auth_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mq_fuzz::auth_answer(bytes));
