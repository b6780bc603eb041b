use aggregate::{Accumulator, Scale, ServerSpec};
use job::Mode;
use params::Params;

use super::{DriveError, prepare::Context};
use crate::plan;

/// The sum of one attempt at a round: in memory only. After a restart it is made again from the updates that
/// the workers kept.
#[derive(Debug)]
pub(crate) struct Attempt {
    accumulator: Accumulator,
}

/// A version that is not published yet.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) weights: Params,
    /// The server optimizer's state with it; empty where it has none.
    pub(crate) optimizer: Vec<u8>,
}

impl Attempt {
    /// Prepares for updates of at most `examples_max` examples in all.
    pub(crate) fn open(context: &Context, examples_max: u64) -> Result<Self, DriveError> {
        let scale = Scale::new(context.job.aggregate.coordinate_max, examples_max)?;
        Ok(Self { accumulator: Accumulator::new(context.layout.elements(), scale) })
    }

    /// What is wrong with an update, as a phrase that names tensor, value and bound.
    pub(crate) fn fault(&self, context: &Context, update: &[f32], examples: u64) -> Option<String> {
        self.accumulator.check(&context.layout, update, examples).err().map(|e| e.to_string())
    }

    /// Adds a checked update.
    pub(crate) fn fold(&mut self, update: &[f32], examples: u64) {
        self.accumulator.add(update, examples);
    }

    /// Applies the mean of the updates to the base weights through the server optimizer, whose state is
    /// `optimizer` (`None` before the first round).
    pub(crate) fn aggregate(
        self,
        context: &Context,
        mut weights: Params,
        optimizer: Option<&[u8]>,
    ) -> Result<Made, DriveError> {
        let spec: ServerSpec = plan::server(&context.job);
        let mut gradient = self.accumulator.finish()?;
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
        Ok(Made { weights, optimizer: server.save() })
    }
}
