use proptest::prelude::*;

use super::*;

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Weights of deviation about 0.1, and the same after steps of a size relative to each.
fn files(count: u32, relative: f32) -> (Vec<u8>, Vec<u8>) {
    let mut rng = params::Rng::new(1, &["difference"]);
    let mut normal = || (0..12).map(|_| rng.unit() as f32).sum::<f32>() - 6.0;
    let pairs: Vec<(f32, f32)> = (0..count)
        .map(|_| {
            let old = 0.1 * normal();
            (old, old + relative * old * normal())
        })
        .collect();
    (floats(pairs.iter().map(|pair| pair.0)), floats(pairs.iter().map(|pair| pair.1)))
}

fn round_trip(old: &[u8], new: &[u8]) -> usize {
    let difference = encode(old, new, usize::MAX).unwrap();
    assert_eq!(apply(old, &difference, old.len()).as_deref(), Ok(new));
    difference.len()
}

#[test]
fn the_bytes_of_a_small_difference_are_these() {
    // A step up by 1 is 2, one down by 1 is 1; the last two bytes fill no word.
    let old = [5, 0, 0, 0, 0, 1, 0, 0, 7, 7];
    let new = [6, 0, 0, 0, 255, 0, 0, 0, 8, 9];
    let expected = [&b"CVD1"[..], &[10, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 1, 0, 0, 0], &[8, 9]].concat();
    assert_eq!(encode(&old, &new, usize::MAX), Some(expected));
    round_trip(&old, &new);
}

#[test]
fn steps_go_around_the_end_of_words() {
    for (old, new) in [(0, u32::MAX), (u32::MAX, 0), (0, 1 << 31), (1 << 31, 0), (0x3f80_0000, 0xbf80_0000)] {
        let there = step(u32::to_le_bytes(old), u32::to_le_bytes(new));
        assert_eq!(forward(u32::to_le_bytes(old), there), new);
    }
    assert_eq!(step(u32::to_le_bytes(0), u32::to_le_bytes(u32::MAX)), 1);
}

#[test]
fn equal_files_take_four_bytes_a_block() {
    let file = vec![3; 4 * (2 * BLOCK_WORDS + 1) + 3];
    assert_eq!(round_trip(&file, &file), HEADER + 3 * PLANES + 3);
    assert_eq!(round_trip(&[], &[]), HEADER);
}

#[test]
fn files_of_other_lengths_and_long_differences_are_left() {
    assert_eq!(encode(&[1], &[1, 2], usize::MAX), None);
    let (old, new) = files(1000, 0.01);
    let length = round_trip(&old, &new);
    assert!(encode(&old, &new, length).is_some());
    assert_eq!(encode(&old, &new, length - 1), None);
}

#[test]
fn small_steps_make_small_differences() {
    let share = |relative| {
        let (old, new) = files(100_000, relative);
        round_trip(&old, &new) as f64 / old.len() as f64
    };
    let shares = [1e-2, 1e-3, 1e-4].map(share);
    // Bytes of the planes have this entropy, over 4 bytes: 0.592, 0.488, 0.385. No code of single bytes takes less.
    for (share, entropy) in shares.iter().zip([0.592, 0.488, 0.385]) {
        assert!((0.99 * entropy..1.04 * entropy).contains(share), "{shares:?}");
    }
}

#[test]
fn one_weight_in_a_hundred_takes_a_thirtieth() {
    let (old, moved) = files(100_000, 1e-2);
    let mut new = old.clone();
    for (new, moved) in new.chunks_exact_mut(4).zip(moved.chunks_exact(4)).step_by(100) {
        new.copy_from_slice(moved);
    }
    assert!(round_trip(&old, &new) < old.len() / 30);
}

#[test]
fn what_is_wrong_is_named() {
    let (old, new) = files(100, 1e-2);
    let good = encode(&old, &new, usize::MAX).unwrap();
    let fault = |old: &[u8], difference: &[u8]| apply(old, difference, 400).unwrap_err();
    assert_eq!(fault(&old, b"CVD2\x90\x01\0\0\0\0\0\0"), DifferenceFault::Magic);
    assert_eq!(fault(&old, &good[..11]), DifferenceFault::Magic);
    assert_eq!(fault(&old[1..], &good), DifferenceFault::Length { found: 400, old: 399 });
    assert_eq!(apply(&old, &good, 399), Err(DifferenceFault::TooLong { found: 400, max: 399 }));
    assert_eq!(fault(&old, &good[..good.len() - 1]), DifferenceFault::Short { block: 0 });
    assert_eq!(fault(&old, &[&good[..], &[0]].concat()), DifferenceFault::Rest(1));
    let plane = DifferenceFault::Plane { block: 0, plane: 0 };
    assert_eq!(fault(&old, &[&good[..HEADER], &[3]].concat()), plane);
    // Packed bytes that make more, or less, than the plane.
    for zeros in [99, 101, 1_000_000] {
        let packed = miniz_oxide::deflate::compress_to_vec(&vec![0; zeros], 6);
        let length = (packed.len() as u32).to_le_bytes();
        assert_eq!(fault(&old, &[&good[..HEADER], &[2], &length, &packed, &[0, 0, 0]].concat()), plane);
    }
}

fn pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    // Both kinds of planes, and blocks that end inside and at the end of the file.
    (0usize..3, -5isize..5, any::<u64>(), 0u8..=3).prop_map(|(blocks, more, seed, kind)| {
        let length = (4 * BLOCK_WORDS * blocks).saturating_add_signed(more);
        let mut rng = params::Rng::new(seed, &["pair"]);
        let old: Vec<u8> = (0..length).map(|_| rng.bits() as u8).collect();
        let new = old.iter().map(|byte| match kind {
            0 => *byte,
            1 => rng.bits() as u8,
            2 => byte ^ u8::from(rng.bits().is_multiple_of(100)),
            _ => byte.wrapping_add((rng.bits() % 3) as u8),
        });
        (old.clone(), new.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_pair_of_large_files_comes_back((old, new) in pair()) {
        round_trip(&old, &new);
    }
}

proptest! {
    #[test]
    fn every_pair_of_small_files_comes_back(pairs in prop::collection::vec(any::<(u8, u8)>(), 0..300)) {
        let (old, new): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
        round_trip(&old, &new);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        old in prop::collection::vec(any::<u8>(), 0..300),
        blocks in prop::collection::vec(any::<u8>(), 0..300),
        packed in any::<bool>(),
    ) {
        let kind: &[u8] = if packed { &[DEFLATE, 60, 0, 0, 0] } else { &[] };
        let header = [&MAGIC[..], &(old.len() as u64).to_le_bytes()].concat();
        if let Ok(new) = apply(&old, &[&header[..], kind, &blocks].concat(), 300) {
            prop_assert_eq!(new.len(), old.len());
        }
        let _ = apply(&old, &blocks, 300);
    }
}
