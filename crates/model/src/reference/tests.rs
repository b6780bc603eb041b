use params::{Examples, Params, Rng};
use proptest::prelude::*;

use super::{Linear, optim::Steps};
use crate::{ModelSpec, Optimizer, layout, loss::cross_entropy, network::Network};

fn spec() -> ModelSpec {
    ModelSpec { arch: "softmax".into(), inputs: 3, hidden: vec![], outputs: 4 }
}

fn random(seed: u64) -> Params {
    let mut params = Params::zeros(layout(&spec()).unwrap());
    let mut rng = Rng::new(seed, &["weights"]);
    params.values_mut().iter_mut().for_each(|w| *w = (rng.unit() * 2.0 - 1.0) as f32);
    params
}

#[test]
fn logits_are_weight_times_x_plus_bias() {
    let mut params = Params::zeros(layout(&spec()).unwrap());
    params.values_mut()[..4].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    params.values_mut()[4..7].copy_from_slice(&[10.0, 20.0, 30.0]);
    let logits = Linear::new(&spec(), &params).logits(&[1.0, 0.5, -1.0, 0.0, 0.0, 0.0], 2).unwrap();
    assert_eq!(logits, [1.0 + 10.0 + 10.0 - 30.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Central differences of the loss agree with the gradient in each coordinate.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss(seed in any::<u64>()) {
        let params = random(seed);
        let mut rng = Rng::new(seed, &["rows"]);
        let features: Vec<f32> = (0..15).map(|_| (rng.unit() * 4.0 - 2.0) as f32).collect();
        let labels: Vec<u32> = (0..5).map(|_| rng.below(4) as u32).collect();
        let data = Examples::new(&features, &labels, 3).unwrap();
        let unused = Optimizer::GradientDescent { lr: 1.0 };
        let mut learner = Linear::new(&spec(), &params).learner(data, unused).unwrap();
        let loss = learner.gather(0..5).unwrap() / 5.0;
        prop_assert!((loss - loss_of(&params, data)).abs() < 1e-6);
        let gradient = learner.take_gradient(5).unwrap();
        for (index, g) in gradient.iter().enumerate() {
            let shifted = |by: f32| {
                let mut params = params.clone();
                params.values_mut()[index] += by;
                (loss_of(&params, data), f64::from(params.values()[index]))
            };
            let ((up, right), (down, left)) = (shifted(1e-2), shifted(-1e-2));
            let slope = (up - down) / (right - left);
            prop_assert!((slope - f64::from(*g)).abs() < 2e-4, "{index}: {slope} {g}");
        }
        prop_assert_eq!(learner.take_gradient(5).unwrap(), vec![0.0; 16]);
    }
}

fn loss_of(params: &Params, data: Examples<'_>) -> f64 {
    let logits = Linear::new(&spec(), params).logits(data.features(), data.rows()).unwrap();
    let rows = logits.chunks(4).zip(data.labels());
    rows.map(|(row, label)| cross_entropy(row, *label as usize)).sum::<f64>() / data.rows() as f64
}

/// The weight 1 after each of two steps with gradients 2 and -1.
fn two_steps(optimizer: Optimizer) -> [f32; 2] {
    let (mut steps, mut weights) = (Steps::new(optimizer), [1.0]);
    [2.0, -1.0].map(|gradient| {
        steps.step(&mut weights, &[gradient]);
        weights[0]
    })
}

#[test]
fn steps_are_those_computed_by_hand() {
    assert_eq!(two_steps(Optimizer::GradientDescent { lr: 0.25 }), [0.5, 0.75]);
    assert_eq!(two_steps(Optimizer::Sgd { lr: 0.25, momentum: 0.0 }), [0.5, 0.75]);
    // v = 2, then 0.5 * 2 - 1 = 0.
    assert_eq!(two_steps(Optimizer::Sgd { lr: 0.25, momentum: 0.5 }), [0.5, 0.5]);
    // Step 1: m/c = 2, v/c = 4: 1 - 0.1. Step 2: m = 0.5*1 - 0.5 = 0: no change.
    let adam = Optimizer::Adam { lr: 0.1, beta1: 0.5, beta2: 0.75, eps: 1e-12 };
    assert_eq!(two_steps(adam), [0.9, 0.9]);
    // Step 2: m = 0.25*1.5 - 0.75 = -0.375, /(1-1/16) = -0.4; v = 0.75*1 + 0.25 = 1, /(1-9/16) = 16/7.
    let adam = Optimizer::Adam { lr: 0.1, beta1: 0.25, beta2: 0.75, eps: 1e-12 };
    let expected = 0.9 + 0.1 * 0.4 / (16.0f64 / 7.0).sqrt();
    let [first, second] = two_steps(adam);
    assert!((first - 0.9).abs() < 1e-6 && (f64::from(second) - expected).abs() < 1e-6, "{second} {expected}");
}
