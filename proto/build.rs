//! Compiles the `.proto` files of this folder with protox, so that a build needs no protoc.
//!
//! The descriptor set that it leaves beside the code is the one the code was generated from.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 3] = ["order/v1/order.proto", "product/v1/product.proto", "user/v1/user.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // protox's own encoding keeps options that prost's types have no field for.
    let bytes = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.binpb");
    fs::write(out, &bytes)?;
    let descriptors = prost_types::FileDescriptorSet::decode(bytes.as_slice())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
