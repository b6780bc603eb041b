//! From a job file to what each part needs, and the refusal of combinations that cannot work,
//! before a run starts.

use aggregate::ServerSpec;
use job::{Holdout, Job, Server, Task};
use model::ModelSpec;
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
        return ModelSpec::synthetic(usize::try_from(synthetic.parameters).unwrap_or(usize::MAX));
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
        Server::Adam { lr, beta1, beta2, eps, bias_correction } => {
            ServerSpec::Adam { lr, beta1, beta2, eps, bias_correction }
        }
    }
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
