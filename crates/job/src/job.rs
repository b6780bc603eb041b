use std::time::Duration;

use params::Name;

use crate::{aggregate::Aggregate, check, error::JobError, evaluate::Evaluate, raw};

/// The longest job file that is read, in bytes.
pub const JOB_BYTES_MAX: usize = 256 << 10;

/// The architectures that `model.arch` may name.
pub const ARCHS: [&str; 2] = ["mlp", "softmax"];

/// The most weights of a synthetic model, which is the most of any model.
pub const PARAMETERS_MAX: u64 = 1 << 30;

/// A valid job file: everything that a run is, except the data.
///
/// In a [`Task::Synthetic`] run `model`, `data` and `local` hold fixed values: architecture and
/// dataset are called `synthetic`, there are no columns, no classes and no held-out rows, and the
/// update is a difference ([`Mode::Train`]). Only `data.shards` may be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What the run's model is called in the registry.
    pub name: Name,
    /// What is learned.
    pub task: Task,
    /// The network and where its weights start.
    pub model: Model,
    /// The table to learn from.
    pub data: Data,
    /// What each worker does in a round.
    pub local: Local,
    /// How many rounds there are and who takes part.
    pub rounds: Rounds,
    /// How updates become the next version.
    pub aggregate: Aggregate,
    /// What makes one version better than another, and when that ends the run.
    pub evaluate: Evaluate,
}

/// What is learned: `task`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `"classification"`: one of several labels from the numbers of a table's row.
    Classification,
    /// `"synthetic"`: nothing; workers answer at once, without data and without libtorch.
    Synthetic(Synthetic),
}

/// What the workers of a synthetic run answer: `model.parameters` and the table `[synthetic]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// The length of an update, 1 to [`PARAMETERS_MAX`].
    pub parameters: u64,
    /// What is in it.
    pub update: SyntheticUpdate,
    /// Whether the model also has the tensors that a normalisation layer has beside its weights:
    /// `norm.running_mean` and `norm.running_var`, 8 floats each, and the integer
    /// `norm.num_batches_tracked`. `false` by default.
    pub buffers: bool,
}

/// What is in an update of a synthetic run: `synthetic.update`. Its weight is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticUpdate {
    /// `"random"`, the default: seeded pseudo-random numbers.
    Random,
    /// `"one-hot"`: the worker with shard `i` sends 1 at `i` and 0 elsewhere, so that the aggregate
    /// tells whose updates are in it. There are at least as many parameters as shards.
    OneHot,
}

/// The table `[model]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// One of [`ARCHS`], or `synthetic`.
    pub arch: String,
    /// The width of each hidden layer: up to 16 layers of 1 to 65536. Empty for `softmax`.
    pub hidden: Vec<usize>,
    /// A safetensors file to start from, relative to the job file; `None`: seeded weights.
    pub init: Option<String>,
}

/// The table `[data]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// The dataset that workers offer under this name, or the name of the hosted one.
    pub name: Name,
    /// A CSV table, relative to the job file, that the coordinator hosts and cuts into shards;
    /// `None`: every worker has its own private table.
    pub hosted: Option<String>,
    /// The column that holds the label.
    pub target: String,
    /// The columns to learn from, in the order of the model's inputs; `None`: all but the target.
    /// Always there without `hosted`.
    pub features: Option<Vec<String>>,
    /// The labels, in the order of the model's outputs; `None`: all that occur, sorted.
    /// Always there without `hosted`.
    pub classes: Option<Vec<String>>,
    /// The rows that are kept for testing.
    pub holdout: Holdout,
    /// How a hosted table is cut into shards.
    pub partition: Partition,
    /// How many shards a hosted table is cut into, or a synthetic run has, 1 to 100000; `None`: as
    /// many as `cohort_select`.
    pub shards: Option<u32>,
}

/// The rows that are kept for testing: `data.holdout`.
#[derive(Clone, Debug, PartialEq)]
pub enum Holdout {
    /// None: nothing is measured but the train loss.
    None,
    /// This share of the rows of each class, above 0 and below 1.
    Fraction(f64),
    /// The rows of these numbers (0-based, in the order of the job file), each once. Where workers
    /// have private tables, the numbers count in each worker's own table.
    Rows(Vec<usize>),
}

/// How a hosted table is cut into shards: `data.partition`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// `{ kind = "iid" }`: at random, in equal parts.
    Iid,
    /// `{ kind = "dirichlet", alpha = 0.5 }`: skewed labels; the smaller `alpha`, the more skew
    /// (Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data distribution").
    Dirichlet {
        /// The concentration, 0.001 to 1000000.
        alpha: f64,
    },
}

/// The table `[local]`.
///
/// In [`Mode::Gradient`] the other keys have no meaning and are refused in the file; `optimizer`,
/// `epochs` and `batch` then hold one full-batch step of rate 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// Train, or send a gradient.
    pub mode: Mode,
    /// How a worker trains.
    pub optimizer: Optimizer,
    /// Passes over the worker's shard in one round, 1 to 10000.
    pub epochs: u32,
    /// Rows per step, 1 to 1048576. Without meaning for [`Optimizer::GradientDescent`].
    pub batch: u32,
}

/// What a worker sends: `local.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `"train"`: the difference that local training made (FedAvg, McMahan et al. 2017).
    Train,
    /// `"gradient"`: the gradient over its whole shard at the base version (FedSGD, ibid.).
    Gradient,
}

/// The optimizer of local training: `local.optimizer` and the keys beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// `"gd"`: one step over all rows per epoch.
    GradientDescent {
        /// The step size, above 0, at most 1000.
        lr: f64,
    },
    /// `"sgd"`: a step per batch, with momentum as PyTorch defines it.
    Sgd {
        /// The step size, above 0, at most 1000.
        lr: f64,
        /// 0 (the default) to below 1.
        momentum: f64,
    },
    /// `"adam"`: Kingma and Ba 2015.
    Adam {
        /// The step size, above 0, at most 1000.
        lr: f64,
        /// Decay of the first moment, 0 to below 1, by default 0.9.
        beta1: f64,
        /// Decay of the second moment, 0 to below 1, by default 0.999.
        beta2: f64,
        /// Keeps the division finite, above 0, at most 1, by default 1e-8.
        eps: f64,
    },
}

/// The table `[rounds]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// How many rounds the run has, 1 to 1000000.
    pub count: u32,
    /// `cohort.min`, 1 to 100000: fewer updates than this make no version.
    pub cohort_min: u32,
    /// `cohort.max`, at least `cohort_min`, at most 100000: a round closes at this many updates.
    pub cohort_max: u32,
    /// `cohort.select`, at least `cohort_max` and by default that, at most 100000: this many workers
    /// are picked, so that a round closes in time although some of them are slow.
    pub cohort_select: u32,
    /// How long a round may take, 100 ms to 7 days.
    pub deadline: Duration,
    /// Decides everything that is drawn in the run, by default 0.
    pub seed: u64,
    /// How long the first round waits for `cohort_max` workers once `cohort_min` are there,
    /// 0 s to 1 day, by default 10 s.
    pub gather: Duration,
    /// How long the run waits for `cohort_min` workers before it fails, 0 s to 30 days, by default
    /// 10 minutes.
    pub wait: Duration,
    /// How often a round that failed is tried in all, 1 to 100, by default 3.
    pub attempts: u32,
}

impl Local {
    /// The optimizer steps of one round on a shard of `examples` rows: `epochs x ceil(examples / batch)`, and
    /// one per epoch where a step takes all rows (`"gd"`, and gradient mode). It is what
    /// [`Weight::Work`](crate::Weight::Work) counts; 0 without rows.
    pub fn steps(&self, examples: u64) -> u64 {
        let batches = match self.optimizer {
            Optimizer::GradientDescent { .. } => examples.min(1),
            Optimizer::Sgd { .. } | Optimizer::Adam { .. } => examples.div_ceil(u64::from(self.batch.max(1))),
        };
        u64::from(self.epochs).saturating_mul(batches)
    }
}

impl Job {
    /// Reads and checks a job file.
    ///
    /// # Errors
    /// The text is too long, is not TOML or holds a key or type that job files do not have
    /// ([`JobError::Syntax`], the first such place), or breaks bounds ([`JobError::Faults`], all of
    /// them).
    pub fn parse(text: &str) -> Result<Self, JobError> {
        if text.len() > JOB_BYTES_MAX {
            return Err(JobError::TooLong { bytes: text.len() });
        }
        let raw: raw::Job = toml::from_str(text).map_err(|e| JobError::syntax(text, &e))?;
        check::job(&raw)
    }

    /// The files that the job names (`data.hosted`, `evaluate.hosted`, `model.init`), as it writes
    /// them: relative to the job file. Each once.
    pub fn attachments(&self) -> Vec<&str> {
        let named = [&self.data.hosted, &self.evaluate.hosted, &self.model.init];
        let mut paths: Vec<&str> = named.into_iter().flatten().map(String::as_str).collect();
        // Only one of the two tables can be there, so that equal paths are neighbours.
        paths.dedup();
        paths
    }
}

impl Task {
    /// Its word in job files and manifests.
    pub fn word(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Synthetic(_) => "synthetic",
        }
    }
}
