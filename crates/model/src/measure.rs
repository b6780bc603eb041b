use params::{Examples, Params};

use crate::{
    Device, ModelError, ModelSpec, catalog, check,
    loss::{argmax, cross_entropy},
    network::ROWS_MAX,
};

/// How well weights do on some examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The mean cross-entropy, in nats.
    pub loss: f64,
    /// Rows whose most probable class is their label.
    pub correct: u64,
    /// Rows.
    pub examples: u64,
}

/// Measures `params` on `data`.
///
/// Errors: weights or rows that do not fit, a loss that is not finite, a failure of libtorch.
pub fn measure(
    device: &Device,
    spec: &ModelSpec,
    params: &Params,
    data: Examples<'_>,
) -> Result<Measured, ModelError> {
    let network = catalog::load(*device, spec, params)?;
    check::examples(spec, data)?;
    let (mut loss, mut correct) = (0.0, 0);
    let features = data.features().chunks(ROWS_MAX * data.width());
    for (features, labels) in features.zip(data.labels().chunks(ROWS_MAX)) {
        let logits = network.logits(features, labels.len())?;
        for (row, &label) in logits.chunks(spec.outputs).zip(labels) {
            loss += cross_entropy(row, label as usize);
            correct += u64::from(argmax(row) == label as usize);
        }
    }
    let loss = loss / data.rows() as f64;
    if !loss.is_finite() {
        return Err(ModelError::LossNotFinite { loss });
    }
    Ok(Measured { loss, correct, examples: data.rows() as u64 })
}
