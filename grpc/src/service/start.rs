//! The position at which a new channel starts, as requests name it.

use mq_core::{Offset, Start};

use super::Core;
use crate::status::Refusal;
use crate::v1::start_position::Position;
use crate::v1::{StartEdge, StartPosition};
use mq_core::clock::Wall;

/// 2001-09-09: what lies before was meant as seconds, milliseconds or microseconds.
const TIME_NS_MIN: u64 = 1_000_000_000_000_000_000;
/// Nanoseconds that a time may lie ahead of the broker's clock: a day.
const AHEAD_NS_MAX: u64 = 24 * 3_600 * 1_000_000_000;

/// The start that the field `start` of a request asks for; `prefix` leads to the field.
pub(super) fn start(core: &Core, position: Option<&StartPosition>, prefix: &str) -> Result<Start, Refusal> {
    Ok(match position.and_then(|position| position.position) {
        None => Start::Now,
        Some(Position::Offset(offset)) => Start::Offset(Offset(offset)),
        Some(Position::TimeNs(time)) => {
            let latest = core.broker.wall().plus(AHEAD_NS_MAX).0;
            if !(TIME_NS_MIN..=latest).contains(&time) {
                let text = format!(
                    "{time} is not a time between {TIME_NS_MIN} (2001) and {latest} (a day from now): it is counted in \
                     nanoseconds since 1970-01-01 UTC"
                );
                return Err(Refusal::invalid(format!("{prefix}start.time_ns"), text));
            }
            Start::Time(Wall(time))
        }
        Some(Position::Edge(edge)) => match StartEdge::try_from(edge) {
            Ok(StartEdge::Unspecified | StartEdge::Backlog) => Start::Now,
            Ok(StartEdge::Earliest) => Start::Earliest,
            Ok(StartEdge::Latest) => Start::Latest,
            Err(_) => {
                let text = format!("{edge} is no edge: 1 is the earliest, 2 the backlog, 3 the latest");
                return Err(Refusal::invalid(format!("{prefix}start.edge"), text));
            }
        },
    })
}
