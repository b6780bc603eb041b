use super::{SHARDS_MAX, Work};
use crate::{
    Data, Holdout, Local, Mode, Model, Optimizer, PARAMETERS_MAX, Partition, Rounds, Synthetic,
    SyntheticUpdate, Task, faults::Faults, raw,
};

/// The name of the task, and of what stands for architecture and dataset.
const SYNTHETIC: &str = "synthetic";

/// The parts of a run without data.
pub(super) fn work(faults: &mut Faults, raw: &raw::Job) -> Option<Work> {
    model_unused(faults, &raw.model);
    let range = 1..=i64::try_from(PARAMETERS_MAX).unwrap_or(i64::MAX);
    faults.integer("model.parameters", raw.model.parameters, None, range.clone());
    // No stand-in for what has a fault: `fits` would find a second one in it.
    let parameters = raw.model.parameters.filter(|parameters| range.contains(parameters));
    let updates = [("random", SyntheticUpdate::Random), ("one-hot", SyntheticUpdate::OneHot)];
    let update = raw.synthetic.as_ref().and_then(|table| table.update.as_deref());
    let update = faults.choice("synthetic.update", update, Some(SyntheticUpdate::Random), &updates);
    let buffers = raw.synthetic.as_ref().and_then(|table| table.buffers).unwrap_or(false);
    data_unused(faults, &raw.data);
    let shards = raw.data.shards;
    let shards = shards.map(|shards| faults.count("data.shards", Some(shards), None, SHARDS_MAX));
    local_unused(faults, &raw.local);
    let parameters = u64::try_from(parameters?).ok()?;
    Some(Work {
        task: Task::Synthetic(Synthetic { parameters, update: update?, buffers }),
        model: Model { arch: SYNTHETIC.to_owned(), hidden: Vec::new(), init: None },
        data: Data {
            name: SYNTHETIC.parse().ok()?,
            hosted: None,
            target: String::new(),
            features: Some(Vec::new()),
            classes: Some(Vec::new()),
            holdout: Holdout::None,
            partition: Partition::Iid,
            shards,
        },
        local: Local {
            mode: Mode::Train,
            optimizer: Optimizer::GradientDescent { lr: 1.0 },
            epochs: 1,
            batch: 32,
        },
    })
}

/// Every shard has a place in a one-hot update.
pub(super) fn fits(faults: &mut Faults, work: &Work, rounds: &Rounds) {
    let Task::Synthetic(Synthetic { parameters, update: SyntheticUpdate::OneHot, .. }) = work.task else {
        return;
    };
    let (key, shards) = match work.data.shards {
        Some(shards) => ("data.shards", shards),
        None => ("rounds.cohort.select", rounds.cohort_select),
    };
    if parameters < u64::from(shards) {
        let reason =
            format!("must be at least {key} = {shards} with update \"one-hot\": shard i sets parameter i");
        faults.broken("model.parameters", parameters, reason);
    }
}

fn model_unused(faults: &mut Faults, raw: &raw::Model) {
    let why = "with task \"synthetic\", whose model is so many parameters that start at zero";
    for (key, set) in [
        ("model.arch", raw.arch.is_some()),
        ("model.hidden", raw.hidden.is_some()),
        ("model.init", raw.init.is_some()),
    ] {
        faults.unused(key, set, why);
    }
}

fn data_unused(faults: &mut Faults, raw: &raw::Data) {
    let why = "with task \"synthetic\", which has no data";
    for (key, set) in [
        ("data.name", raw.name.is_some()),
        ("data.hosted", raw.hosted.is_some()),
        ("data.target", raw.target.is_some()),
        ("data.features", raw.features.is_some()),
        ("data.classes", raw.classes.is_some()),
        ("data.holdout", raw.holdout.is_some()),
        ("data.partition", raw.partition.is_some()),
    ] {
        faults.unused(key, set, why);
    }
}

fn local_unused(faults: &mut Faults, raw: &raw::Local) {
    let why = "with task \"synthetic\": workers answer without training";
    for (key, set) in [
        ("local.mode", raw.mode.is_some()),
        ("local.optimizer", raw.optimizer.is_some()),
        ("local.lr", raw.lr.is_some()),
        ("local.momentum", raw.momentum.is_some()),
        ("local.beta1", raw.beta1.is_some()),
        ("local.beta2", raw.beta2.is_some()),
        ("local.eps", raw.eps.is_some()),
        ("local.epochs", raw.epochs.is_some()),
        ("local.batch", raw.batch.is_some()),
    ] {
        faults.unused(key, set, why);
    }
}
