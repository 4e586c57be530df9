//! The view of `mq top`, and what keys do. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use crate::fleet::Look;
use crate::stats::{Channel, Topic};
use crate::table::Table;
use crate::words::{count, printable};

/// The line of keys.
const KEYS: &str = "q quit  ↑↓ choose  enter channels  sort: d depth  f in flight  i in  o out  n name";
/// Brokers that a row names; the others are counted.
const NODES_SHOWN: usize = 3;
/// Lines that are no rows: the head, the keys, and the names of columns.
const OTHER_LINES: usize = 4;

/// Column that rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    Depth,
    InFlight,
    /// Messages published a second
    In,
    /// Messages finished a second, by all channels together
    Out,
    Name,
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Open,
    Quit,
    Letter(char),
}

/// A topic, or a channel of one that is open, over all brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Row {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// Messages that came in a second; `null` at first.
    in_rate: Option<f64>,
    /// Messages that left in a second: of a topic those that left its channels.
    out_rate: Option<f64>,
    depth: u64,
    in_flight: u64,
    deferred: u64,
    clients: u64,
    paused: bool,
    /// The brokers that have it; none where only one is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
}

/// A topic and its channels.
type Group = (Row, BTreeMap<String, Row>);

/// Messages that came to a channel, or to a topic, and messages that are still there.
type Counts = (u64, u64);

/// A broker, a topic of it, and a channel of that.
type Name = (String, String, Option<String>);

/// The answers of the last look, and when that was.
type Before = (HashMap<Name, Counts>, Instant);

/// The table and where the user is in it.
pub(super) struct View {
    name: String,
    /// Whether rows name their brokers.
    is_fleet: bool,
    order: Order,
    rows: Vec<Row>,
    /// Topics whose channels are shown.
    open: BTreeSet<String>,
    /// The channels of all topics are shown: for output in which nobody can open them.
    is_all_open: bool,
    /// The row that keys act on.
    chosen: usize,
    /// The first row on the screen.
    first: usize,
    page: usize,
    topics: BTreeMap<String, Group>,
    health: String,
    before: Option<Before>,
    failure: Option<String>,
}

impl View {
    pub(super) fn new(name: &str, is_fleet: bool, order: Order) -> Self {
        Self {
            name: name.to_owned(),
            is_fleet,
            order,
            rows: Vec::new(),
            open: BTreeSet::new(),
            is_all_open: false,
            chosen: 0,
            first: 0,
            page: 1,
            topics: BTreeMap::new(),
            health: String::new(),
            before: None,
            failure: None,
        }
    }

    /// Shows the channels of all topics from now on.
    pub(super) fn open_all(&mut self) {
        self.is_all_open = true;
    }

    /// Takes in what the brokers say now.
    pub(super) fn update(&mut self, look: &Look, now: Instant) {
        let seconds = self.before.as_ref().map(|(_, at)| now.saturating_duration_since(*at).as_secs_f64());
        let mut counts = HashMap::new();
        let before = self.before.take().map(|(counts, _)| counts).unwrap_or_default();
        // Messages a second that came to a place and left it; none of one that is new.
        let mut rates = |name: Name, (came, there): Counts| {
            let rates = before.get(&name).zip(seconds).map(|((came_before, there_before), seconds)| {
                let came = came.saturating_sub(*came_before);
                let left = (there_before + came).saturating_sub(there);
                let seconds = seconds.max(1e-3);
                (came as f64 / seconds, left as f64 / seconds)
            });
            counts.insert(name, (came, there));
            rates
        };
        self.topics.clear();
        for (node, stats) in &look.brokers {
            for topic in stats.topics() {
                let name = &topic.topic_name;
                let (row, channels) = self.topics.entry(name.clone()).or_default();
                let own = rates((node.clone(), name.clone(), None), (topic.message_count, 0));
                // What leaves a topic without channels was dropped, and nobody got it.
                let mut left = own.map(|_| 0.0);
                for channel in topic.channels() {
                    let key = (node.clone(), name.clone(), Some(channel.channel_name.clone()));
                    let rates = rates(key, of_channel(channel));
                    add(&mut left, rates.map(|(_, left)| left));
                    let row = channels.entry(channel.channel_name.clone()).or_default();
                    row.add_channel(name, channel, rates);
                    row.nodes.extend(self.is_fleet.then(|| node.clone()));
                }
                row.add_topic(topic, own.map(|(came, _)| came), left);
                row.nodes.extend(self.is_fleet.then(|| node.clone()));
            }
        }
        self.before = Some((counts, now));
        let sick = look.brokers.iter().find(|(_, stats)| stats.health != "OK");
        self.health = match sick {
            None => "OK".to_owned(),
            Some((node, stats)) if self.is_fleet => format!("{node}: {}", stats.health),
            Some((_, stats)) => stats.health.clone(),
        };
        self.failure = (!look.failures.is_empty()).then(|| look.failures.join("; "));
        self.arrange();
    }

    /// Notes that the broker did not answer: what is shown is old.
    pub(super) fn fail(&mut self, failure: String) {
        self.failure = Some(failure);
    }

    /// Acts on a key. Returns whether it ends the view.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return true,
            Key::Up => self.chosen = self.chosen.saturating_sub(1),
            Key::Down => self.chosen += 1,
            Key::PageUp => self.chosen = self.chosen.saturating_sub(self.page),
            Key::PageDown => self.chosen += self.page,
            Key::Open => {
                if let Some(row) = self.rows.get(self.chosen) {
                    let topic = row.topic.clone();
                    if !self.open.remove(&topic) {
                        self.open.insert(topic);
                    }
                }
            }
            Key::Letter(letter) => match letter {
                'd' => self.order = Order::Depth,
                'f' => self.order = Order::InFlight,
                'i' => self.order = Order::In,
                'o' => self.order = Order::Out,
                'n' => self.order = Order::Name,
                _ => {}
            },
        }
        self.arrange();
        false
    }

    /// The rows in their order.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Makes the rows anew; the chosen one stays it.
    fn arrange(&mut self) {
        let key = |row: &Row| (row.topic.clone(), row.channel.clone());
        let chosen = self.rows.get(self.chosen).map(key);
        let mut topics: Vec<&Group> = self.topics.values().collect();
        let number = |rate: Option<f64>| rate.unwrap_or(0.0);
        match self.order {
            Order::Name => {}
            Order::Depth => topics.sort_by_key(|(row, _)| std::cmp::Reverse(row.depth)),
            Order::InFlight => topics.sort_by_key(|(row, _)| std::cmp::Reverse(row.in_flight)),
            Order::In => topics.sort_by(|(a, _), (b, _)| number(b.in_rate).total_cmp(&number(a.in_rate))),
            Order::Out => topics.sort_by(|(a, _), (b, _)| number(b.out_rate).total_cmp(&number(a.out_rate))),
        }
        let mut rows = Vec::new();
        for (row, channels) in topics {
            rows.push(row.clone());
            if self.is_all_open || self.open.contains(&row.topic) {
                rows.extend(channels.values().cloned());
            }
        }
        self.rows = rows;
        let found = chosen.and_then(|chosen| self.rows.iter().position(|row| key(row) == chosen));
        self.chosen = found.unwrap_or(self.chosen).min(self.rows.len().saturating_sub(1));
    }

    /// The table as text.
    pub(super) fn table(&self) -> String {
        self.table_of(&self.rows)
    }

    fn table_of(&self, rows: &[Row]) -> String {
        let mut table =
            Table::new(&["TOPIC", "IN/s", "OUT/s", "DEPTH", "IN FLIGHT", "DEFERRED", "CLIENTS", self.last()]);
        for row in rows {
            let name = match &row.channel {
                Some(channel) => format!("  {}", printable(channel)),
                None => printable(&row.topic),
            };
            let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
            table.row(&[
                name,
                rate(row.in_rate),
                rate(row.out_rate),
                row.depth.to_string(),
                row.in_flight.to_string(),
                row.deferred.to_string(),
                row.clients.to_string(),
                row.remark(),
            ]);
        }
        table.show()
    }

    /// The name of the last column.
    fn last(&self) -> &'static str {
        if self.is_fleet { "BROKERS" } else { "" }
    }

    /// The lines of a screen of that size, with the chosen row reversed.
    pub(super) fn lines(&mut self, columns: usize, rows: usize) -> Vec<String> {
        self.page = rows.saturating_sub(OTHER_LINES).max(1);
        // The chosen row is on the screen.
        self.first = self.first.clamp((self.chosen + 1).saturating_sub(self.page), self.chosen);
        let state = match &self.failure {
            Some(failure) => format!("no answer: {}", printable(failure)),
            None => printable(&self.health),
        };
        let count = count(self.topics.len() as u64, "topic", "topics");
        let mut lines =
            vec![format!("mq top  {}  {count}  {state}", self.name), KEYS.to_owned(), String::new()];
        // Of all rows, so that columns keep their width.
        let table = self.table();
        let mut table = table.lines();
        lines.extend(table.next().map(ToOwned::to_owned));
        lines.extend(table.skip(self.first).take(self.page).map(ToOwned::to_owned));
        let chosen = OTHER_LINES + self.chosen - self.first;
        for (at, line) in lines.iter_mut().enumerate() {
            let cut: String = line.chars().take(columns).collect();
            *line = if at == chosen { format!("\x1b[7m{cut:<columns$}\x1b[0m") } else { cut };
        }
        lines.truncate(rows);
        lines
    }
}

impl Row {
    /// Adds a topic of one broker.
    fn add_topic(&mut self, topic: &Topic, came: Option<f64>, left: Option<f64>) {
        let sum = |of: fn(&Channel) -> u64| -> u64 { topic.channels().iter().map(of).sum() };
        self.topic.clone_from(&topic.topic_name);
        add(&mut self.in_rate, came);
        add(&mut self.out_rate, left);
        self.depth += topic.waiting();
        self.in_flight += sum(|channel| channel.in_flight_count);
        self.deferred += sum(|channel| channel.deferred_count);
        self.clients += sum(|channel| channel.client_count);
        self.paused |= topic.paused;
    }

    /// Adds a channel of one broker.
    fn add_channel(&mut self, topic: &str, channel: &Channel, rates: Option<(f64, f64)>) {
        topic.clone_into(&mut self.topic);
        self.channel = Some(channel.channel_name.clone());
        add(&mut self.in_rate, rates.map(|(came, _)| came));
        add(&mut self.out_rate, rates.map(|(_, left)| left));
        self.depth += channel.depth;
        self.in_flight += channel.in_flight_count;
        self.deferred += channel.deferred_count;
        self.clients += channel.client_count;
        self.paused |= channel.paused;
    }

    /// The end of the line: the brokers, as far as there is room, and whether it is paused.
    fn remark(&self) -> String {
        let mut parts: Vec<String> =
            self.nodes.iter().take(NODES_SHOWN).map(|node| printable(node)).collect();
        if self.nodes.len() > NODES_SHOWN {
            parts.push(format!("+{}", self.nodes.len() - NODES_SHOWN));
        }
        parts.extend(self.paused.then(|| "paused".to_owned()));
        parts.join(" ")
    }
}

/// Adds to a rate that may not be known.
fn add(rate: &mut Option<f64>, more: Option<f64>) {
    if let Some(more) = more {
        *rate = Some(rate.unwrap_or(0.0) + more);
    }
}

fn of_channel(channel: &Channel) -> Counts {
    (channel.message_count, channel.depth + channel.in_flight_count + channel.deferred_count)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::Stats;

    fn topic(name: &str, message_count: u64, depths: &[u64]) -> Topic {
        let channel = |(n, depth): (usize, &u64)| Channel {
            channel_name: format!("c{n}"),
            depth: *depth,
            message_count,
            ..Channel::default()
        };
        let channels = Some(depths.iter().enumerate().map(channel).collect());
        Topic { topic_name: name.to_owned(), message_count, channels, ..Topic::default() }
    }

    fn stats(topics: Vec<Topic>) -> Look {
        fleet(vec![("a:1", topics)])
    }

    fn fleet(brokers: Vec<(&str, Vec<Topic>)>) -> Look {
        let stats = |topics| Stats { health: "OK".to_owned(), topics: Some(topics), ..Stats::default() };
        let brokers = brokers.into_iter().map(|(name, topics)| (name.to_owned(), stats(topics)));
        Look { brokers: brokers.collect(), failures: Vec::new() }
    }

    fn names(view: &View) -> Vec<String> {
        let name = |row: &Row| match &row.channel {
            Some(channel) => format!("{}/{channel}", row.topic),
            None => row.topic.clone(),
        };
        view.rows().iter().map(name).collect()
    }

    #[test]
    fn rates_are_what_came_and_left_between_two_looks() {
        let (mut view, start) = (View::new("a:1", false, Order::Depth), Instant::now());
        view.update(&stats(vec![topic("t", 100, &[50])]), start);
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (None, None));
        view.update(&stats(vec![topic("t", 180, &[30])]), start + Duration::from_secs(2));
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (Some(40.0), Some(50.0)));
        assert!(view.table().contains("40     50     30"), "{}", view.table());
    }

    #[test]
    fn a_topic_sends_out_what_its_channels_do_though_one_stands_still() {
        let (mut view, start) = (View::new("a:1", false, Order::Depth), Instant::now());
        view.update(&stats(vec![topic("t", 100, &[0, 100])]), start);
        view.update(&stats(vec![topic("t", 110, &[0, 110])]), start + Duration::from_secs(1));
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (Some(10.0), Some(10.0)));
        view.update(&stats(vec![topic("t", 110, &[0, 80])]), start + Duration::from_secs(2));
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (Some(0.0), Some(30.0)));
    }

    #[test]
    fn brokers_are_summed_and_named_and_one_that_comes_late_adds_no_rate() {
        let (mut view, start) = (View::new("a:1 b:2", true, Order::Depth), Instant::now());
        view.update(&fleet(vec![("a:1", vec![topic("t", 10, &[4])])]), start);
        let now = start + Duration::from_secs(1);
        view.update(
            &fleet(vec![("a:1", vec![topic("t", 15, &[4])]), ("b:2", vec![topic("t", 900, &[7])])]),
            now,
        );
        let row = &view.rows()[0];
        assert_eq!((row.in_rate, row.out_rate, row.depth), (Some(5.0), Some(5.0), 11));
        assert_eq!(row.nodes, ["a:1", "b:2"]);
        assert!(view.table().contains("BROKERS") && view.table().contains("a:1 b:2"), "{}", view.table());
    }

    #[test]
    fn keys_sort_open_and_choose() {
        let mut view = View::new("a:1", false, Order::Depth);
        view.update(
            &stats(vec![topic("a", 1, &[1, 2]), topic("b", 9, &[9]), topic("c", 5, &[])]),
            Instant::now(),
        );
        assert_eq!(names(&view), ["b", "a", "c"]);
        view.press(Key::Down);
        view.press(Key::Open);
        assert_eq!(names(&view), ["b", "a", "a/c0", "a/c1", "c"]);
        assert_eq!(view.chosen, 1);
        view.press(Key::Letter('n'));
        assert_eq!(names(&view), ["a", "a/c0", "a/c1", "b", "c"]);
        // The chosen topic stays chosen.
        assert_eq!(view.rows()[view.chosen].topic, "a");
        view.press(Key::PageDown);
        assert!((0..9).all(|_| !view.press(Key::Down)));
        assert_eq!(view.rows()[view.chosen].topic, "c");
        assert!(view.press(Key::Quit));
    }

    #[test]
    fn the_chosen_row_is_on_the_screen_and_lines_fit_it() {
        let mut view = View::new("a:1", false, Order::Name);
        let topics = (0..50).map(|n| topic(&format!("t{n:02}"), 1, &[])).collect();
        view.update(&stats(topics), Instant::now());
        assert!((0..30).all(|_| !view.press(Key::Down)));
        let lines = view.lines(20, 10);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().any(|line| line.starts_with("\x1b[7mt30")), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().filter(|c| !c.is_control()).count() <= 20 + 7));
        view.fail("gone\x1b[2J".to_owned());
        assert!(view.lines(80, 10)[0].contains("no answer: gone\\u{1b}"));
        assert!(view.lines(80, 1).len() == 1 && view.lines(0, 0).is_empty());
    }
}
