//! Both ends of NSQ's protocols.
