use super::ReduceError;
use super::blocks::{Source, TILE, Tile};

/// Independent sums within a tile, by column modulo 8, so that additions need not wait for each other.
const LANES: usize = 8;

/// The squared Euclidean distances between all rows.
///
/// They are sums of squared differences in `f64`. The expansion `a^2 + b^2 - 2ab` would need one product
/// per pair less, and lose all digits of a small distance between long vectors.
pub(super) struct Distances {
    rows: usize,
    squares: Vec<f64>,
}

impl Distances {
    /// One pass over the matrix; `n(n-1)/2` sums over all columns.
    pub(super) fn between_rows(source: &mut Source<'_>) -> Result<Self, ReduceError> {
        let pick = source.all();
        let n = pick.len();
        let make = || {
            let mut wide = vec![0.0; n * TILE];
            move |tile: &Tile<'_>, out: &mut [f64]| pairs(tile, &mut wide, out)
        };
        let sums = source.fold(&pick, n * n.saturating_sub(1) / 2, &make)?;
        let mut squares = vec![0.0; n * n];
        let below = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        for ((i, j), sum) in below.zip(sums) {
            squares[i * n + j] = sum;
            squares[j * n + i] = sum;
        }
        Ok(Self { rows: n, squares })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn squared(&self, i: usize, j: usize) -> f64 {
        self.squares[i * self.rows + j]
    }
}

/// The squared distance of each picked row to a point: the rows (and the last aggregate below them, if
/// there is one), each times its coefficient, added in their order.
pub(super) fn to_combination(
    source: &mut Source<'_>,
    pick: &[usize],
    coefficients: &[f64],
) -> Result<Vec<f64>, ReduceError> {
    let make = || {
        let (mut point, mut wide) = (vec![0.0; TILE], vec![0.0; TILE]);
        move |tile: &Tile<'_>, out: &mut [f64]| {
            let point = &mut point[..tile.width()];
            combination(tile, coefficients, point);
            for (out, row) in out.iter_mut().zip(tile.rows()) {
                let wide = &mut wide[..tile.width()];
                widen(row, wide);
                *out = squared_distance(wide, point);
            }
        }
    };
    source.fold(pick, pick.len(), &make)
}

/// The sum of the rows of a tile times their coefficients, in the order of the rows, from +0.
pub(super) fn combination(tile: &Tile<'_>, coefficients: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (row, &c) in tile.rows().zip(coefficients) {
        out.iter_mut().zip(row).for_each(|(out, x)| *out += c * f64::from(*x));
    }
}

/// All pairs of a tile, (1, 0), (2, 0), (2, 1), ... Each row is widened once, not once per pair.
fn pairs(tile: &Tile<'_>, wide: &mut [f64], out: &mut [f64]) {
    let width = tile.width();
    for (wide, row) in wide.chunks_exact_mut(TILE).zip(tile.rows()) {
        widen(row, &mut wide[..width]);
    }
    let row = |i: usize| &wide[i * TILE..i * TILE + width];
    let below = (0..wide.len() / TILE).flat_map(|i| (0..i).map(move |j| (i, j)));
    for ((i, j), out) in below.zip(out) {
        *out = squared_distance(row(i), row(j));
    }
}

fn widen(row: &[f32], out: &mut [f64]) {
    out.iter_mut().zip(row).for_each(|(out, x)| *out = f64::from(*x));
}

/// The sum of squared differences of one tile, in a fixed order: by lane, then the lanes pairwise.
fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            let d = a[lane] - b[lane];
            sums[lane] += d * d;
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += (a - b) * (a - b);
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
}
