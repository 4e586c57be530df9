//! The Python package: built as a wheel, installed in an environment of its own, tested there.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::run::{program, root, run, target};
use crate::stages::Done;
use crate::tools;

/// The package's folder, from the root.
const PACKAGE: &str = "bindings/python";

/// Arguments of `cargo xtask wheel`.
#[derive(Args)]
pub(crate) struct Wheel {
    /// Folder for the wheel
    #[arg(long, default_value = "target/wheels")]
    out: PathBuf,
}

/// Builds the wheel for others: optimised as much as the packages are, and for older systems where the
/// toolchain allows.
pub(crate) fn wheel(args: &Wheel) -> Result<(), String> {
    let python = python()?.ok_or("no python3 that can make a virtual environment")?;
    let mut maturin = program(python.with_file_name("maturin"));
    maturin.args(["build", "--locked", "--profile", "dist", "--manifest-path"]);
    run(maturin.arg(root().join(PACKAGE).join("Cargo.toml")).arg("--out").arg(&args.out))
}

/// The environment with what building and testing needs.
fn python() -> Result<Option<PathBuf>, String> {
    tools::python("wheel", &[&format!("{PACKAGE}/tests/requirements.txt")], &[])
}

/// Installs the package as its users do from a checkout, and tests it.
pub(crate) fn test() -> Result<Done, String> {
    let Some(python) = python()? else {
        return Ok(Done::Skipped("no python3 that can make a virtual environment".into()));
    };
    let wheels = target().join("wheels").join("test");
    // Else pip would install the one that is there.
    let _ = fs::remove_dir_all(&wheels);
    let mut build = program(&python);
    build.args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir"]);
    run(build.arg(&wheels).arg(root().join(PACKAGE)))?;
    let wheel = only_file(&wheels)?;
    let mut install = program(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    run(install.arg("--force-reinstall").arg(&wheel))?;
    let tests = root().join(PACKAGE).join("tests");
    run(program(&python)
        .args(["-m", "mypy.stubtest", "libmq", "--ignore-disjoint-bases"])
        .current_dir(&tests))?;
    run(program(&python).args(["-m", "mypy", "--strict", "."]).current_dir(&tests))?;
    let mut pytest = program(&python);
    pytest.args(["-m", "pytest", "-c", "../pyproject.toml", "."]).current_dir(&tests);
    run(pytest.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    Ok(Done::Ran)
}

fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let files: Vec<_> = fs::read_dir(folder).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    match files.as_slice() {
        [one] => Ok(one.path()),
        others => Err(format!("{} has {} files, not one wheel", folder.display(), others.len())),
    }
}
