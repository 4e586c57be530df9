//! Plots as SVG, drawn by hand: lines over two axes, and groups of bars.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Room around the plot for its axes' numbers and title.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Colours that differ also without colour vision.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"];

/// A named line.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// An axis: its words, and whether it is logarithmic.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) words: &'static str,
    pub(super) logarithmic: bool,
}

/// Scale of an axis.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let high = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        let positive = values.filter(|value| *value > 0.0).fold(high, f64::min);
        let low = if axis.logarithmic { positive } else { 0.0 };
        let high = if high > low { high } else { low * 2.0 + 1.0 };
        Self { low, high, logarithmic: axis.logarithmic, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part * (self.to - self.from)
    }

    /// Round numbers along it.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = |mantissa: f64| (-3..13).map(move |power| mantissa * 10_f64.powi(power));
            let mut ticks: Vec<f64> = [1.0, 2.0, 5.0]
                .into_iter()
                .flat_map(decades)
                .filter(|n| (self.low..=self.high).contains(n))
                .collect();
            ticks.sort_by(f64::total_cmp);
            return ticks;
        }
        let step = 10_f64.powf((self.high / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * step).into_iter().find(|step| self.high / step <= 6.0);
        let step = step.unwrap_or(self.high);
        (0..=6).map(|n| f64::from(n) * step).filter(|n| *n <= self.high * 1.001).collect()
    }
}

fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", (value * 100.0).round() / 100.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn open(title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escape(title)
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(out, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>");
}

fn legend(out: &mut String, names: &[&str]) {
    let mut x = WIDTH - RIGHT - 90.0 * names.len() as f64;
    for (name, colour) in names.iter().zip(COLOURS) {
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        text(out, x + 14.0, 35.0, "start", name);
        x += 90.0;
    }
}

fn y_axis(out: &mut String, scale: &Scale, words: &str) {
    for tick in scale.ticks() {
        let y = scale.at(tick);
        rule(out, (LEFT, y), (WIDTH - RIGHT, y));
        text(out, LEFT - 6.0, y + 4.0, "end", &short(tick));
    }
    let (x, y) = (16.0, HEIGHT / 2.0);
    let words = escape(words);
    let _ = writeln!(
        out,
        "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{words}</text>"
    );
}

/// Lines over an x axis. `x_ticks` names places on it; without, they are round numbers.
pub(super) fn lines(title: &str, x: Axis, y: Axis, x_ticks: &[(f64, String)], lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let across = Scale::new(x, points().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let up = Scale::new(y, points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let mut out = open(title);
    y_axis(&mut out, &up, y.words);
    let round: Vec<_> = across.ticks().into_iter().map(|tick| (tick, short(tick))).collect();
    for (tick, words) in if x_ticks.is_empty() { &round } else { x_ticks } {
        let at = across.at(*tick);
        rule(&mut out, (at, TOP), (at, HEIGHT - BOTTOM));
        text(&mut out, at, HEIGHT - BOTTOM + 16.0, "middle", words);
    }
    text(&mut out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", x.words);
    for (line, colour) in lines.iter().zip(COLOURS) {
        let path: Vec<String> =
            line.points.iter().map(|(x, y)| format!("{:.1} {:.1}", across.at(*x), up.at(*y))).collect();
        let path = path.join("L");
        let _ = writeln!(out, "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
    }
    legend(&mut out, &lines.iter().map(|line| line.name).collect::<Vec<_>>());
    out + "</svg>\n"
}

/// Groups of bars, one bar a name in each group.
pub(super) fn bars(title: &str, y: Axis, names: &[&str], groups: &[(&str, Vec<Option<f64>>)]) -> String {
    let values = groups.iter().flat_map(|group| group.1.iter().flatten().copied());
    let up = Scale::new(y, values, HEIGHT - BOTTOM, TOP);
    let mut out = open(title);
    y_axis(&mut out, &up, y.words);
    let group_width = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    let width = group_width * 0.8 / names.len().max(1) as f64;
    for (n, (name, values)) in groups.iter().enumerate() {
        let left = LEFT + group_width * (n as f64 + 0.1);
        for (i, (value, colour)) in values.iter().zip(COLOURS).enumerate() {
            let Some(value) = value else { continue };
            let (x, y) = (left + width * i as f64, up.at(*value));
            let height = (HEIGHT - BOTTOM - y).max(1.0);
            let width = width * 0.9;
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
            );
        }
        // Names take turns over two lines, or they would run into each other.
        let y = HEIGHT - BOTTOM + if n % 2 == 0 { 16.0 } else { 32.0 };
        text(&mut out, left + group_width * 0.4, y, "middle", name);
    }
    legend(&mut out, names);
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_on_their_scales() {
        let logarithmic = Axis { words: "", logarithmic: true };
        let scale = Scale::new(logarithmic, [1.0, 10.0, 100.0].into_iter(), 0.0, 10.0);
        assert!((scale.at(10.0) - 5.0).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let linear = Axis { words: "", logarithmic: false };
        let scale = Scale::new(linear, [5.0, 2500.0].into_iter(), 100.0, 0.0);
        assert!((scale.at(0.0) - 100.0).abs() < 1e-9 && scale.at(2500.0).abs() < 1e-9);
        assert_eq!(scale.ticks(), [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0]);
        assert_eq!([short(950.0), short(1_500_000.0)], ["950", "1.5M"]);
    }

    #[test]
    fn nothing_to_draw_is_drawn_too() {
        let axis = Axis { words: "a < b", logarithmic: true };
        for svg in [lines("t", axis, axis, &[], &[]), bars("t", axis, &[], &[("g", vec![None])])] {
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
            assert!(svg.contains("a &lt; b"));
        }
    }
}
