//! Does one operation so many times: `counts <name> <times>`, under a tool that counts instructions. `cargo
//! xtask test counts` runs it; without arguments it lists the operations, those that are only counted for how
//! they grow as `scaling`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

mod operations;

fn main() {
    // cargo bench passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    match &args[..] {
        [name, times] => operations::operation(name)(times.parse().unwrap()),
        _ => {
            operations::NAMES.iter().for_each(|name| println!("{name}"));
            operations::SCALING.iter().for_each(|name| println!("scaling {name}"));
        }
    }
}
