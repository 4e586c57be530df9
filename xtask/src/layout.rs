//! Limits on the sizes of files and functions, ARCHITECTURE.md's map held against the folders that there are,
//! and rooms that import each other.

use std::collections::BTreeSet;
use std::fs;

use crate::circles;
use crate::run::root;
use crate::source::{self, Crate, File, Line};

/// Lines of a file: beyond it a reader loses the noun that the file stands for.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from its signature to its closing brace: as many as a tall screen shows at once.
const FUNCTION_LINES_MAX: usize = 90;
/// Lines of a function in tests, where a table of cases is longer and reads from top to bottom.
const TEST_LINES_MAX: usize = 120;

/// The page that has to name every crate and every folder of a crate's `src`.
const MAP: &str = "ARCHITECTURE.md";

/// Holds the tree against the limits and the map.
///
/// # Errors
/// Which files, functions and folders break a rule, and which names of the map stand for nothing.
pub(crate) fn check() -> Result<(), String> {
    let crates = source::crates()?;
    let files = crates.iter().flat_map(|found| &found.files);
    let mut failures: Vec<String> = files.flat_map(too_long).collect();
    let map = fs::read_to_string(root().join(MAP)).map_err(|e| format!("{MAP}: {e}"))?;
    let in_src = |path: &str, folder: &str| {
        let inside = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some(root().join(folder).join("src").join(inside))
    };
    let exists = |path: &str| {
        let mut places = crates.iter().filter_map(|found| in_src(path, &found.folder));
        root().join(path).exists() || places.any(|place| place.exists())
    };
    failures.extend(off_the_map(&folders(&crates), &map, &exists));
    failures.extend(circles::check(&crates)?);
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn too_long(file: &File) -> Vec<String> {
    let mut failures = Vec::new();
    let lines = file.lines.len();
    if lines > FILE_LINES_MAX {
        failures.push(format!("{} has {lines} lines, at most {FILE_LINES_MAX} may be", file.path));
    }
    let is_test =
        file.path.contains("/tests/") || file.path.ends_with("tests.rs") || file.path.ends_with("_test.rs");
    let lines_max = if is_test { TEST_LINES_MAX } else { FUNCTION_LINES_MAX };
    for Function { name, start, length } in functions(&file.lines) {
        if length > lines_max {
            failures.push(format!(
                "{}:{start}: {name} has {length} lines, at most {lines_max} may be",
                file.path
            ));
        }
    }
    failures
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    /// Number of the line with `fn`, from 1.
    start: usize,
    /// Lines up to the closing brace.
    length: usize,
}

/// All functions with a body, nested ones too.
fn functions(lines: &[Line]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, rest)) = declared(&line.code) else { continue };
        if let Some(length) = body_lines(rest, &lines[at + 1..]) {
            found.push(Function { name: name.to_owned(), start: at + 1, length });
        }
    }
    found
}

/// The name of the function that the line declares, and the code behind the name.
fn declared(code: &str) -> Option<(&str, &str)> {
    let (before, after) = code.split_once("fn ")?;
    let is_word = before.is_empty() || before.ends_with([' ', '(', '"']);
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_word && end > 0).then(|| after.split_at(end))
}

/// Lines from a signature to the end of its body; `None` for a declaration without one.
fn body_lines(first: &str, more: &[Line]) -> Option<usize> {
    let (mut brackets, mut braces, mut length) = (0_usize, 0_usize, 0);
    for code in std::iter::once(first).chain(more.iter().map(|line| line.code.as_str())) {
        length += 1;
        for c in code.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                ';' if brackets == 0 && braces == 0 => return None,
                '{' => braces += 1,
                '}' if braces == 1 => return Some(length),
                '}' => braces = braces.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

/// Folders that the map has to name: those of the crates, and those with code below each crate's `src`, which
/// the map leaves out of paths.
fn folders(crates: &[Crate]) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for Crate { folder, files } in crates {
        folders.insert(format!("{folder}/"));
        for File { path, .. } in files {
            let inside = path.strip_prefix(&format!("{folder}/src/")).unwrap_or_default();
            let ends = inside.match_indices('/').map(|(end, _)| format!("{folder}/{}", &inside[..=end]));
            // A folder of binaries or of one module's tests is no room.
            folders.extend(ends.filter(|path| !path.ends_with("/bin/") && !path.ends_with("/tests/")));
        }
    }
    folders
}

/// Folders that the map does not name, and paths of the map for which `exists` is false.
fn off_the_map(folders: &BTreeSet<String>, map: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let named = named_paths(map);
    let missing = folders.iter().filter(|folder| !named.contains(*folder));
    let mut failures: Vec<String> = missing.map(|folder| format!("{MAP} does not name {folder}")).collect();
    let gone = named.iter().filter(|path| !folders.contains(*path) && !exists(path));
    failures.extend(gone.map(|path| format!("{MAP} names {path}, which is not there")));
    failures
}

/// Paths in code marks: folders, which end with `/`, and files. `core/store/{log,read}/` is two.
fn named_paths(map: &str) -> BTreeSet<String> {
    let marks = map.split('`').skip(1).step_by(2);
    let is_path = |mark: &&str| {
        mark.ends_with('/')
            || mark.contains('/') && [".rs", ".md", ".txt"].iter().any(|end| mark.ends_with(end))
    };
    let is_plain = |mark: &&str| !mark.starts_with('/') && !mark.contains([' ', '<', ':']);
    marks.filter(is_path).filter(is_plain).flat_map(expanded).collect()
}

/// The paths that a mark with one list in braces stands for.
fn expanded(mark: &str) -> Vec<String> {
    let parts = mark.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (list, after))) = parts else { return vec![mark.to_owned()] };
    list.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Function> {
        functions(&source::lines(text))
    }

    #[test]
    fn a_function_is_as_long_as_from_its_signature_to_its_brace() {
        let text = "pub fn a(\n    x: [u8; 2],\n) -> u8 {\n    let s = \"}\"; // }\n    if x { 1 } else { 2 }\n}\n\nfn b() {}\n";
        let function = |name: &str, start, length| Function { name: name.to_owned(), start, length };
        assert_eq!(found(text), [function("a", 1, 6), function("b", 8, 1)]);
    }

    #[test]
    fn declarations_and_types_of_functions_are_no_functions() {
        assert!(found("trait A {\n    fn a(&self) -> u8;\n}\ntype B = fn(u8);\n// fn c() {}\n").is_empty());
    }

    #[test]
    fn what_is_longer_than_its_limit_is_named() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX - 2);
        let at = |path: &str, text: &str| File { path: path.to_owned(), lines: source::lines(text) };
        let file = |text: &str| at("a/src/b.rs", text);
        let longer = format!("fn a() {{\n\n{body}}}\n");
        assert!(too_long(&file(&format!("fn a() {{\n{body}}}\n"))).is_empty());
        assert_eq!(too_long(&file(&longer)).len(), 1);
        assert!(too_long(&at("a/tests/b.rs", &longer)).is_empty());
        assert!(too_long(&file(&"\n".repeat(FILE_LINES_MAX))).is_empty());
        assert_eq!(too_long(&file(&"\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
    }

    #[test]
    fn the_map_names_every_folder_and_nothing_else() {
        let file = |path: &str| File { path: path.to_owned(), lines: Vec::new() };
        let files =
            vec![file("core/src/lib.rs"), file("core/src/store/log/queue.rs"), file("core/tests/a/b.rs")];
        let folders = folders(&[Crate { folder: "core".to_owned(), files }]);
        assert_eq!(folders.iter().collect::<Vec<_>>(), ["core/", "core/store/", "core/store/log/"]);
        let failures = |map| off_the_map(&folders, map, &|path| path == "docs/a.md");
        assert!(
            failures("`core/` has `core/store/`, `core/{store/log}/`; see `docs/a.md` and `/tmp/`.")
                .is_empty()
        );
        assert_eq!(
            failures("`core/{store,store/log,net}/`"),
            ["ARCHITECTURE.md does not name core/", "ARCHITECTURE.md names core/net/, which is not there",]
        );
    }
}
