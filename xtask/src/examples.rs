//! The examples of `examples/`: built under `target/examples/`, for their tests to run; and the stubs of Go's
//! module, which are committed as Go users expect.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::run::{cargo, program, root, run, succeeds, target};
use crate::tools;

const GO_MODULE: &str = "github.com/libmq/libmq/grpc/go";
const GO_FOLDER: &str = "grpc/go";

#[derive(Args)]
pub(crate) struct Generate {}

impl Generate {
    /// Writes the Rust code of the protos, and Go's stubs.
    pub(crate) fn run(self) -> Result<(), String> {
        run(cargo().args(["check", "--quiet", "--package", "mq-grpc", "--features", "generate"]))?;
        let python = python()?.ok_or("no python3 that can make a virtual environment")?;
        go_stubs(&python, &root().join(GO_FOLDER))
    }
}

/// Runs the tests of all examples whose tools are installed, with the binary `mq` and those beside it.
/// Returns the missing tools.
pub(crate) fn test(mq: &Path) -> Result<Vec<&'static str>, String> {
    let Some(python) = python()? else {
        return Ok(vec!["python3 with venv, which the tests are written in"]);
    };
    let stubs = folder("python")?;
    run(protoc(&python)
        .arg(arg("--python_out=", &stubs))
        .arg(arg("--grpc_python_out=", &stubs))
        .args(PROTOS))?;
    let (mut languages, mut missing) = (vec!["rust", "python", "asyncio"], Vec::new());
    let mut tests = program(&python);
    if succeeds(program("npm").arg("--version")) {
        tests.env("NODE_PATH", tools::node_modules("examples/node", "examples")?);
        languages.push("node");
    } else {
        missing.push("node with npm");
    }
    if succeeds(program("go").arg("version")) {
        check_go_stubs(&python)?;
        let built = folder("go")?;
        run(go().args(["build", "-o"]).arg(&built).args(["./publisher", "./worker"]))?;
        languages.push("go");
    } else {
        missing.push("go");
    }
    if succeeds(program("mvn").arg("--version")) {
        let mut maven = program("mvn");
        maven.args(["--batch-mode", "--quiet", "--file", "examples/java/all.xml", "-Dmaven.test.skip=true"]);
        maven.arg(arg("-Dlibmq.output=", &target().join("java").join("grpc")));
        run(maven.arg(arg("-DoutputFolder=", &folder("java")?)).arg("package"))?;
        languages.push("java");
    } else {
        missing.push("mvn");
    }
    tests.args(["-m", "pytest", "tests/examples"]);
    tests.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", stubs).env("MQ_BIN", mq);
    run(tests.env("MQ_EXAMPLES", languages.join(" ")).env("MQ_EXAMPLES_FOLDER", target().join("examples")))?;
    Ok(missing)
}

/// All of the protos, as protoc names them.
const PROTOS: [&str; 5] = [
    "mq/v1/admin.proto",
    "mq/v1/common.proto",
    "mq/v1/discovery.proto",
    "mq/v1/publish.proto",
    "mq/v1/subscribe.proto",
];

/// A Python with grpcio-tools, whose protoc serves Go too, and pytest.
fn python() -> Result<Option<PathBuf>, String> {
    tools::python("examples", &["examples/python/requirements.txt", "tests/examples/requirements.txt"], &[])
}

fn protoc(python: &Path) -> Command {
    let mut protoc = program(python);
    protoc.args(["-m", "grpc_tools.protoc", "-Igrpc/proto"]);
    protoc
}

fn go() -> Command {
    let mut go = Command::new("go");
    go.current_dir(root().join("examples").join("go"));
    go
}

/// Generates into the folder of a module: its `mqv1`.
fn go_stubs(python: &Path, module: &Path) -> Result<(), String> {
    let tools = folder("go-tools")?;
    run(go().args(["install", "tool"]).env("GOBIN", &tools))?;
    let mut generate = protoc(python);
    for name in ["go", "go-grpc"] {
        generate.arg(arg(&format!("--plugin=protoc-gen-{name}="), &tools.join(format!("protoc-gen-{name}"))));
        generate.arg(arg(&format!("--{name}_out="), module)).arg(format!("--{name}_opt=module={GO_MODULE}"));
    }
    run(generate.args(PROTOS))
}

fn check_go_stubs(python: &Path) -> Result<(), String> {
    let fresh = folder("go-stubs")?;
    go_stubs(python, &fresh)?;
    if files(&fresh.join("mqv1"))? == files(&root().join(GO_FOLDER).join("mqv1"))? {
        return Ok(());
    }
    Err(format!("{GO_FOLDER}/mqv1 is not what the protos say: run `cargo xtask generate`"))
}

/// Names and contents, sorted.
fn files(folder: &Path) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>, String> {
    let read = || -> std::io::Result<_> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            files.push((entry.file_name(), fs::read(entry.path())?));
        }
        files.sort();
        Ok(files)
    };
    read().map_err(|e| format!("{}: {e}", folder.display()))
}

/// A folder under `target/examples/`, made where it is not.
fn folder(name: &str) -> Result<PathBuf, String> {
    let folder = target().join("examples").join(name);
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// An argument that ends with a path.
fn arg(name: &str, path: &Path) -> std::ffi::OsString {
    let mut arg = std::ffi::OsString::from(name);
    arg.push(path);
    arg
}
