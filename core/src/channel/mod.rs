//! A channel: a cursor over its topic.
