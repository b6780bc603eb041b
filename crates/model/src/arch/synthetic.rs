use params::{Layout, Params, TensorSpec};

use crate::{ModelError, ModelSpec, catalog::Arch};

/// So many weights that mean nothing: for runs that measure the system, not a model.
pub(crate) const ARCH: Arch = Arch { name: ModelSpec::SYNTHETIC, sizes, tensors, init, load: None };

const RUNNING_VAR: &str = "norm.running_var";

/// What [`ModelSpec::synthetic`] and [`ModelSpec::synthetic_with_buffers`] give.
fn sizes(spec: &ModelSpec) -> Result<(), ModelError> {
    let bare = spec.inputs == 0 && spec.outputs == 0;
    match spec.hidden[..] {
        [0] | [0, ModelSpec::NORM_WIDTH] => {
            Err(ModelError::Extent { what: "the number of parameters".to_owned(), found: 0, min: 1 })
        }
        [_] | [_, ModelSpec::NORM_WIDTH] if bare => Ok(()),
        _ => Err(ModelError::NotSynthetic {
            inputs: spec.inputs,
            hidden: spec.hidden.iter().copied().take(16).collect(),
            outputs: spec.outputs,
        }),
    }
}

fn tensors(spec: &ModelSpec) -> Result<Vec<TensorSpec>, ModelError> {
    let mut tensors = Vec::new();
    for (at, &width) in spec.hidden.iter().enumerate() {
        match at {
            0 => tensors.push(TensorSpec::new("parameters", [width])),
            _ => tensors.extend([
                TensorSpec::integers("norm.num_batches_tracked", []),
                TensorSpec::new("norm.running_mean", [width]),
                TensorSpec::new(RUNNING_VAR, [width]),
            ]),
        }
    }
    Ok(tensors)
}

/// Zeros, and variances of 1 as in PyTorch: a normalisation divides by their roots.
fn init(layout: Layout, _seed: u64) -> Params {
    let variances = layout.ranges().find(|(tensor, _)| tensor.name == RUNNING_VAR).map(|(_, range)| range);
    let mut params = Params::zeros(layout);
    if let Some(variances) = variances {
        params.values_mut()[variances].fill(1.0);
    }
    params
}
