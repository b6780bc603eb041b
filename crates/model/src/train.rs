use params::{Examples, Params, Rng};

use crate::{
    Device, LocalSpec, Mode, ModelError, ModelSpec, Optimizer, catalog, check,
    network::{Learner, ROWS_MAX},
};

/// What a worker learned in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// One value per weight, in the order of the layout: the trained weights minus the base weights in
    /// [`Mode::Train`], the mean gradient at the base weights in [`Mode::Gradient`].
    pub update: Vec<f32>,
    /// The mean cross-entropy over the rows, in nats: at the base weights in [`Mode::Gradient`]; in
    /// [`Mode::Train`] over the last epoch, each batch before its step.
    pub train_loss: f64,
    /// The number of rows.
    pub examples: u64,
}

/// The answer of whoever watches the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Give up: [`train`] returns [`ModelError::Stopped`].
    Stop,
}

/// Trains on `data` from the weights `base`, without changing them.
///
/// `seed` orders the mini-batches; it is expected to differ by round and shard. `progress` is called
/// after each batch (or slice of a large one) with the percentage of all of them. The same arguments
/// give the same bits on the CPU with one thread. Blocks for as long as training takes.
///
/// Errors: settings, weights or rows that do not fit, [`ModelError::Diverged`],
/// [`ModelError::Stopped`], a failure of libtorch.
#[allow(clippy::too_many_arguments)]
pub fn train(
    device: &Device,
    spec: &ModelSpec,
    base: &Params,
    data: Examples<'_>,
    local: &LocalSpec,
    seed: u64,
    progress: &mut dyn FnMut(u32) -> Flow,
) -> Result<Trained, ModelError> {
    if local.mode == Mode::Train {
        check::local(local)?;
    }
    let network = catalog::load(*device, spec, base)?;
    check::examples(spec, data)?;
    let learner = network.learner(data, local.optimizer)?;
    let examples = data.rows();
    let (update, train_loss) = match local.mode {
        Mode::Gradient => whole_gradient(learner, examples, progress)?,
        Mode::Train => Training::new(local, examples, progress).run(learner, base, seed)?,
    };
    Ok(Trained { update, train_loss, examples: examples as u64 })
}

fn whole_gradient(
    mut learner: Box<dyn Learner + '_>,
    examples: usize,
    progress: &mut dyn FnMut(u32) -> Flow,
) -> Result<(Vec<f32>, f64), ModelError> {
    let mut reporter = Reporter { progress, done: 0, total: slices(0, examples).count() as u64 };
    let loss = gather(learner.as_mut(), 0, examples, &mut reporter)? / examples as f64;
    let gradient = learner.take_gradient(examples)?;
    if !loss.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
        return Err(ModelError::LossNotFinite { loss });
    }
    Ok((gradient, loss))
}

/// The loop over epochs and batches.
struct Training<'a> {
    optimizer: Optimizer,
    epochs: u32,
    batch: usize,
    examples: usize,
    reporter: Reporter<'a>,
}

impl<'a> Training<'a> {
    fn new(local: &LocalSpec, examples: usize, progress: &'a mut dyn FnMut(u32) -> Flow) -> Self {
        let whole = matches!(local.optimizer, Optimizer::GradientDescent { .. });
        let batch = if whole { examples } else { (local.batch as usize).min(examples) };
        let per_epoch: usize = (0..examples)
            .step_by(batch)
            .map(|start| slices(start, examples.min(start + batch)).count())
            .sum();
        let total = per_epoch as u64 * u64::from(local.epochs);
        let reporter = Reporter { progress, done: 0, total };
        Self { optimizer: local.optimizer, epochs: local.epochs, batch, examples, reporter }
    }

    fn run(
        mut self,
        mut learner: Box<dyn Learner + '_>,
        base: &Params,
        seed: u64,
    ) -> Result<(Vec<f32>, f64), ModelError> {
        let mut order: Vec<usize> = (0..self.examples).collect();
        let mut epoch_loss = 0.0;
        for epoch in 1..=self.epochs {
            if self.batch < self.examples {
                Rng::new(seed, &["shuffle", &epoch.to_string()]).shuffle(&mut order);
                learner.shuffle(&order)?;
            }
            epoch_loss = self.epoch(learner.as_mut(), epoch)? / self.examples as f64;
        }
        let weights = learner.weights()?;
        let update: Vec<f32> = weights.iter().zip(base.values()).map(|(new, old)| new - old).collect();
        if update.iter().any(|delta| !delta.is_finite()) {
            let batch = self.examples.div_ceil(self.batch) as u64;
            return Err(self.diverged(self.epochs, batch, epoch_loss));
        }
        Ok((update, epoch_loss))
    }

    /// Gives the summed loss of the epoch.
    fn epoch(&mut self, learner: &mut dyn Learner, epoch: u32) -> Result<f64, ModelError> {
        let mut sum = 0.0;
        for (index, start) in (0..self.examples).step_by(self.batch).enumerate() {
            let end = self.examples.min(start + self.batch);
            let loss = gather(learner, start, end, &mut self.reporter)?;
            if !loss.is_finite() {
                return Err(self.diverged(epoch, index as u64 + 1, loss));
            }
            learner.step(end - start)?;
            sum += loss;
        }
        Ok(sum)
    }

    fn diverged(&self, epoch: u32, batch: u64, loss: f64) -> ModelError {
        ModelError::Diverged { epoch, batch, loss, lr: self.optimizer.lr() }
    }
}

/// Gathers the gradient of rows `start..end` in slices that fit in memory; gives their summed loss.
fn gather(
    learner: &mut dyn Learner,
    start: usize,
    end: usize,
    reporter: &mut Reporter<'_>,
) -> Result<f64, ModelError> {
    let mut sum = 0.0;
    for slice in slices(start, end) {
        sum += learner.gather(slice)?;
        reporter.advance()?;
    }
    Ok(sum)
}

fn slices(start: usize, end: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (start..end).step_by(ROWS_MAX).map(move |from| from..end.min(from + ROWS_MAX))
}

struct Reporter<'a> {
    progress: &'a mut dyn FnMut(u32) -> Flow,
    done: u64,
    total: u64,
}

impl Reporter<'_> {
    fn advance(&mut self) -> Result<(), ModelError> {
        self.done += 1;
        let percent = (u128::from(self.done) * 100 / u128::from(self.total.max(1))) as u32;
        match (self.progress)(percent) {
            Flow::Continue => Ok(()),
            Flow::Stop => Err(ModelError::Stopped),
        }
    }
}

#[cfg(test)]
mod tests;
