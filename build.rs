//! Turns every file in proto/ into Rust and into a descriptor set. protox reads them, so no protoc is needed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = Vec::new();
    for entry in fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    // Directory order is the file system's; generated code must not depend on it.
    files.sort();

    // With comments, which become the documentation of the generated types.
    let annotated = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::grpc::codec::Codec").compile_fds(annotated)?;

    // Without comments, for reflection and for reading config.pbtxt.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(false).open_files(&files)?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("headgate_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
