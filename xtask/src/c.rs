//! The stage of C and C++: the header in every standard, the library's symbols, and programs over the library
//! in `ffi/tests` and `examples`, shared and static, under valgrind and AddressSanitizer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::c_examples::{self, Tools};
use crate::run::{program, root, run, succeeds, target};
use crate::{header, install};

/// Names that the shared library exports, one a line. New ones are added by hand: each is a promise.
const SYMBOLS: &str = "ffi/symbols.txt";
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];
/// Exit status of a program in which valgrind found an error.
const VALGRIND_EXIT: i32 = 99;
/// Faults of the programs in `ffi/tests/planted`, and the words by which valgrind and AddressSanitizer report
/// them.
const PLANTED: [(&str, &str, &str); 3] = [
    ("leak", "definitely lost", "detected memory leaks"),
    ("use_after_free", "Invalid read", "heap-use-after-free"),
    ("double_free", "Invalid read", "attempting double-free"),
];
/// Libraries of the system that a static libmq stands on.
pub(crate) const STATIC_LIBRARIES: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// A compiler of C, and of C++ in the same hands.
pub(crate) struct Compiler {
    pub(crate) c: &'static str,
    pub(crate) cpp: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Shared,
    Static,
    /// Shared, with AddressSanitizer and UndefinedBehaviorSanitizer in the program.
    Sanitized,
}

/// The built library and folders for what is made of it.
struct Workshop {
    /// Folder that has the library under all its names.
    lib: PathBuf,
    /// Folder of the programs.
    out: PathBuf,
    has_valgrind: bool,
}

/// Runs the stage with the libraries and programs in `built`. Returns what this machine lacks.
///
/// # Errors
/// Which step failed.
pub(crate) fn test(built: &Path) -> Result<Vec<&'static str>, String> {
    let mut missing = Vec::new();
    let mut compilers = Vec::new();
    for compiler in [Compiler { c: "gcc", cpp: "g++" }, Compiler { c: "clang", cpp: "clang++" }] {
        let is_there = |name: &str| succeeds(program(name).arg("--version"));
        if is_there(compiler.c) && is_there(compiler.cpp) {
            compilers.push(compiler);
        } else {
            missing.push(compiler.cpp);
        }
    }
    if compilers.is_empty() {
        return Err("no C compiler: gcc and g++, or clang and clang++".to_owned());
    }
    header::check()?;
    let has_valgrind = succeeds(program("valgrind").arg("--version"));
    if !has_valgrind {
        missing.push("valgrind");
    }
    let workshop = Workshop::open(built, has_valgrind)?;
    workshop.check_symbols()?;
    workshop.check_loading()?;
    for compiler in &compilers {
        workshop.check_header(compiler)?;
        workshop.run_tests(compiler)?;
        workshop.check_planted(compiler)?;
    }
    let prefix = workshop.out.join("prefix");
    missing.extend(install::test(built, &workshop.out, &prefix)?);
    let has_cmake = !missing.contains(&"cmake");
    for compiler in &compilers {
        let includes_ev = ["-include", "ev.h", "-fsyntax-only", "-x", "c", "/dev/null"];
        let has_libev = succeeds(program(compiler.c).args(includes_ev));
        if !has_libev {
            missing.push("libev");
        }
        c_examples::test(&prefix, &workshop.out, compiler, Tools { has_valgrind, has_libev, has_cmake })?;
    }
    Ok(missing)
}

impl Workshop {
    fn open(built: &Path, has_valgrind: bool) -> Result<Self, String> {
        let folder = target().join("c");
        let (lib, out) = (folder.join("lib"), folder.join("out"));
        for made in [&lib, &out] {
            fs::create_dir_all(made).map_err(|e| format!("{}: {e}", made.display()))?;
        }
        for (name, file) in [("libmq.so", "libmq.so"), ("libmq.so.0", "libmq.so"), ("libmq.a", "libmq.a")] {
            let link = lib.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(built.join(file), &link).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(Self { lib, out, has_valgrind })
    }

    /// Holds the exported names against the committed list and against those of the system's libraries.
    fn check_symbols(&self) -> Result<(), String> {
        let committed = fs::read_to_string(root().join(SYMBOLS)).map_err(|e| format!("{SYMBOLS}: {e}"))?;
        let committed: BTreeSet<&str> = committed.lines().collect();
        let exported = symbols(&["-D"], &self.lib.join("libmq.so"))?;
        let exported: BTreeSet<&str> = exported.iter().map(String::as_str).collect();
        let differ: Vec<&&str> = exported.symmetric_difference(&committed).collect();
        if !differ.is_empty() {
            return Err(format!("{SYMBOLS} and the exported names differ in {differ:?}"));
        }
        if let Some(other) = exported.iter().find(|name| !name.starts_with("mq_")) {
            return Err(format!("{other} is exported: only mq_* may be"));
        }
        // Those of the static library with our prefix are the same.
        let archived = symbols(&["-g"], &self.lib.join("libmq.a"))?;
        let archived: BTreeSet<&str> =
            archived.iter().map(String::as_str).filter(|name| name.starts_with("mq_")).collect();
        if archived != exported {
            return Err("libmq.a and libmq.so have different mq_* names".to_owned());
        }
        let mut theirs = BTreeSet::new();
        for library in ["libc.so.6", "librt.so.1"] {
            let found = stdout(program("gcc").arg(format!("-print-file-name={library}")))?;
            theirs.extend(symbols(&["-D"], Path::new(found.trim()))?);
        }
        // Without these the lists would not be those of the system's libraries.
        if let Some(absent) =
            ["malloc", "mq_open", "timer_create"].iter().find(|name| !theirs.contains(**name))
        {
            return Err(format!("libc and librt have no {absent}"));
        }
        if let Some(taken) = exported.iter().find(|name| theirs.contains(**name)) {
            return Err(format!("{taken} is a name of libc or librt"));
        }
        Ok(())
    }

    /// Checks what the system's loader reads of the shared library: its name, and that it stays loaded, since
    /// its threads run its code.
    fn check_loading(&self) -> Result<(), String> {
        let dynamic = stdout(program("readelf").arg("-d").arg(self.lib.join("libmq.so")))?;
        for (entry, value) in [("(SONAME)", install::SONAME), ("(FLAGS_1)", "NODELETE")] {
            if !dynamic.lines().any(|line| line.contains(entry) && line.contains(value)) {
                return Err(format!("libmq.so has no {value} at {entry}: see ffi/build.rs"));
            }
        }
        Ok(())
    }

    /// Compiles each header alone, in every standard.
    fn check_header(&self, compiler: &Compiler) -> Result<(), String> {
        const LAYOUT: &str = "ffi/tests/layout.c";
        for standard in ["c99", "c11", "c17", "c2x"] {
            for header in ["mq.h", "mq_nsq.h"] {
                let mut check = compile(compiler.c, standard);
                run(check.args(["-include", header, "-fsyntax-only", LAYOUT]))?;
            }
        }
        for header in ["mq.h", "mq.hpp", "mq_nsq.h"] {
            let mut check = compile(compiler.cpp, "c++17");
            run(check.args(["-include", header, "-fsyntax-only", "-x", "c++", LAYOUT]))?;
        }
        Ok(())
    }

    /// Compiles a program and returns it.
    fn build(&self, compiler: &Compiler, source: &Path, link: Link) -> Result<PathBuf, String> {
        let is_cpp = source.extension().is_some_and(|extension| extension == "cpp");
        let (name, standard) = if is_cpp { (compiler.cpp, "c++17") } else { (compiler.c, "c11") };
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let out = self.out.join(format!("{stem}-{name}-{link:?}").to_lowercase());
        let mut build = compile(name, standard);
        build.arg("-g").arg(source).arg("-o").arg(&out).arg("-pthread");
        match link {
            Link::Static => {
                build.arg(self.lib.join("libmq.a")).args(STATIC_LIBRARIES);
            }
            Link::Shared | Link::Sanitized => {
                let rpath = format!("-Wl,-rpath,{}", self.lib.display());
                build.arg("-L").arg(&self.lib).args(["-lmq", "-lrt", &rpath]);
            }
        }
        if link == Link::Sanitized {
            build.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        }
        run(&mut build)?;
        Ok(out)
    }

    /// Builds and runs the programs of `ffi/tests`.
    fn run_tests(&self, compiler: &Compiler) -> Result<(), String> {
        for source in sources("ffi/tests")? {
            if source.ends_with("layout.c") {
                continue;
            }
            let shared = self.build(compiler, &source, Link::Shared)?;
            run(&mut program(&shared))?;
            // What the parent's threads held is lost in a child, and counts as leaked.
            let has_leaks = source.ends_with("fork.c");
            if self.has_valgrind && !has_leaks {
                run(valgrind().arg(&shared))?;
            }
            run(&mut program(self.build(compiler, &source, Link::Static)?))?;
            let mut sanitized = sanitized(self.build(compiler, &source, Link::Sanitized)?);
            if has_leaks {
                sanitized.env("ASAN_OPTIONS", "detect_leaks=0");
            }
            run(&mut sanitized)?;
        }
        Ok(())
    }

    /// Builds and runs the programs with a fault, which both tools have to find: else their silence about the
    /// others would say nothing.
    fn check_planted(&self, compiler: &Compiler) -> Result<(), String> {
        for (name, of_valgrind, of_sanitizer) in PLANTED {
            let source = root().join("ffi/tests/planted").join(name).with_extension("c");
            if self.has_valgrind {
                let program = self.build(compiler, &source, Link::Shared)?;
                must_find(valgrind().arg(program), of_valgrind, Some(VALGRIND_EXIT))?;
            }
            let program = self.build(compiler, &source, Link::Sanitized)?;
            must_find(&mut sanitized(program), of_sanitizer, None)?;
        }
        Ok(())
    }
}

fn compile(compiler: &str, standard: &str) -> Command {
    let mut compile = program(compiler);
    compile.arg(format!("-std={standard}")).args(WARNINGS).arg("-Iffi/include");
    compile
}

/// Valgrind, for which a leak is what nothing points to any more. What is possibly lost does not count: a
/// thread's handle of Rust's standard library is known by a pointer into its middle.
pub(crate) fn valgrind() -> Command {
    let mut valgrind = program("valgrind");
    valgrind.args(["--quiet", "--leak-check=full", "--show-leak-kinds=definite,indirect"]);
    valgrind
        .args(["--errors-for-leak-kinds=definite,indirect", &format!("--error-exitcode={VALGRIND_EXIT}")]);
    valgrind
}

pub(crate) fn sanitized(path: PathBuf) -> Command {
    let mut command = program(path);
    command.env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1");
    command
}

/// Runs a program that has to fail with `report` in its output.
fn must_find(command: &mut Command, report: &str, status: Option<i32>) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_status = status.is_none_or(|status| output.status.code() == Some(status));
    if output.status.success() || !is_status || !errors.contains(report) {
        return Err(format!("{shown} should report {report:?}: {} {errors}", output.status));
    }
    Ok(())
}

/// Programs in a folder, sorted.
fn sources(folder: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(root().join(folder)).map_err(|e| format!("{folder}: {e}"))?;
    let mut sources = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{folder}: {e}"))?.path();
        if path.extension().is_some_and(|extension| extension == "c" || extension == "cpp") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// Names that a library defines.
fn symbols(options: &[&str], library: &Path) -> Result<Vec<String>, String> {
    let mut nm = program("nm");
    nm.args(options).arg("--defined-only").arg(library);
    let lines = stdout(&mut nm)?;
    let name = |line: &str| {
        let name = line.rsplit(' ').next().filter(|_| line.contains(' '))?;
        Some(name.split('@').next().unwrap_or(name).to_owned())
    };
    Ok(lines.lines().filter_map(name).collect())
}

pub(crate) fn stdout(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
