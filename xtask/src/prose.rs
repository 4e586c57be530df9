//! `cargo xtask prose`: the rules of docs/style.md that a program can count, by crate.
//!
//! A crate keeps to [`AIM`]. One that did not when the rules came has bounds of its own in `xtask/prose.txt`,
//! which only go down: `cargo xtask prose --lower` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use clap::Args;

use crate::run::{cargo, program, root, run};
use crate::source::{self, Crate, File};
use crate::stage_log;

/// Bounds of crates that are not at the aim yet, a line each: the folder and the four figures.
const BOUNDS: &str = "xtask/prose.txt";
const BOUNDS_HEAD: &str = "\
# Bounds of crates that do not keep to docs/style.md yet: they only go down (`cargo xtask prose --lower`).
# folder, doc comments that begin with a fragment (%), forms of \"tell\" (per 1,000 lines of comment), lines of comment over
# 110 columns (per 1,000), public types whose name another has
";

/// The widest line of comment; rustfmt.toml has the same for code.
const COLUMNS_MAX: usize = 110;

/// Words with which a fragment begins: "Who is woken", "What a thread waits for", "Of the log".
const FRAGMENTS: [&str; 17] = [
    "as", "by", "for", "how", "of", "that", "those", "what", "when", "where", "which", "who", "whom",
    "whose", "why", "with", "without",
];

/// Forms of the verb that comments use too often.
const VERB_FORMS: [&str; 4] = ["tell", "telling", "tells", "told"];

/// The shares of well-written Rust projects (redb, s2, fjall), which ours are held to.
const AIM: Shares = Shares { fragments: 2.0, tells: 2.0, wide: 0.0, twins: 0.0 };

/// Arguments of `cargo xtask prose`.
#[derive(Args)]
pub(crate) struct Prose {
    /// Folders of crates whose offending lines are listed
    crates: Vec<String>,
    /// Lowers the bounds of xtask/prose.txt to the figures of today
    #[arg(long)]
    lower: bool,
    /// Wraps comments that are too wide, with the rustfmt of a nightly toolchain
    #[arg(long)]
    wrap: bool,
}

impl Prose {
    pub(crate) fn run(self) -> Result<(), String> {
        if self.wrap {
            wrap(&self.crates)?;
        }
        let (counted, bounds) = (count_all()?, read_bounds()?);
        print!("{}", table(&counted));
        for (folder, counts) in &counted {
            if self.crates.contains(folder) {
                println!("\n{folder}\n{}", counts.offenders.join("\n"));
            }
        }
        if self.lower {
            let text = lowered(&counted, &bounds);
            fs::write(root().join(BOUNDS), text).map_err(|e| format!("{BOUNDS}: {e}"))?;
        }
        Ok(())
    }
}

/// Wraps the comments of files with a line that is too wide.
fn wrap(folders: &[String]) -> Result<(), String> {
    let crates = source::crates()?;
    let files = crates.iter().filter(|found| folders.is_empty() || folders.contains(&found.folder));
    let is_wide =
        |file: &&File| file.lines.iter().any(|line| !line.comment.is_empty() && line.columns() > COLUMNS_MAX);
    let paths: Vec<&str> =
        files.flat_map(|found| &found.files).filter(is_wide).map(|file| file.path.as_str()).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let mut wrap = program("rustup");
    // Two options of rustfmt are unstable, hence the nightly; the others are those of rustfmt.toml.
    wrap.args(["run", "nightly", "rustfmt", "--edition", "2024", "--config"]);
    wrap.arg(format!("wrap_comments=true,comment_width={COLUMNS_MAX}"));
    run(wrap.args(paths).env_remove("RUSTUP_TOOLCHAIN"))?;
    run(cargo().args(["fmt", "--all"]))
}

/// Holds every crate against its bounds.
///
/// # Errors
/// Which crate exceeds which bound.
pub(crate) fn check() -> Result<(), String> {
    let (counted, bounds) = (count_all()?, read_bounds()?);
    stage_log::note(&table(&counted)).map_err(|e| e.to_string())?;
    let failures: Vec<String> = counted
        .iter()
        .flat_map(|(folder, counts)| {
            let bound = bounds.get(folder).copied().unwrap_or(AIM);
            exceeded(counts.shares(), bound).into_iter().map(move |what| format!("{folder}: {what}"))
        })
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; `cargo xtask prose FOLDER` lists the lines, docs/style.md has the rules",
        failures.join("; ")
    ))
}

/// Figures of one crate.
#[derive(Default)]
struct Counts {
    doc_comments: usize,
    fragments: usize,
    comment_lines: usize,
    tells: usize,
    wide: usize,
    types: BTreeMap<String, usize>,
    /// One line for each breach of a rule: its place and what it is.
    offenders: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Shares {
    /// Doc comments that begin with a fragment, in percent.
    fragments: f64,
    /// Words of [`VERB_FORMS`] per 1,000 lines of comment.
    tells: f64,
    /// Lines of comment that are too wide, per 1,000.
    wide: f64,
    /// Public types whose name another public type of the crate has.
    twins: f64,
}

impl Shares {
    fn all(self) -> [f64; 4] {
        [self.fragments, self.tells, self.wide, self.twins]
    }
}

impl Counts {
    fn shares(&self) -> Shares {
        let share = |part: usize, whole: usize, scale: f64| part as f64 * scale / whole.max(1) as f64;
        Shares {
            fragments: share(self.fragments, self.doc_comments, 100.0),
            tells: share(self.tells, self.comment_lines, 1000.0),
            wide: share(self.wide, self.comment_lines, 1000.0),
            twins: self.types.values().filter(|times| **times > 1).sum::<usize>() as f64,
        }
    }

    fn add(&mut self, file: &File) {
        let mut previous = "";
        for (line, number) in file.lines.iter().zip(1..) {
            let mut offend = |what: String| self.offenders.push(format!("{}:{number}: {what}", file.path));
            let doc = doc_marker(&line.comment).filter(|_| line.is_comment());
            let begins = doc.is_some_and(|marker| marker != previous);
            previous = doc.unwrap_or("");
            if begins {
                self.doc_comments += 1;
                let first = words(&line.comment).next().unwrap_or_default();
                if FRAGMENTS.contains(&first.as_str()) {
                    self.fragments += 1;
                    offend(format!("begins with \"{first}\""));
                }
            }
            if !line.comment.is_empty() {
                self.comment_lines += 1;
                let tells = words(&line.comment).filter(|word| VERB_FORMS.contains(&word.as_str())).count();
                self.tells += tells;
                if tells > 0 {
                    offend("has a form of \"tell\"".to_owned());
                }
                if line.columns() > COLUMNS_MAX {
                    self.wide += 1;
                    offend(format!("{} columns", line.columns()));
                }
            }
            // Types of tests have no readers outside of their file.
            if file.path.contains("/src/")
                && let Some(name) = public_type(&line.code)
            {
                let times = self.types.entry(name.to_owned()).or_default();
                *times += 1;
                if *times > 1 {
                    offend(format!("a second public type {name}"));
                }
            }
        }
    }
}

/// `///` or `//!`, if the comment is one of documentation.
fn doc_marker(comment: &str) -> Option<&'static str> {
    match comment {
        _ if comment.starts_with("////") => None,
        _ if comment.starts_with("///") => Some("///"),
        _ if comment.starts_with("//!") => Some("//!"),
        _ => None,
    }
}

/// The words of a comment in lower case.
fn words(comment: &str) -> impl Iterator<Item = String> {
    comment
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The name of the public type that the line declares.
fn public_type(code: &str) -> Option<&str> {
    let declared = code.trim_start().strip_prefix("pub ")?;
    let (kind, rest) = declared.strip_prefix("unsafe ").unwrap_or(declared).split_once(' ')?;
    let is_type = ["struct", "enum", "union", "trait", "type"].contains(&kind);
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    is_type.then_some(name)
}

/// The figures that exceed both the aim and the bound, in words.
fn exceeded(shares: Shares, bound: Shares) -> Vec<String> {
    const NAMES: [&str; 4] = [
        "% of doc comments begin with a fragment",
        " forms of \"tell\" in 1,000 lines of comment",
        " of 1,000 lines of comment are too wide",
        " public types share a name",
    ];
    // Bounds are written with one digit behind the point.
    const ROUNDING: f64 = 0.05;
    let figures = shares.all().into_iter().zip(bound.all()).zip(AIM.all()).zip(NAMES);
    figures
        .filter(|(((share, bound), aim), _)| *share > bound.max(*aim) + ROUNDING)
        .map(|(((share, bound), aim), name)| format!("{share:.1}{name}, at most {:.1} may", bound.max(aim)))
        .collect()
}

fn count_all() -> Result<BTreeMap<String, Counts>, String> {
    Ok(source::crates()?.into_iter().map(|Crate { folder, files }| (folder, count(&files))).collect())
}

fn count(files: &[File]) -> Counts {
    let mut counts = Counts::default();
    files.iter().for_each(|file| counts.add(file));
    counts
}

fn table(counted: &BTreeMap<String, Counts>) -> String {
    let mut text = format!(
        "{:<14} {:>6} {:>9} {:>8} {:>7} {:>6} {:>6}\n",
        "crate", "docs", "fragments", "comments", "tell", "wide", "twins"
    );
    for (folder, counts) in counted {
        let Shares { fragments, tells, wide, twins } = counts.shares();
        let (docs, comments) = (counts.doc_comments, counts.comment_lines);
        let _ = writeln!(
            text,
            "{folder:<14} {docs:>6} {fragments:>8.1}% {comments:>8} {tells:>6.1}‰ {wide:>5.0}‰ {twins:>6}"
        );
    }
    text
}

fn read_bounds() -> Result<BTreeMap<String, Shares>, String> {
    match fs::read_to_string(root().join(BOUNDS)) {
        Ok(text) => parse_bounds(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(format!("{BOUNDS}: {error}")),
    }
}

fn parse_bounds(text: &str) -> Result<BTreeMap<String, Shares>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let figures: Vec<f64> = parts.iter().skip(1).filter_map(|figure| figure.parse().ok()).collect();
            let ([folder, ..], [fragments, tells, wide, twins]) = (&parts[..], &figures[..]) else {
                return Err(format!("{BOUNDS}: not a folder and four figures: {line}"));
            };
            let bound = Shares { fragments: *fragments, tells: *tells, wide: *wide, twins: *twins };
            Ok(((*folder).to_owned(), bound))
        })
        .collect()
}

/// The bounds' file with no figure above today's; a crate at the aim has no line.
fn lowered(counted: &BTreeMap<String, Counts>, bounds: &BTreeMap<String, Shares>) -> String {
    let mut text = BOUNDS_HEAD.to_owned();
    for (folder, counts) in counted {
        let (shares, bound) = (counts.shares().all(), bounds.get(folder).copied().unwrap_or(AIM).all());
        let [fragments, tells, wide, twins] =
            std::array::from_fn(|i| f64::max(AIM.all()[i], f64::min(shares[i], bound[i])));
        if [fragments, tells, wide, twins] != AIM.all() {
            let _ = writeln!(text, "{folder} {fragments:.1} {tells:.1} {wide:.1} {twins}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Counts {
        count(&[File { path: "core/src/a.rs".to_owned(), lines: source::lines(text) }])
    }

    #[test]
    fn a_doc_comment_is_judged_by_its_first_word() {
        let text = "//! Messages.\n//! What follows is not its beginning.\n\n/// What is woken.\nstruct A;\n/// Wakes.\nfn f() {}\n// Who says this is no documentation.\n";
        let counts = counted(text);
        assert_eq!((counts.doc_comments, counts.fragments), (3, 1));
        assert_eq!(counts.offenders, ["core/src/a.rs:4: begins with \"what\""]);
    }

    #[test]
    fn tell_is_counted_in_every_comment_and_only_there() {
        let counts = counted("/// Tells the log.\nfn tell() {} // told\nlet a = \"tell\"; // a teller\n");
        assert_eq!((counts.comment_lines, counts.tells), (3, 2));
    }

    #[test]
    fn a_wide_line_counts_where_it_has_a_comment() {
        let wide = "x".repeat(COLUMNS_MAX);
        let counts = counted(&format!("// {wide}\nlet {wide} = 1;\n// {}\n", &wide[3..]));
        assert_eq!((counts.comment_lines, counts.wide), (2, 1));
    }

    #[test]
    fn public_types_of_one_name_are_twins() {
        let counts = counted(
            "pub struct Peer;\npub(crate) struct Peer;\nmod a {\n    pub enum Peer<T> {}\n    pub trait Wake {}\n}\n",
        );
        assert_eq!(counts.shares().twins, 2.0);
        assert_eq!(counts.types.keys().collect::<Vec<_>>(), ["Peer", "Wake"]);
    }

    #[test]
    fn a_crate_without_bounds_is_held_to_the_aim() {
        let fine = Shares { fragments: 2.0, tells: 2.0, wide: 0.0, twins: 0.0 };
        assert!(exceeded(fine, AIM).is_empty());
        for worse in [
            Shares { fragments: 2.1, ..fine },
            Shares { tells: 2.1, ..fine },
            Shares { wide: 0.2, ..fine },
            Shares { twins: 2.0, ..fine },
        ] {
            assert_eq!(exceeded(worse, AIM).len(), 1, "{worse:?}");
            assert!(exceeded(worse, worse).is_empty(), "{worse:?}");
        }
    }

    #[test]
    fn bounds_go_down_and_never_up() {
        let counted =
            BTreeMap::from([("core".to_owned(), counted("/// What.\nstruct A;\n/// A thing.\nstruct B;\n"))]);
        let shares = |fragments| Shares { fragments, ..AIM };
        let bounds = |fragments| BTreeMap::from([("core".to_owned(), shares(fragments))]);
        let after = |before| parse_bounds(&lowered(&counted, &bounds(before))).unwrap();
        assert_eq!(after(80.0), bounds(50.0));
        assert_eq!(after(20.0), bounds(20.0));
        assert_eq!(after(2.0), BTreeMap::new());
    }
}
