//! Gradient mode with a plain Adam on the server's side reproduces a training by PyTorch.
#![cfg(feature = "torch")]
// The lint exempts `#[test]` functions only, and their helpers live in this file too.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use model::{
    Device, DeviceChoice, Flow, LocalSpec, Mode, ModelSpec, Optimizer, Predictor, measure, open_device, train,
};
use params::{Examples, Params};
use serde_json::Value;

const TOLERANCE: f64 = 1e-5;

struct Golden {
    expected: Value,
    rows: Vec<([f32; 4], u32)>,
}

impl Golden {
    fn read() -> Self {
        open_device(DeviceChoice::Cpu, 1).unwrap();
        let expected = serde_json::from_slice(&read("expected.json")).unwrap();
        let csv = String::from_utf8(read("iris.csv")).unwrap();
        let rows = csv.lines().skip(1).map(parse_row).collect();
        Self { expected, rows }
    }

    /// The features and labels of the rows that `expected.json` names.
    fn table(&self, key: &str) -> (Vec<f32>, Vec<u32>) {
        let rows = self.expected[key].as_array().unwrap();
        let rows: Vec<_> = rows.iter().map(|row| self.rows[row.as_u64().unwrap() as usize]).collect();
        (rows.iter().flat_map(|row| row.0).collect(), rows.iter().map(|row| row.1).collect())
    }
}

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/iris").join(name);
    fs::read(path).unwrap()
}

fn parse_row(line: &str) -> ([f32; 4], u32) {
    let (features, species) = line.rsplit_once(',').unwrap();
    let features: Vec<f32> = features.split(',').map(|cell| cell.parse().unwrap()).collect();
    let label = ["setosa", "versicolor", "virginica"].iter().position(|name| *name == species).unwrap();
    (features.try_into().unwrap(), label as u32)
}

fn weights(name: &str) -> Params {
    Params::from_safetensors(&read(name)).unwrap()
}

fn spec() -> ModelSpec {
    ModelSpec { arch: "mlp".into(), inputs: 4, hidden: vec![128], outputs: 3 }
}

/// Kingma and Ba 2015, algorithm 1, in f64.
struct Adam {
    taken: i32,
    moments: Vec<[f64; 2]>,
}

impl Adam {
    fn step(&mut self, weights: &mut Params, gradient: &[f64]) {
        self.taken += 1;
        let correct = |moment: f64, beta: f64| moment / (1.0 - beta.powi(self.taken));
        for ((w, g), [m, v]) in weights.values_mut().iter_mut().zip(gradient).zip(&mut self.moments) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *w = (f64::from(*w) - 1e-3 * correct(*m, 0.9) / (correct(*v, 0.999).sqrt() + 1e-8)) as f32;
        }
    }
}

/// The gradient and loss of all rows, as the example-weighted mean over shards that end at `cuts`.
fn federated_gradient(
    weights: &Params,
    (features, labels): &(Vec<f32>, Vec<u32>),
    cuts: &[usize],
) -> (Vec<f64>, f64) {
    let local = LocalSpec {
        mode: Mode::Gradient,
        optimizer: Optimizer::GradientDescent { lr: 1.0 },
        epochs: 1,
        batch: 1,
    };
    let (mut gradient, mut loss, mut start) = (vec![0.0; weights.values().len()], 0.0, 0);
    for &end in cuts {
        let shard = Examples::new(&features[start * 4..end * 4], &labels[start..end], 4).unwrap();
        let trained =
            train(&Device::Cpu, &spec(), weights, shard, &local, 0, &mut |_| Flow::Continue).unwrap();
        let share = trained.examples as f64 / labels.len() as f64;
        loss += trained.train_loss * share;
        gradient.iter_mut().zip(&trained.update).for_each(|(sum, g)| *sum += f64::from(*g) * share);
        start = end;
    }
    (gradient, loss)
}

fn reproduces_the_trajectory(cuts: &[usize]) {
    let golden = Golden::read();
    let (rows, test) = (golden.table("train"), golden.table("test"));
    let mut weights = weights("init.safetensors");
    let mut adam = Adam { taken: 0, moments: vec![[0.0; 2]; weights.values().len()] };
    let epochs = golden.expected["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 200);
    for epoch in epochs {
        let expect = |key: &str| epoch[key].as_f64().unwrap();
        let (gradient, loss) = federated_gradient(&weights, &rows, cuts);
        assert!((loss - expect("train_loss_before_step")).abs() < TOLERANCE, "{loss}, {epoch}");
        adam.step(&mut weights, &gradient);
        let test = Examples::new(&test.0, &test.1, 4).unwrap();
        let measured = measure(&Device::Cpu, &spec(), &weights, test).unwrap();
        assert!((measured.loss - expect("test_loss")).abs() < TOLERANCE, "{measured:?}, {epoch}");
        let correct = (expect("test_accuracy") * 30.0).round() as u64;
        assert_eq!((measured.correct, measured.examples), (correct, 30), "{epoch}");
    }
    let last = self::weights("final.safetensors");
    assert_eq!(weights.layout(), last.layout());
    let off = weights.values().iter().zip(last.values()).map(|(a, b)| f64::from((a - b).abs()));
    assert!(off.clone().all(|off| off < TOLERANCE), "{:?}", off.fold(0.0, f64::max));
}

#[test]
fn one_worker_reproduces_the_trajectory() {
    reproduces_the_trajectory(&[120]);
}

#[test]
fn five_unequal_shards_reproduce_the_trajectory() {
    reproduces_the_trajectory(&[1, 8, 60, 61, 120]);
}

/// The same Adam as local optimizer: full-batch epochs of one call are the whole trajectory.
#[test]
fn local_adam_reproduces_the_final_weights() {
    let golden = Golden::read();
    let (features, labels) = golden.table("train");
    let data = Examples::new(&features, &labels, 4).unwrap();
    let optimizer = Optimizer::Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    let local = LocalSpec { mode: Mode::Train, optimizer, epochs: 200, batch: 120 };
    let base = weights("init.safetensors");
    let trained = train(&Device::Cpu, &spec(), &base, data, &local, 0, &mut |_| Flow::Continue).unwrap();
    let last = weights("final.safetensors");
    for ((start, delta), end) in base.values().iter().zip(&trained.update).zip(last.values()) {
        assert!(f64::from((start + delta - end).abs()) < TOLERANCE, "{start} + {delta} != {end}");
    }
    let expected = golden.expected["epochs"][199]["train_loss_before_step"].as_f64().unwrap();
    assert!((trained.train_loss - expected).abs() < TOLERANCE, "{}", trained.train_loss);
}

#[test]
fn predictions_are_those_that_are_measured() {
    let golden = Golden::read();
    let (features, labels) = golden.table("test");
    let last = weights("final.safetensors");
    let predictor = Predictor::load(&Device::Cpu, &spec(), &last).unwrap();
    let probabilities = predictor.predict(&features, 30).unwrap();
    let loss = probabilities.chunks(3).zip(&labels).map(|(p, label)| -f64::from(p[*label as usize]).ln());
    let loss = loss.sum::<f64>() / 30.0;
    let expected = golden.expected["epochs"][199]["test_loss"].as_f64().unwrap();
    assert!((loss - expected).abs() < TOLERANCE, "{loss}");
}
