//! Compiles the protocol without protoc, so that a Rust toolchain is all a build needs.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../packages/guest/proto";
    let file = "hearth/guest/v1/guest.proto";
    println!("cargo:rerun-if-changed={root}/{file}");
    let set = protox::compile([file], [root])?;
    // The client is for the tests; link-time optimisation drops it from the binary.
    tonic_build::configure().build_transport(false).bytes(["."]).compile_fds(set)?;
    Ok(())
}
