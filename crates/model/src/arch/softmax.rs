use params::{Params, TensorSpec};

use crate::{
    ModelError, ModelSpec,
    catalog::{Arch, classifier},
    reference,
};

/// Softmax regression, in plain Rust: one linear layer. It runs on the CPU whatever the device.
pub(crate) const ARCH: Arch = Arch {
    name: "softmax",
    sizes: classifier,
    tensors,
    init: |layout, _seed| Params::zeros(layout),
    load: Some(|_device, spec, params| Ok(Box::new(reference::Linear::new(spec, params)))),
};

fn tensors(spec: &ModelSpec) -> Result<Vec<TensorSpec>, ModelError> {
    if !spec.hidden.is_empty() {
        let hidden = spec.hidden.iter().copied().take(16).collect();
        return Err(ModelError::NoHidden { arch: spec.arch.clone(), hidden });
    }
    Ok(vec![
        TensorSpec::new("fc.weight", [spec.outputs, spec.inputs]),
        TensorSpec::new("fc.bias", [spec.outputs]),
    ])
}
