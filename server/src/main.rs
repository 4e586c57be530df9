//! The libmq server and command line.
fn main() {}
