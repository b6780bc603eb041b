//! Files, names and stored states.

use aggregate::{ServerOptimizer, ServerSpec, build};
use data::Limits;
use job::{Job, JobError};
use params::{Digest, Name, Params};

/// A job file: what is accepted keeps its bounds and means the same with a comment behind it.
pub(crate) fn job_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Job::parse(&text) {
        Ok(job) => {
            let rounds = &job.rounds;
            assert!((1..=1_000_000).contains(&rounds.count));
            assert!(1 <= rounds.cohort_min && rounds.cohort_min <= rounds.cohort_max);
            assert!(rounds.cohort_max <= rounds.cohort_select && rounds.cohort_select <= 100_000);
            assert!(rounds.attempts >= 1 && !rounds.deadline.is_zero());
            assert!(job.evaluate.min_delta >= 0.0 && job.evaluate.min_delta.is_finite());
            assert!(job.evaluate.patience.is_none_or(|rounds| (1..=1_000_000).contains(&rounds)));
            assert!((1..=10_000).contains(&job.local.epochs) && job.local.batch >= 1);
            assert!(job.aggregate.coordinate_max > 0.0 && job.aggregate.coordinate_max <= 1e6);
            assert!(job.aggregate.reduction.updates_min() <= rounds.cohort_min);
            assert!(job.aggregate.norm_max.is_none_or(|norm| norm > 0.0 && norm.is_finite()));
            assert!(job.aggregate.tensors.len() <= 256);
            assert!(job.aggregate.tensors.iter().all(|rule| (1..=256).contains(&rule.pattern.len())));
            assert!(job.model.hidden.len() <= 16 && job.attachments().len() <= 2);
            assert_eq!(Job::parse(&format!("{text}\n# end\n")).unwrap(), job);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty());
            if let JobError::Syntax { line, column, .. } = error {
                assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1, "{message}");
            }
        }
    }
}

/// A table: what is read can be written and is read back, cell by cell.
pub(crate) fn csv(bytes: &[u8]) {
    let read = |bytes: &[u8]| data::read_csv("t.csv", bytes, &Limits::default());
    match read(bytes) {
        Ok(table) => {
            assert!(table.rows() >= 1 && !table.columns().is_empty());
            let again = read(&table.to_csv()).unwrap();
            assert_eq!(again.columns(), table.columns());
            assert_eq!(again.rows(), table.rows());
            for row in 0..table.rows() {
                assert!(again.row(row).eq(table.row(row)), "row {row}");
            }
            labelled(&table);
        }
        Err(error) => assert!(error.to_string().starts_with("t.csv"), "{error}"),
    }
}

/// Numbers and labels, with the last column as the target.
fn labelled(table: &data::Table) {
    let target = table.columns().last().unwrap();
    let Ok(schema) = table.schema(target, None, None) else { return };
    if let Ok(labelled) = table.examples(&schema) {
        assert_eq!(labelled.rows(), table.rows());
        assert!(labelled.examples().features().iter().all(|value| value.is_finite()));
    }
}

/// Weights: what is read is written and read back, bit for bit.
pub(crate) fn safetensors(bytes: &[u8]) {
    match Params::from_safetensors(bytes) {
        Ok(params) => {
            assert_eq!(params.values().len(), params.layout().elements());
            assert_eq!(params.integers().len(), params.layout().integers());
            assert!(params.layout().file_bytes() <= bytes.len());
            let written = params.to_safetensors().unwrap();
            let again = Params::from_safetensors(&written).unwrap();
            assert_eq!(again.layout(), params.layout());
            assert_eq!(again.to_bytes(), params.to_bytes());
            assert_eq!(again.to_safetensors().unwrap(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A name is safe in a path, and prints as it was written.
pub(crate) fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Name>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            assert!(!text.starts_with(['.', '-', '_']) && (1..=63).contains(&text.len()));
            let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
            assert!(text.chars().all(safe));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A digest prints as 64 digits that parse to it.
pub(crate) fn digest(bytes: &[u8]) {
    assert_eq!(Digest::try_from(bytes).is_ok(), bytes.len() == 32);
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.to_string(), text.to_ascii_lowercase());
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
}

/// The state of a server optimizer, behind one byte that sizes the model. What is restored is saved as it
/// was; what is refused changes nothing.
pub(crate) fn optimizer_state(bytes: &[u8]) {
    let Some((size, state)) = bytes.split_first() else { return };
    let elements = usize::from(size % 4);
    for spec in [
        ServerSpec::Sgd { lr: 0.5 },
        ServerSpec::Momentum { lr: 1.0, momentum: 0.9 },
        ServerSpec::Nesterov { lr: 0.7, momentum: 0.9 },
        ServerSpec::Adagrad { lr: 0.1, eps: 1e-3 },
        ServerSpec::adam(0.01),
        ServerSpec::Yogi { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-3 },
    ] {
        let mut optimizer = build(&spec, elements);
        let mut values = vec![1.0f32; elements];
        step(&mut *optimizer, &mut values, 0.25);
        let before = saved(&*optimizer);
        match optimizer.restore(state) {
            Ok(()) => assert_eq!(saved(&*optimizer), state),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(saved(&*optimizer), before);
            }
        }
        // A state that was taken can be used, and then saved and taken again.
        step(&mut *optimizer, &mut values, -0.5);
        let after = saved(&*optimizer);
        assert_eq!(optimizer.restore(&after), Ok(()));
    }
}

/// One step in blocks of a single parameter.
fn step(optimizer: &mut dyn ServerOptimizer, values: &mut [f32], gradient: f32) {
    optimizer.begin();
    for (start, block) in values.chunks_mut(1).enumerate() {
        optimizer.apply(start, block, &[gradient]);
    }
}

fn saved(optimizer: &dyn ServerOptimizer) -> Vec<u8> {
    let mut bytes = Vec::new();
    optimizer.save(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, optimizer.save_len());
    bytes
}
