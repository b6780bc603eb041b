//! What every optimizer of the catalog promises, and helpers for the tests of each.

use proptest::prelude::*;

use super::*;
use crate::catalog::{ServerOptimizer, ServerSpec, build};

/// The deltas of three rounds, for two parameters that start at 1 and 2.
pub(super) const DELTAS: [[f64; 2]; 3] = [[0.2, -0.1], [0.1, 0.3], [-0.05, 0.2]];

/// Follows a trajectory of the reference in `f64`. `step` gives what to subtract for a gradient.
pub(super) fn follows(expected: [[f64; 2]; 3], mut step: impl FnMut([f64; 2]) -> [f64; 2]) {
    let mut x = [1.0f64, 2.0];
    for (delta, expected) in DELTAS.iter().zip(expected) {
        let step = step(delta.map(|d| -d));
        for at in 0..2 {
            x[at] -= step[at];
            assert!((x[at] - expected[at]).abs() < 1e-11, "{x:?}, expected {expected:?}");
        }
    }
}

/// TensorFlow Federated's vectors: w = 1 and a constant gradient of 2, four steps.
pub(super) fn tff(optimizer: &mut dyn ServerOptimizer, expected: [f32; 4]) {
    let mut w = [1.0f32];
    for expected in expected {
        whole(optimizer, &mut w, &[2.0]);
        assert!((w[0] - expected).abs() < 2e-7, "{w:?}, expected {expected}");
    }
}

/// A step in one block.
pub(super) fn whole(optimizer: &mut dyn ServerOptimizer, params: &mut [f32], gradient: &[f32]) {
    optimizer.begin();
    optimizer.apply(0, params, gradient);
}

/// The state as bytes, of the length that was announced.
pub(super) fn saved(optimizer: &dyn ServerOptimizer) -> Vec<u8> {
    let mut bytes = Vec::new();
    optimizer.save(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, optimizer.save_len());
    bytes
}

/// Each kind, with numbers that are no default.
fn specs() -> [ServerSpec; 7] {
    [
        ServerSpec::Sgd { lr: 0.3 },
        ServerSpec::Momentum { lr: 0.03, momentum: 0.8 },
        ServerSpec::Nesterov { lr: 0.03, momentum: 0.8 },
        ServerSpec::Adagrad { lr: 0.02, eps: 1e-4 },
        ServerSpec::Adam { lr: 0.01, beta1: 0.8, beta2: 0.97, eps: 1e-6, bias_correction: true },
        ServerSpec::Adam { lr: 0.01, beta1: 0.8, beta2: 0.97, eps: 1e-3, bias_correction: false },
        ServerSpec::Yogi { lr: 0.01, beta1: 0.8, beta2: 0.97, eps: 1e-3 },
    ]
}

/// A gradient that has small, large and vanishing values, and differs from step to step.
fn gradient(step: u32) -> [f32; 3] {
    [(step as f32 * 0.37).fract() - 0.5, 1e-30, -3.0e4 / (step + 1) as f32]
}

#[test]
fn saved_mid_way_each_goes_on_with_the_same_bits() {
    for spec in specs() {
        let run = |cut: Option<u32>| {
            let mut optimizer = build(&spec, 3);
            let mut x = [0.1f32, -0.2, 0.3];
            for step in 0..50 {
                if cut == Some(step) {
                    let state = saved(&*optimizer);
                    optimizer = build(&spec, 3);
                    optimizer.restore(&state).unwrap();
                    assert_eq!(saved(&*optimizer), state);
                }
                whole(&mut *optimizer, &mut x, &gradient(step));
            }
            (x.map(f32::to_bits), saved(&*optimizer))
        };
        let uncut = run(None);
        for cut in [0, 1, 25, 49] {
            assert_eq!(run(Some(cut)), uncut, "{spec:?}");
        }
    }
}

#[test]
fn adam_and_sgd_have_the_bits_of_the_release_that_stepped_whole_models() {
    // Taken from that release: parameters and the words of the state behind its tag, after 50 steps. Runs
    // that it started go on from such states.
    let adam = [
        50,
        0x3eed_ee7a_4ad4_b834,
        0x3fcb_e990_f3c0_e7fb,
        0xbfb4_f4f8_4bff_bddc,
        0x39b4_4839_0753_e7ae,
        0xc084_a6a7_7591_a4f6,
        0x3fb1_2288_530b_54d4,
        0x3374_1ab5_3e95_a145,
        0x4164_23b2_708f_ea01u64,
    ];
    let [sgd, _, _, _, corrected, plain, _] = specs();
    for (spec, parameters, state) in [
        (sgd, [0x3ea6_662d, 0xbe4c_cccd, 0x471e_2d26u32], &adam[..0]),
        (corrected, [0x3e04_e361, 0xbe4c_cccd, 0x3ef1_2a7e], &adam),
        (plain, [0x3e13_5ddd, 0xbe4c_cccd, 0x3f0e_0a88], &adam),
    ] {
        let (mut optimizer, mut x) = (build(&spec, 3), [0.1f32, -0.2, 0.3]);
        (0..50).for_each(|step| whole(&mut *optimizer, &mut x, &gradient(step)));
        assert_eq!(x.map(f32::to_bits), parameters, "{spec:?}");
        let bytes = saved(&*optimizer);
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        assert_eq!(words.skip(1).collect::<Vec<_>>(), state, "{spec:?}");
    }
}

#[test]
fn each_moves_against_the_gradient() {
    for spec in specs() {
        let mut x = [1.0f32, 1.0];
        whole(&mut *build(&spec, 2), &mut x, &[0.5, -0.25]);
        assert!(x[0] < 1.0 && x[1] > 1.0, "{spec:?}: {x:?}");
    }
}

#[test]
fn each_refuses_the_state_of_any_other() {
    for (at, spec) in specs().iter().enumerate() {
        for (from, other) in specs().iter().enumerate() {
            let mut optimizer = build(spec, 2);
            whole(&mut *optimizer, &mut [1.0, 2.0], &[0.5, -0.5]);
            let before = saved(&*optimizer);
            let result = optimizer.restore(&saved(&*build(other, 2)));
            // The two forms of Adam keep the same state.
            if at == from || (at.min(from), at.max(from)) == (4, 5) {
                assert_eq!(result, Ok(()));
            } else {
                assert!(matches!(result, Err(StateError::Kind { .. })), "{spec:?} from {other:?}");
                assert_eq!(saved(&*optimizer), before);
            }
        }
    }
}

#[test]
fn each_refuses_a_damaged_state_and_stays_as_it_was() {
    for spec in specs() {
        let mut optimizer = build(&spec, 2);
        whole(&mut *optimizer, &mut [1.0, 2.0], &[0.5, -0.5]);
        let state = saved(&*optimizer);
        for len in 0..state.len() {
            let error = optimizer.restore(&state[..len]).unwrap_err();
            let kind = matches!(error, StateError::Kind { .. });
            assert_eq!(kind, len < 8, "{spec:?} cut to {len}: {error}");
        }
        let longer = [&state[..], &[0]].concat();
        let (found, expected) = (longer.len(), state.len());
        assert_eq!(optimizer.restore(&longer), Err(StateError::Length { found, expected }));
        let larger = saved(&*build(&spec, 3));
        assert_eq!(optimizer.restore(&larger).is_ok(), matches!(spec, ServerSpec::Sgd { .. }));
        // Of Adam's header the first word is a count, which takes any bits.
        let first = if matches!(spec, ServerSpec::Adam { .. }) { 16 } else { 8 };
        for at in (first..state.len()).step_by(8) {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut bad = state.clone();
                bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
                let error = optimizer.restore(&bad).unwrap_err();
                assert!(matches!(error, StateError::Value { .. }), "{spec:?} at {at}: {error}");
            }
        }
        assert_eq!(saved(&*optimizer), state);
    }
}

#[test]
fn only_sums_of_squares_must_not_be_negative() {
    let state = |tag: &str, words: &[f64]| {
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        tag.bytes().chain(words).collect::<Vec<u8>>()
    };
    let [_, momentum, nesterov, adagrad, _, _, yogi] = specs();
    assert_eq!(build(&momentum, 1).restore(&state("mom   v1", &[-1.0])), Ok(()));
    assert_eq!(build(&nesterov, 1).restore(&state("nest  v1", &[-1.0])), Ok(()));
    let error = build(&adagrad, 1).restore(&state("adag  v1", &[-1.0])).unwrap_err();
    assert_eq!(error.to_string(), "state has -1 for the sum of squares");
    assert_eq!(build(&yogi, 1).restore(&state("yogi  v1", &[-1.0, 1.0])), Ok(()));
    let error = build(&yogi, 1).restore(&state("yogi  v1", &[1.0, -1.0])).unwrap_err();
    assert_eq!(error.to_string(), "state has -1 for the second moment");
}

#[test]
fn a_block_outside_of_the_model_is_a_defect_of_the_caller() {
    for spec in specs().into_iter().filter(|spec| !matches!(spec, ServerSpec::Sgd { .. })) {
        for start in [2, usize::MAX] {
            let result = std::panic::catch_unwind(|| {
                let mut optimizer = build(&spec, 3);
                optimizer.begin();
                optimizer.apply(start, &mut [0.0; 2], &[0.0; 2]);
            });
            assert!(result.is_err(), "{spec:?} at {start}");
        }
    }
}

proptest! {
    #[test]
    fn blocks_of_any_size_give_the_same_bits(
        rounds in proptest::collection::vec(proptest::collection::vec(-1e3f32..1e3, 40), 1..5),
        cuts in proptest::collection::vec(1usize..20, 1..10),
    ) {
        for spec in specs() {
            let (mut one, mut many) = (build(&spec, 40), build(&spec, 40));
            let (mut x, mut y) = (vec![0.5f32; 40], vec![0.5f32; 40]);
            for gradient in &rounds {
                whole(&mut *one, &mut x, gradient);
                many.begin();
                let mut start = 0;
                for len in cuts.iter().cycle() {
                    let end = (start + len).min(40);
                    many.apply(start, &mut y[start..end], &gradient[start..end]);
                    start = end;
                    if start == 40 {
                        break;
                    }
                }
            }
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&x), bits(&y), "{:?}", spec);
            prop_assert_eq!(saved(&*one), saved(&*many), "{:?}", spec);
        }
    }

    #[test]
    fn a_state_is_refused_or_saved_as_it_was(bytes in proptest::collection::vec(any::<u8>(), 32)) {
        // Behind the right tag and of the right length, so that the values decide.
        for (spec, tag) in specs().iter().zip(["", "mom   v1", "nest  v1", "adag  v1", "", "", "yogi  v1"]) {
            if tag.is_empty() {
                continue;
            }
            let elements = if tag.starts_with("yogi") { 2 } else { 4 };
            let state = [tag.as_bytes(), &bytes[..]].concat();
            let mut optimizer = build(spec, elements);
            match optimizer.restore(&state) {
                Ok(()) => prop_assert_eq!(saved(&*optimizer), state),
                Err(error) => prop_assert!(matches!(error, StateError::Value { .. }), "{}", error),
            }
        }
    }
}
