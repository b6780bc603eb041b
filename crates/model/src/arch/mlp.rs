use params::{Layout, Params, Rng, TensorSpec};

use crate::{
    Device, ModelError, ModelSpec,
    catalog::{Arch, classifier},
    network::Network,
};

/// A multi-layer perceptron on libtorch: linear layers `fc1`, `fc2`, ... with ReLU between them.
pub(crate) const ARCH: Arch = Arch { name: "mlp", sizes: classifier, tensors, init, load: Some(load) };

fn tensors(spec: &ModelSpec) -> Result<Vec<TensorSpec>, ModelError> {
    let tensors = layers(spec).into_iter().enumerate().flat_map(|(index, (inputs, outputs))| {
        let [weight, bias] = keys(index);
        [TensorSpec::new(weight, [outputs, inputs]), TensorSpec::new(bias, [outputs])]
    });
    Ok(tensors.collect())
}

/// The inputs and outputs of each layer, first to last.
pub(crate) fn layers(spec: &ModelSpec) -> Vec<(usize, usize)> {
    let widths: Vec<usize> =
        std::iter::once(spec.inputs).chain(spec.hidden.iter().copied()).chain([spec.outputs]).collect();
    widths.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The names of the weight and bias of layer `index`, from 0.
pub(crate) fn keys(index: usize) -> [String; 2] {
    [format!("fc{}.weight", index + 1), format!("fc{}.bias", index + 1)]
}

/// The distribution of `torch.nn.Linear`: uniform in `±1/sqrt(inputs)`, weight and bias alike.
fn init(layout: Layout, seed: u64) -> Params {
    let mut params = Params::zeros(layout.clone());
    let inputs_of = |name: &str| {
        let weight = name.replace(".bias", ".weight");
        let spec = layout.tensors().iter().find(|tensor| tensor.name == weight);
        spec.map_or(1, |tensor| tensor.shape[1])
    };
    for (tensor, range) in layout.ranges() {
        let bound = 1.0 / (inputs_of(&tensor.name) as f64).sqrt();
        // A stream per tensor: a wider layer leaves the first weights of the others as they were.
        let mut rng = Rng::new(seed, &["init", &tensor.name]);
        for value in &mut params.values_mut()[range] {
            *value = ((rng.unit() * 2.0 - 1.0) * bound) as f32;
        }
    }
    params
}

#[cfg(feature = "torch")]
fn load(device: Device, spec: &ModelSpec, params: &Params) -> Result<Box<dyn Network>, ModelError> {
    Ok(Box::new(crate::torch::Mlp::new(device, spec, params)?))
}

#[cfg(not(feature = "torch"))]
fn load(_device: Device, spec: &ModelSpec, _params: &Params) -> Result<Box<dyn Network>, ModelError> {
    Err(ModelError::NeedsTorch { arch: spec.arch.clone() })
}
