//! The few calls below tch: `dlopen` of the CUDA backend, and process-wide settings whose plain forms
//! in tch panic when libtorch throws. The only unsafe code of the workspace.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    path::Path,
};

use super::upload::first_line;

/// Loads a shared library for the rest of the process, with its symbols visible to all others.
/// Gives the loader's message on failure.
pub(super) fn load_library(path: &Path) -> Result<(), String> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: `path` is a C string that outlives the call. The library's constructors register
    // libtorch's CUDA kernels and hooks, which libtorch expects at any time before its first CUDA
    // query. The handle is never closed, so no code of the library can go away.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed `dlopen` on this thread, `dlerror` gives null or a C string that is valid
    // until the next call of the loader on this thread; it is copied before that.
    let message = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    Err(message.unwrap_or_else(|| "the loader gives no reason".to_owned()))
}

/// The threads of one operation on the CPU.
pub(super) fn set_threads(threads: usize) -> Result<(), String> {
    // SAFETY: takes a plain number; exceptions are caught by torch-sys and read below.
    unsafe { torch_sys::at_set_num_threads(to_int(threads)) };
    last_error()
}

/// The threads for independent operations on the CPU. libtorch allows this once per process, before
/// any of them runs.
pub(super) fn set_interop_threads(threads: usize) -> Result<(), String> {
    // SAFETY: as in `set_threads`.
    unsafe { torch_sys::at_set_num_interop_threads(to_int(threads)) };
    last_error()
}

/// The number of visible GPUs. The first call fixes whether libtorch has CUDA: load the backend before.
pub(super) fn cuda_devices() -> Result<usize, String> {
    // SAFETY: takes nothing and gives a number; exceptions are caught by torch-sys and read below.
    let count = unsafe { torch_sys::cuda::atc_cuda_device_count() };
    last_error()?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The exception that the last call on this thread threw.
fn last_error() -> Result<(), String> {
    // SAFETY: gives null or a string made by `strdup` that is ours to free; it is copied, then freed once.
    unsafe {
        let text: *mut c_char = torch_sys::get_and_reset_last_err();
        if text.is_null() {
            return Ok(());
        }
        let message = first_line(&CStr::from_ptr(text).to_string_lossy());
        libc::free(text.cast());
        Err(message)
    }
}

fn to_int(threads: usize) -> c_int {
    c_int::try_from(threads).unwrap_or(c_int::MAX)
}
