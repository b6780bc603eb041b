use std::{fmt, str::FromStr};

use crate::ModelError;

/// The most threads that libtorch may be given.
pub const THREADS_MAX: usize = 1024;

/// Where a model lives and computes: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this index, from 0, among those that `CUDA_VISIBLE_DEVICES` leaves visible.
    Cuda(usize),
}

/// What a user asks for: `auto`, `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU, or an error.
    Cuda(usize),
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device '{found}' is not known, use {expected}")]
pub struct ParseDeviceError {
    found: String,
    expected: &'static str,
}

/// The device that was opened, and what was found on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Where to train and predict.
    pub device: Device,
    /// For people, for instance `cpu, 1 thread` or `cuda:0 (NVIDIA H200)`.
    pub description: String,
    /// For the log, one line each: what was found, and why `auto` took the CPU.
    pub notes: Vec<String>,
}

/// Why a device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The thread count is out of bounds.
    #[error("{found} threads, 1 to {THREADS_MAX} are possible")]
    Threads {
        /// The count that was asked for.
        found: usize,
    },
    /// A GPU was asked for and this build has no libtorch.
    #[error("cuda:{index} needs libtorch, and this binary was built without libtorch: use --device cpu")]
    NoTorch {
        /// The GPU that was asked for.
        index: usize,
    },
    /// libtorch has no CUDA part here.
    #[error(
        "cuda:{index} needs libtorch's CUDA backend: {reason}; put the 'lib' folder of a PyTorch or libtorch 2.11 with CUDA first in LD_LIBRARY_PATH, or use --device cpu"
    )]
    NoBackend {
        /// The GPU that was asked for.
        index: usize,
        /// What was missing.
        reason: String,
    },
    /// The CUDA part is there and finds no such GPU.
    #[error(
        "cuda:{index} does not exist: libtorch sees {count} GPUs; check nvidia-smi, the driver and CUDA_VISIBLE_DEVICES, or use --device cpu"
    )]
    NoGpu {
        /// The GPU that was asked for.
        index: usize,
        /// The number of GPUs there are.
        count: usize,
    },
    /// The GPU is there and a first allocation on it failed.
    #[error("cuda:{index} is there but cannot be used: {source}; check nvidia-smi, or use --device cpu")]
    Broken {
        /// The GPU that was asked for.
        index: usize,
        /// What libtorch said.
        source: ModelError,
    },
}

/// Finds the device for `choice`, loads libtorch's CUDA backend where there is one, and sets the
/// number of threads of one operation on the CPU to `threads` (of independent operations: to 1).
///
/// libtorch's state is process-wide: call this once, before anything is trained or predicted. A second
/// call finds the backend as the first left it, and changes the number of threads only for the caller
/// and for threads that have not used libtorch yet.
///
/// Errors: a GPU that was asked for by name and cannot be used, a thread count out of bounds. `Auto`
/// falls back to the CPU and says why in the notes.
pub fn open_device(choice: DeviceChoice, threads: usize) -> Result<Hardware, DeviceError> {
    if !(1..=THREADS_MAX).contains(&threads) {
        return Err(DeviceError::Threads { found: threads });
    }
    open(choice, threads)
}

#[cfg(feature = "torch")]
use crate::torch::device::open;

#[cfg(not(feature = "torch"))]
fn open(choice: DeviceChoice, _threads: usize) -> Result<Hardware, DeviceError> {
    let note = "this binary was built without libtorch: only the reference model is there, on the cpu";
    match choice {
        DeviceChoice::Cuda(index) => Err(DeviceError::NoTorch { index }),
        // The reference model runs on the thread that calls it.
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Hardware::cpu(1, vec![note.to_owned()])),
    }
}

impl Hardware {
    pub(crate) fn cpu(threads: usize, notes: Vec<String>) -> Self {
        let plural = if threads == 1 { "" } else { "s" };
        Self { device: Device::Cpu, description: format!("cpu, {threads} thread{plural}"), notes }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => Device::Cpu.fmt(f),
            Self::Cuda(index) => Device::Cuda(index).fmt(f),
        }
    }
}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseDeviceError::new(text, "cpu or cuda:N (for instance cuda:0)"))
    }
}

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse(text) {
            Some(Device::Cpu) => Ok(Self::Cpu),
            Some(Device::Cuda(index)) => Ok(Self::Cuda(index)),
            None if text == "auto" => Ok(Self::Auto),
            None => Err(ParseDeviceError::new(text, "auto, cpu or cuda:N (for instance cuda:0)")),
        }
    }
}

impl ParseDeviceError {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: found.chars().take(32).collect(), expected }
    }
}

fn parse(text: &str) -> Option<Device> {
    if text == "cpu" {
        return Some(Device::Cpu);
    }
    let index = text.strip_prefix("cuda:")?;
    // libtorch counts devices in a signed byte; `+0` and `007` are typing errors.
    let index: u8 = index.parse().ok().filter(|n: &u8| n.to_string() == index && *n < 128)?;
    Some(Device::Cuda(index.into()))
}

#[cfg(test)]
mod tests;
