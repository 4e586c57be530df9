//! Status lines: how long the last deliveries took.

use std::time::Duration;

/// Times of deliveries, in all and by destination. Every so many there is a line.
pub(super) struct Timing {
    every: usize,
    all: Vec<Duration>,
    /// Empty with one destination, which is all.
    each: Vec<(String, Vec<Duration>)>,
}

impl Timing {
    /// Lines every `every` deliveries; 0: none.
    pub(super) fn new(every: usize, names: impl Iterator<Item = String>) -> Self {
        let mut each: Vec<_> = names.map(|name| (name, Vec::new())).collect();
        if each.len() < 2 {
            each.clear();
        }
        Self { every, all: Vec::new(), each }
    }

    /// Notes a delivery. Returns the lines that are due.
    pub(super) fn note(&mut self, destination: usize, took: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if self.every == 0 {
            return lines;
        }
        if let Some((name, times)) = self.each.get_mut(destination) {
            times.push(took);
            lines.extend(line(name, times, self.every));
        }
        self.all.push(took);
        lines.extend(line("aggregate", &mut self.all, self.every));
        lines
    }
}

fn line(name: &str, times: &mut Vec<Duration>, every: usize) -> Option<String> {
    if times.len() < every {
        return None;
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let (p99, p95) = (at(99).map_or(0.0, ms), at(95).map_or(0.0, ms));
    let mean = ms(times.iter().sum()) / times.len() as f64;
    let line = format!(
        "[{name}]: finished {} - 99th: {p99:.2}ms - 95th: {p95:.2}ms - avg: {mean:.2}ms",
        times.len()
    );
    times.clear();
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_every_so_many_deliveries() {
        let names = || ["a".to_owned(), "b".to_owned()].into_iter();
        let mut timing = Timing::new(4, names());
        let ms = Duration::from_millis;
        assert!(timing.note(0, ms(1)).is_empty() && timing.note(1, ms(2)).is_empty());
        assert!(timing.note(0, ms(3)).is_empty());
        let want = "[aggregate]: finished 4 - 99th: 10.00ms - 95th: 10.00ms - avg: 4.00ms";
        assert_eq!(timing.note(0, ms(10)), [want]);
        assert_eq!(timing.note(0, ms(1))[0], "[a]: finished 4 - 99th: 10.00ms - 95th: 10.00ms - avg: 3.75ms");
        let mut quiet = Timing::new(0, names());
        assert!((0..10).all(|_| quiet.note(0, ms(1)).is_empty()));
    }
}
