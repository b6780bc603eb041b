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
fn buffers_are_those_of_a_normalisation_layer() {
    let spec = ModelSpec::synthetic_with_buffers(5);
    assert!(spec.is_synthetic());
    let layout = layout(&spec).unwrap();
    let tensors: Vec<_> = layout.tensors().iter().map(|t| (t.name.as_str(), &t.shape[..], t.dtype)).collect();
    let (floats, integers) = (params::Dtype::F32, params::Dtype::I64);
    let expected: [(&str, &[usize], _); 4] = [
        ("norm.num_batches_tracked", &[], integers),
        ("norm.running_mean", &[8], floats),
        ("norm.running_var", &[8], floats),
        ("parameters", &[5], floats),
    ];
    assert_eq!(tensors, expected);
    let params = init(&spec, 7).unwrap();
    assert_eq!(params.values(), [&[0.0; 8][..], &[1.0; 8], &[0.0; 5]].concat());
    assert_eq!(params.integers(), [0]);
    let error = Predictor::load(&Device::Cpu, &spec, &params).unwrap_err();
    assert_eq!(error.to_string(), "a synthetic model predicts nothing");
}

#[test]
fn updates_of_buffers_fill_the_layout_and_leave_the_parameters_as_they_were() {
    for kind in [SyntheticUpdate::Random, SyntheticUpdate::OneHot] {
        let (values, integers) = synthetic_update_with_buffers(kind, 2000, 7, 3);
        let layout = layout(&ModelSpec::synthetic_with_buffers(2000)).unwrap();
        let (mean, rest) = values.split_at(8);
        let (var, parameters) = rest.split_at(8);
        assert_eq!(parameters, synthetic_update(kind, 2000, 7, 3));
        assert_eq!(integers, [4]);
        assert!(var.iter().all(|growth| (0.0..=0.015625).contains(growth)), "{var:?}");
        assert!(mean.iter().any(|move_by| *move_by < 0.0), "{mean:?}");
        let (other, batches) = synthetic_update_with_buffers(kind, 2000, 7, 0);
        assert!(other[..8] != *mean && other[8..16] != *var && batches == [1]);
        params::Params::with_integers(layout, values, integers).unwrap();
    }
    let golden = synthetic_update_with_buffers(SyntheticUpdate::OneHot, 1, 7, 3).0;
    let steps = |at: usize| (golden[at] * 2f32.powi(29)) as i32;
    assert_eq!([0, 7, 8, 15].map(steps), GOLDEN_BUFFERS);
}

/// As [`GOLDEN_STEPS`]: do not update them, find the cause.
const GOLDEN_BUFFERS: [i32; 4] = [5025344, 814765, 8258694, 6289344];

#[test]
fn refuses_sizes_that_a_synthetic_model_cannot_have() {
    let message = |spec: &ModelSpec| layout(spec).unwrap_err().to_string();
    let zero = "the number of parameters is 0, at least 1 is needed";
    assert_eq!(message(&ModelSpec::synthetic(0)), zero);
    assert_eq!(message(&ModelSpec::synthetic_with_buffers(0)), zero);
    let elements = (1 << 30) + 1;
    let large = format!("the model has {elements} weights, at most 1073741824 are allowed");
    assert_eq!(message(&ModelSpec::synthetic(elements)), large);
    assert!(layout(&ModelSpec::synthetic(1 << 30)).is_ok());
    let spec = ModelSpec { inputs: 4, hidden: vec![2, 3], ..ModelSpec::synthetic(1) };
    let with_buffers = ModelSpec { inputs: 4, ..ModelSpec::synthetic_with_buffers(2) };
    assert!(matches!(layout(&with_buffers), Err(ModelError::NotSynthetic { .. })));
    let other = "a synthetic model has no inputs and no outputs, and the number of its parameters as hidden = [n], or \
                 [n, 8] with buffers, \
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
