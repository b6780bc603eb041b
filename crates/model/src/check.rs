//! Checks of what comes from outside, before any of it reaches a network.

use params::Examples;

use crate::{LocalSpec, ModelError, ModelSpec, Optimizer};

/// At least one row, of the model's width, finite, with labels that the model has.
pub(crate) fn examples(spec: &ModelSpec, data: Examples<'_>) -> Result<(), ModelError> {
    if data.rows() == 0 {
        return Err(ModelError::NoRows);
    }
    if data.width() != spec.inputs {
        return Err(ModelError::Width { found: data.width(), expected: spec.inputs });
    }
    let label = data.labels().iter().enumerate().find(|&(_, &label)| label as usize >= spec.outputs);
    if let Some((row, &label)) = label {
        return Err(ModelError::Label { row, label, classes: spec.outputs });
    }
    features(data.features(), spec.inputs)
}

/// All values are finite.
pub(crate) fn features(values: &[f32], width: usize) -> Result<(), ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            Err(ModelError::FeatureNotFinite { row: at / width, column: at % width, value: values[at] })
        }
    }
}

/// The settings of [`Mode::Train`](crate::Mode::Train) are in their bounds.
pub(crate) fn local(local: &LocalSpec) -> Result<(), ModelError> {
    let check = |fits: bool, setting, value: String, bound| match fits {
        true => Ok(()),
        false => Err(ModelError::Setting { setting, value, bound }),
    };
    let positive =
        |setting, value: f64| check(value.is_finite() && value > 0.0, setting, value.to_string(), "above 0");
    let decay = |setting, value: f64| {
        check((0.0..1.0).contains(&value), setting, value.to_string(), "at least 0 and below 1")
    };
    check(local.epochs > 0, "epochs", local.epochs.to_string(), "at least 1")?;
    check(local.batch > 0, "batch", local.batch.to_string(), "at least 1")?;
    positive("lr", local.optimizer.lr())?;
    match local.optimizer {
        Optimizer::GradientDescent { .. } => Ok(()),
        Optimizer::Sgd { momentum, .. } => decay("momentum", momentum),
        Optimizer::Adam { beta1, beta2, eps, .. } => {
            decay("beta1", beta1)?;
            decay("beta2", beta2)?;
            positive("eps", eps)
        }
    }
}

#[cfg(test)]
mod tests;
