use std::sync::Arc;

use params::{Examples, Params, Rng};
use tch::Tensor;

use super::{
    optim::Steps,
    upload::{download, first_line},
};
use crate::{
    Device, Flow, LocalSpec, Mode, ModelError, ModelSpec, Optimizer, Predictor, Trained, init, layout,
    measure, network::ROWS_MAX, train,
};

const ADAM: Optimizer = Optimizer::Adam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 };

fn spec(arch: &str, hidden: &[usize]) -> ModelSpec {
    ModelSpec { arch: arch.into(), inputs: 3, hidden: hidden.to_vec(), outputs: 4 }
}

fn rows(count: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Rng::new(5, &["rows"]);
    let features = (0..count * 3).map(|_| (rng.unit() * 2.0 - 1.0) as f32).collect();
    (features, (0..count).map(|_| rng.below(4) as u32).collect())
}

fn fit(spec: &ModelSpec, base: &Params, local: &LocalSpec, count: usize) -> Result<Trained, ModelError> {
    let (features, labels) = rows(count);
    let data = Examples::new(&features, &labels, 3).unwrap();
    train(&Device::Cpu, spec, base, data, local, 11, &mut |_| Flow::Continue)
}

/// The same weights under the keys of `mlp` without hidden layers and of `softmax`: both sort the bias
/// first.
fn twins() -> [(ModelSpec, Params); 2] {
    let mlp = spec("mlp", &[]);
    let softmax = spec("softmax", &[]);
    let weights = init(&mlp, 3).unwrap();
    let same = Params::new(layout(&softmax).unwrap(), weights.values().to_vec()).unwrap();
    [(mlp, weights), (softmax, same)]
}

#[test]
fn agrees_with_the_reference() {
    let optimizers = [
        Optimizer::GradientDescent { lr: 0.3 },
        Optimizer::Sgd { lr: 0.05, momentum: 0.0 },
        Optimizer::Sgd { lr: 0.05, momentum: 0.9 },
        ADAM,
    ];
    let [torch, reference] = twins();
    for (optimizer, mode) in
        optimizers.into_iter().flat_map(|optimizer| [(optimizer, Mode::Train), (optimizer, Mode::Gradient)])
    {
        let local = LocalSpec { mode, optimizer, epochs: 5, batch: 8 };
        let [a, b] = [&torch, &reference].map(|(spec, base)| fit(spec, base, &local, 50).unwrap());
        for (a, b) in a.update.iter().zip(&b.update) {
            assert!((a - b).abs() < 1e-6, "{local:?}: {a} {b}");
        }
        assert!((a.train_loss - b.train_loss).abs() < 1e-6, "{local:?}");
        assert_eq!(a.examples, b.examples);
    }
}

#[test]
fn measures_and_predicts_as_the_reference() {
    let (features, labels) = rows(ROWS_MAX + 5);
    let data = Examples::new(&features, &labels, 3).unwrap();
    let [a, b] = twins().map(|(spec, params)| {
        let measured = measure(&Device::Cpu, &spec, &params, data).unwrap();
        let predictor = Predictor::load(&Device::Cpu, &spec, &params).unwrap();
        (measured, predictor.predict(&features, ROWS_MAX + 5).unwrap())
    });
    assert!((a.0.loss - b.0.loss).abs() < 1e-6 && a.0.examples == b.0.examples);
    assert!(a.0.correct.abs_diff(b.0.correct) <= 1, "{:?} {:?}", a.0, b.0);
    assert!(a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let spec = spec("mlp", &[16, 8]);
    let base = init(&spec, 1).unwrap();
    let local = LocalSpec { mode: Mode::Train, optimizer: ADAM, epochs: 3, batch: 7 };
    let bits =
        || fit(&spec, &base, &local, 50).unwrap().update.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(), bits());
}

#[test]
fn hidden_layers_apply_relu() {
    // One hidden unit: h = relu(x0 - 1), logits = [h, 0, 0, 0].
    let spec = spec("mlp", &[1]);
    let mut params = Params::zeros(layout(&spec).unwrap());
    let places: Vec<_> = params.layout().ranges().map(|(t, range)| (t.name.clone(), range.start)).collect();
    for (name, value) in [("fc1.bias", -1.0), ("fc1.weight", 1.0), ("fc2.weight", 1.0)] {
        let start = places.iter().find(|place| place.0 == name).unwrap().1;
        params.values_mut()[start] = value;
    }
    let predictor = Predictor::load(&Device::Cpu, &spec, &params).unwrap();
    let got = predictor.predict(&[0.5, 9.0, 9.0, 1.0 + 3f32.ln(), 9.0, 9.0], 2).unwrap();
    let expected = [0.25, 0.25, 0.25, 0.25, 0.5, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0];
    assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{got:?}");
}

#[test]
fn many_layers_keep_their_order() {
    // With twelve layers the layout sorts fc10 before fc2.
    let spec = spec("mlp", &[5; 11]);
    let base = init(&spec, 1).unwrap();
    let local = LocalSpec { mode: Mode::Gradient, optimizer: ADAM, epochs: 1, batch: 1 };
    let trained = fit(&spec, &base, &local, 20).unwrap();
    // The gradient by the last bias is the mean of `p - one_hot`: it sums to 0 and is not all 0.
    let gradient = Params::new(base.layout().clone(), trained.update).unwrap();
    let last = gradient.tensor("fc12.bias").unwrap();
    assert!(last.iter().sum::<f32>().abs() < 1e-6 && last.iter().any(|g| g.abs() > 1e-3), "{last:?}");
}

#[test]
fn batches_of_one_row_and_one_row_in_all() {
    let spec = spec("mlp", &[4]);
    let base = init(&spec, 1).unwrap();
    let local = LocalSpec { mode: Mode::Train, optimizer: ADAM, epochs: 2, batch: 1 };
    for count in [1, 3] {
        let trained = fit(&spec, &base, &local, count).unwrap();
        assert_eq!(trained.examples, count as u64);
        assert!(trained.update.iter().any(|delta| *delta != 0.0));
    }
}

#[test]
fn divergence_is_an_error() {
    let spec = spec("mlp", &[16]);
    let base = init(&spec, 1).unwrap();
    let optimizer = Optimizer::Sgd { lr: 1e30, momentum: 0.9 };
    let local = LocalSpec { mode: Mode::Train, optimizer, epochs: 5, batch: 5 };
    let error = fit(&spec, &base, &local, 50).unwrap_err();
    assert!(matches!(error, ModelError::Diverged { epoch: 1, .. }), "{error}");
}

#[test]
fn a_predictor_answers_many_threads_at_once() {
    let spec = spec("mlp", &[16]);
    let predictor = Arc::new(Predictor::load(&Device::Cpu, &spec, &init(&spec, 1).unwrap()).unwrap());
    let (features, _) = rows(20);
    let expected = predictor.predict(&features, 20).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (predictor, features) = (predictor.clone(), features.clone());
            std::thread::spawn(move || {
                (0..20).map(|_| predictor.predict(&features, 20).unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap().iter().all(|got| got == &expected));
    }
}

#[test]
fn a_device_that_is_absent_is_an_error() {
    let spec = spec("mlp", &[16]);
    let error = Predictor::load(&Device::Cuda(127), &spec, &init(&spec, 1).unwrap()).unwrap_err();
    assert!(matches!(error, ModelError::Torch { action: "upload weights", .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
}

/// The weight 1 after each of two steps with gradients 2 and -1: the figures of the reference's tests.
fn two_steps(optimizer: Optimizer) -> [f32; 2] {
    let mut weights = [Tensor::f_from_slice(&[1f32]).unwrap().f_set_requires_grad(true).unwrap()];
    let mut steps = Steps::new(optimizer);
    [2f32, -1.0].map(|gradient| {
        steps.step(&mut weights, vec![Tensor::f_from_slice(&[gradient]).unwrap()]).unwrap();
        download(&weights[0]).unwrap()[0]
    })
}

#[test]
fn steps_are_those_computed_by_hand() {
    assert_eq!(two_steps(Optimizer::GradientDescent { lr: 0.25 }), [0.5, 0.75]);
    assert_eq!(two_steps(Optimizer::Sgd { lr: 0.25, momentum: 0.0 }), [0.5, 0.75]);
    assert_eq!(two_steps(Optimizer::Sgd { lr: 0.25, momentum: 0.5 }), [0.5, 0.5]);
    let adam = |beta1| two_steps(Optimizer::Adam { lr: 0.1, beta1, beta2: 0.75, eps: 1e-12 });
    let close = |got: [f32; 2], expected: [f64; 2]| {
        got.iter().zip(expected).all(|(got, expected)| (f64::from(*got) - expected).abs() < 1e-6)
    };
    assert!(close(adam(0.5), [0.9, 0.9]));
    assert!(close(adam(0.25), [0.9, 0.9 + 0.1 * 0.4 / (16.0f64 / 7.0).sqrt()]));
}

#[test]
fn messages_have_one_line() {
    assert_eq!(first_line("Internal torch error: out of memory\nframe #0: ..."), "out of memory");
}
