//! Curves, summed over nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mq_net::http::{Answer, Query};
use serde_json::{Value, json};

use super::{invalid, later, missing};
use crate::fleet::{Fleet, Key, Reading, Wanted, all, seconds_now};
use crate::snapshot::Snapshot;
use crate::upstream::answers::Curve;
use crate::upstream::{Call, Failure, Upstream};

/// The curves of an answer.
const CURVES: [&str; 6] = ["depth", "in_flight", "published", "finished", "requeued", "timed_out"];

/// The curves of a topic, a channel, or all topics of a node or of all of them.
pub(crate) async fn history(
    fleet: &Fleet,
    viewer: Key,
    snapshot: Arc<Snapshot>,
    call: &Call,
    query: &Query,
) -> Result<Answer, Answer> {
    let (span, step) = match query.get_some("span") {
        None | Some("10m") => ("10m", 10),
        Some("1d") => ("1d", 60),
        Some(other) => return Err(invalid(&format!("span {other:?} is none of 10m, 1d"))),
    };
    let place: Place =
        (query.get_some("topic").map(str::to_owned), query.get_some("channel").map(str::to_owned));
    let only = query.get_some("node").map(str::to_owned);
    if only.as_deref().is_some_and(|id| snapshot.node(id).is_none()) {
        return Err(missing("NODE_NOT_FOUND"));
    }
    let is_of_all = place == (None, None);
    let read = drawn(Arc::clone(&snapshot), call.clone(), (span, step), only.clone(), place);
    if !is_of_all {
        return Ok(Answer::json(&read.await));
    }
    let is_hasty = query.get("partial") == Some("1");
    let wanted = Wanted { viewer, span, node: only };
    let chart = fleet.charts.get(wanted, Duration::from_secs(step), is_hasty, || read).await;
    Ok(match chart {
        Some(chart) => Answer::json(&*chart),
        None => later(&snapshot, Some(Reading { done: 0, of: Some(snapshot.nodes.len()) })),
    })
}

/// The curves as they are now; `only` of that node.
async fn drawn(
    snapshot: Arc<Snapshot>,
    call: Call,
    (span, step): (&'static str, u64),
    only: Option<String>,
    place: Place,
) -> Value {
    let wanted = snapshot.nodes.iter().filter(|node| {
        let has = |topic: &String| node.topics.contains_key(topic);
        only.as_ref().is_none_or(|id| id == node.id()) && place.0.as_ref().is_none_or(has)
    });
    let mut warnings = snapshot.warnings.clone();
    let mut dropped = 0;
    let mut upstreams = Vec::new();
    for node in wanted.filter(|node| node.error.is_none()) {
        if node.keeps_history {
            dropped += node.history_missing;
            upstreams.push(node.upstream.clone());
        } else {
            warnings.push(format!("node {} keeps no history", node.id()));
        }
    }
    let (curves, failed) = read(upstreams, &call, span, place).await;
    warnings.extend(failed);
    let (times, sums) = sum(&curves, step);
    let note = (dropped > 0).then(|| {
        format!("{dropped} topics and channels that were quiet for longest have no history: it is at most 8 MiB a broker")
    });
    let mut answer = json!({
        "at": seconds_now(), "warnings": warnings, "step": step, "times": times, "note": note,
    });
    for (name, values) in CURVES.iter().zip(sums) {
        answer[*name] = json!(values);
    }
    answer
}

/// A topic and a channel.
type Place = (Option<String>, Option<String>);

async fn read(
    upstreams: Vec<Upstream>,
    call: &Call,
    span: &'static str,
    place: Place,
) -> (Vec<Curve>, Vec<String>) {
    let place = Arc::new(place);
    let answers = all(upstreams, |upstream| {
        let (call, place) = (call.clone(), Arc::clone(&place));
        async move {
            let mut query = vec![("span", span)];
            query.extend(place.0.as_deref().map(|topic| ("topic", topic)));
            query.extend(place.1.as_deref().map(|channel| ("channel", channel)));
            let curve: Result<Curve, Failure> = upstream.get(&call, "/history", &query).await;
            curve.map_err(|error| format!("node {} does not answer: {error}", upstream.id))
        }
    });
    let (mut curves, mut failed) = (Vec::new(), Vec::new());
    for answer in answers.await {
        match answer {
            Ok(curve) => curves.push(curve),
            Err(text) => failed.push(text),
        }
    }
    (curves, failed)
}

/// Curves of several nodes as one: their steps end at different times, so each goes to the step of the grid
/// that its end is in.
fn sum(curves: &[Curve], step: u64) -> (Vec<u64>, [Vec<Option<f64>>; 6]) {
    let mut grid: BTreeMap<u64, [Option<f64>; 6]> = BTreeMap::new();
    for curve in curves {
        let columns = [
            &curve.depth,
            &curve.in_flight,
            &curve.published,
            &curve.finished,
            &curve.requeued,
            &curve.timed_out,
        ];
        let mut used = None;
        for (at, time) in curve.times.iter().enumerate() {
            let mut slot = time / step * step;
            // Two steps of one node never share a slot: the later goes to the next.
            if used.is_some_and(|used| slot <= used) {
                slot = used.unwrap_or_default() + step;
            }
            used = Some(slot);
            let sums = grid.entry(slot).or_default();
            for (sum, column) in sums.iter_mut().zip(columns) {
                if let Some(value) = column.get(at).copied().flatten() {
                    *sum = Some(((sum.unwrap_or_default() + value) * 100.0).round() / 100.0);
                }
            }
        }
    }
    let times = grid.keys().copied().collect();
    let mut out: [Vec<Option<f64>>; 6] = Default::default();
    for values in grid.values() {
        for (column, value) in out.iter_mut().zip(values) {
            column.push(*value);
        }
    }
    (times, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(first: u64, depth: &[Option<f64>]) -> Curve {
        let times = (0..depth.len() as u64).map(|n| first + n * 10).collect();
        Curve { times, depth: depth.to_vec(), published: vec![Some(1.5); depth.len()], ..Curve::default() }
    }

    #[test]
    fn curves_of_nodes_that_read_at_different_seconds_are_summed() {
        let a = curve(103, &[Some(1.0), Some(2.0), Some(3.0)]);
        let b = curve(108, &[None, Some(10.0)]);
        let (times, [depth, in_flight, published, ..]) = sum(&[a, b], 10);
        assert_eq!(times, [100, 110, 120]);
        assert_eq!(depth, [Some(1.0), Some(12.0), Some(3.0)]);
        assert_eq!(published, [Some(3.0), Some(3.0), Some(1.5)]);
        assert_eq!(in_flight, [None; 3]);
    }

    #[test]
    fn a_step_that_came_early_does_not_hide_the_one_before() {
        let mut jittered = curve(100, &[Some(1.0), Some(2.0), Some(3.0)]);
        jittered.times = vec![100, 109, 120];
        let (times, [depth, ..]) = sum(&[jittered], 10);
        assert_eq!((times, depth), (vec![100, 110, 120], vec![Some(1.0), Some(2.0), Some(3.0)]));
    }
}
