use super::*;
use crate::{init, measure};

fn spec() -> ModelSpec {
    ModelSpec { arch: "softmax".into(), inputs: 3, hidden: vec![], outputs: 4 }
}

/// Features in [-1, 1), and labels from the first `classes` classes.
fn rows(count: usize, classes: u64) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Rng::new(5, &["rows"]);
    let features = (0..count * 3).map(|_| (rng.unit() * 2.0 - 1.0) as f32).collect();
    (features, (0..count).map(|_| rng.below(classes) as u32).collect())
}

fn local(optimizer: Optimizer, epochs: u32, batch: u32) -> LocalSpec {
    LocalSpec { mode: Mode::Train, optimizer, epochs, batch }
}

fn run(local: &LocalSpec, count: usize, seed: u64) -> Result<Trained, ModelError> {
    let (features, labels) = rows(count, 4);
    let data = Examples::new(&features, &labels, 3).unwrap();
    let base = init(&spec(), 0).unwrap();
    train(&Device::Cpu, &spec(), &base, data, local, seed, &mut |_| Flow::Continue)
}

const SGD: Optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.9 };

#[test]
fn the_same_seed_gives_the_same_bits() {
    let local = local(SGD, 3, 4);
    let bits = |seed| run(&local, 10, seed).unwrap().update.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(1), bits(1));
    assert_ne!(bits(1), bits(2));
}

#[test]
fn one_epoch_of_descent_is_the_gradient_times_the_rate() {
    let step = run(&local(Optimizer::GradientDescent { lr: 0.5 }, 1, 1), 10, 0).unwrap();
    let gradient = run(&LocalSpec { mode: Mode::Gradient, ..local(SGD, 1, 1) }, 10, 0).unwrap();
    for (delta, g) in step.update.iter().zip(&gradient.update) {
        assert!((delta + 0.5 * g).abs() < 1e-7, "{delta} {g}");
    }
    assert_eq!((step.train_loss, step.examples), (gradient.train_loss, 10));
    assert_eq!(step.train_loss, 4f64.ln());
}

#[test]
fn progress_counts_all_batches_and_the_short_one() {
    let (features, labels) = rows(10, 4);
    let data = Examples::new(&features, &labels, 3).unwrap();
    let base = init(&spec(), 0).unwrap();
    let mut seen = Vec::new();
    let mut watch = |percent| {
        seen.push(percent);
        Flow::Continue
    };
    train(&Device::Cpu, &spec(), &base, data, &local(SGD, 2, 4), 0, &mut watch).unwrap();
    assert_eq!(seen, [16, 33, 50, 66, 83, 100]);
}

#[test]
fn stops_when_it_is_told() {
    let (features, labels) = rows(10, 4);
    let data = Examples::new(&features, &labels, 3).unwrap();
    let base = init(&spec(), 0).unwrap();
    let mut calls = 0;
    let mut watch = |percent| {
        calls += 1;
        if percent >= 50 { Flow::Stop } else { Flow::Continue }
    };
    let error = train(&Device::Cpu, &spec(), &base, data, &local(SGD, 2, 4), 0, &mut watch).unwrap_err();
    assert!(matches!(error, ModelError::Stopped), "{error}");
    assert_eq!(calls, 3);
}

#[test]
fn large_batches_go_in_slices() {
    let count = ROWS_MAX + 3;
    let (features, labels) = rows(count, 4);
    let data = Examples::new(&features, &labels, 3).unwrap();
    let base = init(&spec(), 0).unwrap();
    let mut calls = 0;
    let mut watch = |_| {
        calls += 1;
        Flow::Continue
    };
    let gradient = LocalSpec { mode: Mode::Gradient, ..local(SGD, 1, 1) };
    let whole = train(&Device::Cpu, &spec(), &base, data, &gradient, 0, &mut watch).unwrap();
    // The weighted mean of the gradients of two parts is the gradient of all rows.
    let part = |from: usize, to: usize| {
        let data = Examples::new(&features[from * 3..to * 3], &labels[from..to], 3).unwrap();
        train(&Device::Cpu, &spec(), &base, data, &gradient, 0, &mut |_| Flow::Continue).unwrap().update
    };
    let (a, b) = (part(0, 1000), part(1000, count));
    for ((whole, a), b) in whole.update.iter().zip(a).zip(b) {
        let mean = (f64::from(a) * 1000.0 + f64::from(b) * (count - 1000) as f64) / count as f64;
        assert!((f64::from(*whole) - mean).abs() < 1e-7);
    }
    assert_eq!(calls, 2);
    assert_eq!(measure(&Device::Cpu, &spec(), &base, data).unwrap().examples, count as u64);
}

#[test]
fn learns_with_a_class_absent_and_batches_of_one() {
    // Class 3 never occurs; the class is the largest feature.
    let (features, _) = rows(60, 4);
    let labels: Vec<u32> = features
        .chunks(3)
        .map(|row| (0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32)
        .collect();
    let data = Examples::new(&features, &labels, 3).unwrap();
    let mut params = init(&spec(), 0).unwrap();
    let adam = Optimizer::Adam { lr: 0.05, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    let trained =
        train(&Device::Cpu, &spec(), &params, data, &local(adam, 30, 1), 0, &mut |_| Flow::Continue).unwrap();
    params.values_mut().iter_mut().zip(&trained.update).for_each(|(w, d)| *w += d);
    let measured = measure(&Device::Cpu, &spec(), &params, data).unwrap();
    assert!(measured.correct >= 57 && measured.loss < 0.3, "{measured:?}");
    // A batch that holds more than all rows is all rows.
    let (all, more) =
        (run(&local(SGD, 2, 10), 10, 3).unwrap(), run(&local(SGD, 2, u32::MAX), 10, 4).unwrap());
    assert_eq!(all, more);
}

#[test]
fn a_divergence_names_its_place_and_the_rate() {
    let error = run(&local(Optimizer::Sgd { lr: 1e38, momentum: 0.9 }, 9, 5), 10, 0).unwrap_err();
    let ModelError::Diverged { epoch, batch, loss, lr } = &error else { panic!("{error}") };
    assert!(!loss.is_finite() && *lr == 1e38 && (1..=9).contains(epoch) && (1..=2).contains(batch));
    let text = error.to_string();
    assert!(
        text.contains(&format!("epoch {epoch}, batch {batch}")) && text.contains("lower than 1e38"),
        "{text}"
    );
}

#[test]
fn an_overflow_in_the_last_step_is_seen() {
    let error = run(&local(Optimizer::GradientDescent { lr: f64::MAX }, 1, 1), 10, 0).unwrap_err();
    assert!(matches!(error, ModelError::Diverged { epoch: 1, batch: 1, .. }), "{error}");
}
