//! Restarts: the state that a channel keeps, however the restart learns of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use mq_core::testkit::{SECOND, World, is_done, pull};
use mq_core::{Durability, Step};

/// The ways in which a restart learns what was: from the log, from a checkpoint, from that of a clean stop.
#[derive(Clone, Copy, Debug)]
enum Restart {
    Kill,
    KillAfterCheckpoint,
    Stop,
}

impl Restart {
    const ALL: [Self; 3] = [Self::Kill, Self::KillAfterCheckpoint, Self::Stop];

    fn of(self, world: World) -> World {
        world.steps(&[Step::State]);
        match self {
            Self::Kill => world.kill(),
            Self::KillAfterCheckpoint => {
                world.steps(&[Step::Checkpoint]);
                world.kill()
            }
            Self::Stop => world.reopen(),
        }
    }
}

#[test]
fn pauses_of_topics_and_channels_are_kept() {
    for how in Restart::ALL {
        for paused in [true, false] {
            let world = World::new(Durability::Flush);
            let (topic, channel) = (world.topic("t"), world.channel("t", "a"));
            // Paused and unpaused before: the last word counts.
            for paused in [!paused, paused] {
                let tickets = match paused {
                    true => [topic.pause().unwrap(), channel.pause().unwrap()],
                    false => [topic.unpause().unwrap(), channel.unpause().unwrap()],
                };
                assert!(tickets.into_iter().all(|ticket| is_done(&world, ticket)));
            }
            // The second restart knows of them only from the first.
            let world = how.of(how.of(world));
            let (topic, channel) = (world.topic("t"), world.channel("t", "a"));
            assert_eq!((topic.is_paused(), channel.is_paused()), (paused, paused), "{how:?}");
            let mut sub = world.subscribe("t", "a", 10);
            world.publish("t", &["x"]);
            assert_eq!(topic.depth(), u64::from(paused), "{how:?}");
            let _ = topic.unpause().unwrap();
            assert_eq!(pull(&mut sub).len(), usize::from(!paused), "{how:?}");
        }
    }
}

#[test]
fn attempts_and_delays_are_kept() {
    for level in [Durability::Memory, Durability::Flush] {
        for how in Restart::ALL {
            let world = World::new(level);
            let mut sub = world.subscribe("t", "a", 10);
            world.publish("t", &["at once", "later"]);
            for attempt in 1..=3 {
                let got = pull(&mut sub);
                assert_eq!(got.iter().map(|m| m.attempts).collect::<Vec<_>>(), [attempt, attempt]);
                let mut acks = sub.acks();
                if attempt < 3 {
                    got.iter().for_each(|m| acks.requeue(m.id, Duration::ZERO).unwrap());
                } else {
                    // The other one times out.
                    acks.requeue(got[1].id, Duration::from_secs(300)).unwrap();
                    drop(acks);
                    world.clock.advance(60 * SECOND);
                    world.steps(&[Step::Timers]);
                }
            }
            drop(sub);
            if level == Durability::Memory {
                // Only what was spilled survives a kill. A chunk is spilled once it takes no more frames.
                (0..10).for_each(|_| world.publish("u", &["x".repeat(900)]));
                // The state of what is only in memory goes to the log with the spill, not before.
                world.steps(&[Step::State, Step::Spill]);
            }
            let world = how.of(world);
            let mut sub = world.subscribe("t", "a", 10);
            let got = pull(&mut sub);
            assert_eq!(got.len(), 1, "{level:?} {how:?}: the delay is forgotten");
            assert_eq!((got[0].attempts, got[0].text()), (4, "at once"), "{level:?} {how:?}");
            sub.acks().finish(got[0].id).unwrap();
            world.clock.advance(240 * SECOND - 1);
            world.steps(&[Step::Timers]);
            assert_eq!(pull(&mut sub), [], "{level:?} {how:?}");
            world.clock.advance(1);
            world.steps(&[Step::Timers]);
            let got = pull(&mut sub);
            assert_eq!(got.len(), 1, "{level:?} {how:?}");
            assert_eq!((got[0].attempts, got[0].text()), (4, "later"), "{level:?} {how:?}");
        }
    }
}
