//! Rooms of a crate that import each other: a reader of one has to know the other, so neither has a door.
//!
//! A room is a folder below a crate's `src`. Two rooms are in a circle if each has a file that imports one of
//! the other. Where one room lies in the other, its files may use the ground that the outer one has, so there
//! a circle is one of files: each can be reached from the other by imports. Circles that stay are in
//! `xtask/circles.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::modules::{self, Edge};
use crate::run::root;
use crate::source::Crate;

/// Pairs of rooms that may import each other, a line each: both, and the reason behind `#`.
const LIST: &str = "xtask/circles.txt";

/// Two rooms, the first in alphabetical order before.
type Pair = (String, String);

/// Pairs of rooms in a circle that [`LIST`] has not, and those in it that are in none.
///
/// # Errors
/// If the list can't be read or has a line without a pair and a reason.
pub(crate) fn check(crates: &[Crate]) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(root().join(LIST)).map_err(|e| format!("{LIST}: {e}"))?;
    let mut found = BTreeMap::new();
    for one in crates {
        found.extend(circles(&modules::imports(one)));
    }
    Ok(judged(&found, &parse(&text)?))
}

fn judged(found: &BTreeMap<Pair, Vec<String>>, allowed: &BTreeSet<Pair>) -> Vec<String> {
    let fresh = found.iter().filter(|(pair, _)| !allowed.contains(*pair));
    let mut failures: Vec<String> =
        fresh.map(|((a, b), edges)| format!("{a} and {b} import each other: {}", edges.join(", "))).collect();
    let gone = allowed.iter().filter(|pair| !found.contains_key(*pair));
    failures.extend(gone.map(|(a, b)| format!("{LIST} has {a} and {b}, which are in no circle: remove it")));
    failures
}

fn parse(text: &str) -> Result<BTreeSet<Pair>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (pair, reason) = line.split_once('#').unwrap_or((line, ""));
            match pair.split_whitespace().collect::<Vec<_>>()[..] {
                [a, b] if a < b && !reason.trim().is_empty() => Ok((a.to_owned(), b.to_owned())),
                _ => {
                    Err(format!("{LIST}: not two rooms in alphabetical order and a reason behind #: {line}"))
                }
            }
        })
        .collect()
}

/// All pairs of rooms in a circle, each with the imports between them.
fn circles(edges: &BTreeSet<Edge>) -> BTreeMap<Pair, Vec<String>> {
    let reached = reached(edges);
    let returns =
        |edge: &Edge| reached.get(edge.to.as_str()).is_some_and(|files| files.contains(edge.from.as_str()));
    let across = || edges.iter().filter(|edge| edge.from_room != edge.to_room);
    let mut found: BTreeMap<Pair, Vec<String>> = BTreeMap::new();
    for edge in across() {
        let (from, to) = (&edge.from_room, &edge.to_room);
        let is_nested = is_within(from, to) || is_within(to, from);
        let is_circle = if is_nested {
            returns(edge)
        } else {
            across().any(|back| (&back.from_room, &back.to_room) == (to, from))
        };
        if is_circle {
            let pair = if from < to { (from.clone(), to.clone()) } else { (to.clone(), from.clone()) };
            found.entry(pair).or_default().push(format!("{} uses {}", edge.from, edge.to));
        }
    }
    found
}

/// Whether `room` lies in `other`.
fn is_within(room: &str, other: &str) -> bool {
    room.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

/// The files that each file imports, and those that these import, and so on.
fn reached(edges: &BTreeSet<Edge>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().push(&edge.to);
    }
    let all_from = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(file) = open.pop() {
            for to in next.get(file).into_iter().flatten() {
                if seen.insert(*to) {
                    open.push(*to);
                }
            }
        }
        seen
    };
    next.keys().map(|file| (*file, all_from(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{self, File};

    fn found(files: &[(&str, &str)]) -> Vec<Pair> {
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).to_owned(), lines: source::lines(text) };
        let one = Crate { folder: "c".to_owned(), files: files.iter().map(file).collect() };
        circles(&modules::imports(&one)).into_keys().collect()
    }

    fn pair(a: &str, b: &str) -> Pair {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn rooms_that_import_each_other_are_in_a_circle_even_by_different_files() {
        let files = [
            ("c/src/lib.rs", "mod a; mod b;"),
            ("c/src/a/mod.rs", "mod x; mod y;"),
            ("c/src/a/x.rs", "use crate::b::Thing;"),
            ("c/src/a/y.rs", "pub struct Y;"),
            ("c/src/b/mod.rs", "pub struct Thing; mod z;"),
            ("c/src/b/z.rs", "use crate::a::y::Y;"),
        ];
        assert_eq!(found(&files), [pair("c/a", "c/b")]);
        assert!(found(&files[..5]).is_empty());
    }

    #[test]
    fn a_room_may_use_the_ground_of_the_outer_one_but_not_what_stands_on_it() {
        let ground = [
            ("c/src/lib.rs", "mod top; mod ground; mod room;"),
            ("c/src/top.rs", "use crate::{ground::G, room::one::One};"),
            ("c/src/ground.rs", "pub struct G;"),
            ("c/src/room/one.rs", "fn f(g: super::super::ground::G) {}"),
            ("c/src/room/mod.rs", "mod one;"),
        ];
        assert!(found(&ground).is_empty());
        let mut back = ground;
        back[3].1 = "use crate::top::T;";
        assert_eq!(found(&back), [pair("c", "c/room")]);
    }

    #[test]
    fn a_circle_that_is_not_listed_fails_and_so_does_a_line_for_one_that_is_gone() {
        let circles = BTreeMap::from([(pair("c/a", "c/b"), vec!["c/src/a.rs uses c/src/b.rs".to_owned()])]);
        let failures = |text: &str| judged(&circles, &parse(text).unwrap());
        assert!(failures("# head\nc/a c/b # why\n").is_empty());
        assert_eq!(failures("").len(), 1);
        assert_eq!(failures("c/a c/b # why\nc/a c/d # why\n").len(), 1);
        for line in ["c/a c/b", "c/a c/b #", "c/b c/a # why", "c/a # why"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
