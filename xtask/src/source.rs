//! Rust files of the tree, each split line by line into code and comment.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::root;

/// Folders with code that nobody here writes.
const NOT_OURS: [&str; 3] = ["generated", "node_modules", "target"];

/// A line of a Rust file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The code, with blanks in place of what strings hold.
    pub(crate) code: String,
    /// The comment with its slashes; empty if there is none.
    pub(crate) comment: String,
}

impl Line {
    /// Width of the whole line in characters.
    pub(crate) fn columns(&self) -> usize {
        self.code.chars().count() + self.comment.chars().count()
    }

    /// Whether nothing but a comment stands on the line.
    pub(crate) fn is_comment(&self) -> bool {
        !self.comment.is_empty() && self.code.trim().is_empty()
    }
}

/// A Rust file of the tree.
pub(crate) struct File {
    /// The path from the root, with `/` between names.
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
}

/// A crate of the tree, members of the workspace and others.
pub(crate) struct Crate {
    /// The folder of its manifest, from the root.
    pub(crate) folder: String,
    /// Its files, sorted by path.
    pub(crate) files: Vec<File>,
}

/// All crates of the tree, sorted by folder, each with the Rust files for which it has the nearest manifest.
pub(crate) fn crates() -> Result<Vec<Crate>, String> {
    let mut crates = Vec::new();
    collect(&root(), None, &mut crates)?;
    for found in &mut crates {
        found.files.sort_by(|a, b| a.path.cmp(&b.path));
    }
    crates.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(crates)
}

/// Adds what lies under `folder` to `crates`; `owner` is the index of the crate around it.
fn collect(folder: &Path, owner: Option<usize>, crates: &mut Vec<Crate>) -> Result<(), String> {
    let mut owner = owner;
    if folder != root() && folder.join("Cargo.toml").exists() {
        owner = Some(crates.len());
        crates.push(Crate { folder: relative(folder), files: Vec::new() });
    }
    for path in entries(folder)? {
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with('.') && !NOT_OURS.contains(&&*name) {
                collect(&path, owner, crates)?;
            }
        } else if let (Some("rs"), Some(owner)) = (path.extension().and_then(|name| name.to_str()), owner) {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            crates[owner].files.push(File { path: relative(&path), lines: lines(&text) });
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// The part of the language that the scanner is in.
enum Mode {
    Code,
    LineComment,
    /// A block comment and how many more it lies in.
    BlockComment(usize),
    Str,
    /// A raw string, which ends with this many `#`.
    RawStr(usize),
}

/// Splits a file. Knows comments, strings and characters; anything else is code.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let (mut lines, mut line, mut mode, mut at) = (Vec::new(), Line::default(), Mode::Code, 0);
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied().unwrap_or('\n'));
        at += 1;
        if c == '\n' {
            if matches!(mode, Mode::LineComment) {
                mode = Mode::Code;
            }
            lines.push(std::mem::take(&mut line));
            continue;
        }
        match &mut mode {
            Mode::Code => match (c, next) {
                ('/', '/') => {
                    line.comment.push(c);
                    mode = Mode::LineComment;
                }
                ('/', '*') => {
                    line.comment.push_str("/*");
                    at += 1;
                    mode = Mode::BlockComment(0);
                }
                ('"', _) => {
                    mode = raw_hashes(&line.code).map_or(Mode::Str, Mode::RawStr);
                    line.code.push(c);
                }
                ('\'', _) => {
                    line.code.push(c);
                    let end = char_end(&chars[at..]);
                    line.code.extend(std::iter::repeat_n(' ', end));
                    at += end;
                }
                _ => line.code.push(c),
            },
            Mode::LineComment => line.comment.push(c),
            Mode::BlockComment(depth) => {
                line.comment.push(c);
                if (c, next) == ('*', '/') {
                    line.comment.push(next);
                    at += 1;
                    match depth.checked_sub(1) {
                        Some(less) => *depth = less,
                        None => mode = Mode::Code,
                    }
                } else if (c, next) == ('/', '*') {
                    line.comment.push(next);
                    at += 1;
                    *depth += 1;
                }
            }
            Mode::Str => match c {
                '\\' if next != '\n' => {
                    line.code.push_str("  ");
                    at += 1;
                }
                '"' => {
                    line.code.push(c);
                    mode = Mode::Code;
                }
                _ => line.code.push(' '),
            },
            Mode::RawStr(hashes) => {
                let ends =
                    c == '"' && chars[at..].iter().take(*hashes).filter(|c| **c == '#').count() == *hashes;
                line.code.push(if ends { c } else { ' ' });
                if ends {
                    mode = Mode::Code;
                }
            }
        }
    }
    if line != Line::default() {
        lines.push(line);
    }
    lines
}

/// The number of `#` that end the string which begins after `code`; `None` if it is no raw string.
fn raw_hashes(code: &str) -> Option<usize> {
    let start = code.trim_end_matches('#');
    let before = start.strip_suffix('r')?;
    let before = before.strip_suffix(['b', 'c']).unwrap_or(before);
    let is_prefix = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    is_prefix.then(|| code.len() - start.len())
}

/// Characters from behind a `'` to the end of the literal; 0 if it begins a lifetime.
fn char_end(rest: &[char]) -> usize {
    match rest {
        ['\\', ..] => rest.iter().skip(2).position(|c| *c == '\'').map_or(0, |end| end + 3),
        [_, '\'', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(String, String)> {
        lines(text).into_iter().map(|line| (line.code.trim_end().to_owned(), line.comment)).collect()
    }

    #[test]
    fn comments_are_apart_from_code() {
        let found = split("/// Doc.\nlet a = 1; // why\n/* one\n/* two */ */ b();\n");
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|(code, comment)| (code.as_str(), comment.as_str())).collect();
        let expected =
            [("", "/// Doc."), ("let a = 1;", "// why"), ("", "/* one"), (" b();", "/* two */ */")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn strings_hold_no_comments() {
        for text in ["f(\"// no \\\" {\");", "f(r#\"// no \" {\"#);", "f(br\"\\\");", "f('\"', '\\'', '{');"]
        {
            let found = lines(text);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].comment, "", "{text}");
            assert!(
                found[0].code.ends_with(");") && !found[0].code.contains('{'),
                "{text}: {}",
                found[0].code
            );
            assert_eq!(found[0].columns(), text.len());
        }
    }

    #[test]
    fn a_string_over_several_lines_holds_no_comments() {
        let found = split("f(\"a\n// no\n\"); // yes\n");
        assert_eq!(found[1], (String::new(), String::new()));
        assert_eq!(found[2].1, "// yes");
    }

    #[test]
    fn a_lifetime_begins_no_character() {
        let found = split("fn f<'a>(x: &'a str) {} // 'x'");
        assert_eq!(found, [("fn f<'a>(x: &'a str) {}".to_owned(), "// 'x'".to_owned())]);
    }
}
