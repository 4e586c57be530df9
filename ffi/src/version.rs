//! The library's version.

use std::ffi::{CStr, c_char};

use crate::values::MQ_ABI_VERSION;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The library's version, such as "0.1.0". Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn mq_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The library's MQ_ABI_VERSION. A program that was compiled with another one must not go on.
#[unsafe(no_mangle)]
pub extern "C" fn mq_abi_version() -> u32 {
    MQ_ABI_VERSION
}
