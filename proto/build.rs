//! Generates the Rust types with a compiler written in Rust: no `protoc` has to be installed.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "apache/rocketmq/v2/service.proto",
        "raftmq/v1/peer.proto",
        "raftmq/v1/store.proto",
        "raftmq/v1/command.proto",
        "raftmq/v1/route.proto",
        "raftmq/v1/admin.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=apache/rocketmq/v2/definition.proto");

    let descriptors = protox::compile(files, ["."])?;
    // Served by gRPC reflection.
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
