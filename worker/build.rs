//! Records where libtorch lives in the binary (RUNPATH, so that LD_LIBRARY_PATH can override it).

fn main() {
    if let Ok(lib) = std::env::var("DEP_CONCLAVE_MODEL_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib},--enable-new-dtags");
    }
}
