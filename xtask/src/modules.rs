//! Imports between the files of a crate, read from `use` and from paths that begin with `crate`, `self` or
//! `super`. A name that a module re-exports counts as one of the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Crate, File, Line};

/// Re-exports followed for one name: more would be a circle of them.
const HOPS_MAX: usize = 8;

/// A file imports something of another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: String,
    /// Room of `from`: its folder, without `src`; a file that heads a folder of its name lies in that.
    pub(crate) from_room: String,
    pub(crate) to: String,
    pub(crate) to_room: String,
}

/// A module that is a file.
struct Module {
    path: String,
    room: String,
    /// Paths that it imports or names, relative to itself.
    paths: Vec<Vec<String>>,
    /// Names that a `use` brings in, and their paths.
    names: BTreeMap<String, Vec<String>>,
}

/// All imports of a crate's `src` from one file to another, but those of tests.
pub(crate) fn imports(one: &Crate) -> BTreeSet<Edge> {
    let modules = modules(one);
    let mut edges = BTreeSet::new();
    for (place, module) in &modules {
        for path in &module.paths {
            let Some(to) = resolve(&modules, place, path, HOPS_MAX) else { continue };
            let to = &modules[&to];
            if to.path != module.path {
                edges.insert(Edge {
                    from: module.path.clone(),
                    from_room: module.room.clone(),
                    to: to.path.clone(),
                    to_room: to.room.clone(),
                });
            }
        }
    }
    edges
}

/// The modules of a crate by their paths from its root; the root's path is empty.
fn modules(one: &Crate) -> BTreeMap<Vec<String>, Module> {
    let prefix = format!("{}/src/", one.folder);
    let has_library = one.files.iter().any(|file| file.path == format!("{prefix}lib.rs"));
    let mut modules = BTreeMap::new();
    let insides: Vec<(&str, &File)> = one
        .files
        .iter()
        .filter_map(|file| Some((file.path.strip_prefix(&prefix)?.strip_suffix(".rs")?, file)))
        .filter(|(inside, _)| !is_test(inside) && !inside.starts_with("bin/"))
        .filter(|(inside, _)| !has_library || *inside != "main")
        .collect();
    for (inside, file) in &insides {
        let mut place: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if inside.ends_with("/mod") || ["lib", "main"].contains(inside) {
            place.pop();
        }
        let heads_folder = insides.iter().any(|(other, _)| other.starts_with(&format!("{inside}/")));
        let folder =
            if heads_folder { *inside } else { inside.rsplit_once('/').map_or("", |(folder, _)| folder) };
        let room = format!("{}/{folder}", one.folder).trim_end_matches('/').to_owned();
        let (paths, names) = named(file);
        modules.insert(place, Module { path: file.path.clone(), room, paths, names });
    }
    modules
}

/// Whether the file, named without `src` and `.rs`, is of tests alone.
fn is_test(inside: &str) -> bool {
    inside.ends_with("_test") || inside.split('/').any(|name| name == "tests")
}

/// The module that defines what `path`, seen from `place`, stands for. `None`: another crate does.
fn resolve(
    modules: &BTreeMap<Vec<String>, Module>,
    place: &[String],
    path: &[String],
    hops: usize,
) -> Option<Vec<String>> {
    let mut at = place.to_vec();
    for (number, segment) in path.iter().enumerate() {
        match segment.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => _ = at.pop(),
            name => {
                let mut child = at.clone();
                child.push(name.to_owned());
                if modules.contains_key(&child) {
                    at = child;
                } else if let Some(target) = modules.get(&at)?.names.get(name).filter(|_| hops > 0) {
                    let more = [target, &path[number + 1..]].concat();
                    // A name of another crate, re-exported here, is one of here for who imports it.
                    return resolve(modules, &at, &more, hops - 1).or((number > 0).then_some(at));
                } else {
                    return (number > 0).then_some(at);
                }
            }
        }
    }
    modules.contains_key(&at).then_some(at)
}

/// The paths that a file names, and the names that its imports bring in.
fn named(file: &File) -> (Vec<Vec<String>>, BTreeMap<String, Vec<String>>) {
    let tokens = tokens(&without_tests(&file.lines));
    let (mut paths, mut names, mut at) = (Vec::new(), BTreeMap::new(), 0);
    while at < tokens.len() {
        // `$crate::a::crate` is none, and `pub(in crate::a)` says who may import.
        let is_member = at > 0 && ["::", "in"].contains(&tokens[at - 1].as_str());
        if tokens[at] == "use" {
            at += 1;
            for (name, path) in use_tree(&tokens, &mut at, &[]) {
                names.insert(name, path.clone());
                paths.push(path);
            }
        } else if !is_member && ["crate", "self", "super"].contains(&tokens[at].as_str()) {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|token| token == "::")
                && let Some(segment) = tokens.get(at + 2).filter(|token| is_name(token))
            {
                path.push(segment.clone());
                at += 2;
            }
            // `self` alone is a value, `pub(crate)` and `pub(super)` name nothing.
            if path.len() > 1 {
                paths.push(path);
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    (paths, names)
}

/// The names and paths of a tree of imports that begins at `at`; leaves `at` behind it.
fn use_tree(tokens: &[String], at: &mut usize, before: &[String]) -> Vec<(String, Vec<String>)> {
    let (mut path, mut found) = (before.to_vec(), Vec::new());
    let (mut name, mut is_whole) = (None, false);
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            "{" => {
                loop {
                    *at += 1;
                    found.extend(use_tree(tokens, at, &path));
                    if tokens.get(*at).is_none_or(|token| token != ",") {
                        break;
                    }
                }
                // The brace that ends the group.
                *at += 1;
                return found;
            }
            "as" => {
                name = tokens.get(*at + 1).cloned();
                *at += 2;
            }
            "," | "}" | ";" => break,
            "::" => *at += 1,
            "*" | "self" if !path.is_empty() => {
                is_whole = true;
                *at += 1;
            }
            segment => {
                path.push(segment.to_owned());
                *at += 1;
            }
        }
    }
    if let Some(last) = path.last().cloned()
        && (is_whole || path.len() > before.len())
    {
        found.push((name.unwrap_or(last), path));
    }
    found
}

/// The code of a file without its modules of tests.
fn without_tests(lines: &[Line]) -> String {
    let (mut text, mut depth, mut in_tests, mut is_test_next) = (String::new(), 0_usize, false, false);
    for line in lines {
        let code = line.code.trim();
        if !in_tests && is_test_next && code.starts_with("mod ") && code.ends_with('{') {
            (in_tests, depth) = (true, 0);
        }
        if !code.is_empty() {
            is_test_next =
                code.starts_with("#[cfg(") && code.contains("test") || is_test_next && code.starts_with('#');
        }
        if in_tests {
            depth += code.matches('{').count();
            depth = depth.saturating_sub(code.matches('}').count());
            in_tests = depth > 0;
        } else {
            text.push_str(&line.code);
            text.push('\n');
        }
    }
    text
}

/// The words, `::` and other marks of code.
fn tokens(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            _ => word,
        };
        found.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;

    fn edges(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let file =
            |(path, text): &(&str, &str)| File { path: format!("c/src/{path}"), lines: source::lines(text) };
        let one = Crate { folder: "c".to_owned(), files: files.iter().map(file).collect() };
        let short = |path: String| path.trim_start_matches("c/src/").to_owned();
        imports(&one).into_iter().map(|edge| (short(edge.from), short(edge.to))).collect()
    }

    #[test]
    fn groups_names_and_paths_in_code_are_imports() {
        let files = [
            ("lib.rs", "mod a; mod b; mod d;"),
            (
                "a.rs",
                "use std::fmt;\nuse crate::{\n    b::{self as bee, B},\n    d,\n};\npub(crate) struct A;",
            ),
            ("b.rs", "fn f() { crate::a::A::new(&self) }\npub(in crate::d) struct B;"),
            ("d.rs", "// crate::b\nlet text = \"crate::b\";"),
        ];
        let expected = [("a.rs", "b.rs"), ("a.rs", "d.rs"), ("b.rs", "a.rs")];
        assert_eq!(edges(&files), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_re_exported_name_is_one_of_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a; mod b;\npub use a::Thing;"),
            (
                "a/mod.rs",
                "mod thing; pub use thing::Thing as Other;\npub use self::thing::Thing;\npub struct Own;",
            ),
            ("a/thing.rs", ""),
            ("b.rs", "use crate::Thing; use crate::a::Own;"),
        ];
        let found = edges(&files);
        let of_b: Vec<&str> =
            found.iter().filter(|(from, _)| from == "b.rs").map(|(_, to)| to.as_str()).collect();
        assert_eq!(of_b, ["a/mod.rs", "a/thing.rs"]);
    }

    #[test]
    fn tests_and_other_crates_are_no_imports() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use tokio::b;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n"),
            ("b/tests.rs", "use crate::a;"),
            ("b.rs", "#[cfg(test)]\nmod tests;"),
        ];
        assert!(edges(&files).is_empty(), "{:?}", edges(&files));
    }
}
