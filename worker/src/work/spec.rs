//! The words of the job file in the words of the model crate.

use data::Holdout;
use model::{LocalSpec, Mode, ModelSpec, Optimizer, SyntheticUpdate};

use super::Assignment;

/// The network of this work.
pub(super) fn network(work: &Assignment) -> ModelSpec {
    ModelSpec {
        arch: work.job.model.arch.clone(),
        inputs: work.features.len(),
        hidden: work.job.model.hidden.clone(),
        outputs: work.classes.len(),
    }
}

/// The model of a synthetic run.
pub(super) fn synthetic_network(parameters: usize, buffers: bool) -> ModelSpec {
    match buffers {
        true => ModelSpec::synthetic_with_buffers(parameters),
        false => ModelSpec::synthetic(parameters),
    }
}

/// How to train.
pub(super) fn local(local: &job::Local) -> LocalSpec {
    let mode = match local.mode {
        job::Mode::Train => Mode::Train,
        job::Mode::Gradient => Mode::Gradient,
    };
    let optimizer = match local.optimizer {
        job::Optimizer::GradientDescent { lr } => Optimizer::GradientDescent { lr },
        job::Optimizer::Sgd { lr, momentum } => Optimizer::Sgd { lr, momentum },
        job::Optimizer::Adam { lr, beta1, beta2, eps } => Optimizer::Adam { lr, beta1, beta2, eps },
    };
    LocalSpec { mode, optimizer, epochs: local.epochs, batch: local.batch }
}

/// Which rows of a private table are kept for testing.
pub(super) fn holdout(holdout: &job::Holdout) -> Holdout {
    match holdout {
        job::Holdout::None => Holdout::None,
        job::Holdout::Fraction(fraction) => Holdout::Fraction(*fraction),
        job::Holdout::Rows(rows) => Holdout::Rows(rows.clone()),
    }
}

/// What a synthetic update holds.
pub(super) fn synthetic(update: job::SyntheticUpdate) -> SyntheticUpdate {
    match update {
        job::SyntheticUpdate::Random => SyntheticUpdate::Random,
        job::SyntheticUpdate::OneHot => SyntheticUpdate::OneHot,
    }
}
