use std::ops::Bound::{Excluded, Included};

use super::{PATH_BYTES_MAX, Work};
use crate::{
    Evaluate, Holdout, Metric, Task,
    faults::{Faults, Floats, quoted},
    raw,
};

const PATIENCE_MAX: u32 = 1_000_000;
const MIN_DELTA: Floats = (Included(0.0), Excluded(f64::INFINITY));

/// The table `[evaluate]`. `work` is not there when it has faults: then nobody knows what could be
/// measured.
pub(super) fn evaluate(faults: &mut Faults, raw: &raw::Job, work: Option<&Work>) -> Option<Evaluate> {
    let table = &raw.evaluate;
    let known = [Metric::TestLoss, Metric::TestAccuracy, Metric::TrainLoss].map(|m| (m.word(), m));
    let hosted = hosted(faults, raw, work);
    let measured = work.map(|work| hosted || work.data.holdout != Holdout::None);
    let default = if measured == Some(true) { Metric::TestLoss } else { Metric::TrainLoss };
    let metric = faults.choice("evaluate.metric", table.metric.as_deref(), Some(default), &known);
    if let (Some(metric), Some(work), Some(false)) = (metric, work, measured)
        && metric.needs_holdout()
    {
        faults.broken("evaluate.metric", quoted(metric.word()), unmeasured(work));
    }
    let patience = table.patience;
    let patience = patience.map(|n| faults.count("evaluate.patience", Some(n), None, PATIENCE_MAX));
    let min_delta = faults.float("evaluate.min_delta", table.min_delta, Some(0.0), MIN_DELTA);
    Some(Evaluate { metric: metric?, patience, min_delta, hosted: table.hosted.clone() })
}

/// Whether the coordinator has a table of its own to measure on.
fn hosted(faults: &mut Faults, raw: &raw::Job, work: Option<&Work>) -> bool {
    const KEY: &str = "evaluate.hosted";
    let Some(path) = &raw.evaluate.hosted else { return false };
    match work.map(|work| work.task) {
        Some(Task::Synthetic(_)) => {
            faults.unused(KEY, true, "with task \"synthetic\", whose model predicts nothing");
            return false;
        }
        _ if raw.data.hosted.is_some() => {
            let why = "with data.hosted: the coordinator measures on the rows of data.holdout";
            faults.unused(KEY, true, why);
        }
        _ => faults.path(KEY, path, PATH_BYTES_MAX),
    }
    true
}

/// Why there is nothing to measure on, and what to do.
fn unmeasured(work: &Work) -> &'static str {
    match (work.task, &work.data.hosted) {
        (Task::Synthetic(_), _) => "a synthetic model predicts nothing, use \"train_loss\"",
        (Task::Classification, Some(_)) => {
            "no rows are held out to measure it on: set data.holdout, or use \"train_loss\""
        }
        (Task::Classification, None) => {
            "no rows are held out to measure it on: set data.holdout or evaluate.hosted, or use \"train_loss\""
        }
    }
}
