//! The example without a server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn the_embedded_broker_delivers_what_it_was_given_once() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let run = Command::new(env!("CARGO_BIN_EXE_embedded")).current_dir(&folder).output().unwrap();
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{errors}");
        // The second run would print an order of the first too, had it not been finished.
        assert_eq!(String::from_utf8_lossy(&run.stdout), "one pizza\n", "{errors}");
    }
}
