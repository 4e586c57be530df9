//! Dependencies that no code of their package names.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::run::{cargo, root};
use crate::source::{self, Crate};

/// Checks every package of the workspace.
///
/// A dependency that only generated code names is listed by its package under
/// `[package.metadata.cargo-machete] ignored`, as cargo-machete has it too.
///
/// # Errors
/// Which package could do without which dependency.
pub(crate) fn check() -> Result<(), String> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let crates = source::crates()?;
    let mut unused = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let owned = crates.iter().find(|found| root().join(&found.folder).join("Cargo.toml") == manifest);
        let owned = owned.ok_or_else(|| format!("no folder for {}", manifest.display()))?;
        unused
            .extend(unused_of(package, owned).into_iter().map(|dependency| format!("{name}: {dependency}")));
    }
    if unused.is_empty() {
        return Ok(());
    }
    Err(format!("dependencies that nothing names: {}", unused.join(", ")))
}

/// Dependencies of a package, in the form of cargo's metadata, that none of the crate's files names.
fn unused_of(package: &Value, owned: &Crate) -> Vec<String> {
    let ignored = package["metadata"]["cargo-machete"]["ignored"].as_array();
    let is_ignored = |name: &str| ignored.is_some_and(|list| list.iter().any(|entry| entry == name));
    let mut unused = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let name = dependency["name"].as_str().unwrap_or_default();
        let code_name = dependency["rename"].as_str().unwrap_or(name).replace('-', "_");
        let kind = dependency["kind"].as_str().unwrap_or("normal");
        if !is_ignored(name) && !words_for(kind, owned).contains(code_name.as_str()) {
            unused.push(format!("{name} ({kind})"));
        }
    }
    unused
}

/// The words in the code of those files that can use a dependency of this kind.
fn words_for<'a>(kind: &str, owned: &'a Crate) -> BTreeSet<&'a str> {
    let can_use = |path: &str| {
        let inside = &path[owned.folder.len() + 1..];
        let is_build = inside == "build.rs";
        match kind {
            "build" => is_build,
            "dev" => !is_build,
            _ => {
                !is_build
                    && !["tests/", "benches/", "examples/"].iter().any(|folder| inside.starts_with(folder))
            }
        }
    };
    let files = owned.files.iter().filter(|file| can_use(&file.path));
    let lines = files.flat_map(|file| &file.lines);
    lines.flat_map(|line| line.code.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::File;

    fn package() -> Value {
        serde_json::json!({
            "dependencies": [
                { "name": "serde-json", "kind": null, "rename": null },
                { "name": "tokio", "kind": null, "rename": "runtime" },
                { "name": "tempfile", "kind": "dev", "rename": null },
                { "name": "protox", "kind": "build", "rename": null },
            ],
        })
    }

    fn owned(files: &[(&str, &str)]) -> Crate {
        let file =
            |(path, text): &(&str, &str)| File { path: format!("a/{path}"), lines: source::lines(text) };
        Crate { folder: "a".to_owned(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn a_dependency_counts_where_its_kind_can_be_used() {
        let used = owned(&[
            ("src/lib.rs", "use serde_json::Value;\nruntime::spawn();\n"),
            ("tests/b.rs", "tempfile::tempdir();"),
            ("build.rs", "protox::compile();"),
        ]);
        assert!(unused_of(&package(), &used).is_empty());
        let misplaced = owned(&[
            ("src/lib.rs", "// serde_json\nlet a = \"runtime\"; protox(); tempfile();"),
            ("tests/b.rs", "serde_json::from_str(runtime);"),
            ("build.rs", "serde_json();"),
        ]);
        assert_eq!(
            unused_of(&package(), &misplaced),
            ["serde-json (normal)", "tokio (normal)", "protox (build)"]
        );
    }

    #[test]
    fn a_package_can_name_those_of_generated_code() {
        let mut package = package();
        package["metadata"] = serde_json::json!({ "cargo-machete": { "ignored": ["serde-json", "tokio", "tempfile", "protox"] } });
        assert!(unused_of(&package, &owned(&[])).is_empty());
    }
}
