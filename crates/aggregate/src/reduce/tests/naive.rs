use proptest::prelude::*;

use super::*;

type Matrix = Vec<Vec<f64>>;

/// Each rule as its paper writes it, with vectors of the model's size, sums from row 0 on, and a sort
/// per column.
fn naive(spec: &ReduceSpec, rows: &Matrix, previous: &[f64]) -> Vec<f64> {
    match *spec {
        ReduceSpec::Median => per_column(rows, |sorted| middle(&sorted)),
        ReduceSpec::TrimmedMean { f } => per_column(rows, |sorted| mean(&sorted[f..sorted.len() - f])),
        ReduceSpec::Krum { f } => rows[best(rows, &all(rows), f)].clone(),
        ReduceSpec::MultiKrum { f, m } => {
            let scores: Vec<f64> = all(rows).iter().map(|row| score(rows, &all(rows), *row, f)).collect();
            let mut ranked = all(rows);
            ranked.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            let picked: Matrix = ranked[..m].iter().map(|row| rows[*row].clone()).collect();
            per_column(&picked, |column| mean(&column))
        }
        ReduceSpec::Bulyan { f } => bulyan(rows, f),
        ReduceSpec::GeometricMedian { nu, iterations } => {
            let mut z = per_column(rows, |column| mean(&column));
            for _ in 0..iterations {
                let weights: Vec<f64> = rows.iter().map(|u| 1.0 / squared(u, &z).sqrt().max(nu)).collect();
                let weighted = |at: usize| rows.iter().zip(&weights).map(|(u, w)| w * u[at]).sum::<f64>();
                z = (0..z.len()).map(|at| weighted(at) / weights.iter().sum::<f64>()).collect();
            }
            z
        }
        ReduceSpec::CenteredClipping { tau, iterations } => {
            let mut v = previous.to_vec();
            for _ in 0..iterations {
                let factor = |u: &Vec<f64>| (tau / squared(u, &v).sqrt()).min(1.0);
                let factors: Vec<f64> = rows.iter().map(factor).collect();
                let step = |at: usize| {
                    rows.iter().zip(&factors).map(|(u, k)| k * (u[at] - v[at])).sum::<f64>()
                        / rows.len() as f64
                };
                v = (0..v.len()).map(|at| v[at] + step(at)).collect();
            }
            v
        }
    }
}

fn all(rows: &Matrix) -> Vec<usize> {
    (0..rows.len()).collect()
}

fn per_column(rows: &Matrix, reduce: impl Fn(Vec<f64>) -> f64) -> Vec<f64> {
    let column = |at: usize| {
        let mut column: Vec<f64> = rows.iter().map(|row| row[at]).collect();
        column.sort_by(f64::total_cmp);
        reduce(column)
    };
    (0..rows[0].len()).map(column).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn score(rows: &Matrix, left: &[usize], row: usize, f: usize) -> f64 {
    let mut squares: Vec<f64> =
        left.iter().filter(|other| **other != row).map(|other| squared(&rows[row], &rows[*other])).collect();
    squares.sort_by(f64::total_cmp);
    let nearest = if left.len() > f + 2 { left.len() - f - 2 } else { 1 };
    squares.iter().take(nearest).sum()
}

fn best(rows: &Matrix, left: &[usize], f: usize) -> usize {
    // `min_by` gives the first of equals.
    let scored = left.iter().map(|row| (*row, score(rows, left, *row, f)));
    scored.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
}

fn bulyan(rows: &Matrix, f: usize) -> Vec<f64> {
    let (mut left, mut picked) = (all(rows), Vec::new());
    while picked.len() < rows.len() - 2 * f {
        let row = best(rows, &left, f);
        left.retain(|other| *other != row);
        picked.push(rows[row].clone());
    }
    per_column(&picked, |mut column| {
        let median = middle(&column);
        column.sort_by(|a, b| (a - median).abs().total_cmp(&(b - median).abs()));
        mean(&column[..rows.len() - 4 * f])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn agrees_with_every_rule(seed in any::<u64>(), n in 1usize..=20, columns in 1usize..1300) {
        let mut random = Random(seed);
        let columns = 2 * columns + 1; // up to three blocks, the last of them odd
        let rows = random.rows_apart(n, columns);
        let previous = random.rows(1, columns).remove(0);
        let widen = |row: &Vec<f32>| row.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (wide, zero) = (rows.iter().map(widen).collect(), vec![0.0; columns]);
        let mut specs = every_rule(n);
        random.shuffle(&mut specs);
        for spec in specs.iter().take(12) {
            for start in [None, Some(&previous)].into_iter().take(1 + usize::from(spec.needs_previous())) {
                let out = aggregate(spec, &rows, start.map(|row| &row[..]), TINY);
                let expected = naive(spec, &wide, &start.map_or(zero.clone(), &widen));
                for (column, (out, expected)) in out.iter().zip(expected).enumerate() {
                    // One unit in the last place of f32, and what sums in f64 lose to values of 1000.
                    let bound = f64::from(f32::EPSILON) * expected.abs() + 1e-12;
                    let off = (f64::from(*out) - expected).abs();
                    prop_assert!(off <= bound, "{spec:?}, column {column}: {out} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn agrees_at_64_rows() {
    let rows = Random(64).rows_apart(64, 1501);
    let wide: Matrix = rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
    for spec in [
        ReduceSpec::Median,
        ReduceSpec::TrimmedMean { f: 31 },
        ReduceSpec::Krum { f: 30 },
        ReduceSpec::MultiKrum { f: 30, m: 34 },
        ReduceSpec::Bulyan { f: 15 },
        ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 4 },
        ReduceSpec::CenteredClipping { tau: 100.0, iterations: 2 },
    ] {
        let out = aggregate(&spec, &rows, None, TINY);
        for (out, expected) in out.iter().zip(naive(&spec, &wide, &[0.0; 1501])) {
            let bound = f64::from(f32::EPSILON) * expected.abs() + 1e-12;
            assert!((f64::from(*out) - expected).abs() <= bound, "{spec:?}: {out} instead of {expected}");
        }
    }
}
