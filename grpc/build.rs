//! Checks that `src/generated` was generated from `proto/`. With the feature `generate` (`cargo xtask
//! generate`), generates it.
//!
//! The code is committed: whoever builds the crate needs neither protoc nor the thirty crates that stand in
//! for it.

use std::error::Error;
use std::fs;

const FILES: [&str; 5] = [
    "mq/v1/common.proto",
    "mq/v1/publish.proto",
    "mq/v1/subscribe.proto",
    "mq/v1/admin.proto",
    "mq/v1/discovery.proto",
];
/// Hash of the protos that the code was generated from.
const HASH: &str = "src/generated/protos.hash";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed={HASH}");
    let hash = hash()?;
    #[cfg(feature = "generate")]
    generate(&hash)?;
    if fs::read_to_string(HASH)?.trim() != hash {
        println!("cargo::error=grpc/src/generated is not of grpc/proto: run `cargo xtask generate`");
    }
    Ok(())
}

/// FNV-1a over the texts of all protos, with one kind of line end.
fn hash() -> Result<String, Box<dyn Error>> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in FILES {
        let text = fs::read_to_string(format!("proto/{file}"))?;
        for byte in text.bytes().filter(|byte| *byte != b'\r') {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

#[cfg(feature = "generate")]
fn generate(hash: &str) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let folder = "src/generated";
    fs::create_dir_all(folder)?;
    // Reflection shows it.
    fs::write(format!("{folder}/mq_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .out_dir(folder)
        .bytes(".")
        .codec_path("crate::codec::StrictCodec")
        // Encoded by hand: see `batch`.
        .extern_path(".mq.v1.MessageBatch", "crate::batch::MessageBatch")
        .compile_fds(compiler.file_descriptor_set())?;
    fs::write(HASH, format!("{hash}\n"))?;
    Ok(())
}
