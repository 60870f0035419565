//! Compiles the contracts in Rust alone: protox parses, tonic's generator writes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in ["control.proto", "raft.proto"] {
        println!("cargo:rerun-if-changed={file}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(["control.proto"], ["."])?)?;
    // What Raft carries goes from the message to the disk without a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(protox::compile(["raft.proto"], ["."])?)?;
    Ok(())
}
