//! The one place that knows kinds of tasks: what each needs, trains and measures.

use std::sync::Arc;

use model::{Device, Flow, LocalSpec, Measured, ModelError, ModelSpec, SyntheticUpdate, Trained};
use params::{Name, Params};
use proto::v1::WorkKind;

use super::{Assignment, Impossible, Inputs, WorkError, prepared::Prepared, spec};
use crate::client::Client;

/// Work with all that it needs: no call is made from here on.
pub(crate) enum Task {
    /// Local training from a base version on rows, or the measuring of a candidate on held-out rows.
    Classification {
        network: ModelSpec,
        local: LocalSpec,
        model: Arc<Params>,
        data: Arc<Prepared>,
        seed: u64,
    },
    /// An update out of nothing.
    Synthetic { update: SyntheticUpdate, parameters: usize, seed: u64, part: u32 },
}

impl Task {
    /// Gets what `work` needs to this host; `worker` is this one's name.
    pub(crate) async fn fetch(
        inputs: &mut Inputs,
        client: &Client,
        work: &Assignment,
        worker: &Name,
    ) -> Result<Self, WorkError> {
        match work.job.task {
            job::Task::Synthetic(_) if work.kind == WorkKind::Evaluate => {
                Err(Impossible::open("a synthetic run has nothing to measure".to_owned()).into())
            }
            job::Task::Synthetic(synthetic) => Ok(Self::Synthetic {
                update: spec::synthetic(synthetic.update),
                parameters: usize::try_from(synthetic.parameters)
                    .map_err(|e| Impossible::open(e.to_string()))?,
                seed: work.seed(worker),
                part: work.part,
            }),
            job::Task::Classification => {
                let data = inputs.examples(client, work).await?;
                if work.kind == WorkKind::Evaluate && data.test().is_none() {
                    let name = &work.job.data.name;
                    let reason =
                        format!("dataset '{name}' has no held-out rows here to measure on: see data.holdout");
                    return Err(Impossible::open(reason).into());
                }
                let model = inputs.weights(client, work).await?;
                let (network, local) = (spec::network(work), spec::local(&work.job.local));
                Ok(Self::Classification { network, local, model, data, seed: work.seed(worker) })
            }
        }
    }

    /// Trains; tells of each batch.
    pub(super) fn train(
        &self,
        device: &Device,
        progress: &mut dyn FnMut(u32) -> Flow,
    ) -> Result<Trained, ModelError> {
        match self {
            Self::Classification { network, local, model, data, seed } => {
                model::train(device, network, model, data.train(), local, *seed, progress)
            }
            Self::Synthetic { update, parameters, seed, part } => {
                let update = model::synthetic_update(*update, *parameters, *seed, *part);
                match progress(100) {
                    Flow::Continue => Ok(Trained { update, train_loss: 0.0, examples: 1 }),
                    Flow::Stop => Err(ModelError::Stopped),
                }
            }
        }
    }

    /// Measures; `None`: there is nothing to measure on.
    pub(super) fn measure(&self, device: &Device) -> Option<Result<Measured, ModelError>> {
        match self {
            Self::Classification { network, model, data, .. } => {
                data.test().map(|test| model::measure(device, network, model, test))
            }
            Self::Synthetic { .. } => None,
        }
    }
}
