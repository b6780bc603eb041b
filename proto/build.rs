//! Compiles the .proto files with protox, so that no protoc needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=conclave");
    println!("cargo::rerun-if-changed=inference");
    let files = protox::compile(
        [
            "conclave/v1/enrolment.proto",
            "conclave/v1/training.proto",
            "conclave/v1/control.proto",
            "conclave/v1/registry.proto",
            "inference/grpc_service.proto",
        ],
        ["."],
    )?;
    write_methods(&files)?;
    // Payload bytes are shared slices of the received frame, not copies.
    tonic_prost_build::configure().bytes(".conclave.v1.Chunk.data").compile_fds(files)?;
    Ok(())
}

/// Lists the paths of all RPCs, so that a test can hold the authorisation table against it.
fn write_methods(files: &protox::prost_reflect::prost_types::FileDescriptorSet) -> std::io::Result<()> {
    let mut text = String::from("&[\n");
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                text += &format!("    \"/{}.{}/{}\",\n", file.package(), service.name(), method.name());
            }
        }
    }
    text += "]\n";
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("methods.rs"), text)
}
