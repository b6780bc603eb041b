use data::Limits;
use model::{Device, Flow, Measured, ModelSpec, Trained};
use params::Params;
use proto::v1::{BlobRef, Work, WorkKind};

use super::{Assignment, prepared::Prepared, spec};

/// Four rows of each of two classes that a line separates.
pub(crate) const CSV: &str = "x,label\n-4,a\n-3,a\n-2,a\n-1,a\n1,b\n2,b\n3,b\n4,b\n";

/// A private job that needs no libtorch.
pub(crate) const JOB: &str = r#"
name = "line"
task = "classification"

[model]
arch = "softmax"

[data]
name = "t"
target = "label"
features = ["x"]
classes = ["a", "b"]
holdout = 0.5

[local]
optimizer = "gd"
lr = 0.1
epochs = 2

[rounds]
count = 2
cohort = { min = 1, max = 1 }
deadline = "60s"
seed = 7

[aggregate]
reduction = "mean"
server = { kind = "sgd", lr = 1.0 }
"#;

/// A job that needs no data at all.
pub(crate) const SYNTHETIC: &str = r#"
name = "load"
task = "synthetic"

[model]
parameters = 3

[synthetic]
update = "one-hot"

[rounds]
count = 2
cohort = { min = 1, max = 1 }
deadline = "60s"
"#;

pub(crate) fn work() -> Work {
    Work {
        run: "line-1".to_owned(),
        round: 1,
        lease: 5,
        kind: WorkKind::Train.into(),
        job: JOB.to_owned(),
        model: Some(BlobRef { digest: vec![3; 32], bytes: 100 }),
        shard: None,
        features: vec!["x".to_owned()],
        classes: vec!["a".to_owned(), "b".to_owned()],
        examples_max: 8,
        owed: Vec::new(),
        part: 0,
        base_before: Vec::new(),
        difference: None,
        deadline_ms: 60_000,
    }
}

/// A base version.
pub(crate) fn weights() -> Params {
    model::init(&network(), 7).unwrap()
}

/// The update of worker `a` for this work on [`CSV`] and [`weights`], by a call of the model crate.
pub(crate) fn expected(work: &Work) -> (Vec<u8>, f64) {
    let trained = trained(work, &weights());
    (trained.update.iter().flat_map(|v| v.to_le_bytes()).collect(), trained.train_loss)
}

/// As [`expected`], from any base.
pub(crate) fn trained(work: &Work, base: &Params) -> Trained {
    let work = Assignment::try_from(work.clone()).unwrap();
    let table = data::read_csv("t", CSV.as_bytes(), &Limits::default()).unwrap();
    let prepared = Prepared::private(&work, &table).unwrap();
    let local = spec::local(&work.job.local);
    let seed = work.seed(&"a".parse().unwrap());
    let mut go_on = |_| Flow::Continue;
    model::train(&Device::Cpu, &network(), base, prepared.train(), &local, seed, &mut go_on).unwrap()
}

/// What worker `a` finds out about `model` on its held-out rows of [`CSV`].
pub(crate) fn measured(work: &Work, model: &Params) -> Measured {
    let work = Assignment::try_from(work.clone()).unwrap();
    let table = data::read_csv("t", CSV.as_bytes(), &Limits::default()).unwrap();
    let prepared = Prepared::private(&work, &table).unwrap();
    model::measure(&Device::Cpu, &network(), model, prepared.test().unwrap()).unwrap()
}

fn network() -> ModelSpec {
    ModelSpec { arch: "softmax".to_owned(), inputs: 1, hidden: vec![], outputs: 2 }
}
