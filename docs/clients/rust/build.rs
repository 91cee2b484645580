//! Makes the messages and the client of the proto files, without a protoc: protox compiles them in Rust.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

const PROTO: &str = "../../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile(["theblock/state/v1/service.proto"], [PROTO])?;
    // Messages and client, and how a message is written as JSON.
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .out_dir(PathBuf::from(env::var("OUT_DIR")?))
        .build(&[".theblock"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
