use proptest::prelude::*;

use super::*;
use crate::reduce::blocks::{Source, TILE};
use crate::reduce::distances::Distances;

/// Whether the order of the rows decides a tie: then two nearest neighbours have the same score.
fn ties(spec: &ReduceSpec, n: usize) -> bool {
    match *spec {
        ReduceSpec::Krum { f } => n <= f + 3,
        ReduceSpec::MultiKrum { f, m } => n <= f + 3 && m < n,
        ReduceSpec::Bulyan { f } => f == 1 || f == 2,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_order_of_rows_does_not_show(seed in any::<u64>(), n in 1usize..=20, columns in 3usize..2500) {
        let mut random = Random(seed);
        let mut rows = random.rows_apart(n, columns);
        let previous = random.rows(1, columns).remove(0);
        let mut specs = every_rule(n);
        specs.retain(|spec| !ties(spec, n));
        random.shuffle(&mut specs);
        specs.truncate(12);
        let run = |rows: &[Vec<f32>]| -> Vec<Vec<u32>> {
            specs.iter().map(|spec| bits(&aggregate(spec, rows, Some(&previous), TINY))).collect()
        };
        let expected = run(&rows);
        random.shuffle(&mut rows);
        prop_assert_eq!(run(&rows), expected);
    }
}

#[test]
fn the_order_of_rows_does_not_show_where_sums_cancel() {
    // 1e20 + 1 - 1e20 is 0 or 1, by the order: here a sum in the wrong order shows in f32 too.
    let mut random = Random(4);
    let values = [1e20, -1e20, 1.0, -1.0, 3e-20, 1e20, -1e20, 7e8];
    let mut rows: Vec<Vec<f32>> =
        (0..9).map(|_| (0..70).map(|_| values[random.below(values.len())]).collect()).collect();
    let specs = [
        ReduceSpec::TrimmedMean { f: 1 },
        ReduceSpec::MultiKrum { f: 0, m: 9 },
        ReduceSpec::Bulyan { f: 0 },
        ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 2 },
        ReduceSpec::GeometricMedian { nu: 1e25, iterations: 1 }, // the plain mean
        ReduceSpec::CenteredClipping { tau: 1e25, iterations: 1 }, // the plain mean
    ];
    let expected = specs.map(|spec| bits(&aggregate(&spec, &rows, None, TINY)));
    for _ in 0..20 {
        random.shuffle(&mut rows);
        assert_eq!(specs.map(|spec| bits(&aggregate(&spec, &rows, None, TINY))), expected);
    }
    // All three score 1e40, so the order of the rows is their rank, but not the order of their sum.
    let [low, one, high] = [-1e20, 1.0, 1e20].map(|x| vec![x]);
    let mean =
        |rows: [Vec<f32>; 3]| bits(&aggregate(&ReduceSpec::MultiKrum { f: 0, m: 3 }, &rows, None, TINY));
    let expected = mean([low.clone(), one.clone(), high.clone()]);
    assert_eq!(mean([low.clone(), high.clone(), one.clone()]), expected);
    assert_eq!(mean([one, high, low]), expected);
}

#[test]
fn rows_are_ordered_by_their_first_difference() {
    // They differ in the last of three tiles only, two not at all, and in the sign of zeros before that.
    let mut random = Random(5);
    let mut rows = vec![random.rows(1, 2500).remove(0); 9];
    for row in &mut rows {
        row[0] = [0.0, -0.0][random.below(2)];
        row[2499] = random.normal() as f32;
    }
    rows[1] = rows[0].clone();
    for _ in 0..20 {
        random.shuffle(&mut rows);
        let mut matrix = InMemory::new(rows.clone()).unwrap();
        let mut source = Source::new(&mut matrix, None, TINY);
        let order = order::canonical(&mut source, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let ordered: Vec<&[f32]> = order.iter().map(|row| &rows[*row][..]).collect();
        // Slices compare by the first difference, and -0 with 0 as equal.
        assert!(ordered.is_sorted());
        assert_eq!(order.iter().sum::<usize>(), 36);
    }
}

/// The pairwise distances and the weights of the geometric median: sums in `f64` whose last bits are
/// mostly gone from the `f32` results.
fn sums(rows: &[Vec<f32>], budget: Budget) -> (Vec<u64>, Vec<u64>) {
    let mut matrix = InMemory::new(rows.to_vec()).unwrap();
    let mut source = Source::new(&mut matrix, None, budget);
    let distances = Distances::between_rows(&mut source).unwrap();
    let pairs = (0..rows.len()).flat_map(|i| (0..rows.len()).map(move |j| (i, j)));
    let squares = pairs.map(|(i, j)| distances.squared(i, j).to_bits()).collect();
    let pick = order::canonical(&mut source, &(0..rows.len()).collect::<Vec<_>>()).unwrap();
    let weights = geometric_median::coefficients(&mut source, &pick, 1e-6, 2).unwrap();
    (squares, weights.iter().map(|weight| weight.to_bits()).collect())
}

#[test]
fn sums_have_the_same_bits_in_f64() {
    let mut random = Random(8);
    let mut rows = random.rows(11, 51 * TILE + 333);
    let (squares, weights) = sums(&rows, TINY);
    for bytes in [1 << 18, usize::MAX] {
        for threads in [1, 3] {
            assert_eq!(sums(&rows, Budget { bytes, threads }), (squares.clone(), weights.clone()));
        }
    }
    random.shuffle(&mut rows);
    let (mut shuffled, unchanged) = sums(&rows, TINY);
    assert_eq!(unchanged, weights);
    let mut squares = squares;
    squares.sort_unstable();
    shuffled.sort_unstable();
    assert_eq!(shuffled, squares);
}

#[test]
fn neither_blocks_nor_threads_show() {
    // 51 tiles and a bit of 11 rows: enough work for 4 threads.
    let columns = 51 * TILE + 333;
    let mut random = Random(6);
    let rows = random.rows(11, columns);
    let previous = random.rows(1, columns).remove(0);
    let specs = [
        ReduceSpec::Median,
        ReduceSpec::TrimmedMean { f: 2 },
        ReduceSpec::Krum { f: 2 },
        ReduceSpec::MultiKrum { f: 2, m: 6 },
        ReduceSpec::Bulyan { f: 2 },
        ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 3 },
        ReduceSpec::CenteredClipping { tau: 1e3, iterations: 3 },
    ];
    for spec in &specs {
        let expected = bits(&aggregate(spec, &rows, Some(&previous), TINY));
        for bytes in [1 << 18, usize::MAX] {
            for threads in [0, 2, 3, 64] {
                let out = aggregate(spec, &rows, Some(&previous), Budget { bytes, threads });
                assert!(bits(&out) == expected, "{spec:?} {bytes} {threads}");
            }
        }
    }
}

#[test]
fn zeros_are_positive() {
    let rows = vec![vec![-0.0f32; 3]; 7];
    for spec in every_rule(7) {
        assert_eq!(bits(&aggregate(&spec, &rows, Some(&[-0.0; 3]), TINY)), [0; 3], "{spec:?}");
    }
    // The mean of this rounds to a zero, which would be negative.
    let mut rows = vec![vec![0.0f32]; 7];
    rows[3][0] = -f32::from_bits(1);
    for spec in every_rule(7) {
        assert_eq!(bits(&aggregate(&spec, &rows, Some(&[-0.0]), TINY)), [0], "{spec:?}");
    }
}

#[test]
fn extreme_values_stay_finite() {
    for (low, high) in [(f32::MAX, f32::MAX), (f32::MIN, f32::MAX), (f32::MIN, f32::MIN)] {
        let rows: Vec<Vec<f32>> = (0..11).map(|row| vec![if row < 5 { low } else { high }; 5]).collect();
        for spec in every_rule(11) {
            let out = aggregate(&spec, &rows, None, TINY);
            assert!(out.iter().all(|x| x.is_finite()), "{spec:?}: {out:?}");
        }
    }
}
