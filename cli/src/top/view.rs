//! The view of `mq top`, and what keys do. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use crate::stats::{Channel, Stats, Topic};
use crate::table::Table;
use crate::words::printable;

/// The line of keys.
const KEYS: &str = "q quit  ↑↓ choose  enter channels  sort: d depth  f in flight  i in  o out  n name";
/// Lines that are no rows: the head, the keys, and the names of columns.
const OTHER_LINES: usize = 4;

/// Column that rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    Depth,
    InFlight,
    /// Messages published a second
    In,
    /// Messages that left a second
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

/// A topic, or a channel of one that is open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// Messages that came in a second; `null` at first.
    in_rate: Option<f64>,
    /// Messages that left in a second.
    out_rate: Option<f64>,
    depth: u64,
    in_flight: u64,
    deferred: u64,
    clients: u64,
    paused: bool,
}

/// Messages that came, and messages that are still there.
type Counts = (u64, u64);

/// A topic, and a channel of it.
type Name = (String, Option<String>);

/// The answer of the broker the last time, and when that was.
type Before = (HashMap<Name, Counts>, Instant);

/// The table and where the user is in it.
pub(super) struct View {
    address: String,
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
    stats: Stats,
    rates: HashMap<Name, (f64, f64)>,
    before: Option<Before>,
    failure: Option<String>,
}

impl View {
    pub(super) fn new(address: &str, order: Order) -> Self {
        Self {
            address: address.to_owned(),
            order,
            rows: Vec::new(),
            open: BTreeSet::new(),
            is_all_open: false,
            chosen: 0,
            first: 0,
            page: 1,
            stats: Stats::default(),
            rates: HashMap::new(),
            before: None,
            failure: None,
        }
    }

    /// Shows the channels of all topics from now on.
    pub(super) fn open_all(&mut self) {
        self.is_all_open = true;
    }

    /// Takes in what the broker says now.
    pub(super) fn update(&mut self, stats: &Stats, now: Instant) {
        let mut counts = HashMap::new();
        for topic in stats.topics() {
            let name = &topic.topic_name;
            counts.insert((name.clone(), None), of_topic(topic));
            for channel in topic.channels() {
                counts.insert((name.clone(), Some(channel.channel_name.clone())), of_channel(channel));
            }
        }
        self.rates.clear();
        if let Some((before, at)) = &self.before {
            let seconds = now.saturating_duration_since(*at).as_secs_f64().max(1e-3);
            for (key, (came, there)) in &counts {
                if let Some((came_before, there_before)) = before.get(key) {
                    let came = came.saturating_sub(*came_before);
                    let left = (there_before + came).saturating_sub(*there);
                    self.rates.insert(key.clone(), (came as f64 / seconds, left as f64 / seconds));
                }
            }
        }
        self.before = Some((counts, now));
        self.stats = stats.clone();
        self.failure = None;
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
        let mut topics: Vec<Row> = self.stats.topics().iter().map(|topic| self.row(topic, None)).collect();
        let number = |rate: Option<f64>| rate.unwrap_or(0.0);
        match self.order {
            Order::Name => {}
            Order::Depth => topics.sort_by_key(|row| std::cmp::Reverse(row.depth)),
            Order::InFlight => topics.sort_by_key(|row| std::cmp::Reverse(row.in_flight)),
            Order::In => topics.sort_by(|a, b| number(b.in_rate).total_cmp(&number(a.in_rate))),
            Order::Out => topics.sort_by(|a, b| number(b.out_rate).total_cmp(&number(a.out_rate))),
        }
        self.rows.clear();
        for row in topics {
            let name = row.topic.clone();
            self.rows.push(row);
            if self.is_all_open || self.open.contains(&name) {
                let topic = self.stats.topics().iter().find(|topic| topic.topic_name == name);
                let rows: Vec<_> = topic
                    .map(|topic| {
                        topic.channels().iter().map(|channel| self.row(topic, Some(channel))).collect()
                    })
                    .unwrap_or_default();
                self.rows.extend(rows);
            }
        }
        let found = chosen.and_then(|chosen| self.rows.iter().position(|row| key(row) == chosen));
        self.chosen = found.unwrap_or(self.chosen).min(self.rows.len().saturating_sub(1));
    }

    fn row(&self, topic: &Topic, channel: Option<&Channel>) -> Row {
        let name = channel.map(|channel| channel.channel_name.clone());
        let rates = self.rates.get(&(topic.topic_name.clone(), name.clone())).copied();
        let sum = |of: fn(&Channel) -> u64| match channel {
            Some(channel) => of(channel),
            None => topic.channels().iter().map(of).sum(),
        };
        Row {
            topic: topic.topic_name.clone(),
            in_rate: rates.map(|(came, _)| came),
            out_rate: rates.map(|(_, left)| left),
            depth: channel.map_or_else(|| topic.waiting(), |channel| channel.depth),
            in_flight: sum(|channel| channel.in_flight_count),
            deferred: sum(|channel| channel.deferred_count),
            clients: sum(|channel| channel.client_count),
            paused: channel.map_or(topic.paused, |channel| channel.paused),
            channel: name,
        }
    }

    /// The table as text.
    pub(super) fn table(&self) -> String {
        self.table_of(&self.rows)
    }

    fn table_of(&self, rows: &[Row]) -> String {
        let mut table =
            Table::new(&["TOPIC", "IN/s", "OUT/s", "DEPTH", "IN FLIGHT", "DEFERRED", "CLIENTS", ""]);
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
                if row.paused { "paused".to_owned() } else { String::new() },
            ]);
        }
        table.show()
    }

    /// The lines of a screen of that size, with the chosen row reversed.
    pub(super) fn lines(&mut self, columns: usize, rows: usize) -> Vec<String> {
        self.page = rows.saturating_sub(OTHER_LINES).max(1);
        // The chosen row is on the screen.
        self.first = self.first.clamp((self.chosen + 1).saturating_sub(self.page), self.chosen);
        let state = match &self.failure {
            Some(failure) => format!("no answer: {}", printable(failure)),
            None => printable(&self.stats.health),
        };
        let count = self.stats.topics().len();
        let mut lines = vec![
            format!("mq top  {}  {count} topics  {state}", self.address),
            KEYS.to_owned(),
            String::new(),
        ];
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

/// A topic's messages: those that came, and those that some channel has not finished.
fn of_topic(topic: &Topic) -> Counts {
    let there = |channel: &Channel| channel.depth + channel.in_flight_count + channel.deferred_count;
    // The slowest channel decides when they have left.
    let slowest = topic.channels().iter().map(there).max();
    (topic.message_count, topic.depth + slowest.unwrap_or(0))
}

fn of_channel(channel: &Channel) -> Counts {
    (channel.message_count, channel.depth + channel.in_flight_count + channel.deferred_count)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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

    fn stats(topics: Vec<Topic>) -> Stats {
        Stats { health: "OK".to_owned(), topics: Some(topics) }
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
        let (mut view, start) = (View::new("a:1", Order::Depth), Instant::now());
        view.update(&stats(vec![topic("t", 100, &[50])]), start);
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (None, None));
        view.update(&stats(vec![topic("t", 180, &[30])]), start + Duration::from_secs(2));
        assert_eq!((view.rows()[0].in_rate, view.rows()[0].out_rate), (Some(40.0), Some(50.0)));
        assert!(view.table().contains("40     50     30"), "{}", view.table());
    }

    #[test]
    fn keys_sort_open_and_choose() {
        let mut view = View::new("a:1", Order::Depth);
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
        let mut view = View::new("a:1", Order::Name);
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
