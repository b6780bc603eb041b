//! The one place that knows kinds of tasks: what each needs, trains and measures.

use std::sync::Arc;

use model::{Device, Flow, LocalSpec, Measured, ModelError, ModelSpec, SyntheticUpdate, Trained};
use params::{Name, Params};
use proto::v1::WorkKind;

use super::{
    Assignment, Impossible, Inputs, WorkError,
    outgoing::{Change, Outgoing, PackError, Packed},
    prepared::Prepared,
    spec,
};
use crate::client::Client;

/// Work with all that it needs: no call is made from here on.
pub(crate) struct Task {
    kind: Kind,
    /// Of the training.
    seed: u64,
    /// Boxed: a task goes by value from hand to hand.
    outgoing: Box<Outgoing>,
    /// The round whose training this one goes on from, on this host.
    from: Option<u32>,
}

enum Kind {
    /// Local training from a base version on rows, or the measuring of a candidate on held-out rows.
    Classification { network: ModelSpec, local: LocalSpec, model: Arc<Params>, data: Arc<Prepared> },
    /// An update out of nothing.
    Synthetic { update: SyntheticUpdate, parameters: usize, buffers: bool, part: u32 },
}

/// What came of a training.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) packed: Packed,
    pub(super) examples: u64,
    pub(super) train_loss: f64,
    /// See [`Task::from`].
    pub(super) from: Option<u32>,
}

/// Why nothing came of a training.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrainError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl Task {
    /// Gets what `work` needs to this host; `worker` is this one's name.
    pub(crate) async fn fetch(
        inputs: &mut Inputs,
        client: &Client,
        work: &Assignment,
        worker: &Name,
    ) -> Result<Self, WorkError> {
        let (kind, layout) = match work.job.task {
            job::Task::Synthetic(_) if work.kind == WorkKind::Evaluate => {
                return Err(Impossible::open("a synthetic run has nothing to measure".to_owned()).into());
            }
            job::Task::Synthetic(synthetic) => {
                let parameters =
                    usize::try_from(synthetic.parameters).map_err(|e| Impossible::open(e.to_string()))?;
                let update = spec::synthetic(synthetic.update);
                let buffers = synthetic.buffers;
                let layout = model::layout(&spec::synthetic_network(parameters, buffers));
                (Kind::Synthetic { update, parameters, buffers, part: work.part }, layout)
            }
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
                let layout = model::layout(&network);
                (Kind::Classification { network, local, model, data }, layout)
            }
        };
        let layout = layout.map_err(|e| Impossible::open(format!("model: {e}")))?;
        let mut outgoing = Outgoing::new(&work.job, layout)?;
        let (carried, from) = inputs.carried(work, outgoing.shape()).await?;
        outgoing.go_on_from(carried);
        Ok(Self { kind, seed: work.seed(worker), outgoing: Box::new(outgoing), from })
    }

    /// Trains, and makes of it what leaves this host; tells of each batch.
    pub(super) fn train(
        self,
        device: &Device,
        progress: &mut dyn FnMut(u32) -> Flow,
    ) -> Result<Done, TrainError> {
        let Self { kind, seed, outgoing, from } = self;
        let (packed, examples, train_loss) = match kind {
            Kind::Classification { network, local, model, data } => {
                let base = outgoing.with_own(&model);
                let Trained { update, train_loss, examples } =
                    model::train(device, &network, &base, data.train(), &local, seed, progress)?;
                // No architecture that trains has integers yet.
                let change = Change { values: update, integers: outgoing.no_integers() };
                (outgoing.pack(change, Some(&base), seed)?, examples, train_loss)
            }
            Kind::Synthetic { update, parameters, buffers, part } => {
                let (values, integers) = match buffers {
                    true => model::synthetic_update_with_buffers(update, parameters, seed, part),
                    false => (model::synthetic_update(update, parameters, seed, part), Vec::new()),
                };
                if progress(100) == Flow::Stop {
                    return Err(ModelError::Stopped.into());
                }
                (outgoing.pack(Change { values, integers }, None, seed)?, 1, 0.0)
            }
        };
        Ok(Done { packed, examples, train_loss, from })
    }

    /// Measures; `None`: there is nothing to measure on.
    pub(super) fn measure(&self, device: &Device) -> Option<Result<Measured, ModelError>> {
        match &self.kind {
            Kind::Classification { network, model, data, .. } => {
                data.test().map(|test| model::measure(device, network, &self.outgoing.with_own(model), test))
            }
            Kind::Synthetic { .. } => None,
        }
    }
}
