//! Generates the messages and services of `proto/` without a protoc on the machine.

use std::error::Error;
use std::path::Path;

use prost::Message;

const FILES: [&str; 5] = ["common", "publish", "subscribe", "admin", "discovery"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files: Vec<String> = FILES.iter().map(|name| format!("mq/v1/{name}.proto")).collect();
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    // Reflection shows it.
    std::fs::write(Path::new(&out).join("mq_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Encoded by hand: see `batch`.
        .extern_path(".mq.v1.MessageBatch", "crate::batch::MessageBatch")
        .client_mod_attribute("mq.v1", r#"#[cfg(feature = "client")]"#)
        .server_mod_attribute("mq.v1", r#"#[cfg(feature = "server")]"#)
        .compile_fds(descriptors)?;
    Ok(())
}
