//! `cargo xtask size`: the bytes of the C library as it is shipped, which fails above its bars.

use std::fs;

use clap::Args;

use crate::run::{cargo, program, run, target};

/// A build of the library: its name, the features that it has, and most megabytes of it, stripped.
const BUILDS: [(&str, &[&str], f64); 2] =
    [("client and embedded broker", &["--no-default-features"], 8.0), ("whole, with servers", &[], 16.0)];

/// Arguments of `cargo xtask size`.
#[derive(Args)]
pub(crate) struct Size {
    /// The profile to build
    #[arg(long, default_value = "dist")]
    profile: String,
}

impl Size {
    pub(crate) fn run(self) -> Result<(), String> {
        let folder = target().join(if self.profile == "dev" { "debug" } else { &self.profile });
        let (built, stripped) = (folder.join("libmq.so"), folder.join("libmq.stripped.so"));
        let mut too_large = Vec::new();
        // The whole one last: it stays for what is built next.
        for (name, features, most) in BUILDS {
            let mut build = cargo();
            build.args(["build", "--locked", "--package", "mq-ffi", "--lib", "--profile", &self.profile]);
            run(build.args(features))?;
            run(program("strip").arg("-o").arg(&stripped).arg(&built))?;
            let bytes = fs::metadata(&stripped).map_err(|e| format!("{}: {e}", stripped.display()))?.len();
            let megabytes = bytes as f64 / 1e6;
            println!("{name:<28}{megabytes:>6.2} MB, of {most} at most");
            if megabytes > most {
                too_large.push(format!("{name}: {megabytes:.2} MB, at most {most} are shipped"));
            }
        }
        let _ = fs::remove_file(&stripped);
        if too_large.is_empty() { Ok(()) } else { Err(too_large.join("; ")) }
    }
}
