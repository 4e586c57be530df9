//! Both ends of NSQ's protocols.
//!
//! - [`wire`]: bytes to enums and back, no I/O

pub mod wire;
