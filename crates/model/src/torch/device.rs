//! Which devices libtorch has here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tch::{Kind, Tensor};

use super::{native, upload::During};
use crate::{Device, DeviceChoice, DeviceError, Hardware, ModelError};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// See [`open_device`](crate::open_device).
pub(crate) fn open(choice: DeviceChoice, threads: usize) -> Result<Hardware, DeviceError> {
    let mut notes = set_threads(threads);
    let index = match choice {
        DeviceChoice::Cpu => return Ok(Hardware::cpu(threads, notes)),
        DeviceChoice::Cuda(index) => index,
        DeviceChoice::Auto => 0,
    };
    let backend = backend();
    notes.extend(backend.notes.iter().cloned());
    match (open_cuda(backend, index), choice) {
        (Ok(()), _) => {
            let device = Device::Cuda(index);
            let description = match &backend.model {
                Some(model) => format!("{device} ({model})"),
                None => device.to_string(),
            };
            Ok(Hardware { device, description, notes })
        }
        (Err(error), DeviceChoice::Auto) => {
            notes.push(format!("device auto takes the cpu: {}", reason(&error)));
            Ok(Hardware::cpu(threads, notes))
        }
        (Err(error), _) => Err(error),
    }
}

/// Gives notes on what libtorch refused; it works on without.
fn set_threads(threads: usize) -> Vec<String> {
    static INTEROP: OnceLock<Result<(), String>> = OnceLock::new();
    let intra = native::set_threads(threads);
    let inter = INTEROP.get_or_init(|| native::set_interop_threads(1)).clone();
    let note = |what: &str, result: Result<(), String>| {
        result.err().map(|error| format!("libtorch does not set its {what} threads: {error}"))
    };
    note("intra-op", intra).into_iter().chain(note("inter-op", inter)).collect()
}

/// What became of libtorch's CUDA part; settled once per process.
struct Backend {
    /// The number of GPUs, or why there is no backend.
    devices: Result<usize, String>,
    /// The name of the GPUs, where they all have the same.
    model: Option<String>,
    notes: Vec<String>,
}

fn backend() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        // Before any query: libtorch settles at the first one whether it has CUDA.
        let path = find_library();
        if let Err(error) = native::load_library(&path) {
            let reason = format!("{} does not load: {error}", path.display());
            return Backend { devices: Err(reason.clone()), model: None, notes: vec![reason] };
        }
        let mut notes = vec![format!("loaded {}", path.display())];
        let devices = native::cuda_devices();
        let model = common_model(Path::new("/proc/driver/nvidia/gpus"));
        notes.push(match (&devices, &model) {
            (Ok(count), Some(model)) => format!("libtorch sees {count} GPU(s); the driver lists {model}"),
            (Ok(count), None) => format!("libtorch sees {count} GPU(s)"),
            (Err(error), _) => format!("libtorch cannot count GPUs: {error}"),
        });
        Backend { devices, model, notes }
    })
}

/// The CUDA library beside the libtorch that is loaded, else its plain name, for the loader to find
/// on its own path.
fn find_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    beside_libtorch(&maps).filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(CUDA_LIBRARY))
}

/// `maps` has one mapping per line, whose sixth field is the path of the file.
fn beside_libtorch(maps: &str) -> Option<PathBuf> {
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libtorch_cpu.so").then_some(path)
    })?;
    // A directory of links to a PyTorch holds only some of its files: follow them.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    Some(path.with_file_name(CUDA_LIBRARY))
}

/// The driver lists GPUs by bus address, CUDA by other rules: a name is sure only if all have the same.
fn common_model(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let models: BTreeSet<String> = entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("information")).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
            Some(line.trim().to_owned())
        })
        .collect();
    models.first().filter(|_| models.len() == 1).cloned()
}

fn open_cuda(backend: &Backend, index: usize) -> Result<(), DeviceError> {
    let count = match &backend.devices {
        Ok(count) => *count,
        Err(reason) => return Err(DeviceError::NoBackend { index, reason: reason.clone() }),
    };
    if index >= count {
        return Err(DeviceError::NoGpu { index, count });
    }
    touch(index).map_err(|source| DeviceError::Broken { index, source })
}

/// Computes something on the GPU: a driver or an architecture that does not fit shows here.
fn touch(index: usize) -> Result<(), ModelError> {
    let ones = Tensor::f_ones([2], (Kind::Float, tch::Device::Cuda(index))).during("use the GPU")?;
    let sum = ones.f_sum(Kind::Float).and_then(|sum| sum.f_double_value(&[])).during("use the GPU")?;
    if sum == 2.0 {
        return Ok(());
    }
    Err(ModelError::Torch { action: "use the GPU", detail: format!("1 + 1 gives {sum}") })
}

/// What `auto` says: the error without the advice for those who asked for a GPU by name.
fn reason(error: &DeviceError) -> String {
    match error {
        DeviceError::NoBackend { .. } => "libtorch has no CUDA backend here".to_owned(),
        DeviceError::NoGpu { .. } => "libtorch sees no GPU".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_folder_of_libtorch() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 12   /usr/lib/libc.so.6\n\
                    7f02-7f03 r--p 00000000 08:01 13   /no/such dir/lib/libtorch_cpu.so\n";
        assert_eq!(beside_libtorch(maps), Some(PathBuf::from("/no/such dir/lib/libtorch_cuda.so")));
        assert_eq!(beside_libtorch("7f00-7f01 rw-p 0 00:00 0 [heap]\n"), None);
        let own = fs::read_to_string("/proc/self/maps").unwrap();
        let folder = beside_libtorch(&own).unwrap();
        assert!(folder.with_file_name("libtorch_cpu.so").exists(), "{folder:?}");
    }

    #[test]
    fn names_gpus_only_if_all_are_alike() {
        let root = tempfile::tempdir().unwrap();
        let add = |bus: &str, model: &str| {
            fs::create_dir(root.path().join(bus)).unwrap();
            let text = format!("Model: \t\t {model}\nIRQ:   \t\t 42\n");
            fs::write(root.path().join(bus).join("information"), text).unwrap();
        };
        assert_eq!(common_model(root.path()), None);
        add("0000:01:00.0", "NVIDIA H200");
        add("0000:02:00.0", "NVIDIA H200");
        assert_eq!(common_model(root.path()).as_deref(), Some("NVIDIA H200"));
        add("0000:03:00.0", "NVIDIA L4");
        assert_eq!(common_model(root.path()), None);
        assert_eq!(common_model(&root.path().join("absent")), None);
    }

    #[test]
    fn a_missing_library_gives_the_loaders_reason() {
        let error = native::load_library(Path::new("/no/such/libtorch_cuda.so")).unwrap_err();
        assert!(error.contains("/no/such/libtorch_cuda.so"), "{error}");
    }

    #[test]
    fn a_gpu_needs_a_backend_and_an_index_in_range() {
        let without = Backend { devices: Err("no file".into()), model: None, notes: vec![] };
        let error = open_cuda(&without, 0).unwrap_err().to_string();
        assert!(error.contains("cuda:0") && error.contains("no file") && error.contains("LD_LIBRARY_PATH"));
        let one = Backend { devices: Ok(1), model: None, notes: vec![] };
        assert!(matches!(open_cuda(&one, 1), Err(DeviceError::NoGpu { index: 1, count: 1 })));
    }
}
