//! The examples in C and C++, built by their Makefiles against an installed library, and run over a folder
//! and over a broker.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::c::{Compiler, sanitized, stdout, valgrind};
use crate::run::{program, root, run};

/// Messages that a publisher sends and a worker gets.
const MESSAGES: usize = 300;

/// A way to build and run the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Shared,
    Static,
    Sanitized,
    Valgrind,
}

/// The examples of one variant.
struct Examples {
    /// Copies of `examples/c` and `examples/cpp`, and the data of the programs.
    folder: PathBuf,
    variant: Variant,
}

/// A broker, killed in the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tools that a machine may lack.
#[derive(Clone, Copy)]
pub(crate) struct Tools {
    pub(crate) has_valgrind: bool,
    pub(crate) has_libev: bool,
    pub(crate) has_cmake: bool,
}

/// Builds and runs the examples against what is installed below `prefix`.
///
/// # Errors
/// Which step failed.
pub(crate) fn test(prefix: &Path, out: &Path, compiler: &Compiler, tools: Tools) -> Result<(), String> {
    let data = out.join("broker");
    let _ = fs::remove_dir_all(&data);
    // Free just now; publishers and workers wait for the broker by themselves.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.map_err(|e| format!("no free port: {e}"))?.port();
    let mut serve = program(prefix.join("bin").join("mq"));
    serve.arg("serve").arg("--data-path").arg(&data).arg("--tcp-address").arg(format!("127.0.0.1:{port}"));
    serve.args(["--http-address=", "--grpc-address="]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server(serve.spawn().map_err(|e| format!("mq serve: {e}"))?);
    for variant in [Variant::Shared, Variant::Static, Variant::Sanitized, Variant::Valgrind] {
        if variant == Variant::Valgrind && !tools.has_valgrind {
            continue;
        }
        let targets: &[&str] =
            if tools.has_libev { &["all", "nsq_reader", "nsq_consumer"] } else { &["all"] };
        let folder = out.join(format!("examples-{}-{variant:?}", compiler.c).to_lowercase());
        let examples = Examples { folder, variant };
        examples.build(prefix, compiler, targets)?;
        if variant == Variant::Shared && tools.has_cmake {
            examples.build_with_cmake(prefix, compiler)?;
        }
        examples.embedded()?;
        examples.dead_letters()?;
        examples.publish_and_work("./data", "t", "c/worker")?;
        let url = format!("mq://127.0.0.1:{port}");
        let topic = format!("{}-{variant:?}", compiler.c).to_lowercase();
        examples.publish_and_work(&url, &topic, "c/worker")?;
        examples.publish_and_work(&url, &format!("{topic}-cpp"), "cpp/worker")?;
        if tools.has_libev {
            examples.as_libnsq(port, &format!("{topic}-nsq"))?;
        }
        examples.end_by_signal("c/worker")?;
        examples.end_by_signal("cpp/worker")?;
    }
    Ok(())
}

impl Examples {
    fn build(&self, prefix: &Path, compiler: &Compiler, targets: &[&str]) -> Result<(), String> {
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder).map_err(|e| format!("{}: {e}", self.folder.display()))?;
        for name in ["c", "cpp"] {
            run(program("cp").arg("-r").arg(root().join("examples").join(name)).arg(&self.folder))?;
            if name == "c" {
                rename_libnsq(&self.folder.join("c"))?;
            }
            let mut make = program("make");
            make.arg("-C").arg(self.folder.join(name));
            make.args(if name == "c" { targets } else { &["all"] });
            make.arg(format!("CC={}", compiler.c)).arg(format!("CXX={}", compiler.cpp));
            let flags = "-g -Wall -Wextra -pedantic -Werror";
            let sanitizer = "-fsanitize=address,undefined -fno-sanitize-recover=all";
            let flags = match self.variant {
                Variant::Sanitized => format!("{flags} {sanitizer}"),
                _ => flags.to_owned(),
            };
            make.arg(format!("CFLAGS={flags}")).arg(format!("CXXFLAGS={flags}"));
            if self.variant == Variant::Static {
                make.arg("LINK=static");
            }
            run(make.env("PKG_CONFIG_PATH", prefix.join("lib").join("pkgconfig")))?;
        }
        Ok(())
    }

    /// Builds the same by their CMake files, and runs one program of each.
    fn build_with_cmake(&self, prefix: &Path, compiler: &Compiler) -> Result<(), String> {
        for name in ["c", "cpp"] {
            let (source, built) = (self.folder.join(name), self.folder.join(name).join("cmake"));
            let mut configure = program("cmake");
            configure.arg("-S").arg(&source).arg("-B").arg(&built);
            configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
            configure.arg(format!("-DCMAKE_C_COMPILER={}", compiler.c));
            run(configure.arg(format!("-DCMAKE_CXX_COMPILER={}", compiler.cpp)))?;
            run(program("cmake").arg("--build").arg(&built))?;
        }
        expect(self.program("c/cmake/embedded").arg("cmake"), "stored\none pizza\ntwo pizzas\n")?;
        self.publish_and_work("./cmake-data", "t", "cpp/cmake/worker")
    }

    /// A program in the folder of the examples.
    fn program(&self, name: &str) -> Command {
        let path = self.folder.join(name);
        let mut command = match self.variant {
            Variant::Valgrind => valgrind(),
            Variant::Sanitized => sanitized(path.clone()),
            Variant::Shared | Variant::Static => program(&path),
        };
        if self.variant == Variant::Valgrind {
            command.arg(path);
        }
        command.current_dir(&self.folder);
        command
    }

    fn embedded(&self) -> Result<(), String> {
        for stored in ["stored\none pizza\ntwo pizzas\n", "stored before\n"] {
            expect(self.program("c/embedded").arg("pizzas"), stored)?;
        }
        Ok(())
    }

    fn dead_letters(&self) -> Result<(), String> {
        let printed = "half of 10 is 5\nhalf of 30 is 15\ndead letter: twenty\n";
        expect(self.program("c/dead_letters").args(["numbers", "10", "twenty", "30"]), printed)
    }

    fn publish_and_work(&self, url: &str, topic: &str, worker: &str) -> Result<(), String> {
        let lines = self.publish(url, topic)?;
        expect(self.program(worker).args([url, topic, "channel", &MESSAGES.to_string()]), &lines)
    }

    fn as_libnsq(&self, port: u16, topic: &str) -> Result<(), String> {
        let lines = self.publish(&format!("mq://127.0.0.1:{port}"), topic)?;
        let (port, count) = (port.to_string(), MESSAGES.to_string());
        expect(self.program("c/nsq_reader").args(["127.0.0.1", &port, topic, "channel", &count]), &lines)?;
        let published = "single\none\ntwo\nlater\n";
        expect(self.program("c/nsq_consumer").args([&port, &format!("{topic}-renamed")]), published)
    }

    /// Publishes messages and returns them, a line each.
    fn publish(&self, url: &str, topic: &str) -> Result<String, String> {
        let lines: String = (0..MESSAGES).map(|i| format!("message {i}\n")).collect();
        let input = self.folder.join("lines");
        fs::write(&input, &lines).map_err(|e| e.to_string())?;
        let input = File::open(&input).map_err(|e| e.to_string())?;
        expect(self.program("c/publisher").args([url, topic]).stdin(input), "")?;
        Ok(lines)
    }

    /// A worker that has nothing to do any more ends by SIGTERM, and successfully.
    fn end_by_signal(&self, worker: &str) -> Result<(), String> {
        let input = self.folder.join("line");
        fs::write(&input, "last\n").map_err(|e| e.to_string())?;
        let input = File::open(&input).map_err(|e| e.to_string())?;
        run(self.program("c/publisher").args(["./data", "end"]).stdin(input))?;
        let mut command = self.program(worker);
        let started = command.args(["./data", "end", "channel"]).stdout(Stdio::piped()).spawn();
        let mut started = Server(started.map_err(|e| format!("{worker}: {e}"))?);
        let mut line = String::new();
        if let Some(pipe) = started.0.stdout.take() {
            BufReader::new(pipe).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        run(program("kill").arg("-TERM").arg(started.0.id().to_string()))?;
        let status = started.0.wait().map_err(|e| e.to_string())?;
        if line != "last\n" || !status.success() {
            return Err(format!("{worker} printed {line:?} and ended with {status}"));
        }
        Ok(())
    }
}

/// Writes a program for libnsq into the folder of the script of renames, after them.
fn rename_libnsq(folder: &Path) -> Result<(), String> {
    let mut sed = program("sed");
    sed.args(["-E", "-f"]).arg(folder.join("libnsq.sed")).arg("ffi/tests/libnsq/consumer.c");
    let path = folder.join("nsq_consumer.c");
    fs::write(&path, stdout(&mut sed)?).map_err(|e| format!("{}: {e}", path.display()))
}

/// Runs a program that has to print this.
fn expect(command: &mut Command, wanted: &str) -> Result<(), String> {
    let got = stdout(command)?;
    if got == wanted {
        return Ok(());
    }
    Err(format!("{command:?} printed {got:?}, not {wanted:?}"))
}
