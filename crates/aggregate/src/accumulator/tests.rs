use proptest::prelude::*;

use super::*;
use crate::WEIGHT_SUM_MAX;

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn stretch(elements: usize, coordinate_max: f32) -> Stretch {
    Stretch { elements, coordinate_max }
}

fn accumulator(elements: usize, bound: f32, weight_sum_max: u64) -> Accumulator {
    Accumulator::new(&[stretch(elements, bound)], weight_sum_max).unwrap()
}

fn bytes(update: &[f32]) -> Vec<u8> {
    update.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn add(sum: &mut Accumulator, update: &[f32], weight: u64) {
    sum.add(&Source::Bytes(&bytes(update)), weight, ONE).unwrap();
}

fn mean(sum: &Accumulator) -> Vec<f32> {
    let mut out = vec![0.0; sum.elements()];
    sum.mean(0, &mut out, ONE).unwrap();
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn sum_of(parts: &[(Vec<f32>, u64)], bound: f32, weight_sum_max: u64) -> Accumulator {
    let mut sum = accumulator(parts[0].0.len(), bound, weight_sum_max);
    parts.iter().for_each(|(update, weight)| add(&mut sum, update, *weight));
    sum
}

#[test]
fn averages_by_weight() {
    let mut sum = accumulator(5, 256.0, 4);
    add(&mut sum, &[1.0, -2.0, 0.5, 0.0, 256.0], 1);
    add(&mut sum, &[3.0, 2.0, 0.5, 0.0, 256.0], 3);
    assert_eq!((sum.weight(), sum.updates()), (4, 2));
    assert_eq!(mean(&sum), [2.5, 1.0, 0.5, 0.0, 256.0]);
}

#[test]
fn names_every_fault_and_keeps_the_sum() {
    let mut sum = accumulator(5, 2.0, 10);
    add(&mut sum, &[0.0; 5], 4);
    let before = sum.clone();
    let zeros = [0; 20];
    let mut fault = |weight| sum.add(&Source::Bytes(&zeros), weight, ONE).unwrap_err();
    assert_eq!(fault(0), WeightFault::Zero);
    assert_eq!(fault(7), WeightFault::Sum { weight: 7, sum: 4, max: 10 });
    assert_eq!(fault(u64::MAX), WeightFault::Large(u64::MAX));
    assert_eq!(fault(WEIGHT_MAX + 1), WeightFault::Large(WEIGHT_MAX + 1));
    assert_eq!(sum, before);
    assert_eq!(accumulator(1, 1.0, 1).mean(0, &mut [0.0], ONE), Err(EmptyRound));
}

#[test]
fn refuses_to_merge_what_does_not_add_up() {
    let mut sum = accumulator(5, 2.0, 10);
    add(&mut sum, &[1.0; 5], 6);
    let before = sum.clone();
    let merge = |sum: &mut Accumulator, other: &Accumulator| sum.merge(other).unwrap_err();
    let shorter = accumulator(4, 2.0, 10);
    assert_eq!(merge(&mut sum, &shorter), MergeFault::Length { found: 4, expected: 5 });
    assert_eq!(merge(&mut sum, &accumulator(5, 4.0, 10)), MergeFault::Scale);
    assert_eq!(merge(&mut sum, &accumulator(5, 2.0, 11)), MergeFault::Scale);
    assert_eq!(merge(&mut sum, &before), MergeFault::WeightSum { other: 6, sum: 6, max: 10 });
    assert_eq!(sum, before);
}

#[test]
fn holds_at_the_extremes() {
    for bound in [f32::from_bits(1), f32::MIN_POSITIVE, 1.0, 255.99998, f32::MAX] {
        for max in [1, 3, WEIGHT_MAX - 1, WEIGHT_MAX, WEIGHT_SUM_MAX - 1, WEIGHT_SUM_MAX] {
            let mut sum = accumulator(2, bound, max);
            let (mut left, mut exact) = (max, 0i128);
            let (_, scale) = sum.scales().next().unwrap();
            while left > 0 {
                let weight = left.min(WEIGHT_MAX);
                add(&mut sum, &[bound, -bound], weight);
                exact += (f64::from(bound) * scale.factor(weight)).round_ties_even() as i128;
                left -= weight;
            }
            assert_eq!(sum.weight(), max);
            let sums: Vec<i128> = sum.sums.iter().map(|&s| i128::from(s)).collect();
            assert_eq!(sums, [exact, -exact], "{bound} {max}");
            assert_eq!(mean(&sum), [bound, -bound], "{bound} {max}");
        }
    }
}

#[test]
fn each_stretch_has_its_own_scale() {
    let stretches = [stretch(2, 256.0), stretch(1, 2f32.powi(-20)), stretch(2, 1e6)];
    let mut sum = Accumulator::new(&stretches, 2).unwrap();
    let fine = 2f32.powi(-20) * (1.0 - f32::EPSILON);
    add(&mut sum, &[1.0, 2.0, fine, 1e6, -3.0], 1);
    add(&mut sum, &[3.0, 2.0, fine, 1e6, -5.0], 1);
    assert_eq!(mean(&sum), [2.0, 2.0, fine, 1e6, -4.0]);
    let exponents: Vec<i32> = sum.scales().map(|(_, scale)| scale.exponent()).collect();
    assert_eq!(exponents, [53, 81, 41]);
    let mut middle = [0.0; 3];
    sum.mean(1, &mut middle, ONE).unwrap();
    assert_eq!(middle, [2.0, fine, 1e6]);
    assert_eq!(Accumulator::new(&[stretch(1, 0.0)], 1), Err(crate::ScaleError::CoordinateMax(0.0)));
}

#[test]
fn threads_and_decoding_change_no_bit() {
    let elements = 3 * THREAD_MIN + 1234;
    let mut rng = params::Rng::new(3, &["columns"]);
    let update: Vec<f32> = (0..elements).map(|_| rng.unit() as f32 - 0.5).collect();
    let stretches = [stretch(1000, 1.0), stretch(elements - 1100, 0.5), stretch(100, 7.0)];
    let plain = bytes(&update);
    let decode = |start: usize, out: &mut [f32]| out.copy_from_slice(&update[start..start + out.len()]);
    let play = |source: &Source<'_>, threads: usize| {
        let threads = NonZeroUsize::new(threads).unwrap();
        let mut sum = Accumulator::new(&stretches, 1000).unwrap();
        sum.add(source, 7, threads).unwrap();
        sum.add(source, 990, threads).unwrap();
        let mut out = vec![0.0; elements];
        sum.mean(0, &mut out, threads).unwrap();
        (sum, bits(&out))
    };
    let alone = play(&Source::Bytes(&plain), 1);
    for threads in [2, 3, 16] {
        assert!(play(&Source::Bytes(&plain), threads) == alone, "{threads}");
        assert!(play(&Source::Decode(&decode), threads) == alone, "{threads}");
    }
    assert!(alone.1 == bits(&update), "the mean of equal updates is the update");
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

#[test]
fn the_fast_quotient_sees_what_is_near_a_tie() {
    // One below, at and above ties that `f64` cannot tell apart, and subnormal results.
    let tie = ((1i64 << 24) + 1) << 37;
    let sums = [tie - 1, tie, tie + 1, -tie - 1, 0, 1, 3, 1 << 60];
    for (weight, exponent) in [(1u64, 37), (3, 30), (WEIGHT_SUM_MAX - 1, 0), (1, 149), (5, 160), (7, 200)] {
        let mut out = [0.0; 8];
        let divisor = weight as f64 * power_of_two(exponent);
        kernel::divide(&sums, divisor, &mut out, |_, sum| quotient(sum, weight, exponent));
        let exact = sums.map(|sum| quotient(sum, weight, exponent));
        assert_eq!(bits(&out), bits(&exact), "{weight} {exponent}");
    }
}

fn parts() -> impl Strategy<Value = Vec<(Vec<f32>, u64)>> {
    let update = proptest::collection::vec(-8.0f32..=8.0, 4);
    proptest::collection::vec((update, 1u64..1 << 21), 1..8)
}

proptest! {
    #[test]
    fn any_order_and_any_tree_give_the_same_bits(parts in parts(), seed in any::<u64>()) {
        let plain = sum_of(&parts, 8.0, 1 << 24);

        let mut shuffled = parts.clone();
        let mut rng = params::Rng::new(seed, &["order"]);
        rng.shuffle(&mut shuffled);
        prop_assert_eq!(&sum_of(&shuffled, 8.0, 1 << 24), &plain);

        let mut forest: Vec<Accumulator> = shuffled.chunks(1).map(|p| sum_of(p, 8.0, 1 << 24)).collect();
        while forest.len() > 1 {
            let branch = forest.swap_remove(rng.below(forest.len() as u64) as usize);
            let into = rng.below(forest.len() as u64) as usize;
            forest[into].merge(&branch).unwrap();
        }
        prop_assert_eq!(&forest[0], &plain);
        prop_assert_eq!(bits(&mean(&forest[0])), bits(&mean(&plain)));
    }

    /// Against the rational mean of the updates as they were sent. All numbers are integers over one power of
    /// two: 2^-149 divides every `f32`, so nothing is rounded here.
    #[test]
    fn means_are_within_half_an_ulp_and_the_stated_error(
        updates in proptest::collection::vec((any::<u32>(), 0i32..40, 1u64..1 << 21), 1..8),
    ) {
        let bound = 8.0f32;
        let value = |bits: u32, down: i32| {
            let unit = (bits & 0xff_ffff) as f32 / (1 << 24) as f32 * 8.0 * 2f32.powi(-down);
            if bits >> 31 == 1 { -unit } else { unit }
        };
        let mut sum = accumulator(1, bound, 1 << 24);
        let mut exact = Rational::default();
        for &(bits, down, weight) in &updates {
            add(&mut sum, &[value(bits, down)], weight);
            exact.add(value(bits, down), weight);
        }
        let mean = mean(&sum)[0];
        let (_, scale) = sum.scales().next().unwrap();
        let ulp = f64::from(mean.abs().next_up()) - f64::from(mean.abs());
        let allowed = ulp / 2.0 + scale.error(sum.updates(), sum.weight());
        prop_assert!(exact.distance(mean) <= allowed * (1.0 + 1e-12), "{} > {allowed}", exact.distance(mean));
    }

    #[test]
    fn quotients_are_correctly_rounded(bits in any::<u64>(), negative: bool, down in 0u32..13, weight in 1..=WEIGHT_SUM_MAX) {
        // 2^40 to 2^53, so that the comparison fits in 128 bits.
        let magnitude = ((bits >> 12 | 1 << 52) >> down) as i64;
        let sum = if negative { -magnitude } else { magnitude };
        let mean = quotient(sum, weight, 30);
        prop_assert!(is_nearest(mean, sum, weight, 30), "{sum} / {weight}: {mean}");
        let mut fast = [0.0];
        let divisor = weight as f64 * power_of_two(30);
        kernel::divide(&[sum], divisor, &mut fast, |_, sum| quotient(sum, weight, 30));
        prop_assert_eq!(fast[0].to_bits(), mean.to_bits());
    }

    #[test]
    fn the_fast_quotient_is_the_exact_one(sum in any::<i64>(), weight in 1..=WEIGHT_SUM_MAX, exponent in -40i32..220) {
        prop_assume!(sum > i64::MIN);
        let mut fast = [0.0];
        let divisor = weight as f64 * power_of_two(exponent);
        kernel::divide(&[sum], divisor, &mut fast, |_, sum| quotient(sum, weight, exponent));
        prop_assert_eq!(fast[0].to_bits(), quotient(sum, weight, exponent).to_bits());
    }
}

/// A sum of `x * weight` as an integer times 2^-90, with its weights: the numbers of the test above are
/// multiples of 2^-61 and below 2^3.
#[derive(Default)]
struct Rational {
    scaled: i128,
    weight: i128,
}

impl Rational {
    const BITS: i32 = 90;

    fn fixed(x: f32) -> i128 {
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 23 & 0xff) as i32, i128::from(bits & 0x7f_ffff));
        let (mantissa, power) =
            if exponent == 0 { (fraction, -149) } else { (fraction | 1 << 23, exponent - 150) };
        let shift = power + Self::BITS;
        assert!(shift >= 0 || mantissa == 0, "{x} is finer than the test can tell");
        let magnitude = if mantissa == 0 { 0 } else { mantissa << shift };
        if bits >> 31 == 1 { -magnitude } else { magnitude }
    }

    fn add(&mut self, x: f32, weight: u64) {
        self.scaled += Self::fixed(x) * i128::from(weight);
        self.weight += i128::from(weight);
    }

    /// How far `mean` is from the exact one.
    fn distance(&self, mean: f32) -> f64 {
        let off = (Self::fixed(mean) * self.weight - self.scaled).unsigned_abs();
        off as f64 / self.weight as f64 * 2f64.powi(-Self::BITS)
    }
}
