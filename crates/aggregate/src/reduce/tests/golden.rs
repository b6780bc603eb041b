use super::*;
use crate::reduce::blocks::Source;
use crate::reduce::distances::Distances;
use crate::reduce::{bulyan, centered_clipping, geometric_median, krum, order};

/// The matrix of the reference times 1000: all of it integers, so that no rounding of the input stands
/// between the reference and us. Every rule scales with its input.
const U: [[f32; 4]; 7] = [
    [100.0, -200.0, 300.0, 400.0],
    [120.0, -180.0, 280.0, 410.0],
    [90.0, -220.0, 330.0, 380.0],
    [110.0, -210.0, 310.0, 420.0],
    [80.0, -190.0, 290.0, 385.0],
    [-300.0, 600.0, -900.0, -1200.0],
    [5000.0, -4000.0, 3000.0, -2000.0],
];

fn rows(count: usize) -> Vec<Vec<f32>> {
    U[..count].iter().map(|row| row.to_vec()).collect()
}

/// The result is the reference (times 1000), rounded to `f32`, or its neighbour.
fn gives(spec: ReduceSpec, count: usize, previous: Option<&[f32]>, expected: [f64; 4]) {
    let out = aggregate(&spec, &rows(count), previous, TINY);
    for (out, expected) in out.iter().zip(expected) {
        let expected = (expected * 1000.0) as f32;
        let near = [expected.next_down(), expected, expected.next_up()];
        assert!(near.contains(out), "{spec:?}: {out} instead of {expected}");
    }
}

#[test]
fn median() {
    gives(ReduceSpec::Median, 7, None, [0.1, -0.2, 0.3, 0.385]);
    gives(ReduceSpec::Median, 6, None, [0.095, -0.195, 0.295, 0.3925]);
}

#[test]
fn trimmed_mean() {
    gives(ReduceSpec::TrimmedMean { f: 1 }, 7, None, [0.1, -0.2, 0.302, 0.075]);
    gives(ReduceSpec::TrimmedMean { f: 2 }, 7, None, [0.1, -0.2, 0.3, 0.388333333333]);
    // f = 0 is the plain mean, f = (n - 1) / 2 the median.
    gives(ReduceSpec::TrimmedMean { f: 3 }, 7, None, [0.1, -0.2, 0.3, 0.385]);
    let mean = [5.2, -4.4, 3.61, -1.205].map(|sum| sum / 7.0);
    gives(ReduceSpec::TrimmedMean { f: 0 }, 7, None, mean);
}

#[test]
fn krum_scores() {
    let mut matrix = InMemory::new(rows(7)).unwrap();
    let mut source = Source::new(&mut matrix, None, TINY);
    let distances = Distances::between_rows(&mut source).unwrap();
    let all = source.all();
    // Sums of squares of integers: exact.
    let scores = all.iter().map(|row| krum::score(&distances, &all, *row, 2)).collect::<Vec<_>>();
    assert_eq!(scores, [2825.0, 5725.0, 6925.0, 5200.0, 5875.0, 14_266_125.0, 154_058_500.0]);
    assert_eq!(bulyan::picks(&distances, 1), [0, 3, 4, 1, 2]);
}

#[test]
fn krum_and_bulyan() {
    gives(ReduceSpec::Krum { f: 2 }, 7, None, [0.1, -0.2, 0.3, 0.4]);
    let three = [0.11, -0.196666666667, 0.296666666667, 0.41];
    gives(ReduceSpec::MultiKrum { f: 2, m: 3 }, 7, None, three);
    gives(ReduceSpec::MultiKrum { f: 2, m: 5 }, 7, None, [0.1, -0.2, 0.302, 0.399]);
    gives(ReduceSpec::Bulyan { f: 1 }, 7, None, [0.1, -0.2, 0.3, 0.398333333333]);
}

#[test]
fn geometric_median() {
    let rfa = ReduceSpec::GeometricMedian { nu: 1e-3, iterations: 3 };
    gives(rfa, 7, None, [0.105017688827, -0.202078825559, 0.30006251881, 0.384708226482]);
    let exact = ReduceSpec::GeometricMedian { nu: 1e-3, iterations: 200 };
    gives(exact, 7, None, [0.100548333236, -0.200121227198, 0.300010472587, 0.39880358722]);
}

#[test]
fn centered_clipping() {
    let spec = |tau, iterations| ReduceSpec::CenteredClipping { tau, iterations };
    let once = [0.142548518801, -0.168454668897, 0.195789390423, 0.141791104241];
    gives(spec(1000.0, 1), 7, None, once);
    gives(spec(1000.0, 1), 7, Some(&[0.0; 4]), once);
    let thrice = [0.185919651285, -0.22271669001, 0.261274611928, 0.196015250825];
    gives(spec(1000.0, 3), 7, None, thrice);
    let from_u0 = [0.107146059545, -0.20234812456, 0.298978761003, 0.384075305854];
    gives(spec(100.0, 1), 7, Some(&U[0]), from_u0);
}

/// The combination of the rows (in the order of `pick`), in `f64`, against the reference: to 1e-9.
fn combines(pick: &[usize], coefficients: &[f64], expected: [f64; 4]) {
    for (column, expected) in expected.into_iter().enumerate() {
        let terms = pick.iter().zip(coefficients).map(|(row, c)| c * f64::from(U[*row][column]));
        let (out, expected) = (terms.sum::<f64>(), 1000.0 * expected);
        assert!((out - expected).abs() < 1e-9 * 1000.0, "{out} instead of {expected}");
    }
}

#[test]
fn iterates_agree_before_they_are_rounded() {
    let mut matrix = InMemory::new(rows(7)).unwrap();
    let mut source = Source::new(&mut matrix, None, TINY);
    let all = source.all();
    let pick = order::canonical(&mut source, &all).unwrap();
    assert_eq!(pick, [5, 4, 2, 0, 3, 1, 6]);
    let rfa = geometric_median::coefficients(&mut source, &pick, 1e-3, 3).unwrap();
    combines(&pick, &rfa, [0.105017688827, -0.202078825559, 0.30006251881, 0.384708226482]);
    let exact = geometric_median::coefficients(&mut source, &pick, 1e-3, 200).unwrap();
    combines(&pick, &exact, [0.100548333236, -0.200121227198, 0.300010472587, 0.39880358722]);
    let clipped = centered_clipping::coefficients(&mut source, &pick, 1000.0, 3).unwrap();
    combines(&pick, &clipped, [0.185919651285, -0.22271669001, 0.261274611928, 0.196015250825]);
}
