//! Passes on where libtorch lives, so that our own tests and the two binaries find it at run time.

fn main() {
    // torch-sys is linked with the name `tch` and tells its direct dependents where libtorch is.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::metadata=libtorch_lib={lib}");
        // RUNPATH, not RPATH, so that LD_LIBRARY_PATH can point at another libtorch 2.11.
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib},--enable-new-dtags");
    }
}
