//! Replays the seeds of every fuzz target, and changed copies of them, without the fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use mq_fuzz::{TARGETS, Target, frames_seeds};

/// Changed copies of each seed. `MQ_REPLAY_COPIES` has another number; `cargo xtask soak` fuzzes for hours
/// instead.
const COPIES: usize = 40;

/// The files in `seeds/NAME`, sorted by name.
fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    if name == "frames" {
        seeds.extend(
            frames_seeds().into_iter().zip(0..).map(|(bytes, i)| (format!("file {i} of a folder"), bytes)),
        );
    }
    seeds.sort();
    seeds
}

/// Changes one to four places: a bit, a byte, a range left out or doubled, the end cut off.
fn change(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..=4) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
        }
        let at = random.usize(..bytes.len());
        let end = (at + random.usize(1..=16)).min(bytes.len());
        match random.u8(..6) {
            0 | 1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n'][random.usize(..6)],
            3 => drop(bytes.drain(at..end)),
            4 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            _ => bytes.truncate(at),
        }
    }
}

fn replay(name: &str, target: Target) {
    let copies =
        std::env::var("MQ_REPLAY_COPIES").map_or(COPIES, |text| text.parse().expect("a number of copies"));
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "no seeds for {name}");
    for (path, bytes) in seeds {
        let run = |bytes: &[u8], what: &str| {
            let outcome = std::panic::catch_unwind(|| target(bytes));
            assert!(outcome.is_ok(), "{name}: {what} of {path} fails: {bytes:02x?}");
        };
        run(&bytes, "the whole");
        for copy in 0..copies {
            let mut random = fastrand::Rng::with_seed(copy as u64);
            let mut changed = bytes.clone();
            change(&mut changed, &mut random);
            run(&changed, &format!("copy {copy}"));
        }
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), mq_fuzz::$name);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

replays!(answers auth_answer commands deflate folder frames identify lookup repair snappy);
