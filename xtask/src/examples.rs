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
        check_csharp()?;
    } else {
        missing.push("mvn");
    }
    if succeeds(program("dotnet").arg("--version")) {
        let mut dotnet = program("dotnet");
        dotnet.args(["build", "--nologo", "examples/csharp/Worker.csproj", "--output"]);
        run(dotnet.arg(folder("csharp")?))?;
    } else {
        missing.push("dotnet");
    }
    tests.args(["-m", "pytest", "tests/examples"]);
    tests.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", stubs).env("MQ_BIN", mq);
    run(tests.env("MQ_EXAMPLES", languages.join(" ")).env("MQ_EXAMPLES_FOLDER", target().join("examples")))?;
    Ok(missing)
}

/// Generates the protos' C# classes, by the protoc that Maven brings, and holds the example's names against
/// them.
fn check_csharp() -> Result<(), String> {
    let output = target().join("java").join("csharp");
    let mut maven = program("mvn");
    maven.args(["--batch-mode", "--quiet", "--file", "grpc/java/pom.xml", PROTOBUF_TO_CSHARP]);
    run(maven.arg(arg("-Dlibmq.output=", &output)))?;
    let generated = files(&output.join("generated-sources").join("protobuf").join("csharp"))?;
    let code: Vec<_> = generated.iter().map(|(_, code)| String::from_utf8_lossy(code)).collect();
    if code.len() != PROTOS.len() || !code.iter().all(|code| code.contains("namespace Libmq.V1 {")) {
        return Err(format!("{} has not the classes of all protos in Libmq.V1", output.display()));
    }
    let example = root().join("examples").join("csharp").join("Worker.cs");
    let example = fs::read_to_string(&example).map_err(|e| format!("{}: {e}", example.display()))?;
    let words = example.split(|letter: char| !letter.is_alphanumeric());
    // The service itself comes from another plugin, and the method is named after it.
    let is_message = |word: &&str| {
        (word.starts_with("Subscribe") || word.starts_with("Received"))
            && !["Subscribe", "SubscribeService", "SubscribeServiceClient"].contains(word)
    };
    match words.filter(is_message).find(|word| !code.iter().any(|c| c.contains(&format!("class {word} :")))) {
        Some(word) => Err(format!("examples/csharp/Worker.cs uses {word}, which the protos do not have")),
        None => Ok(()),
    }
}

/// The goal of Maven's plugin that generates C#.
const PROTOBUF_TO_CSHARP: &str = "org.xolstice.maven.plugins:protobuf-maven-plugin:compile-csharp";

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
