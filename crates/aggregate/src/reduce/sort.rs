use super::blocks::{Source, Tile};
use super::{Emit, ReduceError};

/// Columns that are sorted at a time: 64 rows of them fill 32 KiB, a usual first-level cache.
pub(super) const LANES: usize = 128;

/// One row of columns that are sorted together.
pub(super) type Lanes = [f32; LANES];

/// A fixed list of compare-exchanges that sorts the `n` values of each column: Batcher's odd-even merge
/// sort for any `n` (Batcher 1968, AFIPS 32; Knuth, The Art of Computer Programming, 5.2.2, algorithm M).
///
/// As the list does not depend on the values, whole rows are exchanged with vector minima and maxima:
/// 63 for 16 rows, 543 for 64.
struct Network {
    exchanges: Vec<(usize, usize)>,
}

impl Network {
    fn new(rows: usize) -> Self {
        let mut exchanges = Vec::new();
        let top = rows.next_power_of_two() / 2;
        let mut p = top;
        while p > 0 {
            let (mut q, mut r, mut d) = (top, 0, p);
            loop {
                exchanges.extend((0..rows.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)));
                if q == p {
                    break;
                }
                (d, q, r) = (q - p, q / 2, p);
            }
            p /= 2;
        }
        Self { exchanges }
    }

    fn sort(&self, rows: &mut [Lanes]) {
        for &(low, high) in &self.exchanges {
            let (head, tail) = rows.split_at_mut(high);
            exchange(&mut head[low], &mut tail[0]);
        }
    }
}

/// Emits what `finish` makes of the sorted values of each column of the picked rows. `finish` gets some
/// columns at a time, the smallest value in row 0, and where to put their results. A result of -0 is emitted as 0.
///
/// One pass.
pub(super) fn map_sorted(
    source: &mut Source<'_>,
    pick: &[usize],
    finish: impl Fn(&[Lanes], &mut Lanes) + Sync,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    let network = Network::new(pick.len());
    let make = || {
        let mut scratch = vec![[0.0; LANES]; pick.len()];
        let (network, finish) = (&network, &finish);
        move |tile: &Tile<'_>, out: &mut [f32]| {
            let mut result = [0.0; LANES];
            for start in (0..tile.width()).step_by(LANES) {
                let width = LANES.min(tile.width() - start);
                // Lanes past the width keep older values; their results are not used.
                for (lanes, row) in scratch.iter_mut().zip(tile.rows()) {
                    lanes[..width].copy_from_slice(&row[start..start + width]);
                }
                network.sort(&mut scratch);
                finish(&scratch, &mut result);
                // Adding 0 makes -0 positive: the network takes the zeros for equal and may turn one into
                // the other, which then shows nowhere.
                let out = &mut out[start..start + width];
                out.iter_mut().zip(&result).for_each(|(out, x)| *out = x + 0.0);
            }
        }
    };
    source.map(pick, &make, emit)
}

/// The smaller values to `low`, the larger to `high`. Written so that it compiles to vector minima and
/// maxima, which `f32::min`, with its rule for NaN, does not.
fn exchange(low: &mut Lanes, high: &mut Lanes) {
    for (low, high) in low.iter_mut().zip(high) {
        let (x, y) = (*low, *high);
        *low = if x < y { x } else { y };
        *high = if x > y { x } else { y };
    }
}

/// The mean of sorted rows: added in `f64` from the smallest value up, rounded once.
pub(super) fn mean(sorted: &[Lanes], out: &mut Lanes) {
    let mut sums = [0.0f64; LANES];
    for row in sorted {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let count = sorted.len() as f64;
    out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (sum / count) as f32);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(values: &[f32]) -> Vec<f32> {
        let network = Network::new(values.len());
        let mut rows: Vec<Lanes> = values.iter().map(|x| [*x; LANES]).collect();
        network.sort(&mut rows);
        rows.iter().map(|row| row[LANES - 1]).collect()
    }

    #[test]
    fn sorts_all_zeros_and_ones() {
        // A network that sorts every column of zeros and ones sorts everything (Knuth, 5.3.4, theorem Z).
        for n in 0..=16usize {
            let network = Network::new(n);
            for first in (0..1u32 << n).step_by(LANES) {
                let bit = |row: usize, lane: usize| (first + lane as u32) >> row & 1;
                let mut rows: Vec<Lanes> =
                    (0..n).map(|row| std::array::from_fn(|lane| bit(row, lane) as f32)).collect();
                network.sort(&mut rows);
                for lane in 0..LANES {
                    let column: Vec<f32> = rows.iter().map(|row| row[lane]).collect();
                    let ones = (0..n).map(|row| bit(row, lane) as f32).sum::<f32>();
                    assert!(column.is_sorted() && column.iter().sum::<f32>() == ones, "{column:?}");
                }
            }
        }
    }

    #[test]
    fn has_the_known_number_of_exchanges() {
        let counts = [1, 2, 4, 8, 16, 32, 64].map(|n| Network::new(n).exchanges.len());
        assert_eq!(counts, [0, 1, 5, 19, 63, 191, 543]);
    }

    proptest! {
        #[test]
        fn sorts_like_the_library(values in prop::collection::vec(-1e3f32..1e3, 0..=100)) {
            let mut expected = values.clone();
            expected.sort_by(f32::total_cmp);
            prop_assert_eq!(sorted(&values), expected);
        }
    }
}
