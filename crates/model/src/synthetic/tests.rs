use proptest::prelude::*;

use super::*;
use crate::{Device, ModelError, ModelSpec, Predictor, init, layout, measure};

#[test]
fn random_updates_stay_the_same_across_releases() {
    // A change here changes the bits of every synthetic run: do not update the figures, find the cause.
    let update = synthetic_update(SyntheticUpdate::Random, 5000, 7, 3);
    let steps = |at: usize| (update[at] * 2f32.powi(29)) as i32;
    assert_eq!([0, 1, 2, 3, 1023, 1024, 4999].map(steps), GOLDEN_STEPS);
    let bytes: Vec<u8> = update.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(params::Digest::of(&bytes).to_string(), GOLDEN_DIGEST);
}

const GOLDEN_STEPS: [i32; 7] = [-1457229, -6549264, -7870776, -733303, -8160266, -2853580, -8117424];
const GOLDEN_DIGEST: &str = "e3f118e07d8d953c0cc569dfc2e3ae89422685a73a71ac52708b38599ba3a98e";

#[test]
fn random_numbers_are_uniform_and_exact() {
    let (low, high) = (number(i32::MIN), number(i32::MAX));
    assert_eq!((low, high), (-0.015625, 0.015625 - 2f32.powi(-29)));
    assert_eq!(
        [number(-1), number(0), number(255), number(256)],
        [-(2f32.powi(-29)), 0.0, 0.0, 2f32.powi(-29)]
    );
    let update = synthetic_update(SyntheticUpdate::Random, 100_000, 1, 0);
    let mean = update.iter().map(|v| f64::from(*v) * 64.0).sum::<f64>() / 1e5;
    let second = update.iter().map(|v| (f64::from(*v) * 64.0).powi(2)).sum::<f64>() / 1e5;
    // U(-1, 1) has mean 0 and second moment 1/3; five standard deviations of these means.
    assert!(mean.abs() < 0.0092 && (second - 1.0 / 3.0).abs() < 0.0048, "{mean} {second}");
}

#[test]
fn one_hot_updates_tell_whose_they_are() {
    assert_eq!(synthetic_update(SyntheticUpdate::OneHot, 3, 9, 1), [0.0, 1.0, 0.0]);
    assert_eq!(synthetic_update(SyntheticUpdate::OneHot, 3, 9, 3), [0.0; 3]);
    assert!(synthetic_update(SyntheticUpdate::OneHot, 0, 9, 0).is_empty());
}

#[test]
fn a_synthetic_model_has_weights_and_computes_nothing() {
    let spec = ModelSpec::synthetic(5);
    let layout = layout(&spec).unwrap();
    let tensors: Vec<_> = layout.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..])).collect();
    assert_eq!(tensors, [("parameters", &[5][..])]);
    let params = init(&spec, 7).unwrap();
    assert_eq!(params.values(), [0.0; 5]);
    let error = Predictor::load(&Device::Cpu, &spec, &params).unwrap_err();
    assert_eq!(error.to_string(), "a synthetic model predicts nothing");
    let data = params::Examples::new(&[1.0], &[0], 1).unwrap();
    assert!(matches!(measure(&Device::Cpu, &spec, &params, data), Err(ModelError::Synthetic)));
}

#[test]
fn refuses_sizes_that_a_synthetic_model_cannot_have() {
    let message = |spec: &ModelSpec| layout(spec).unwrap_err().to_string();
    let zero = "the number of parameters is 0, at least 1 is needed";
    assert_eq!(message(&ModelSpec::synthetic(0)), zero);
    let elements = (1 << 30) + 1;
    let large = format!("the model has {elements} weights, at most 1073741824 are allowed");
    assert_eq!(message(&ModelSpec::synthetic(elements)), large);
    assert!(layout(&ModelSpec::synthetic(1 << 30)).is_ok());
    let spec = ModelSpec { inputs: 4, hidden: vec![2, 3], ..ModelSpec::synthetic(1) };
    let other = "a synthetic model has no inputs and no outputs, and the number of its parameters as hidden = [n], \
                 not inputs = 4, hidden = [2, 3], outputs = 0";
    assert_eq!(message(&spec), other);
}

proptest! {
    #[test]
    fn shorter_updates_are_beginnings_of_longer_ones(count in 0usize..3000, more in 0usize..3000, seed: u64, part: u32) {
        let short = synthetic_update(SyntheticUpdate::Random, count, seed, part);
        let long = synthetic_update(SyntheticUpdate::Random, count + more, seed, part);
        prop_assert_eq!(&short[..], &long[..count]);
        prop_assert!(long.iter().all(|value| (-0.015625..0.015625).contains(value)));
        let other = synthetic_update(SyntheticUpdate::Random, count, seed, part ^ 1);
        prop_assert!(count < 4 || short != other);
    }
}
