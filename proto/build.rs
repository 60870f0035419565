//! Compiles the contracts in Rust alone: protox parses, tonic's generator writes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["control.proto"], ["."])?;
    println!("cargo:rerun-if-changed=control.proto");
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
