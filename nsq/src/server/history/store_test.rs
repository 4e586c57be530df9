//! The history against a model that keeps everything.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::answers::{Curve, Overview};
use super::series::{Reading, Span, Step};
use super::store::History;

const STEP: Duration = Duration::from_secs(10);

/// The changes of a series in a round; `None`: it is not there.
type Event = Option<(u8, u8, u8)>;

/// All steps of a series since it was last new.
#[derive(Default)]
struct Kept {
    last: Reading,
    steps: Vec<Step>,
    /// The rounds of these steps.
    rounds: Vec<usize>,
}

fn coarse(kept: &Kept) -> Vec<Step> {
    let mut out = Vec::new();
    let mut partial: Option<Step> = None;
    for (step, round) in kept.steps.iter().zip(&kept.rounds) {
        let sum = partial.map_or(*step, |partial| partial.and(*step));
        partial = Some(sum);
        if round % 6 == 0 {
            out.push(sum);
            partial = None;
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn series_are_the_newest_of_all_steps(
        rounds in vec(vec(prop::option::weighted(0.97, (0u8..3, 0u8..3, 0u8..4)), 3), 1..200),
    ) {
        let mut history = History::new(usize::MAX);
        let mut model: BTreeMap<usize, Kept> = BTreeMap::new();
        for (n, events) in rounds.iter().enumerate() {
            let mut round = history.begin(10 * n as u64, STEP);
            for (name, event) in events.iter().enumerate() {
                let Some((published, finished, depth)) = *event as Event else {
                    model.remove(&name);
                    continue;
                };
                let known = model.contains_key(&name);
                let before = model.get(&name).map(|kept| kept.last).unwrap_or_default();
                let reading = Reading {
                    depth: depth.into(),
                    published: before.published + u64::from(published),
                    finished: before.finished + u64::from(finished),
                    ..Reading::default()
                };
                round.add(&format!("t{name}"), None, reading);
                if !known && reading == Reading::default() {
                    continue;
                }
                let kept = model.entry(name).or_default();
                kept.steps.push(Step {
                    depth: depth.into(),
                    published: published.into(),
                    finished: finished.into(),
                    ..Step::default()
                });
                kept.rounds.push(n + 1);
                kept.last = reading;
            }
            round.end(Reading::default());
        }
        for name in 0..3 {
            let found = history.find(&format!("t{name}"), None);
            prop_assert_eq!(found.is_some(), model.contains_key(&name));
            let (Some(series), Some(kept)) = (found, model.get(&name)) else { continue };
            let fine: Vec<_> = series.steps(Span::Minutes).newest().collect();
            let want: Vec<_> = kept.steps.iter().rev().take(60).copied().collect();
            prop_assert_eq!(fine, want);
            let day: Vec<_> = series.steps(Span::Day).newest().collect();
            let want: Vec<_> = coarse(kept).into_iter().rev().take(1440).collect();
            prop_assert_eq!(day, want);
        }
    }

    #[test]
    fn the_bound_holds_and_the_quiet_go_first(busy in 1usize..4, rounds in 20usize..80) {
        const BYTES_MAX: usize = 256 * 1024;
        let mut history = History::new(BYTES_MAX);
        for n in 1..=rounds as u64 {
            let mut round = history.begin(10 * n, STEP);
            for topic in 0..1000 {
                // The busy ones change in each round, the others once.
                let published = if topic < busy { n * (topic as u64 + 1) * 7 + n % 3 } else { 1 };
                round.add(&format!("topic-{topic:04}"), None, Reading { published, ..Reading::default() });
            }
            round.end(Reading::default());
            prop_assert!(history.bytes() <= BYTES_MAX);
        }
        for topic in 0..busy {
            let name = format!("topic-{topic:04}");
            prop_assert!(history.find(&name, None).is_some());
        }
        prop_assert_eq!(history.missing() + history.all().count(), 1000);
    }
}

#[test]
fn the_last_minute_has_its_rates_its_growth_and_the_time_since_which_messages_wait() {
    let mut history = History::default();
    for n in 1..=30u64 {
        let mut round = history.begin(n * 10, STEP);
        // Nothing waits until the 20th step; then 30 more in each.
        let depth = n.saturating_sub(20) * 30;
        let reading =
            Reading { depth, in_flight: 2, published: n * 50, finished: n * 20, ..Reading::default() };
        round.add("t", None, reading);
        round.end(reading);
    }
    let overview = serde_json::to_value(Overview::new(&history, |_| true)).unwrap();
    for rates in [&overview["node"], &overview["series"][0]] {
        assert_eq!((&rates["published_rate"], &rates["finished_rate"]), (&json!(5.0), &json!(2.0)));
        assert_eq!((&rates["growth"], &rates["behind_since"]), (&json!(3.0), &json!(210)));
    }
    let curve = serde_json::to_value(Curve::new(&history, Some(("t", None)), Span::Day)).unwrap();
    assert_eq!(curve["times"], json!([60, 120, 180, 240, 300]));
    assert_eq!(
        (&curve["depth"], &curve["published"]),
        (&json!([0, 0, 0, 120, 300]), &json!([5.0, 5.0, 5.0, 5.0, 5.0]))
    );
    assert!(Curve::new(&history, Some(("none", None)), Span::Day).is_none());
}

#[test]
fn a_day_of_readings_is_kept_and_no_more() {
    let mut history = History::default();
    for n in 1..=25 * 360 {
        let mut round = history.begin(n * 10, STEP);
        round.add("t", Some("c"), Reading { published: n * 3, depth: n, ..Reading::default() });
        round.end(Reading::default());
    }
    let series = history.find("t", Some("c")).unwrap();
    let (fine, day) = (series.steps(Span::Minutes), series.steps(Span::Day));
    assert_eq!((fine.newest().count(), day.newest().count()), (60, 1440));
    assert_eq!(day.newest().next().unwrap().published, 18);
    assert_eq!((history.ticks(Span::Minutes).len(), history.ticks(Span::Day).len()), (60, 1440));
    assert!(history.bytes() < 128 * 1024, "{}", history.bytes());
}
