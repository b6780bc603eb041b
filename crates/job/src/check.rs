//! From the file as written to a [`Job`]: one function per table.

mod aggregate;
mod evaluate;
mod synthetic;

use std::{
    ops::{
        Bound::{Excluded, Included},
        RangeInclusive,
    },
    time::Duration,
};

use crate::{
    ARCHS, Data, Holdout, Job, JobError, Local, Mode, Model, Optimizer, Partition, Rounds, Task,
    faults::{Faults, Floats, quoted},
    raw,
};

const LAYERS_MAX: usize = 16;
const WIDTH: RangeInclusive<i64> = 1..=65_536;
const PATH_BYTES_MAX: usize = 4096;
const LABEL_BYTES_MAX: usize = 256;
const FEATURES: RangeInclusive<usize> = 1..=65_536;
const CLASSES: RangeInclusive<usize> = 2..=65_536;
const ROWS: RangeInclusive<usize> = 0..=1_000_000;
const ROW: RangeInclusive<i64> = 0..=u32::MAX as i64;
const SHARDS_MAX: u32 = 100_000;
const EPOCHS_MAX: u32 = 10_000;
const BATCH_MAX: u32 = 1 << 20;
const ROUNDS_MAX: u32 = 1_000_000;
const COHORT_MAX: u32 = 100_000;
const ATTEMPTS_MAX: u32 = 100;

const RATE: Floats = (Excluded(0.0), Included(1e3));
const DECAY: Floats = (Included(0.0), Excluded(1.0));
const EPSILON: Floats = (Excluded(0.0), Included(1.0));
const ALPHA: Floats = (Included(1e-3), Included(1e6));
const FRACTION: Floats = (Included(0.0), Excluded(1.0));

/// `beta1`, `beta2` and `eps` of Adam, as Kingma and Ba 2015 have them.
const ADAM: [f64; 3] = [0.9, 0.999, 1e-8];

const DAY: Duration = Duration::from_hours(24);
const DEADLINE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(7 * 24);
const GATHER: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(30 * 24);

/// Checks a whole file.
pub(crate) fn job(raw: &raw::Job) -> Result<Job, JobError> {
    let mut faults = Faults::default();
    let name = faults.name("name", raw.name.as_deref());
    let kinds = [("classification", Kind::Classification), ("synthetic", Kind::Synthetic)];
    let kind = faults.choice("task", raw.task.as_deref(), None, &kinds);
    let work = match kind {
        Some(Kind::Synthetic) => synthetic::work(&mut faults, raw),
        _ => classification(&mut faults, raw, kind.is_some()),
    };
    let rounds = rounds(&mut faults, &raw.rounds);
    if let Some(work) = &work {
        synthetic::fits(&mut faults, work, &rounds);
    }
    let aggregate = aggregate::aggregate(&mut faults, raw);
    let evaluate = evaluate::evaluate(&mut faults, raw, work.as_ref());
    let found = faults.finish();
    // A part that is not there has left a fault.
    match (name, work, aggregate, evaluate) {
        (Some(name), Some(Work { task, model, data, local }), Some(aggregate), Some(evaluate))
            if found.is_empty() =>
        {
            Ok(Job { name, task, model, data, local, rounds, aggregate, evaluate })
        }
        _ => Err(JobError::Faults(found)),
    }
}

/// The word in `task`.
#[derive(Clone, Copy)]
enum Kind {
    Classification,
    Synthetic,
}

/// What is learned, by what and from what: the parts that depend on the task.
struct Work {
    task: Task,
    model: Model,
    data: Data,
    local: Local,
}

/// `known`: the file names this task, rather than none that exists.
fn classification(faults: &mut Faults, raw: &raw::Job, known: bool) -> Option<Work> {
    let why = "with task \"classification\"";
    faults.unused("model.parameters", known && raw.model.parameters.is_some(), why);
    faults.unused("synthetic", known && raw.synthetic.is_some(), why);
    let model = model(faults, &raw.model);
    let data = data(faults, &raw.data);
    let local = local(faults, &raw.local);
    Some(Work { task: Task::Classification, model: model?, data: data?, local: local? })
}

fn model(faults: &mut Faults, raw: &raw::Model) -> Option<Model> {
    let arch = faults.choice("model.arch", raw.arch.as_deref(), None, &ARCHS.map(|arch| (arch, arch)));
    let layers = raw.hidden.as_deref().unwrap_or_default();
    match arch {
        Some("softmax") => {
            faults.unused(
                "model.hidden",
                !layers.is_empty(),
                "with arch \"softmax\", which has no hidden layer",
            );
        }
        Some(_) if raw.hidden.is_none() => {
            faults
                .about("model.hidden", "is missing, name the width of each hidden layer, for instance [128]");
        }
        _ => {}
    }
    if layers.len() > LAYERS_MAX {
        faults
            .about("model.hidden", format!("has {} layers, at most {LAYERS_MAX} are allowed", layers.len()));
    }
    let width = |(at, &width): (usize, &i64)| {
        let width = faults.integer(&format!("model.hidden[{at}]"), Some(width), None, WIDTH);
        usize::try_from(width).unwrap_or_default()
    };
    let hidden = layers.iter().take(LAYERS_MAX).enumerate().map(width).collect();
    if let Some(path) = &raw.init {
        faults.path("model.init", path, PATH_BYTES_MAX);
    }
    Some(Model { arch: arch?.to_owned(), hidden, init: raw.init.clone() })
}

fn data(faults: &mut Faults, raw: &raw::Data) -> Option<Data> {
    let name = faults.name("data.name", raw.name.as_deref());
    if let Some(path) = &raw.hosted {
        faults.path("data.hosted", path, PATH_BYTES_MAX);
    }
    match &raw.target {
        Some(target) => faults.text("data.target", target, LABEL_BYTES_MAX),
        None => faults.about("data.target", "is missing, name the column that holds the label"),
    }
    labels(faults, "data.features", raw.features.as_deref(), FEATURES);
    labels(faults, "data.classes", raw.classes.as_deref(), CLASSES);
    if let (Some(target), Some(features)) = (&raw.target, &raw.features)
        && let Some(at) = features.iter().position(|feature| feature == target)
    {
        let reason = "is data.target: a label cannot be learned from itself";
        faults.broken(&format!("data.features[{at}]"), quoted(target), reason);
    }
    if raw.hosted.is_none() {
        private(faults, raw);
    }
    let holdout = holdout(faults, raw.holdout.as_ref());
    let partition = partition(faults, raw.partition.as_ref());
    let shards = raw.shards.map(|shards| faults.count("data.shards", Some(shards), None, SHARDS_MAX));
    Some(Data {
        name: name?,
        hosted: raw.hosted.clone(),
        target: raw.target.clone()?,
        features: raw.features.clone(),
        classes: raw.classes.clone(),
        holdout: holdout?,
        partition: partition?,
        shards,
    })
}

/// What differs when no table is hosted: nobody but each worker can look at its table.
fn private(faults: &mut Faults, raw: &raw::Data) {
    let why = "without data.hosted: workers' tables stay with them, so nobody else can look it up";
    if raw.features.is_none() {
        faults.about("data.features", format!("is needed {why}; list the columns to learn from"));
    }
    if raw.classes.is_none() {
        faults.about("data.classes", format!("is needed {why}; list the labels"));
    }
    let why = "without data.hosted: every worker trains on its own table";
    faults.unused("data.partition", raw.partition.is_some(), why);
    faults.unused("data.shards", raw.shards.is_some(), why);
}

fn labels(faults: &mut Faults, key: &str, labels: Option<&[String]>, count: RangeInclusive<usize>) {
    let Some(labels) = labels else { return };
    faults.list(key, labels, count);
    for (at, label) in labels.iter().enumerate() {
        faults.text(&format!("{key}[{at}]"), label, LABEL_BYTES_MAX);
    }
}

fn holdout(faults: &mut Faults, raw: Option<&toml::Value>) -> Option<Holdout> {
    const KEY: &str = "data.holdout";
    let fraction = match raw {
        None => return Some(Holdout::None),
        Some(toml::Value::Float(fraction)) => *fraction,
        // Exact for every integer that can be in bounds.
        Some(toml::Value::Integer(fraction)) => *fraction as f64,
        Some(toml::Value::Table(table)) if table.len() == 1 && table.contains_key("rows") => {
            return rows(faults, &table["rows"]);
        }
        Some(other) => {
            let reason = "must be a fraction such as 0.2, or row numbers such as { rows = [3, 17] }";
            faults.broken(KEY, other.to_string().replace('\n', " "), reason);
            return None;
        }
    };
    match faults.float(KEY, Some(fraction), None, FRACTION) {
        // The stand-in of a fault.
        0.0 if fraction != 0.0 => None,
        0.0 => Some(Holdout::None),
        fraction => Some(Holdout::Fraction(fraction)),
    }
}

fn rows(faults: &mut Faults, raw: &toml::Value) -> Option<Holdout> {
    const KEY: &str = "data.holdout.rows";
    let numbers = raw.as_array().map(|items| items.iter().map(toml::Value::as_integer).collect());
    let Some(Some(numbers)) = numbers.map(|numbers: Option<Vec<i64>>| numbers) else {
        faults.about(KEY, "must be a list of row numbers, counted from 0");
        return None;
    };
    faults.list(KEY, &numbers, ROWS);
    let row = |(at, &row): (usize, &i64)| {
        let row = faults.integer(&format!("{KEY}[{at}]"), Some(row), None, ROW);
        usize::try_from(row).unwrap_or_default()
    };
    let rows: Vec<usize> = numbers.iter().enumerate().map(row).collect();
    Some(if rows.is_empty() { Holdout::None } else { Holdout::Rows(rows) })
}

fn partition(faults: &mut Faults, raw: Option<&raw::Partition>) -> Option<Partition> {
    let Some(raw) = raw else { return Some(Partition::Iid) };
    let kinds = [("iid", false), ("dirichlet", true)];
    let skewed = faults.choice("data.partition.kind", raw.kind.as_deref(), None, &kinds)?;
    if skewed {
        let alpha = faults.float("data.partition.alpha", raw.alpha, None, ALPHA);
        return Some(Partition::Dirichlet { alpha });
    }
    faults.unused("data.partition.alpha", raw.alpha.is_some(), "with kind \"iid\"");
    Some(Partition::Iid)
}

fn local(faults: &mut Faults, raw: &raw::Local) -> Option<Local> {
    let modes = [("train", Mode::Train), ("gradient", Mode::Gradient)];
    let mode = faults.choice("local.mode", raw.mode.as_deref(), Some(Mode::Train), &modes)?;
    if mode == Mode::Gradient {
        let why = "in gradient mode: the optimizer is aggregate.server";
        faults.unused("local.optimizer", raw.optimizer.is_some(), why);
        faults.unused("local.lr", raw.lr.is_some(), why);
        faults.unused("local.momentum", raw.momentum.is_some(), why);
        betas_unused(faults, "local", [raw.beta1, raw.beta2, raw.eps], why);
        let why = "in gradient mode: a worker computes one gradient over its whole shard";
        faults.unused("local.epochs", raw.epochs.is_some(), why);
        faults.unused("local.batch", raw.batch.is_some(), why);
        let optimizer = Optimizer::GradientDescent { lr: 1.0 };
        return Some(Local { mode, optimizer, epochs: 1, batch: 32 });
    }
    let optimizer = optimizer(faults, raw);
    let epochs = faults.count("local.epochs", raw.epochs, Some(1), EPOCHS_MAX);
    let batch = faults.count("local.batch", raw.batch, Some(32), BATCH_MAX);
    if matches!(optimizer, Some(Optimizer::GradientDescent { .. })) {
        let why = "with optimizer \"gd\", which takes all rows in one step";
        faults.unused("local.batch", raw.batch.is_some(), why);
    }
    Some(Local { mode, optimizer: optimizer?, epochs, batch })
}

fn optimizer(faults: &mut Faults, raw: &raw::Local) -> Option<Optimizer> {
    let known = ["gd", "sgd", "adam"].map(|word| (word, word));
    let kind = faults.choice("local.optimizer", raw.optimizer.as_deref(), None, &known);
    let lr = faults.float("local.lr", raw.lr, None, RATE);
    let kind = kind?;
    let why = format!("with optimizer \"{kind}\"");
    if kind != "sgd" {
        faults.unused("local.momentum", raw.momentum.is_some(), &why);
    }
    let betas = [raw.beta1, raw.beta2, raw.eps];
    if kind == "adam" {
        let [beta1, beta2, eps] = self::betas(faults, "local", betas, ADAM);
        return Some(Optimizer::Adam { lr, beta1, beta2, eps });
    }
    betas_unused(faults, "local", betas, &why);
    if kind == "gd" {
        return Some(Optimizer::GradientDescent { lr });
    }
    let momentum = faults.float("local.momentum", raw.momentum, Some(0.0), DECAY);
    Some(Optimizer::Sgd { lr, momentum })
}

/// What an optimizer with two moments has beside its rate: `beta1`, `beta2` and `eps`.
fn betas(
    faults: &mut Faults,
    table: &str,
    [beta1, beta2, eps]: [Option<f64>; 3],
    defaults: [f64; 3],
) -> [f64; 3] {
    [
        faults.float(&format!("{table}.beta1"), beta1, Some(defaults[0]), DECAY),
        faults.float(&format!("{table}.beta2"), beta2, Some(defaults[1]), DECAY),
        faults.float(&format!("{table}.eps"), eps, Some(defaults[2]), EPSILON),
    ]
}

fn betas_unused(faults: &mut Faults, table: &str, betas: [Option<f64>; 3], why: &str) {
    for (key, value) in ["beta1", "beta2", "eps"].into_iter().zip(betas) {
        faults.unused(&format!("{table}.{key}"), value.is_some(), why);
    }
}

fn rounds(faults: &mut Faults, raw: &raw::Rounds) -> Rounds {
    let count = faults.count("rounds.count", raw.count, None, ROUNDS_MAX);
    let cohort_min = faults.count("rounds.cohort.min", raw.cohort.min, None, COHORT_MAX);
    let cohort_max = at_least(
        faults,
        ("rounds.cohort.max", raw.cohort.max),
        ("rounds.cohort.min", raw.cohort.min, cohort_min),
    );
    let cohort_select = match raw.cohort.select {
        None => cohort_max,
        select => at_least(
            faults,
            ("rounds.cohort.select", select),
            ("rounds.cohort.max", raw.cohort.max, cohort_max),
        ),
    };
    Rounds {
        count,
        cohort_min,
        cohort_max,
        cohort_select,
        deadline: faults.duration("rounds.deadline", raw.deadline.as_deref(), None, DEADLINE),
        seed: seed(faults, raw.seed),
        gather: faults.duration(
            "rounds.gather",
            raw.gather.as_deref(),
            Some(Duration::from_secs(10)),
            GATHER,
        ),
        wait: faults.duration("rounds.wait", raw.wait.as_deref(), Some(Duration::from_mins(10)), WAIT),
        attempts: faults.count("rounds.attempts", raw.attempts, Some(3), ATTEMPTS_MAX),
    }
}

/// A number of workers, at least another one. One fault per value: one that is too small for the other
/// is not told to be out of its own range, too.
fn at_least(
    faults: &mut Faults,
    (key, value): (&str, Option<i64>),
    (low_key, low, checked): (&str, Option<i64>, u32),
) -> u32 {
    match (low, value) {
        (Some(low), Some(value)) if value < low => {
            faults.broken(key, value, format!("must be at least {low_key} = {low}"));
            checked
        }
        _ => faults.count(key, value, None, COHORT_MAX),
    }
}

fn seed(faults: &mut Faults, raw: Option<i64>) -> u64 {
    let seed = faults.integer("rounds.seed", raw, Some(0), 0..=i64::MAX);
    u64::try_from(seed).unwrap_or_default()
}
