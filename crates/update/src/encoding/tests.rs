use params::Rng;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{ENCODINGS, Encoding};

fn encoded(encoding: Encoding, values: &[f32], seed: u64) -> Vec<u8> {
    let mut payload = vec![1, 2, 3];
    encoding.encode(values, seed, &mut payload).unwrap();
    assert_eq!(payload[..3], [1, 2, 3]);
    let payload = payload.split_off(3);
    assert_eq!(payload.len() as u64, encoding.bytes(values.len()));
    assert_eq!(encoding.verify(&payload, values.len()), Ok(()));
    payload
}

fn decoded(encoding: Encoding, payload: &[u8], elements: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; elements];
    encoding.decode(payload, elements, 0, &mut out);
    out
}

fn carried(encoding: Encoding, values: &[f32], seed: u64) -> Vec<f32> {
    decoded(encoding, &encoded(encoding, values, seed), values.len())
}

fn all() -> [Encoding; 7] {
    ENCODINGS.map(|name| Encoding::named(name).unwrap())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn norm_squared(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
}

#[test]
fn payloads_are_laid_out_as_written_down() {
    let values = [1.0, -2.0, 0.5];
    let bytes = |encoding| encoded(encoding, &values, 1);
    assert_eq!(bytes(Encoding::F32), [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f]);
    assert_eq!(bytes(Encoding::Bf16), [0x80, 0x3f, 0, 0xc0, 0, 0x3f]);
    assert_eq!(bytes(Encoding::Fp16), [0, 0x3c, 0, 0xc0, 0, 0x38]);
    // One block each, a scale of 1.
    let int8 = encoded(Encoding::Int8 { block: 3 }, &[127.0, -2.0, 1.0], 1);
    assert_eq!(int8, [0, 0, 0x80, 0x3f, 127, 0xfe, 1]);
    let int4 = encoded(Encoding::Int4 { block: 3 }, &[7.0, -2.0, 1.0], 1);
    assert_eq!(int4, [0, 0, 0x80, 0x3f, 0xe7, 0x01]);
    // All scales come first.
    let int4 = encoded(Encoding::Int4 { block: 1 }, &[7.0, -14.0], 1);
    assert_eq!(int4, [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0x97]);
    let top = bytes(Encoding::TopK { fraction: 0.5 });
    assert_eq!(top, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    let sign = encoded(Encoding::Sign, &[1.0, -2.0, -0.0, -3.0], 1);
    assert_eq!(sign, [0, 0, 0xc0, 0x3f, 0b1010]);
}

#[test]
fn lengths_are_exact() {
    let cases: [(Encoding, [u64; 4]); 9] = [
        (Encoding::F32, [0, 4, 4000, 4004]),
        (Encoding::Bf16, [0, 2, 2000, 2002]),
        (Encoding::Fp16, [0, 2, 2000, 2002]),
        (Encoding::Int8 { block: 256 }, [0, 5, 1016, 1017]),
        (Encoding::Int8 { block: 1 }, [0, 5, 5000, 5005]),
        (Encoding::Int4 { block: 128 }, [0, 5, 532, 533]),
        (Encoding::TopK { fraction: 0.1 }, [0, 8, 800, 808]),
        (Encoding::TopK { fraction: 1.0 }, [0, 8, 8000, 8008]),
        (Encoding::Sign, [4, 5, 129, 130]),
    ];
    for (encoding, lengths) in cases {
        let found = [0, 1, 1000, 1001].map(|elements| encoding.bytes(elements));
        assert_eq!(found, lengths, "{encoding:?}");
    }
}

#[test]
fn lengths_do_not_overflow() {
    for encoding in all().into_iter().chain([Encoding::Int8 { block: 0 }, Encoding::Int4 { block: 0 }]) {
        assert!(encoding.bytes(usize::MAX) > 0);
        assert!(encoding.verify(&[0; 8], usize::MAX).is_err(), "{encoding:?}");
    }
    let many = Encoding::TopK { fraction: 0.5 }.verify(&[], 1 << 32);
    assert_eq!(many, Err(PayloadFault::TooMany { found: 1 << 32, max: (1 << 32) - 1 }));
}

#[test]
fn settings_that_are_refused_do_not_panic() {
    let values = [1.0, -2.0, 0.0];
    for encoding in [
        Encoding::Int8 { block: 0 },
        Encoding::Int4 { block: 0 },
        Encoding::Int8 { block: u32::MAX },
        Encoding::TopK { fraction: f64::NAN },
        Encoding::TopK { fraction: f64::INFINITY },
        Encoding::TopK { fraction: -1.0 },
    ] {
        assert!(encoding.validate().is_err());
        carried(encoding, &values, 1);
    }
}

#[test]
fn what_is_not_finite_is_refused_and_nothing_written() {
    for encoding in all() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = vec![7];
            let error = encoding.encode(&[0.0, bad, f32::NAN], 1, &mut out).unwrap_err();
            let text = format!("element 1 is {bad}, every element must be finite");
            assert_eq!((error.to_string(), &out[..]), (text, &[7][..]), "{encoding:?}");
        }
    }
}

#[test]
fn special_tensors_survive() {
    let smallest = f32::from_bits(1);
    for encoding in all() {
        assert_eq!(carried(encoding, &[], 1), [] as [f32; 0]);
        assert_eq!(carried(encoding, &[0.0; 9], 1), [0.0; 9], "{encoding:?}");
        assert_eq!(carried(encoding, &[-0.0; 9], 1), [0.0; 9], "{encoding:?}");
        // One element, or equal ones, are the largest of their block and the mean.
        let one = carried(encoding, &[-0.375], 1);
        assert!((one[0] + 0.375).abs() <= 0.375 / 127.0, "{encoding:?}: {one:?}");
        let equal = carried(encoding, &[1.5; 300], 1);
        let top = matches!(encoding, Encoding::TopK { .. });
        let expected = |index: usize| if top && index >= 30 { 0.0 } else { 1.5 };
        for (index, value) in equal.iter().enumerate() {
            assert!((value - expected(index)).abs() <= 1.5 / 7.0, "{encoding:?}: {value} at {index}");
        }
        for tiny in [[smallest, -smallest], [3.0 * smallest, 2.0 * smallest], [f32::MIN_POSITIVE, smallest]] {
            let out = carried(encoding, &tiny, 1);
            assert!(out.iter().all(|value| value.abs() <= 2f32.powi(-125)), "{encoding:?}: {out:?}");
        }
        let huge = carried(encoding, &[f32::MAX, f32::MIN, 0.0], 1);
        assert!(huge.iter().all(|value| value.is_finite()), "{encoding:?}: {huge:?}");
    }
    assert_eq!(carried(Encoding::Sign, &[smallest, -smallest], 1), [smallest, -smallest]);
}

#[test]
fn negative_zero_travels_where_bits_do() {
    assert_eq!(bits(&carried(Encoding::F32, &[-0.0], 1)), [1 << 31]);
    assert_eq!(bits(&carried(Encoding::Bf16, &[-0.0], 1)), [1 << 31]);
    assert_eq!(bits(&carried(Encoding::Sign, &[-0.0, 2.0], 1)), bits(&[1.0, 1.0]));
}

#[test]
fn quantisers_are_unbiased() {
    const DRAWS: usize = 100_000;
    let values = [0.6f32, -0.8, 0.0, 0.3, 0.1, -0.05, 0.777, -0.001];
    for encoding in [Encoding::Int8 { block: 8 }, Encoding::Int4 { block: 8 }, Encoding::Int4 { block: 3 }] {
        let mut sums = [0f64; 8];
        for draw in 0..DRAWS {
            let out = carried(encoding, &values, draw as u64);
            sums.iter_mut().zip(out).for_each(|(sum, value)| *sum += f64::from(value));
        }
        let payload = encoded(encoding, &values, 0);
        let block = if let Encoding::Int4 { block: 3 } = encoding { 3 } else { 8 };
        for (index, (sum, value)) in sums.iter().zip(values).enumerate() {
            let scale = f64::from(floats(&payload).nth(index / block).unwrap());
            let up = (f64::from(value) / scale).rem_euclid(1.0);
            // One of two neighbours: a Bernoulli variable times the scale.
            let deviation = scale * (up * (1.0 - up) / DRAWS as f64).sqrt();
            let mean = sum / DRAWS as f64;
            let resolution = 2f64.powi(-24) * (f64::from(value.abs()) + scale);
            let bound = 5.0 * deviation + resolution;
            assert!((mean - f64::from(value)).abs() <= bound, "{encoding:?}: {mean} for {value}");
        }
    }
}

#[test]
fn the_seed_decides_the_rounding() {
    let values: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
    for encoding in all() {
        let [a, b, c] = [7, 7, 8].map(|seed| encoded(encoding, &values, seed));
        assert_eq!(a, b);
        let draws = matches!(encoding, Encoding::Int8 { .. } | Encoding::Int4 { .. });
        assert_eq!(a != c, draws, "{encoding:?}");
    }
}

#[test]
fn stays_the_same_across_releases() {
    // A change here makes workers and coordinators of two releases disagree: find the cause.
    let mut rng = Rng::new(7, &["golden"]);
    let values: Vec<f32> = (0..1000).map(|_| (rng.unit() + rng.unit() - 1.0) as f32).collect();
    let digest = |encoding: Encoding| params::Digest::of(&encoded(encoding, &values, 7)).short();
    assert_eq!(all().map(digest), GOLDEN);
}

const GOLDEN: [&str; 7] = [
    "8570e32c8440",
    "2a7343521cc8",
    "1bbc0068db4f",
    "10ca46b08b62",
    "94765aa3350f",
    "7b64e5c8f6ad",
    "2bcdca8f00fe",
];

#[test]
fn broken_payloads_are_named() {
    let cases: [(Encoding, usize, Vec<u8>, &str); 9] = [
        (Encoding::F32, 2, vec![0; 7], "7 bytes, expected 8"),
        (
            Encoding::Int8 { block: 2 },
            2,
            vec![0, 0, 0x80, 0xbf, 1, 1],
            "scale -1 of block 0, every scale must be finite and at least 0",
        ),
        (
            Encoding::Int8 { block: 2 },
            2,
            vec![0, 0, 0, 0, 1, 0x80],
            "level -128 at element 1, levels are within 127 of 0",
        ),
        (
            Encoding::Int4 { block: 4 },
            4,
            vec![0, 0, 0, 0, 0x11, 0x81],
            "level -8 at element 3, levels are within 7 of 0",
        ),
        (
            Encoding::Int4 { block: 3 },
            3,
            vec![0, 0, 0, 0, 0x11, 0x81],
            "bits are set behind the last element, they must be 0",
        ),
        (
            Encoding::TopK { fraction: 1.0 },
            2,
            vec![1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "index 1 at place 1 follows 1, indices must ascend",
        ),
        (
            Encoding::TopK { fraction: 0.5 },
            2,
            vec![2, 0, 0, 0, 0, 0, 0, 0],
            "index 2 at place 0, the update has 2 elements",
        ),
        (Encoding::Sign, 3, vec![0, 0, 0, 0, 8], "bits are set behind the last element, they must be 0"),
        (
            Encoding::Sign,
            3,
            vec![0, 0, 0xc0, 0x7f, 7],
            "scale NaN of block 0, every scale must be finite and at least 0",
        ),
    ];
    for (encoding, elements, payload, text) in cases {
        assert_eq!(encoding.verify(&payload, elements).unwrap_err().to_string(), text, "{encoding:?}");
    }
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::F32),
        Just(Encoding::Bf16),
        Just(Encoding::Fp16),
        (1u32..40).prop_map(|block| Encoding::Int8 { block }),
        (1u32..40).prop_map(|block| Encoding::Int4 { block }),
        (0.001f64..=1.0).prop_map(|fraction| Encoding::TopK { fraction }),
        Just(Encoding::Sign),
    ]
}

/// Finite floats of all magnitudes, and many of moderate ones.
fn finite() -> impl Strategy<Value = f32> {
    let any_finite = (0u32..0x7f80_0000, any::<bool>())
        .prop_map(|(bits, negative)| f32::from_bits(bits | u32::from(negative) << 31));
    prop_oneof![any_finite, -1f32..1.0, -1f32..1.0, Just(0.0), Just(0.5)]
}

proptest! {
    #[test]
    fn a_range_decodes_as_its_part_of_the_whole(
        encoding in encodings(),
        values in vec(finite(), 0..700),
        from in 0usize..700,
        len in 0usize..700,
    ) {
        let payload = encoded(encoding, &values, 3);
        let whole = decoded(encoding, &payload, values.len());
        let from = from.min(values.len());
        let to = (from + len).min(values.len());
        let mut part = vec![f32::NAN; to - from];
        encoding.decode(&payload, values.len(), from, &mut part);
        prop_assert_eq!(bits(&part), bits(&whole[from..to]));
    }

    /// What was decoded is carried as it is, by quantisers where the block still has its top level.
    #[test]
    fn decoded_values_are_carried_again(encoding in encodings(), values in vec(finite(), 0..300)) {
        let payload = encoded(encoding, &values, 3);
        let once = decoded(encoding, &payload, values.len());
        let twice = carried(encoding, &once, 4);
        let (block, top) = match encoding {
            Encoding::Int8 { block } => (block as usize, 127.0),
            Encoding::Int4 { block } => (block as usize, 7.0),
            _ => (values.len().max(1), 0.0),
        };
        for (index, (once, twice)) in once.chunks(block).zip(twice.chunks(block)).enumerate() {
            let scale = floats(&payload[..payload.len().min(4 * index + 4)]).last().unwrap_or(0.0);
            let whole = top == 0.0 || once.iter().any(|value| value.abs() == top * scale);
            prop_assert!(!whole || bits(once) == bits(twice), "{:?}: {:?}, then {:?}", encoding, once, twice);
        }
    }

    #[test]
    fn quantisers_keep_their_bound(
        values in vec(finite(), 1..300),
        block in 1u32..40,
        seed: u64,
    ) {
        for (encoding, max, up) in [
            (Encoding::Int8 { block }, 127.0, 2f64.powi(-16)),
            (Encoding::Int4 { block }, 7.0, 2f64.powi(-20)),
        ] {
            let out = carried(encoding, &values, seed);
            for (values, out) in values.chunks(block as usize).zip(out.chunks(block as usize)) {
                let largest = values.iter().fold(0f64, |max, value| max.max(f64::from(value.abs())));
                // The last term is the resolution of subnormal scales: 2^-10 of them, or the smallest.
                let scale = largest / max * (1.0 + up) + largest.min(2f64.powi(-126)) / 64.0 + 2f64.powi(-149);
                for (value, out) in values.iter().zip(out) {
                    let error = (f64::from(*out) - f64::from(*value)).abs();
                    prop_assert!(error < scale, "{:?}: {} became {}, scale {}", encoding, value, out, scale);
                }
            }
        }
    }

    #[test]
    fn top_k_contracts_and_sends_the_largest(values in vec(finite(), 1..300), fraction in 0.001f64..=1.0) {
        let out = carried(Encoding::TopK { fraction }, &values, 1);
        let k = ((fraction * values.len() as f64).ceil() as usize).max(1);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
        let mut expected = vec![0.0; values.len()];
        order[..k].iter().for_each(|index| expected[*index] = values[*index]);
        prop_assert_eq!(bits(&out), bits(&expected));
        let rest: Vec<f32> = values.iter().zip(&out).map(|(value, out)| value - out).collect();
        let (rest, all) = (norm_squared(&rest), norm_squared(&values));
        let bound = (1.0 - k as f64 / values.len() as f64) * all;
        prop_assert!(rest <= bound + all * 1e-12, "{} > {}", rest, bound);
    }

    #[test]
    fn top_k_breaks_ties_by_index(levels in vec(-2i8..=2, 1..100), fraction in 0.001f64..=1.0) {
        let values: Vec<f32> = levels.iter().map(|level| f32::from(*level)).collect();
        let payload = encoded(Encoding::TopK { fraction }, &values, 1);
        let k = payload.len() / 8;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|index| (-levels[*index].abs(), *index));
        order.truncate(k);
        order.sort_unstable();
        let sent: Vec<usize> =
            payload[..4 * k].as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b) as usize).collect();
        prop_assert_eq!(sent, order);
    }

    #[test]
    fn signs_contract(values in vec(-1f32..1.0, 1..300)) {
        let out = carried(Encoding::Sign, &values, 1);
        let l1: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
        let n = values.len() as f64;
        let mean = l1 / n;
        for (value, out) in values.iter().zip(&out) {
            prop_assert_eq!(*value < 0.0, *out < 0.0);
            prop_assert!((f64::from(out.abs()) - mean).abs() <= mean * 2f64.powi(-24) * 1.001);
        }
        let rest: f64 = values.iter().zip(&out).map(|(v, o)| (f64::from(*v) - f64::from(*o)).powi(2)).sum();
        let (all, rounding) = (norm_squared(&values), 1e-6 * norm_squared(&values));
        prop_assert!((rest - (all - l1 * l1 / n)).abs() <= rounding);
        // d is at least 1/n.
        prop_assert!(rest <= (1.0 - 1.0 / n) * all + rounding);
    }

    /// Whatever the bytes: no panic, and what is accepted decodes, in any ranges alike.
    #[test]
    fn foreign_bytes_never_panic(
        encoding in encodings(),
        elements in 0usize..40,
        mut payload in vec(any::<u8>(), 0..200),
        fits in any::<bool>(),
        calm in any::<bool>(),
    ) {
        if fits {
            payload.resize(encoding.bytes(elements) as usize, 0);
        }
        if calm {
            // Few bits, so that some scales and indices pass.
            payload.iter_mut().for_each(|byte| *byte &= 0x13);
        }
        if encoding.verify(&payload, elements).is_ok() {
            let whole = decoded(encoding, &payload, elements);
            for from in 0..elements {
                let mut part = [f32::NAN; 3];
                let part = &mut part[..3.min(elements - from)];
                encoding.decode(&payload, elements, from, part);
                prop_assert_eq!(bits(part), bits(&whole[from..from + part.len()]));
            }
        }
    }
}
