//! Children of a process that has clients. One test: `fork` copies whatever other tests do meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.
#![allow(unsafe_code, reason = "fork has no other interface")]

use std::collections::BTreeMap;
use std::io::{Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use libmq::{Client, Error, PublishState, SubscribeOptions, Subscription};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `child` in a child of this process, which then ends as `exit` does. Returns its pid.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child uses only what the crate promises to a child, and what belongs to this thread.
    match unsafe { libc::fork() } {
        0 => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            std::process::exit(i32::from(result.is_err()));
        }
        pid => {
            assert!(pid > 0, "no child: {}", std::io::Error::last_os_error());
            pid
        }
    }
}

/// Waits for a child. Returns its exit code, or the number of the signal that ended it, negative.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

fn subscribe(client: &Client) -> Subscription {
    client.subscribe("t", "c", SubscribeOptions::default()).unwrap()
}

#[test]
fn a_child_can_harm_nothing_and_open_clients_of_its_own() {
    let folder = TempDir::new().unwrap();
    let url = folder.path().display().to_string();
    let client = libmq::connect(&url).unwrap();
    let remote = libmq::connect("mq://127.0.0.1:1?publish_timeout=50ms").unwrap();
    assert!(matches!(remote.publish("t", "x"), Err(Error::Timeout(_))));
    client.publish_many("t", ["1", "2", "3", "4"]).unwrap();
    let subscription = subscribe(&client);
    let message = subscription.next(PATIENCE).unwrap().unwrap();
    let batch = subscription.next_batch(2, PATIENCE).unwrap();
    let pending = remote.send("t", "x").unwrap();
    // What is not in the log yet is written within 100 ms: nothing is to change below but by the child.
    let mut before = files(folder.path());
    loop {
        std::thread::park_timeout(Duration::from_millis(300));
        let now = files(folder.path());
        if now == before {
            break;
        }
        before = now;
    }

    // The handles move into the child's copy and are dropped there.
    let handles = (client, remote, subscription, message, batch, pending);
    let child = {
        let handles = &handles;
        fork(move || {
            let (client, remote, subscription, message, batch, pending) = handles;
            assert_eq!(client.publish("t", "x"), Err(Error::Forked));
            assert_eq!(client.send("t", "x").unwrap_err(), Error::Forked);
            assert_eq!(client.flush(PATIENCE), Err(Error::Forked));
            assert_eq!(client.close(PATIENCE), Err(Error::Forked));
            assert_eq!(client.stats(), Err(Error::Forked));
            assert_eq!(client.subscribe("t", "c", SubscribeOptions::default()).unwrap_err(), Error::Forked);
            assert_eq!(subscription.next(PATIENCE).unwrap_err(), Error::Forked);
            assert_eq!(subscription.next_batch(1, PATIENCE).unwrap_err(), Error::Forked);
            assert!(!subscription.close(PATIENCE) && subscription.failures().is_empty());
            message.finish();
            message.touch();
            batch.finish(..);
            let answers = [message.check_process(), batch.check_process()];
            assert_eq!(answers, [Err(Error::Forked), Err(Error::Forked)]);
            assert_eq!(remote.publish("t", "x"), Err(Error::Forked));
            assert_eq!(pending.wait(PATIENCE), Err(Error::Forked));
            assert_eq!(pending.state(), PublishState::Unknown);
            assert!(matches!(libmq::connect(&url), Err(Error::Locked { .. })));
            // SAFETY: a bitwise copy is dropped once, in this process, whose own handles end with `exit`.
            drop(unsafe { std::ptr::read(handles) });

            let own = libmq::connect("mq:memory").unwrap();
            own.publish("t", "own").unwrap();
            let message = subscribe(&own).next(PATIENCE).unwrap().unwrap();
            assert_eq!(message.body(), "own");
            message.finish();
            let remote = libmq::connect("mq://127.0.0.1:1?publish_timeout=50ms").unwrap();
            assert!(matches!(remote.publish("t", "x"), Err(Error::Timeout(_))));
        })
    };
    assert_eq!(wait(child), 0);
    assert!(files(folder.path()) == before, "the child changed the folder");

    // Here everything goes on, and nothing was answered.
    let (client, _, subscription, message, batch, _) = handles;
    assert_eq!([message.check_process(), batch.check_process()], [Ok(()), Ok(())]);
    message.finish();
    assert_eq!((batch.len(), subscription.failures().len()), (2, 0));
    batch.finish(..);
    subscription.next(PATIENCE).unwrap().unwrap().finish();
    assert_eq!(client.stats().unwrap().topics[0].channels[0].finished, 4);
    drop((client, subscription, batch, message));

    a_folder_is_free_once_its_process_is_killed(folder.path());
}

fn a_folder_is_free_once_its_process_is_killed(folder: &Path) {
    let url = folder.display().to_string();
    let (mut opened, mut says_opened) = pipe().unwrap();
    let (mut end, ends) = pipe().unwrap();
    let parent = fork(|| {
        let _client = libmq::connect(&url).unwrap();
        // SAFETY: this process never returns from here, so nothing else uses or closes its copy.
        assert_eq!(unsafe { libc::close(ends.as_raw_fd()) }, 0);
        // This child lives on until the test is over.
        fork(|| {
            says_opened.write_all(b"x").unwrap();
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        });
        loop {
            std::thread::park();
        }
    });
    drop(says_opened);
    opened.read_exact(&mut [0]).unwrap();
    assert!(matches!(libmq::connect(&url), Err(Error::Locked { .. })));
    // SAFETY: the process is a child of this one, and not waited for yet.
    assert_eq!(unsafe { libc::kill(parent, libc::SIGKILL) }, 0);
    assert_eq!(wait(parent), -libc::SIGKILL);
    libmq::connect(&url).unwrap();
    drop(ends);
}
