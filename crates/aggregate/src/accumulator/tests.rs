use params::TensorSpec;
use proptest::prelude::*;

use super::*;
use crate::WEIGHT_SUM_MAX;

fn layout() -> Layout {
    Layout::new(vec![TensorSpec::new("a", [2]), TensorSpec::new("b", [3])]).unwrap()
}

fn accumulator(bound: f32, weight_sum_max: u64) -> Accumulator {
    Accumulator::new(5, Scale::new(bound, weight_sum_max).unwrap())
}

fn sum_of(parts: &[(Vec<f32>, u64)], scale: Scale) -> Accumulator {
    let mut sum = Accumulator::new(parts[0].0.len(), scale);
    parts.iter().for_each(|(update, weight)| sum.add(update, *weight));
    sum
}

#[test]
fn averages_by_weight() {
    let mut sum = accumulator(256.0, 4);
    let layout = layout();
    for (update, weight) in [([1.0, -2.0, 0.5, 0.0, 256.0], 1), ([3.0, 2.0, 0.5, 0.0, 256.0], 3)] {
        sum.check(&layout, &update, weight).unwrap();
        sum.add(&update, weight);
    }
    assert_eq!((sum.weight(), sum.updates()), (4, 2));
    assert_eq!(sum.finish().unwrap(), [2.5, 1.0, 0.5, 0.0, 256.0]);
}

#[test]
fn names_every_fault() {
    let mut sum = accumulator(2.0, 10);
    sum.add(&[0.0; 5], 4);
    let before = sum.clone();
    let layout = layout();
    let fault = |update: &[f32], weight| sum.check(&layout, update, weight).unwrap_err();

    assert_eq!(fault(&[0.0; 4], 1), UpdateFault::Length { found: 4, expected: 5 });
    assert_eq!(fault(&[0.0; 5], 0), UpdateFault::NoWeight);
    assert_eq!(fault(&[0.0; 5], 7), UpdateFault::WeightSum { weight: 7, sum: 4, max: 10 });
    assert_eq!(fault(&[0.0; 5], u64::MAX), UpdateFault::WeightSum { weight: u64::MAX, sum: 4, max: 10 });
    let above = 2.0f32.next_up();
    let bound = fault(&[0.0, 2.0, -2.0, -above, f32::NAN], 1);
    assert_eq!(bound, UpdateFault::Bound { tensor: "b".into(), index: 1, value: -above, bound: 2.0 });
    for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let error = fault(&[0.0, value, 0.0, 9.0, 0.0], 1);
        assert!(matches!(error, UpdateFault::NotFinite { index: 1, .. }), "{error:?}");
        let expected = format!("tensor 'a' has {text} at index 1, every element must be finite");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(sum, before);
    assert_eq!(sum.check(&layout, &[2.0, -2.0, 0.0, -0.0, 1e-45], 6), Ok(()));
}

#[test]
fn refuses_an_empty_round() {
    assert_eq!(accumulator(1.0, 1).finish(), Err(EmptyRound));
}

#[test]
fn refuses_to_merge_what_does_not_add_up() {
    let mut sum = accumulator(2.0, 10);
    sum.add(&[1.0; 5], 6);
    let before = sum.clone();
    let other = Accumulator::new(4, *sum.scale());
    assert_eq!(sum.merge(&other), Err(MergeFault::Length { found: 4, expected: 5 }));
    let other = accumulator(4.0, 10);
    assert_eq!(sum.merge(&other), Err(MergeFault::Scale { found: 57, expected: 58 }));
    assert_eq!(sum.merge(&before), Err(MergeFault::WeightSum { other: 6, sum: 6, max: 10 }));
    assert_eq!(sum, before);
}

#[test]
fn holds_at_the_extremes() {
    for bound in [f32::from_bits(1), f32::MIN_POSITIVE, 1.0, 255.99998, f32::MAX] {
        for weight in [1, 3, WEIGHT_SUM_MAX - 1, WEIGHT_SUM_MAX] {
            let scale = Scale::new(bound, weight).unwrap();
            let mut sum = Accumulator::new(2, scale);
            (0..weight.min(3)).for_each(|i| {
                let part = if i == 2 || weight < 3 { weight - (weight.min(3) - 1) } else { 1 };
                sum.add(&[bound, -bound], part);
            });
            assert_eq!(sum.weight(), weight);
            let exact: Vec<i128> = sum.sums.iter().map(|&s| i128::from(s)).collect();
            let each = i128::from(scale.quantise(bound)) * i128::from(weight);
            assert_eq!(exact, [each, -each]);
            let mean = sum.finish().unwrap();
            assert!(f64::from(bound) - f64::from(mean[0]) <= scale.resolution(), "{bound} {weight}");
            assert_eq!(mean[0], -mean[1]);
            assert!(mean[0] <= bound);
        }
    }
}

/// Whether `sum / (weight * 2^exponent)` is nearer to `mean` than to its neighbours, in integers.
fn is_nearest(mean: f32, sum: i64, weight: u64, exponent: i32) -> bool {
    // value = mantissa * 2^(-k) with one k for all three numbers.
    let fixed = |x: f64| (x * 2f64.powi(60)) as i128;
    let middle = |a: f32, b: f32| fixed((f64::from(a) + f64::from(b)) / 2.0);
    let (low, high) = (middle(mean.next_down(), mean), middle(mean, mean.next_up()));
    let (scaled, unit) = (i128::from(sum), i128::from(weight));
    let exact = scaled << (60 - exponent);
    low * unit <= exact && exact <= high * unit
}

#[test]
fn rounds_ties_to_even() {
    // (2^24 + 1) / 2^k lies half way between two f32; so does (2^24 + 3) / 2^k.
    assert_eq!(quotient((1 << 24) + 1, 1, 0), 16_777_216.0);
    assert_eq!(quotient((1 << 24) + 3, 1, 0), 16_777_220.0);
    assert_eq!(quotient(3 * ((1 << 24) + 1), 3, 0), 16_777_216.0);
    // One part in 2^40 above the tie decides; the f64 quotient would not see it.
    let weight = WEIGHT_SUM_MAX - 1;
    let tie = ((1i64 << 24) + 1) << 38;
    assert_eq!(quotient(tie + 1, 1 << 38, 0), 16_777_218.0);
    assert_eq!(quotient(tie - 1, 1 << 38, 0), 16_777_216.0);
    assert_eq!(quotient(i64::MIN + 1, weight, 0), -8_388_608.0);
    assert_eq!(quotient(1, WEIGHT_SUM_MAX, 109), f32::from_bits(1));
    assert_eq!(quotient(1, WEIGHT_SUM_MAX, 110), 0.0);
    assert_eq!(quotient(-3, WEIGHT_SUM_MAX, 110), -f32::from_bits(2));
}

fn parts() -> impl Strategy<Value = Vec<(Vec<f32>, u64)>> {
    let update = proptest::collection::vec(-8.0f32..=8.0, 4);
    proptest::collection::vec((update, 1u64..1000), 1..8)
}

proptest! {
    #[test]
    fn any_order_and_any_tree_give_the_same_bits(parts in parts(), seed in any::<u64>()) {
        let scale = Scale::new(8.0, 8000).unwrap();
        let plain = sum_of(&parts, scale);

        let mut shuffled = parts.clone();
        let mut rng = params::Rng::new(seed, &["order"]);
        rng.shuffle(&mut shuffled);
        prop_assert_eq!(&sum_of(&shuffled, scale), &plain);

        let mut forest: Vec<Accumulator> = shuffled.chunks(1).map(|p| sum_of(p, scale)).collect();
        while forest.len() > 1 {
            let branch = forest.swap_remove(rng.below(forest.len() as u64) as usize);
            let into = rng.below(forest.len() as u64) as usize;
            forest[into].merge(&branch).unwrap();
        }
        prop_assert_eq!(&forest[0], &plain);
        let bits = |a: Accumulator| a.finish().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(forest.remove(0)), bits(plain));
    }

    #[test]
    fn sums_are_exact(parts in parts()) {
        let scale = Scale::new(8.0, 8000).unwrap();
        let sum = sum_of(&parts, scale);
        for at in 0..4 {
            let terms = parts.iter().map(|(x, w)| i128::from(scale.quantise(x[at])) * i128::from(*w));
            prop_assert_eq!(i128::from(sum.sums[at]), terms.sum::<i128>());
        }
        // Against the updates as sent, in exact integers: 2^-149 divides every f32 and 2^-60 every
        // one of these but the smallest, whose loss the bound below has room for.
        let weight = i128::from(sum.weight());
        let exact: Vec<i128> = (0..4)
            .map(|at| parts.iter().map(|(x, w)| (f64::from(x[at]) * 2f64.powi(60)) as i128 * i128::from(*w)).sum())
            .collect();
        for (mean, exact) in sum.finish().unwrap().into_iter().zip(exact) {
            let off = ((f64::from(mean) * 2f64.powi(60)) as i128 * weight - exact).abs();
            let ulp = f64::from(mean.abs().next_up() - mean.abs());
            let allowed = ((ulp + scale.resolution()) / 2.0 * 2f64.powi(60)) as i128 + 2;
            prop_assert!(off <= allowed * weight, "{mean}: {off} > {allowed}");
        }
    }

    #[test]
    fn quotients_are_correctly_rounded(bits in any::<u64>(), negative: bool, down in 0u32..13, weight in 1..=WEIGHT_SUM_MAX) {
        // 2^40 to 2^53, so that the comparison fits in 128 bits.
        let magnitude = ((bits >> 12 | 1 << 52) >> down) as i64;
        let sum = if negative { -magnitude } else { magnitude };
        let mean = quotient(sum, weight, 30);
        prop_assert!(is_nearest(mean, sum, weight, 30), "{sum} / {weight}: {mean}");
    }
}
