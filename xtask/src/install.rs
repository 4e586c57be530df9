//! `cargo xtask install`: the libraries, headers and programs in a folder, as C programs find them by
//! pkg-config and CMake.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::c::{STATIC_LIBRARIES, stdout};
use crate::run::{cargo, program, root, run, succeeds, target};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Number in the shared library's name, as in ffi/build.rs.
pub(crate) const SONAME: &str = "libmq.so.0";

/// Arguments of `cargo xtask install`.
#[derive(Args)]
pub(crate) struct Install {
    /// The folder that gets bin, include and lib
    #[arg(long)]
    prefix: PathBuf,
    /// The profile to build
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Install {
    pub(crate) fn run(self) -> Result<(), String> {
        let Self { prefix, profile } = self;
        let mut build = cargo();
        build.args([
            "build",
            "--locked",
            "--package",
            "mq-ffi",
            "--package",
            "mq-cli",
            "--profile",
            &profile,
        ]);
        run(&mut build)?;
        let folder = if profile == "dev" { "debug" } else { &profile };
        install(&target().join(folder), &prefix)?;
        println!("installed in {}", prefix.display());
        Ok(())
    }
}

/// Copies what is in `built` to where it belongs below `prefix`.
fn install(built: &Path, prefix: &Path) -> Result<(), String> {
    let (bin, include, lib) = (prefix.join("bin"), prefix.join("include"), prefix.join("lib"));
    let (pkgconfig, cmake) = (lib.join("pkgconfig"), lib.join("cmake").join("libmq"));
    for folder in [&bin, &include, &pkgconfig, &cmake] {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let versioned = format!("libmq.so.{VERSION}");
    let headers = root().join("ffi").join("include");
    copy(&built.join("mq"), &bin.join("mq"))?;
    copy(&built.join("libmq.a"), &lib.join("libmq.a"))?;
    copy(&built.join("libmq.so"), &lib.join(&versioned))?;
    for header in ["mq.h", "mq.hpp", "mq_nsq.h", "mq_nsq_ev.h"] {
        copy(&headers.join(header), &include.join(header))?;
    }
    for (name, file) in [(SONAME, versioned.as_str()), ("libmq.so", SONAME)] {
        let link = lib.join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(file, &link).map_err(|e| format!("{}: {e}", link.display()))?;
    }
    write(&pkgconfig.join("libmq.pc"), &pkg_config())?;
    write(&cmake.join("libmqConfig.cmake"), &cmake_config())?;
    write(&cmake.join("libmqConfigVersion.cmake"), &cmake_version())
}

/// Replaces a file by a new one: a program that runs the old one keeps it.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// The folder may be moved: all is relative to the file.
fn pkg_config() -> String {
    let private = STATIC_LIBRARIES.join(" ");
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         includedir=${{prefix}}/include\n\
         libdir=${{prefix}}/lib\n\n\
         Name: libmq\n\
         Description: A message queue in this process or on brokers\n\
         URL: https://github.com/libmq/libmq\n\
         Version: {VERSION}\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lmq\n\
         Libs.private: {private}\n"
    )
}

fn cmake_config() -> String {
    let private = STATIC_LIBRARIES.map(|library| library.trim_start_matches("-l")).join(";");
    let target = |name: &str, kind: &str, file: &str, more: &str| {
        format!(
            "if(NOT TARGET libmq::{name})\n  \
               add_library(libmq::{name} {kind} IMPORTED)\n  \
               set_target_properties(libmq::{name} PROPERTIES\n    \
                 IMPORTED_LOCATION \"${{_libmq_prefix}}/lib/{file}\"\n    \
                 INTERFACE_INCLUDE_DIRECTORIES \"${{_libmq_prefix}}/include\"\n    \
                 {more})\n\
             endif()\n"
        )
    };
    let prefix = "get_filename_component(_libmq_prefix \"${CMAKE_CURRENT_LIST_DIR}/../../..\" ABSOLUTE)\n";
    let shared = target("mq", "SHARED", SONAME, &format!("IMPORTED_SONAME \"{SONAME}\""));
    let of_static = format!("INTERFACE_LINK_LIBRARIES \"{private}\"");
    let unshared = target("mq_static", "STATIC", "libmq.a", &of_static);
    format!(
        "# libmq::mq is the shared library, libmq::mq_static the static one.\n{prefix}{shared}{unshared}unset(_libmq_prefix)\n"
    )
}

fn cmake_version() -> String {
    format!(
        "set(PACKAGE_VERSION \"{VERSION}\")\n\
         if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)\n  \
           set(PACKAGE_VERSION_COMPATIBLE FALSE)\n\
         else()\n  \
           set(PACKAGE_VERSION_COMPATIBLE TRUE)\n  \
           if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)\n    \
             set(PACKAGE_VERSION_EXACT TRUE)\n  \
           endif()\n\
         endif()\n"
    )
}

/// Installs what is in `built`, moves it to `prefix`, and builds programs with it from a folder that has
/// nothing else. Returns what this machine lacks.
///
/// # Errors
/// Which step failed.
pub(crate) fn test(built: &Path, out: &Path, prefix: &Path) -> Result<Vec<&'static str>, String> {
    let mut missing = Vec::new();
    let (first, empty) = (out.join("installed"), out.join("empty"));
    for folder in [&first, &empty] {
        let _ = fs::remove_dir_all(folder);
    }
    let _ = fs::remove_dir_all(prefix);
    install(built, &first)?;
    fs::rename(&first, prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    fs::create_dir_all(&empty).map_err(|e| format!("{}: {e}", empty.display()))?;
    for name in ["queue.c", "raii.cpp", "check.h"] {
        copy(&root().join("ffi").join("tests").join(name), &empty.join(name))?;
    }
    if succeeds(program("pkg-config").arg("--version")) {
        with_pkg_config(prefix, &empty)?;
    } else {
        missing.push("pkg-config");
    }
    if succeeds(program("cmake").arg("--version")) {
        with_cmake(prefix, &empty)?;
    } else {
        missing.push("cmake");
    }
    Ok(missing)
}

fn with_pkg_config(prefix: &Path, empty: &Path) -> Result<(), String> {
    let lib = prefix.join("lib");
    for (name, is_static) in [("shared", false), ("static", true)] {
        let mut flags = program("pkg-config");
        flags.args(["--cflags", "--libs"]).args(is_static.then_some("--static")).arg("libmq");
        let flags = stdout(flags.env("PKG_CONFIG_PATH", lib.join("pkgconfig")))?;
        for (compiler, source) in [("gcc", "queue.c"), ("g++", "raii.cpp")] {
            let out = empty.join(format!("{name}-{compiler}"));
            let mut build = program(compiler);
            build.current_dir(empty).arg(source).arg("-o").arg(&out).arg("-pthread");
            if is_static {
                build.arg("-Wl,-Bstatic");
            }
            // Of our library only: the system's stay shared.
            let flag = |flag: &str| match flag {
                "-lmq" if is_static => vec!["-lmq".to_owned(), "-Wl,-Bdynamic".to_owned()],
                other => vec![other.to_owned()],
            };
            build.args(flags.split_whitespace().flat_map(flag));
            run(&mut build)?;
            let mut built = program(&out);
            if !is_static {
                built.env("LD_LIBRARY_PATH", &lib);
            }
            run(&mut built)?;
        }
    }
    Ok(())
}

fn with_cmake(prefix: &Path, empty: &Path) -> Result<(), String> {
    let version = VERSION.split('-').next().unwrap_or(VERSION);
    let lists = format!(
        "cmake_minimum_required(VERSION 3.13)\n\
         project(empty C CXX)\n\
         set(CMAKE_CXX_STANDARD 17)\n\
         find_package(libmq {version} REQUIRED)\n\
         add_executable(queue queue.c)\n\
         target_link_libraries(queue PRIVATE libmq::mq)\n\
         add_executable(raii raii.cpp)\n\
         target_link_libraries(raii PRIVATE libmq::mq_static)\n"
    );
    write(&empty.join("CMakeLists.txt"), &lists)?;
    let build = empty.join("build");
    let mut configure = program("cmake");
    configure.current_dir(empty).arg("-B").arg(&build);
    run(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())))?;
    run(program("cmake").arg("--build").arg(&build))?;
    for name in ["queue", "raii"] {
        run(&mut program(build.join(name)))?;
    }
    Ok(())
}
