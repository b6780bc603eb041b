//! From a job file to what each part needs, and the refusal of combinations that cannot work,
//! before a run starts.

use aggregate::{ReduceSpec, ServerSpec};
use job::{Holdout, Job, Mode, Reduction, Server, Task, Weight};
use model::ModelSpec;
use params::Layout;
use round::{DataPlan, Evaluation, Millis, Plan};

/// Why a job file that parses cannot become a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The job file itself.
    #[error("{0}")]
    Job(#[from] job::JobError),
    /// A hosted table.
    #[error("data.hosted: {0}")]
    Data(#[from] data::DataError),
    /// The coordinator's own test table.
    #[error("evaluate.hosted: {0}")]
    Holdout(data::DataError),
    /// So few rows were held out that there are none.
    #[error(
        "evaluate.metric = \"{metric}\": data.holdout leaves no rows to measure it on, hold out more, or use \"train_loss\""
    )]
    Unmeasured { metric: &'static str },
    /// The architecture does not fit.
    #[error("model: {0}")]
    Model(#[from] model::ModelError),
    /// The initial weights are not for this architecture.
    #[error("model.init = \"{path}\": {reason}")]
    Init { path: String, reason: String },
    /// A file that the job names was not sent along.
    #[error(
        "the job file names \"{0}\", but that file was not sent with it; start the run with `conclave run start`, which sends it"
    )]
    Attachment(String),
    /// No worker could send an update of it.
    #[error(
        "model: {elements} weights make updates of {bytes} bytes, limits.upload_bytes in config.toml allows {bytes_max}"
    )]
    Size { elements: usize, bytes: u64, bytes_max: u64 },
    /// Fewer shards than the quorum.
    #[error("data.shards = {shards}: must be at least rounds.cohort.min = {min}, or no round can close")]
    Shards { shards: u32, min: u32 },
    /// The rules for tensors do not fit the model.
    #[error("aggregate.tensors: {0}")]
    Form(#[from] update::FormError),
    /// The settings of an encoding.
    #[error("aggregate.encoding: {0}")]
    Encoding(#[from] update::SettingError),
    /// The parameters of a reduction.
    #[error("aggregate.reduction: {0}")]
    Reduction(#[from] aggregate::ReduceError),
    /// Two parts that do not go together.
    #[error(
        "aggregate.tensors: policy \"max\" needs local.mode = \"train\": a gradient has no largest value"
    )]
    MaxOfGradients,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// How many shards a hosted table is cut into, or a synthetic run has.
pub(crate) fn shards(job: &Job) -> Result<u32, PlanError> {
    let shards = job.data.shards.unwrap_or(job.rounds.cohort_select);
    if shards < job.rounds.cohort_min {
        return Err(PlanError::Shards { shards, min: job.rounds.cohort_min });
    }
    Ok(shards)
}

/// The protocol's part of a job file. `shards` holds the examples of each shard that the coordinator
/// hands out.
pub(crate) fn protocol(job: &Job, shards: Option<Vec<u64>>, rounds: u32, lease_ms: Millis) -> Plan {
    let evaluation = match (&job.evaluate.hosted, &job.data.holdout, &shards) {
        (Some(_), _, _) => Evaluation::Central,
        (None, Holdout::None, _) => Evaluation::None,
        (None, _, Some(_)) => Evaluation::Central,
        (None, _, None) => Evaluation::Workers,
    };
    let millis = |d: std::time::Duration| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX);
    Plan {
        seed: job.rounds.seed,
        rounds,
        cohort_min: job.rounds.cohort_min,
        cohort_max: job.rounds.cohort_max,
        cohort_select: job.rounds.cohort_select,
        deadline_ms: millis(job.rounds.deadline),
        lease_ms,
        gather_ms: millis(job.rounds.gather),
        wait_ms: millis(job.rounds.wait),
        attempts_max: job.rounds.attempts,
        data: shards.map_or(DataPlan::Private, |shards| DataPlan::Hosted { shards }),
        evaluation,
        patience: job.evaluate.patience,
    }
}

/// The network of a job for a table of this signature, or the synthetic model that needs no table.
pub(crate) fn network(job: &Job, features: usize, classes: usize) -> ModelSpec {
    if let Task::Synthetic(synthetic) = job.task {
        // The job file's bound fits the address space.
        let parameters = usize::try_from(synthetic.parameters).unwrap_or(usize::MAX);
        return match synthetic.buffers {
            true => ModelSpec::synthetic_with_buffers(parameters),
            false => ModelSpec::synthetic(parameters),
        };
    }
    ModelSpec {
        arch: job.model.arch.clone(),
        inputs: features,
        hidden: job.model.hidden.clone(),
        outputs: classes,
    }
}

/// The server optimizer of a job.
pub(crate) fn server(job: &Job) -> ServerSpec {
    match job.aggregate.server {
        Server::Sgd { lr } => ServerSpec::Sgd { lr },
        Server::Momentum { lr, momentum } => ServerSpec::Momentum { lr, momentum },
        Server::Nesterov { lr, momentum } => ServerSpec::Nesterov { lr, momentum },
        Server::Adagrad { lr, eps } => ServerSpec::Adagrad { lr, eps },
        Server::Adam { lr, beta1, beta2, eps, bias_correction } => {
            ServerSpec::Adam { lr, beta1, beta2, eps, bias_correction }
        }
        Server::Yogi { lr, beta1, beta2, eps } => ServerSpec::Yogi { lr, beta1, beta2, eps },
    }
}

/// What the updates of a run are like on the wire, what they must be, and what becomes of them.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) form: update::Form,
    pub(crate) encoding: update::Encoding,
    /// A longer update is refused.
    pub(crate) norm_max: Option<f64>,
    /// A longer update is shortened to this L2 norm.
    pub(crate) clip: Option<f64>,
    /// `None`: a mean, which is a sum that updates are added to as they come. Others need all of them at once.
    pub(crate) reduction: Option<ReduceSpec>,
}

/// See [`Exchange`].
///
/// # Errors
/// The rules for tensors do not fit the model, or parts do not go together.
pub(crate) fn exchange(job: &Job, layout: &Layout) -> Result<Exchange, PlanError> {
    let form = update::Form::of(&job.aggregate, layout)?;
    if form.maxed() + form.max_integers() > 0 && job.local.mode == Mode::Gradient {
        return Err(PlanError::MaxOfGradients);
    }
    let encoding = update::Encoding::from(job.aggregate.encoding);
    encoding.validate()?;
    let usize = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let reduction = match job.aggregate.reduction {
        Reduction::Mean | Reduction::ClippedMean { .. } => None,
        Reduction::Median => Some(ReduceSpec::Median),
        Reduction::TrimmedMean { f } => Some(ReduceSpec::TrimmedMean { f: usize(f) }),
        Reduction::Krum { f } => Some(ReduceSpec::Krum { f: usize(f) }),
        Reduction::MultiKrum { f, m } => Some(ReduceSpec::MultiKrum { f: usize(f), m: usize(m) }),
        Reduction::Bulyan { f } => Some(ReduceSpec::Bulyan { f: usize(f) }),
        Reduction::GeometricMedian { nu, iterations } => Some(ReduceSpec::GeometricMedian { nu, iterations }),
        Reduction::CenteredClipping { tau, iterations } => {
            Some(ReduceSpec::CenteredClipping { tau, iterations })
        }
    };
    reduction.map_or(Ok(()), |spec| spec.check())?;
    let clip = match job.aggregate.reduction {
        Reduction::ClippedMean { norm } => Some(norm),
        _ => None,
    };
    Ok(Exchange { form, encoding, norm_max: job.aggregate.norm_max, clip, reduction })
}

/// How much an update of `examples` examples counts.
pub(crate) fn weight(job: &Job, examples: u64) -> u64 {
    match job.aggregate.weight {
        Weight::Examples => examples,
        Weight::Uniform => examples.min(1),
        Weight::Work => job.local.steps(examples),
    }
}

/// The largest sum of weights of a round in which `workers` have at most `examples_max` examples in all.
pub(crate) fn weight_sum_max(job: &Job, examples_max: u64, workers: u64) -> u64 {
    let sum = match job.aggregate.weight {
        Weight::Examples => examples_max,
        Weight::Uniform => workers,
        // A batch more for each worker: rounded up for each.
        Weight::Work => job.local.steps(examples_max).saturating_add(workers * u64::from(job.local.epochs)),
    };
    // What workers claim must not fail the run: an update for which there is no room is refused alone.
    sum.clamp(1, aggregate::WEIGHT_SUM_MAX)
}

/// The holdout of a job in the words of `data`.
pub(crate) fn holdout(job: &Job) -> data::Holdout {
    match &job.data.holdout {
        Holdout::None => data::Holdout::None,
        Holdout::Fraction(fraction) => data::Holdout::Fraction(*fraction),
        Holdout::Rows(rows) => data::Holdout::Rows(rows.clone()),
    }
}

/// The fewest rows of a skewed shard, as in Flower's `DirichletPartitioner`.
const SHARD_ROWS_MIN: usize = 10;

/// The partition of a job in the words of `data`. On small tables a skewed shard may hold half of an
/// even share, and at least one row.
pub(crate) fn partition(job: &Job, rows: usize, shards: usize) -> data::Partition {
    match job.data.partition {
        job::Partition::Iid => data::Partition::Iid,
        job::Partition::Dirichlet { alpha } => {
            let min = SHARD_ROWS_MIN.min(rows / (2 * shards.max(1))).max(1);
            data::Partition::Dirichlet { alpha, min }
        }
    }
}

#[cfg(test)]
mod tests;
