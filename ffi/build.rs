//! Names the shared library as the system's loader finds it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arguments: &[&str] = match os.as_str() {
        // Never unloaded: its threads run code of the library.
        "linux" => &["-Wl,-soname,libmq.so.0", "-Wl,-z,nodelete"],
        "macos" => &["-Wl,-install_name,@rpath/libmq.0.dylib"],
        _ => &[],
    };
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}
