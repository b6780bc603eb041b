use params::{Params, TensorSpec};

use crate::{ModelError, ModelSpec, catalog::Arch};

/// So many weights that mean nothing: for runs that measure the system, not a model.
pub(crate) const ARCH: Arch = Arch {
    name: ModelSpec::SYNTHETIC,
    sizes,
    tensors: |spec| Ok(vec![TensorSpec::new("parameters", [spec.hidden.iter().product()])]),
    init: |layout, _seed| Params::zeros(layout),
    load: None,
};

/// What [`ModelSpec::synthetic`] gives.
fn sizes(spec: &ModelSpec) -> Result<(), ModelError> {
    match spec.hidden[..] {
        [0] => Err(ModelError::Extent { what: "the number of parameters".to_owned(), found: 0, min: 1 }),
        [_] if spec.inputs == 0 && spec.outputs == 0 => Ok(()),
        _ => Err(ModelError::NotSynthetic {
            inputs: spec.inputs,
            hidden: spec.hidden.iter().copied().take(16).collect(),
            outputs: spec.outputs,
        }),
    }
}
