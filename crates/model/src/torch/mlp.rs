use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use params::{Examples, Params};
use tch::{Kind, Reduction, TchError, Tensor, no_grad_guard};

use super::{
    optim::Steps,
    upload::{During, download, floats, to_tch},
};
use crate::{
    Device, ModelError, ModelSpec, Optimizer,
    arch::mlp::{keys, layers},
    network::{Learner, Network},
};

/// What `cross_entropy` of PyTorch ignores by default; no label has this value.
const IGNORE_INDEX: i64 = -100;

/// Linear layers with ReLU between them.
pub(crate) struct Mlp {
    device: tch::Device,
    inputs: usize,
    places: Vec<Range<usize>>,
    /// Weight and bias of each layer, first to last. A tensor may be used from any thread but its handle
    /// by one at a time: the lock is held only to copy handles.
    weights: Mutex<Vec<Tensor>>,
}

impl Mlp {
    /// Uploads the weights. The caller has checked that they fit.
    pub(crate) fn new(device: Device, spec: &ModelSpec, params: &Params) -> Result<Self, ModelError> {
        let device = to_tch(device);
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for key in (0..layers(spec).len()).flat_map(keys) {
            let found = params.layout().ranges().find(|(tensor, _)| tensor.name == key);
            let (tensor, range) = found.ok_or_else(|| ModelError::Weights {
                arch: spec.arch.clone(),
                difference: format!("tensor '{key}' is missing"),
            })?;
            let values = &params.values()[range.clone()];
            weights.push(floats(values, &tensor.shape, device).during("upload weights")?);
            places.push(range);
        }
        Ok(Self { device, inputs: spec.inputs, places, weights: Mutex::new(weights) })
    }

    /// Applies `copy` to each weight, under the lock.
    fn handles(&self, copy: fn(&Tensor) -> Result<Tensor, TchError>) -> Result<Vec<Tensor>, TchError> {
        // Nothing that holds the lock changes the list, so a panic cannot have left it half done.
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).iter().map(copy).collect()
    }
}

impl Network for Mlp {
    fn logits(&self, features: &[f32], rows: usize) -> Result<Vec<f32>, ModelError> {
        let _guard = no_grad_guard();
        let weights = self.handles(Tensor::f_detach).during("read weights")?;
        let x = floats(features, &[rows, self.inputs], self.device).during("upload features")?;
        let logits = forward(&weights, x).during("run the model")?;
        download(&logits).during("download outputs")
    }

    fn learner<'a>(
        &self,
        data: Examples<'a>,
        optimizer: Optimizer,
    ) -> Result<Box<dyn Learner + 'a>, ModelError> {
        let leaf = |weight: &Tensor| weight.f_detach_copy()?.f_set_requires_grad(true);
        let weights = self.handles(leaf).during("copy weights")?;
        let labels: Vec<i64> = data.labels().iter().map(|&label| label.into()).collect();
        let upload = || {
            let features = floats(data.features(), &[data.rows(), data.width()], self.device)?;
            Ok((features, Tensor::f_from_slice(&labels)?.f_to(self.device)?))
        };
        Ok(Box::new(Descent {
            device: self.device,
            places: self.places.clone(),
            weights,
            rows: upload().during("upload examples")?,
            shuffled: None,
            gathered: Vec::new(),
            steps: Steps::new(optimizer),
        }))
    }
}

/// Weights that learn, on the device, with examples that were uploaded once.
struct Descent {
    device: tch::Device,
    places: Vec<Range<usize>>,
    weights: Vec<Tensor>,
    /// Features and labels as they were given.
    rows: (Tensor, Tensor),
    /// The same in the order of the current epoch.
    shuffled: Option<(Tensor, Tensor)>,
    /// The sum of gradients since the last step; empty for none.
    gathered: Vec<Tensor>,
    steps: Steps,
}

impl Learner for Descent {
    fn shuffle(&mut self, order: &[usize]) -> Result<(), ModelError> {
        // The old copy goes first, so that no more than two are in memory.
        self.shuffled = None;
        let order: Vec<i64> = order.iter().map(|&row| row as i64).collect();
        let (features, labels) = &self.rows;
        let shuffle = || {
            let order = Tensor::f_from_slice(&order)?.f_to(self.device)?;
            Ok((features.f_index_select(0, &order)?, labels.f_index_select(0, &order)?))
        };
        self.shuffled = Some(shuffle().during("shuffle examples")?);
        Ok(())
    }

    fn gather(&mut self, rows: Range<usize>) -> Result<f64, ModelError> {
        let (loss, gradients) = self.backward(rows).during("compute the gradient")?;
        if self.gathered.is_empty() {
            self.gathered = gradients;
            return Ok(loss);
        }
        for (sum, gradient) in self.gathered.iter_mut().zip(&gradients) {
            let _same = sum.f_add_(gradient).during("add gradients")?;
        }
        Ok(loss)
    }

    fn take_gradient(&mut self, examples: usize) -> Result<Vec<f32>, ModelError> {
        let gradients = self.take_mean(examples)?;
        self.flatten(&gradients)
    }

    fn step(&mut self, examples: usize) -> Result<(), ModelError> {
        let gradients = self.take_mean(examples)?;
        self.steps.step(&mut self.weights, gradients).during("update weights")
    }

    fn weights(&self) -> Result<Vec<f32>, ModelError> {
        self.flatten(&self.weights)
    }
}

impl Descent {
    /// The summed loss of the rows, and its gradient by each weight.
    fn backward(&self, rows: Range<usize>) -> Result<(f64, Vec<Tensor>), TchError> {
        let (features, labels) = self.shuffled.as_ref().unwrap_or(&self.rows);
        let (start, length) = (rows.start as i64, rows.len() as i64);
        let labels = labels.f_narrow(0, start, length)?;
        let logits = forward(&self.weights, features.f_narrow(0, start, length)?)?;
        let losses =
            logits.f_cross_entropy_loss(&labels, None::<&Tensor>, Reduction::None, IGNORE_INDEX, 0.0)?;
        let loss = losses.f_sum(Kind::Double)?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.weights, false, false)?;
        Ok((loss.f_double_value(&[])?, gradients))
    }

    fn take_mean(&mut self, examples: usize) -> Result<Vec<Tensor>, ModelError> {
        let mut gradients = std::mem::take(&mut self.gathered);
        for gradient in &mut gradients {
            let _same = gradient.f_div_scalar_(examples as f64).during("average the gradient")?;
        }
        Ok(gradients)
    }

    fn flatten(&self, tensors: &[Tensor]) -> Result<Vec<f32>, ModelError> {
        let mut flat = vec![0.0; self.places.iter().map(Range::len).sum()];
        for (tensor, place) in tensors.iter().zip(&self.places) {
            flat[place.clone()].copy_from_slice(&download(tensor).during("download weights")?);
        }
        Ok(flat)
    }
}

/// The outputs before the softmax of a batch `x` of `rows x inputs`.
fn forward(weights: &[Tensor], mut x: Tensor) -> Result<Tensor, TchError> {
    let (layers, _) = weights.as_chunks::<2>();
    for (index, [weight, bias]) in layers.iter().enumerate() {
        x = x.f_linear(weight, Some(bias))?;
        if index + 1 < layers.len() {
            x = x.f_relu()?;
        }
    }
    Ok(x)
}
