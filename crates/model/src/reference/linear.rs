use std::ops::Range;

use params::{Examples, Params};

use crate::{
    ModelError, ModelSpec, Optimizer,
    loss::{cross_entropy, softmax},
    network::{Learner, Network},
    reference::optim::Steps,
};

/// One linear layer: `logits = weight x + bias`. Flat weights hold the bias first, as the layout sorts
/// by name.
#[derive(Clone)]
pub(crate) struct Linear {
    inputs: usize,
    outputs: usize,
    weights: Vec<f32>,
}

impl Linear {
    /// The caller has checked that the weights fit.
    pub(crate) fn new(spec: &ModelSpec, params: &Params) -> Self {
        Self { inputs: spec.inputs, outputs: spec.outputs, weights: params.values().to_vec() }
    }

    fn row_logits(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        let (bias, weight) = self.weights.split_at(self.outputs);
        bias.iter().zip(weight.chunks(self.inputs)).map(move |(&b, w)| {
            let product: f64 = w.iter().zip(row).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            (product + f64::from(b)) as f32
        })
    }
}

impl Network for Linear {
    fn logits(&self, features: &[f32], _rows: usize) -> Result<Vec<f32>, ModelError> {
        Ok(features.chunks(self.inputs).flat_map(|row| self.row_logits(row)).collect())
    }

    fn learner<'a>(
        &self,
        data: Examples<'a>,
        optimizer: Optimizer,
    ) -> Result<Box<dyn Learner + 'a>, ModelError> {
        let gathered = vec![0.0; self.weights.len()];
        let order = (0..data.rows()).collect();
        Ok(Box::new(Descent { model: self.clone(), data, order, gathered, steps: Steps::new(optimizer) }))
    }
}

struct Descent<'a> {
    model: Linear,
    data: Examples<'a>,
    order: Vec<usize>,
    gathered: Vec<f64>,
    steps: Steps,
}

impl Learner for Descent<'_> {
    fn shuffle(&mut self, order: &[usize]) -> Result<(), ModelError> {
        self.order.copy_from_slice(order);
        Ok(())
    }

    /// The gradient of the cross-entropy by the logits is `softmax(logits) - one_hot(label)`.
    fn gather(&mut self, rows: Range<usize>) -> Result<f64, ModelError> {
        let mut loss = 0.0;
        let mut logits = Vec::with_capacity(self.model.outputs);
        let (bias, weight) = self.gathered.split_at_mut(self.model.outputs);
        for &index in &self.order[rows] {
            let (row, label) = (self.data.row(index), self.data.labels()[index] as usize);
            logits.clear();
            logits.extend(self.model.row_logits(row));
            loss += cross_entropy(&logits, label);
            for (class, p) in softmax(&logits).enumerate() {
                let slope = p - f64::from(u8::from(class == label));
                bias[class] += slope;
                let weight = &mut weight[class * row.len()..(class + 1) * row.len()];
                weight.iter_mut().zip(row).for_each(|(g, &x)| *g += slope * f64::from(x));
            }
        }
        Ok(loss)
    }

    fn take_gradient(&mut self, examples: usize) -> Result<Vec<f32>, ModelError> {
        let mean = self.gathered.iter().map(|sum| (sum / examples as f64) as f32).collect();
        self.gathered.fill(0.0);
        Ok(mean)
    }

    fn step(&mut self, examples: usize) -> Result<(), ModelError> {
        let gradient = self.take_gradient(examples)?;
        self.steps.step(&mut self.model.weights, &gradient);
        Ok(())
    }

    fn weights(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.model.weights.clone())
    }
}
