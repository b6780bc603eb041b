use params::{Layout, Params, TensorSpec};

use crate::{Device, ModelError, ModelSpec, arch, network::Network};

/// The most weights that a model may have: 4 GiB of them.
pub const PARAMETERS_MAX: usize = 1 << 30;

type Load = fn(Device, &ModelSpec, &Params) -> Result<Box<dyn Network>, ModelError>;

/// One architecture.
pub(crate) struct Arch {
    /// Its name in job files and manifests.
    pub(crate) name: &'static str,
    /// Refuses sizes that it cannot have.
    pub(crate) sizes: fn(&ModelSpec) -> Result<(), ModelError>,
    /// The tensors, by the keys of the PyTorch `state_dict`. Sizes were checked.
    pub(crate) tensors: fn(&ModelSpec) -> Result<Vec<TensorSpec>, ModelError>,
    /// The weights to start from.
    pub(crate) init: fn(Layout, u64) -> Params,
    /// Weights on a device. They were checked to be finite and of the layout. `None`: there is nothing
    /// that they could compute.
    pub(crate) load: Option<Load>,
}

/// Every architecture there is: the only place to register one.
const CATALOG: [Arch; 3] = [arch::softmax::ARCH, arch::mlp::ARCH, arch::synthetic::ARCH];

/// The names and shapes of the weights of a model. Needs no libtorch, whatever the architecture.
///
/// Errors: an unknown architecture, or sizes that it cannot have.
pub fn layout(spec: &ModelSpec) -> Result<Layout, ModelError> {
    let arch = find(&spec.arch)?;
    (arch.sizes)(spec)?;
    let layout = Layout::new((arch.tensors)(spec)?)?;
    if layout.elements() > PARAMETERS_MAX {
        return Err(ModelError::TooLarge { elements: layout.elements() });
    }
    Ok(layout)
}

/// The weights that a run starts from: the same bits for the same `spec` and `seed`. Needs no
/// libtorch.
///
/// `mlp` draws each weight and bias as PyTorch's `nn.Linear` does, uniform in `±1/sqrt(inputs of the
/// layer)`; `softmax` starts at zero, as its loss is convex, and so does `synthetic`, which means nothing.
///
/// Errors: those of [`layout`].
pub fn init(spec: &ModelSpec, seed: u64) -> Result<Params, ModelError> {
    let layout = layout(spec)?;
    Ok((find(&spec.arch)?.init)(layout, seed))
}

/// The sizes of any architecture that tells classes apart.
pub(crate) fn classifier(spec: &ModelSpec) -> Result<(), ModelError> {
    let extent = |what: &str, found: usize, min: usize| match found < min {
        true => Err(ModelError::Extent { what: what.to_owned(), found, min }),
        false => Ok(()),
    };
    extent("the number of features", spec.inputs, 1)?;
    extent("the number of classes", spec.outputs, 2)?;
    for (index, &width) in spec.hidden.iter().enumerate() {
        extent(&format!("the width of hidden layer {}", index + 1), width, 1)?;
    }
    Ok(())
}

/// Checks the weights and puts them on the device.
pub(crate) fn load(
    device: Device,
    spec: &ModelSpec,
    params: &Params,
) -> Result<Box<dyn Network>, ModelError> {
    let load = find(&spec.arch)?.load.ok_or(ModelError::Synthetic)?;
    let expected = layout(spec)?;
    if let Some(difference) = params.layout().difference(&expected) {
        return Err(ModelError::Weights { arch: spec.arch.clone(), difference });
    }
    if let Some((tensor, index, value)) = params.first_not_finite() {
        return Err(ModelError::WeightNotFinite { tensor: tensor.to_owned(), index, value });
    }
    load(device, spec, params)
}

fn find(name: &str) -> Result<&'static Arch, ModelError> {
    CATALOG.iter().find(|arch| arch.name == name).ok_or_else(|| ModelError::UnknownArch {
        arch: name.chars().take(64).collect(),
        known: CATALOG.map(|arch| arch.name).join(", "),
    })
}

#[cfg(test)]
mod tests;
