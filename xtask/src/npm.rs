//! The npm package `libmq`, in the ecosystem's layout: a main package, and one with the binary of a platform,
//! which the main package has as an optional dependency. `bindings/node` is the source of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::run::{cargo, output, program, root, run, succeeds, target};
use crate::stages::Done;
use crate::tools;

const SOURCE: &str = "bindings/node";
const NAME: &str = "libmq";

#[derive(Args)]
pub(crate) struct Npm {
    /// Cargo's profile of the addon
    #[arg(long, default_value = "dist")]
    profile: String,
}

impl Npm {
    /// Packs the main package and that of this platform.
    pub(crate) fn run(self) -> Result<(), String> {
        run(cargo().args(["build", "--locked", "--package", "mq-node", "--profile", &self.profile]))?;
        for package in pack(&self.profile)? {
            println!("{}", package.display());
        }
        Ok(())
    }
}

/// Whether Node is here.
pub(crate) fn is_there() -> bool {
    succeeds(program("npm").arg("--version"))
}

/// Packs both packages into `target/npm`, with the addon that was built in a profile, and returns their
/// files.
fn pack(profile: &str) -> Result<[PathBuf; 2], String> {
    let source = root().join(SOURCE);
    let platform = output(Command::new("node").current_dir(&source).args([
        "-p",
        "const {platform} = require('./lib/native'); `${platform() ?? ''} ${process.platform} ${process.arch}`",
    ]))?;
    let [platform, os, cpu] = *platform.split(' ').collect::<Vec<_>>() else {
        return Err(format!("Node says its platform is {platform:?}"));
    };
    if platform.is_empty() {
        return Err(format!("no binary can be built for {os} on {cpu}"));
    }
    let folder = target().join("npm");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let binary = binary_package(&folder, profile, platform, os, cpu)?;
    Ok([main_package(&source, &folder, platform)?, binary])
}

/// The package with everything but the binary. It runs nothing when it is installed.
fn main_package(source: &Path, folder: &Path, platform: &str) -> Result<PathBuf, String> {
    let main = folder.join("main");
    copy(source, &main, &["package.json", "README.md", "index.", "testing.", "nsq.", "lib", "bin"])?;
    licences(&main)?;
    let version = output(npm(&main).args(["pkg", "get", "version"]))?.replace('"', "");
    run(npm(&main).args(["pkg", "delete", "scripts"]))?;
    let dependency = format!("optionalDependencies.{NAME}-{platform}={version}");
    run(npm(&main).args(["pkg", "set", &dependency]))?;
    packed(&main, folder)
}

/// The package with the binary of this platform.
fn binary_package(
    folder: &Path,
    profile: &str,
    platform: &str,
    os: &str,
    cpu: &str,
) -> Result<PathBuf, String> {
    let package = folder.join("binary");
    make(&package)?;
    licences(&package)?;
    let library = if os == "darwin" { "libmq_node.dylib" } else { "libmq_node.so" };
    let built = target().join(if profile == "dev" { "debug" } else { profile }).join(library);
    let file = format!("mq.{platform}.node");
    fs::copy(&built, package.join(&file)).map_err(|e| format!("{}: {e}", built.display()))?;
    let version = output(npm(&root().join(SOURCE)).args(["pkg", "get", "version"]))?;
    let mut manifest = serde_json::json!({
        "name": format!("{NAME}-{platform}"),
        "version": version.replace('"', ""),
        "description": format!("The binary of {NAME} for {platform}"),
        "license": "MIT OR Apache-2.0",
        "os": [os],
        "cpu": [cpu],
        "main": file,
        "files": [file, "LICENSE-*"],
        "engines": { "node": ">=18" },
    });
    if platform.ends_with("-gnu") {
        manifest["libc"] = serde_json::json!(["glibc"]);
    }
    write(&package.join("package.json"), &manifest.to_string())?;
    packed(&package, folder)
}

/// Runs the tests of the packed packages in a project that has nothing else, with the addon and the binary
/// `mq` as they were built for the tests.
pub(crate) fn test(mq: &Path) -> Result<Done, String> {
    let packages = pack("dev")?;
    let tools = tools::node_modules("bindings/node/test", "bindings")?;
    let project = target().join("npm").join("project");
    make(&project)?;
    write(&project.join("package.json"), r#"{ "name": "project", "private": true }"#)?;
    let mut install = npm(&project);
    run(install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]).args(&packages))?;
    let tests = project.join("test");
    copy(&root().join(SOURCE).join("test"), &tests, &[""])?;
    let mut files: Vec<_> = names(&tests)?.into_iter().filter(|name| name.contains(".test.")).collect();
    files.sort();
    let mut node = Command::new("node");
    node.arg("--test").args(files.iter().map(|name| format!("test/{name}"))).current_dir(&project);
    node.env("MQ_BIN", mq).env("MQ_ROOT", root()).env("MQ_NODE_TOOLS", tools);
    // A checkout that is installed is built in the profile of all tests.
    node.env("LIBMQ_PROFILE", "dev");
    let peers = tools::nsq();
    if let Ok(peers) = &peers {
        node.env("MQ_PEERS", peers);
    }
    run(&mut node)?;
    Ok(match peers {
        Ok(_) => Done::Ran,
        Err(error) => Done::Partly(format!("nsqd: {error}").into()),
    })
}

fn npm(folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(folder);
    npm
}

/// Packs a folder. Returns the file.
fn packed(package: &Path, into: &Path) -> Result<PathBuf, String> {
    let packed = output(npm(package).args(["pack", "--silent", "--pack-destination"]).arg(into))?;
    Ok(into.join(packed.lines().last().unwrap_or_default()))
}

fn licences(package: &Path) -> Result<(), String> {
    copy(&root(), package, &["LICENSE-"])
}

/// Copies files and folders whose names begin with one of `starts`. What is only there once it is built or
/// installed stays behind.
fn copy(from: &Path, to: &Path, starts: &[&str]) -> Result<(), String> {
    make(to)?;
    for name in names(from)? {
        let is_wanted = starts.iter().any(|start| name.starts_with(start));
        if !is_wanted || name == "node_modules" || name.ends_with(".node") {
            continue;
        }
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to, &[""])?;
        } else {
            fs::copy(&from, &to).map_err(|e| format!("{}: {e}", from.display()))?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}
