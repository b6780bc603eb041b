//! To the device and back, and libtorch's errors as ours.

use tch::{Kind, TchError, Tensor};

use crate::{Device, ModelError};

/// Says what was attempted when libtorch fails.
pub(super) trait During<T> {
    fn during(self, action: &'static str) -> Result<T, ModelError>;
}

impl<T> During<T> for Result<T, TchError> {
    fn during(self, action: &'static str) -> Result<T, ModelError> {
        self.map_err(|error| ModelError::Torch { action, detail: first_line(&error.to_string()) })
    }
}

/// libtorch's messages go on with a C++ stack trace.
pub(super) fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.trim_start_matches("Internal torch error: ").chars().take(300).collect()
}

pub(super) fn to_tch(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index),
    }
}

/// A tensor of this shape on the device.
pub(super) fn floats(values: &[f32], shape: &[usize], device: tch::Device) -> Result<Tensor, TchError> {
    let shape: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
    Tensor::f_from_slice(values)?.f_reshape(shape)?.f_to(device)
}

/// All values, row-major.
pub(super) fn download(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let tensor = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; tensor.numel()];
    let elements = values.len();
    tensor.f_copy_data(&mut values, elements)?;
    Ok(values)
}
