use std::collections::BTreeMap;

use aggregate::{Accumulator, Scale, ServerSpec};
use job::Mode;
use model::Measured;
use params::{Name, Params};

use super::{DriveError, prepare::Context};
use crate::plan;

/// The payload side of one attempt at a round: what the machine decides about, but never sees.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) cohort: Vec<Name>,
    pub(crate) started_ms: u64,
    accumulator: Accumulator,
    /// Train loss and weight of each folded update. Sorted, so that the mean has the same bits
    /// whatever the order of arrival.
    losses: BTreeMap<Name, (f64, u64)>,
    evaluations: BTreeMap<Name, Measured>,
}

/// A version that is not published yet.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) weights: Params,
    /// The server optimizer's state with it.
    pub(crate) optimizer: Vec<u8>,
}

impl Attempt {
    /// Prepares for updates of at most `examples_max` examples in all.
    pub(crate) fn open(
        context: &Context,
        cohort: Vec<Name>,
        examples_max: u64,
        started_ms: u64,
    ) -> Result<Self, DriveError> {
        let scale = Scale::new(context.job.aggregate.coordinate_max, examples_max)?;
        let accumulator = Accumulator::new(context.layout.elements(), scale);
        Ok(Self { cohort, started_ms, accumulator, losses: BTreeMap::new(), evaluations: BTreeMap::new() })
    }

    /// What is wrong with an update, as a phrase that names tensor, value and bound.
    pub(crate) fn fault(&self, context: &Context, update: &[f32], examples: u64) -> Option<String> {
        self.accumulator.check(&context.layout, update, examples).err().map(|e| e.to_string())
    }

    /// Adds a checked update.
    pub(crate) fn fold(&mut self, worker: Name, update: &[f32], examples: u64, train_loss: f64) {
        self.accumulator.add(update, examples);
        self.losses.insert(worker, (train_loss, examples));
    }

    /// Keeps a worker's measurement of the candidate.
    pub(crate) fn keep(&mut self, worker: Name, measured: Measured) {
        self.evaluations.insert(worker, measured);
    }

    /// Updates folded so far.
    pub(crate) fn updates(&self) -> u32 {
        u32::try_from(self.losses.len()).unwrap_or(u32::MAX)
    }

    /// Training examples behind them.
    pub(crate) fn examples(&self) -> u64 {
        self.losses.values().map(|(_, examples)| examples).sum()
    }

    /// The example-weighted mean of the train losses.
    pub(crate) fn train_loss(&self) -> Option<f64> {
        weighted_mean(self.losses.values().copied())
    }

    /// The example-weighted metrics that the workers measured.
    pub(crate) fn measured(&self) -> Option<Measured> {
        let all = || self.evaluations.values();
        let loss = weighted_mean(all().map(|m| (m.loss, m.examples)))?;
        let sum = |of: fn(&Measured) -> u64| all().map(of).fold(0u64, u64::saturating_add);
        Some(Measured { loss, correct: sum(|m| m.correct), examples: sum(|m| m.examples) })
    }

    /// Applies the mean of the updates to `base` through the server optimizer, whose state is
    /// `optimizer` (`None` before the first round). Leaves nothing to fold into.
    pub(crate) fn aggregate(
        &mut self,
        context: &Context,
        mut weights: Params,
        optimizer: Option<&[u8]>,
    ) -> Result<Candidate, DriveError> {
        let spec: ServerSpec = plan::server(&context.job);
        let empty = Accumulator::new(0, *self.accumulator.scale());
        let mut gradient = std::mem::replace(&mut self.accumulator, empty).finish()?;
        // An update is a difference; optimizers descend along a gradient.
        if context.job.local.mode == Mode::Train {
            gradient.iter_mut().for_each(|g| *g = -*g);
        }
        let mut server = aggregate::build(&spec, gradient.len());
        if let Some(state) = optimizer {
            server.restore(state)?;
        }
        server.step(weights.values_mut(), &gradient);
        if let Some((tensor, index, value)) = weights.first_not_finite() {
            return Err(DriveError::Diverged { tensor: tensor.to_owned(), index, value });
        }
        Ok(Candidate { weights, optimizer: server.save() })
    }
}

/// The mean of values with weights; `None` for no weight at all.
fn weighted_mean(values: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, weight) = values.fold((0.0, 0.0), |(s, w), (value, n)| (s + value * n as f64, w + n as f64));
    (weight > 0.0).then(|| sum / weight).filter(|mean| mean.is_finite())
}
