//! The Python package: packed for others, and built, installed and tested in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::run::{cargo, output, program, root, run, succeeds, target};
use crate::stages::Done;
use crate::tools;

/// The package's folder, from the root.
const PACKAGE: &str = "bindings/python";
/// The newest glibc that a wheel for others may need: 2.28, of 2018, which the systems still maintained have.
const GLIBC_MINOR_MAX: u32 = 28;

/// Profile of the wheel that is published.
const PUBLISHED: &str = "dist";

/// Versions of Python that the wheel, of the stable ABI, is tried with, where they are here: the oldest that
/// it is for, and later ones.
const OTHER_PYTHONS: [&str; 5] = ["3.10", "3.11", "3.12", "3.13", "3.14"];

/// Most megabytes of a wheel that is published, so that it installs in a few seconds.
const MB_MAX: u32 = 9;

/// Arguments of `cargo xtask wheel`.
#[derive(Args)]
pub(crate) struct Wheel {
    /// Folder for the wheel and the source archive
    #[arg(long, default_value = "target/wheels")]
    out: PathBuf,
    /// Profile of cargo
    #[arg(long, default_value = PUBLISHED)]
    profile: String,
}

/// Packs what is published: the source archive, and from it, as anybody could, the wheel. It runs on the
/// systems of `GLIBC_MINOR_MAX` if zig can be had, and else on those as new as this one.
pub(crate) fn wheel(args: &Wheel) -> Result<(), String> {
    let python = python()?.ok_or("no python3 that can make a virtual environment")?;
    let maturin = || program(python.with_file_name("maturin"));
    let out = root().join(&args.out);
    let packed = target().join("wheels").join("packed");
    for folder in [&packed, &out] {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let source = sdist(&python, &packed)?;

    let zig = found("zig", tools::python("zig", &[&format!("{PACKAGE}/tests/zig.txt")], &[]));
    let mut build = maturin();
    build.current_dir(&source).env("CARGO_TARGET_DIR", target());
    build.args(["build", "--profile", &args.profile, "--compression-level", "9", "--out"]).arg(&packed);
    if let Some(zig) = &zig {
        // maturin finds zig as a module of the Python in its environment.
        build.args(["--zig", "--compatibility", &format!("manylinux_2_{GLIBC_MINOR_MAX}")]);
        build.env("VIRTUAL_ENV", zig.parent().and_then(Path::parent).unwrap_or(zig));
        build.env("PATH", path_with(zig)?);
    }
    run(&mut build)?;

    let wheel = only_file(&packed, "whl")?;
    audit(&wheel, zig.is_some())?;
    let bytes = fs::metadata(&wheel).map_err(|e| format!("{}: {e}", wheel.display()))?.len();
    let megabytes = bytes as f64 / 1e6;
    println!("the wheel has {megabytes:.2} MB, of {MB_MAX} at most for what is published");
    // Other profiles are quicker to build, and larger.
    if args.profile == PUBLISHED && megabytes > f64::from(MB_MAX) {
        return Err(format!("a wheel of {megabytes:.2} MB is too large: at most {MB_MAX}"));
    }
    for file in [wheel, only_file(&packed, "gz")?] {
        let to = out.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &to).map_err(|e| format!("{}: {e}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

/// Packs the source archive into an emptied folder, and unpacks it there. Returns where: a workspace of those
/// crates that the package needs, without git.
fn sdist(python: &Path, packed: &Path) -> Result<PathBuf, String> {
    let failed = |error| format!("{}: {error}", packed.display());
    let emptied = fs::create_dir_all(packed).and_then(|()| fs::remove_dir_all(packed));
    emptied.and_then(|()| fs::create_dir(packed)).map_err(failed)?;
    let mut maturin = program(python.with_file_name("maturin"));
    maturin.args(["sdist", "--manifest-path"]).arg(root().join(PACKAGE).join("Cargo.toml"));
    run(maturin.arg("--out").arg(packed))?;
    let archive = only_file(packed, "gz")?;
    // With the time of now: cargo would take the archive's old times for sources that it has built.
    run(program("tar").arg("-xmzf").arg(&archive).arg("-C").arg(packed))?;
    let mut unpacked = fs::read_dir(packed).map_err(failed)?.flatten().map(|entry| entry.path());
    unpacked.find(|path| path.is_dir()).ok_or_else(|| "the source archive is empty".to_owned())
}

/// Checks what a wheel needs of a system, by auditwheel, and that it is of the stable ABI, by abi3audit.
fn audit(wheel: &Path, is_for_older: bool) -> Result<(), String> {
    let Some(python) =
        found("auditwheel", tools::python("audit", &[&format!("{PACKAGE}/tests/audit.txt")], &[]))
    else {
        return Ok(());
    };
    let shown = output(program(python.with_file_name("auditwheel")).arg("show").arg(wheel))?;
    let minor =
        shown.split_once("manylinux_2_").and_then(|(_, rest)| rest.split('_').next()?.parse::<u32>().ok());
    match minor {
        Some(minor) if minor <= GLIBC_MINOR_MAX => println!("the wheel needs glibc 2.{minor}"),
        Some(minor) if !is_for_older => {
            println!(
                "the wheel needs glibc 2.{minor}, as this system has: with zig it would be 2.{GLIBC_MINOR_MAX}"
            );
        }
        _ => return Err(format!("the wheel does not run with glibc 2.{GLIBC_MINOR_MAX}:\n{shown}")),
    }
    run(program(python.with_file_name("abi3audit")).arg("--strict").arg(wheel))
}

/// The environment of a tool, if there is one on this machine.
fn found(name: &str, python: Result<Option<PathBuf>, String>) -> Option<PathBuf> {
    match python {
        Ok(Some(python)) => return Some(python),
        Ok(None) => println!("without {name}: no python3 that can make a virtual environment"),
        Err(error) => println!("without {name}: {error}"),
    }
    None
}

/// The path with the folder of a Python before all others.
fn path_with(python: &Path) -> Result<std::ffi::OsString, String> {
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = python.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&before));
    std::env::join_paths(folders).map_err(|error| error.to_string())
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
    let source = sdist(&python, &target().join("wheels").join("packed"))?;
    // Nothing of its workspace is missing; `cargo xtask wheel` builds it.
    output(cargo().args(["metadata", "--quiet", "--offline", "--format-version=1"]).current_dir(source))?;
    let wheels = target().join("wheels").join("test");
    // Else pip would install the one that is there.
    let _ = fs::remove_dir_all(&wheels);
    let mut build = program(&python);
    build.args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir"]);
    // The profile of all tests, which is the quicker one to build.
    build.env("MATURIN_PEP517_ARGS", "--profile dev");
    run(build.arg(&wheels).arg(root().join(PACKAGE)))?;
    install(&python, &wheels)?;
    let tests = root().join(PACKAGE).join("tests");
    run(program(&python)
        .args(["-m", "mypy.stubtest", "libmq", "--ignore-disjoint-bases"])
        .current_dir(&tests))?;
    run(program(&python).args(["-m", "mypy", "--strict", ".", "../python/libmq"]).current_dir(&tests))?;
    let mut pyright = program(python.with_file_name("pyright"));
    run(pyright.args(["--project", PACKAGE, "--pythonpath"]).arg(&python))?;
    let mut pytest = program(&python);
    pytest.args(["-m", "pytest", "-c", "../pyproject.toml", "."]).current_dir(&tests);
    let peers = tools::nsq();
    if let Ok(peers) = &peers {
        pytest.env("MQ_PEERS", peers);
    }
    run(pytest.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    try_with_others(&only_file(&wheels, "whl")?)?;
    Ok(match peers {
        Ok(_) => Done::Ran,
        Err(error) => Done::Partly(format!("nsqd: {error}").into()),
    })
}

/// Installs the wheel for each other Python on the path, and runs the examples of its docstrings there.
fn try_with_others(wheel: &Path) -> Result<(), String> {
    let folder = target().join("python").join("other");
    for version in OTHER_PYTHONS {
        let other = || {
            let mut python = program(format!("python{version}"));
            // Where pyenv has it, and another version is the current one.
            python.env("PYENV_VERSION", version);
            python
        };
        if !succeeds(other().args(["-c", "import ensurepip, venv"])) {
            continue;
        }
        println!("with Python {version}");
        run(other().args(["-m", "venv", "--clear"]).arg(&folder))?;
        let python = folder.join("bin").join("python");
        let mut install = program(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]);
        run(install.arg(wheel))?;
        run(program(&python).arg(root().join(PACKAGE).join("tests").join("docstrings.py")))?;
    }
    Ok(())
}

/// Measures what a message costs a client of the package, beside pynsq.
pub(crate) fn bench(messages: u64, rounds: u32) -> Result<(), String> {
    let folder = root().join(PACKAGE).join("bench");
    let peers = tools::python("bench", &[&format!("{PACKAGE}/bench/requirements.txt")], &[]);
    let Some(python) = found("pynsq", peers) else { return Ok(()) };
    let wheels = target().join("wheels").join("bench");
    let _ = fs::remove_dir_all(&wheels);
    let mut build = program(python.with_file_name("maturin"));
    build.args(["build", "--locked", "--profile", "dist", "--manifest-path"]);
    run(build.arg(root().join(PACKAGE).join("Cargo.toml")).arg("--out").arg(&wheels))?;
    install(&python, &wheels)?;
    let mut compare = program(&python);
    compare.arg(folder.join("compare.py")).args(["--messages", &messages.to_string()]);
    run(compare.args(["--rounds", &rounds.to_string()]))
}

/// Installs the only wheel of a folder, whatever is installed.
fn install(python: &Path, wheels: &Path) -> Result<(), String> {
    let mut install = program(python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    run(install.arg("--force-reinstall").arg(only_file(wheels, "whl")?))
}

/// The only file of a folder whose name ends so.
fn only_file(folder: &Path, ending: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|is| is == ending)).collect();
    match files.as_slice() {
        [one] => Ok(one.clone()),
        others => Err(format!("{} has {} files .{ending}, not one", folder.display(), others.len())),
    }
}
