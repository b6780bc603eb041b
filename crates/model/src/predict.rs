use std::fmt;

use params::Params;

use crate::{
    Device, ModelError, ModelSpec, catalog, check,
    loss::softmax,
    network::{Network, ROWS_MAX},
};

/// A model that answers: weights that stay on their device. Any number of threads may ask at once.
pub struct Predictor {
    network: Box<dyn Network>,
    inputs: usize,
    outputs: usize,
}

impl Predictor {
    /// Puts `params` on the device.
    ///
    /// Errors: weights that do not fit `spec` or are not finite, a failure of libtorch.
    pub fn load(device: &Device, spec: &ModelSpec, params: &Params) -> Result<Self, ModelError> {
        let network = catalog::load(*device, spec, params)?;
        Ok(Self { network, inputs: spec.inputs, outputs: spec.outputs })
    }

    /// The probability of each class for each row: `rows x outputs`, row-major, from `rows x inputs`
    /// features. No rows give no probabilities.
    ///
    /// Errors: values that do not fill the rows or are not finite, outputs that overflow, a failure
    /// of libtorch.
    pub fn predict(&self, features: &[f32], rows: usize) -> Result<Vec<f32>, ModelError> {
        if rows.checked_mul(self.inputs) != Some(features.len()) {
            return Err(ModelError::Shape { values: features.len(), rows, width: self.inputs });
        }
        check::features(features, self.inputs)?;
        let mut probabilities = Vec::new();
        for slice in features.chunks(ROWS_MAX * self.inputs) {
            let logits = self.network.logits(slice, slice.len() / self.inputs)?;
            for row in logits.chunks(self.outputs) {
                if row.iter().any(|z| !z.is_finite()) {
                    return Err(ModelError::OutputNotFinite { row: probabilities.len() / self.outputs });
                }
                probabilities.extend(softmax(row).map(|p| p as f32));
            }
        }
        Ok(probabilities)
    }

    /// Features per row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of classes.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

impl fmt::Debug for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predictor").field("inputs", &self.inputs).field("outputs", &self.outputs).finish()
    }
}
