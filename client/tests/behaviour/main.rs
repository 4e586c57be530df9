//! One table of behaviours over every place that a client can be at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod bounds;
#[allow(dead_code, reason = "each test file uses its part")]
#[path = "../common/mod.rs"]
mod common;
mod consuming;
mod publishing;

use std::time::Duration;

use common::World;
use libmq::{SubscribeOptions, Subscription};

/// The longest delay.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

fn subscribe(world: &World) -> Subscription {
    world.client.subscribe("t", "c", SubscribeOptions::default()).unwrap()
}
