//! Generates what speaks gRPC from `proto/`, by a compiler in Rust: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "grpc")]
    grpc::generate()?;
    Ok(())
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::{env, path::PathBuf};

    use protox::prost::Message as _;

    /// Each is compiled by itself, so that what is generated from the public one owes nothing to ours.
    const FILES: [&str; 2] = ["ggroupcache.proto", "ggcache_peer_v1.proto"];

    pub fn generate() -> Result<(), Box<dyn std::error::Error>> {
        println!("cargo::rerun-if-changed=proto");
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
        for file in FILES {
            let descriptors = protox::compile([file], ["proto"])?;
            std::fs::write(out.join(file).with_extension("fds"), descriptors.encode_to_vec())?;
            tonic_prost_build::configure()
                // A client connects through an endpoint with limits, never by the generated shortcut.
                .build_transport(false)
                .bytes(".")
                .codec_path("crate::rpc::WireCodec")
                .compile_fds(descriptors)?;
        }
        Ok(())
    }
}
