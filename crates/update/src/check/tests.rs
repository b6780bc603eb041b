use params::{Layout, Rng, TensorSpec};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{ENCODINGS, Policy, Rule};

/// a 0..2 within 2, b 2..4 within 8, m max, n max within 5.
fn form() -> Form {
    let specs = [("a", 2), ("b", 2), ("m", 1), ("n", 1)];
    let layout = Layout::new(specs.map(|(name, n)| TensorSpec::new(name, [n])).to_vec()).unwrap();
    let rule =
        |pattern: &str, policy, coordinate_max| Rule { pattern: pattern.to_owned(), policy, coordinate_max };
    let rules = [
        rule("b", Policy::Average, Some(8.0)),
        rule("m", Policy::Max, None),
        rule("n", Policy::Max, Some(5.0)),
    ];
    Form::new(&layout, &rules, 2.0).unwrap()
}

fn one(elements: usize, coordinate_max: f32) -> Form {
    Form::new(&Layout::new(vec![TensorSpec::new("w", [elements])]).unwrap(), &[], coordinate_max).unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn message(values: &[f32], norm_max: Option<f64>) -> String {
    check(&form(), &Encoding::F32, &floats(values), norm_max).unwrap_err().to_string()
}

#[test]
fn what_is_within_bounds_passes() {
    let update = floats(&[2.0, -2.0, 8.0, -8.0, 1e30, -5.0]);
    assert_eq!(check(&form(), &Encoding::F32, &update, None), Ok(Checked { norm: None }));
    let norm = Some(136f64.sqrt());
    assert_eq!(check(&form(), &Encoding::F32, &update, norm), Ok(Checked { norm }));
    assert_eq!(check(&form(), &Encoding::F32, &update, Some(f64::INFINITY)), Ok(Checked { norm }));
}

#[test]
fn faults_name_the_element() {
    let nan = f32::NAN;
    for (values, text) in [
        ([0.0, nan, 0.0, 0.0, 0.0, 0.0], "tensor 'a' has NaN at index 1, every element must be finite"),
        (
            [0.0, 0.0, f32::INFINITY, 0.0, 0.0, 0.0],
            "tensor 'b' has inf at index 0, every element must be finite",
        ),
        ([0.0, 0.0, 0.0, 0.0, nan, 0.0], "tensor 'm' has NaN at index 0, every element must be finite"),
        ([-3.0, 0.0, 0.0, 0.0, 0.0, 0.0], "tensor 'a' has -3 at index 0, beyond the coordinate bound of 2"),
        ([0.0, 0.0, 0.0, 8.5, 0.0, 0.0], "tensor 'b' has 8.5 at index 1, beyond the coordinate bound of 8"),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 5.5], "tensor 'n' has 5.5 at index 0, beyond the coordinate bound of 5"),
        // The first one, and averaged ones first.
        ([0.0, 3.0, nan, 0.0, nan, 0.0], "tensor 'a' has 3 at index 1, beyond the coordinate bound of 2"),
        ([0.0, 0.0, 0.0, 9.0, nan, 0.0], "tensor 'b' has 9 at index 1, beyond the coordinate bound of 8"),
    ] {
        assert_eq!(message(&values, Some(0.0)), text);
    }
}

#[test]
fn faults_come_in_order() {
    let good = [1.0, 2.0, 2.0, 0.0, 1.0, 1.0];
    assert_eq!(message(&good[1..], Some(0.0)), "update has 20 bytes, the round's form has 24");
    assert_eq!(message(&good, Some(2.5)), "update has an L2 norm of 3, beyond the bound of 2.5");
    assert!(check(&form(), &Encoding::F32, &floats(&good), Some(f64::NAN)).is_err());
    // Structure comes before elements.
    let mut broken = vec![0, 0, 0xc0, 0x7f, 0];
    broken.extend(floats(&[f32::NAN, 0.0]));
    let error = check(&form(), &Encoding::Sign, &broken, None).unwrap_err().to_string();
    let text = "update is no payload of encoding 'sign': scale NaN of block 0, every scale must be \
                finite and at least 0";
    assert_eq!(error, text);
}

#[test]
fn quantised_elements_are_checked_as_decoded() {
    let message = |scale: f32, levels: [u8; 4]| {
        let mut update = floats(&[scale, 0.0]);
        update.extend(levels);
        update.extend(floats(&[0.0, 0.0]));
        check(&form(), &Encoding::Int8 { block: 2 }, &update, None).unwrap_err().to_string()
    };
    let text = "tensor 'a' has -3 at index 1, beyond the coordinate bound of 2";
    assert_eq!(message(1.0, [2, 0xfd, 0, 0]), text);
    // A finite scale, of which 127 are not.
    let text = "tensor 'a' has inf at index 0, every element must be finite";
    assert_eq!(message(1e37, [127, 0, 0, 0]), text);
}

#[test]
fn every_element_of_many_blocks_is_looked_at() {
    let elements = 2 * BLOCK + 7;
    let form = one(elements, 1.0);
    for at in [0, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, elements - 1] {
        let mut values = vec![1.0; elements];
        values[at] = -1.5;
        let fault = check(&form, &Encoding::F32, &floats(&values), None).unwrap_err();
        let (tensor, index) = ("w".to_owned(), at);
        assert_eq!(fault, UpdateFault::Bound { tensor, index, value: -1.5, bound: 1.0 });
    }
}

#[test]
fn many_segments_end_on_any_element() {
    // Bounds alternate between tensors of sizes that do not divide a block.
    let sizes: Vec<usize> = (0..400).map(|i| 1 + (i * 37) % 61).collect();
    let name = |i: usize| format!("t{i:03}");
    let specs = sizes.iter().enumerate().map(|(i, n)| TensorSpec::new(name(i), [*n])).collect();
    let rules: Vec<Rule> = (0..sizes.len())
        .map(|i| Rule { pattern: name(i), policy: Policy::Average, coordinate_max: Some((1 + i % 2) as f32) })
        .collect();
    let form = Form::new(&Layout::new(specs).unwrap(), &rules, 9.0).unwrap();
    let bounds = sizes.iter().enumerate().flat_map(|(i, n)| vec![(1 + i % 2) as f32; *n]);
    let values: Vec<f32> = bounds.collect();
    assert!(check(&form, &Encoding::F32, &floats(&values), None).is_ok());
    assert!(values.len() > 2 * BLOCK);
    for at in (0..values.len()).step_by(97).chain(BLOCK - 3..BLOCK + 3) {
        let mut values = values.clone();
        values[at] += 0.5;
        let (tensor, index) = form.locate(at).map(|(tensor, index)| (tensor.to_owned(), index)).unwrap();
        let (value, bound) = (values[at], values[at] - 0.5);
        let fault = check(&form, &Encoding::F32, &floats(&values), None).unwrap_err();
        assert_eq!(fault, UpdateFault::Bound { tensor, index, value, bound });
    }
}

#[test]
fn the_norm_does_not_depend_on_blocks() {
    let mut rng = Rng::new(3, &["norm"]);
    let values: Vec<f32> = (0..3 * BLOCK + 5).map(|_| (rng.unit() - 0.5) as f32).collect();
    let mut whole = Norm::default();
    whole.add(&values);
    let found = check(&one(values.len(), 1.0), &Encoding::F32, &floats(&values), Some(f64::INFINITY));
    assert_eq!(found.unwrap().norm.unwrap().to_bits(), whole.finish().to_bits());
    let plain: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((whole.finish() - plain.sqrt()).abs() <= 1e-12 * plain.sqrt());
}

#[test]
fn the_largest_update_has_a_norm() {
    let update = floats(&[f32::MAX; 4]);
    let norm = check(&one(4, f32::MAX), &Encoding::F32, &update, Some(f64::INFINITY)).unwrap().norm.unwrap();
    assert_eq!(norm, 2.0 * f64::from(f32::MAX));
}

#[test]
fn every_encoding_passes_what_it_encodes() {
    let values: Vec<f32> = (-500..500).map(|i| i as f32 / 500.0).collect();
    for name in ENCODINGS {
        let encoding = Encoding::named(name).unwrap();
        let mut payload = Vec::new();
        encoding.encode(&values, 1, &mut payload).unwrap();
        let norm = check(&one(1000, 1.01), &encoding, &payload, Some(1e9)).unwrap().norm.unwrap();
        let mut decoded = vec![0.0; 1000];
        encoding.decode(&payload, 1000, 0, &mut decoded);
        let mut expected = Norm::default();
        expected.add(&decoded);
        assert_eq!(norm.to_bits(), expected.finish().to_bits(), "{name}");
        assert!(norm > 1.0);
    }
}

proptest! {
    /// Whatever the bytes: no panic, and what passes decodes to finite elements within their bounds.
    #[test]
    fn foreign_bytes_never_panic(
        kind in 0..ENCODINGS.len(),
        mut update in vec(any::<u8>(), 0..60),
        fits in any::<bool>(),
        calm in any::<bool>(),
    ) {
        let (form, encoding) = (form(), Encoding::named(ENCODINGS[kind]).unwrap());
        if fits {
            update.resize(form.bytes(&encoding) as usize, 0);
        }
        if calm {
            update.iter_mut().for_each(|byte| *byte &= 0x33);
        }
        match check(&form, &encoding, &update, Some(f64::INFINITY)) {
            Ok(Checked { norm }) => {
                let (payload, _) = form.split(&encoding, &update).unwrap();
                let mut out = [f32::NAN; 4];
                encoding.decode(payload, 4, 0, &mut out);
                for segment in form.segments() {
                    let inside = out[segment.place()].iter().all(|v| v.abs() <= segment.coordinate_max);
                    prop_assert!(inside, "{:?}", out);
                }
                prop_assert!(norm.unwrap().is_finite());
            }
            Err(fault) => prop_assert!(!fault.to_string().is_empty()),
        }
    }
}
