use super::blocks::Source;
use super::distances::Distances;
use super::median::medians;
use super::sort::{LANES, Lanes, map_sorted};
use super::{Emit, ReduceError, krum};

/// Bulyan of Krum (El Mhamdi et al. 2018, arXiv:1802.07927): `n - 2f` rows are picked by Krum, one at a
/// time from those that are left, and each coordinate is the mean of its `n - 4f` picked values that are
/// closest to their median. Ties: the lowest row, and the smaller value.
///
/// Breakdown point: `n >= 4f + 3`. It bounds each coordinate, where Krum bounds the distance only and
/// lets one coordinate of many go astray. Two passes, the second over `n - 2f` rows; memory is one block
/// and `n^2` distances.
///
/// The last scores look at `f - 1` neighbours, at least one. With `f` of 1 or 2 that is one: then the two
/// rows nearest to each other score the same, and the order of the rows decides which is picked.
pub(super) fn run(source: &mut Source<'_>, f: usize, emit: &mut Emit<'_>) -> Result<(), ReduceError> {
    let distances = Distances::between_rows(source)?;
    let picks = picks(&distances, f);
    map_sorted(source, &picks, |sorted, out| near_median(sorted, f, out), emit)
}

/// The rows that Krum picks one after the other.
pub(super) fn picks(distances: &Distances, f: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..distances.rows()).collect();
    let mut picks = Vec::new();
    for _ in 0..left.len() - 2 * f {
        picks.extend(krum::lowest(distances, &left, f, 1));
        left.retain(|row| Some(row) != picks.last());
    }
    picks
}

/// The mean of all but the `2f` values of each sorted column that are farthest from its median.
///
/// The values that are kept are neighbours in the sorted column, so it is enough to know how many small
/// ones go: value `k` goes as long as the value that would come in for it is closer to the median. Each
/// step is a loop over lanes without branches.
fn near_median(sorted: &[Lanes], f: usize, out: &mut Lanes) {
    let medians = medians(sorted);
    let keep = sorted.len() - 2 * f;
    let mut dropped = [0u32; LANES];
    for (low, high) in sorted[..2 * f].iter().zip(&sorted[keep..]) {
        for lane in 0..LANES {
            let median = medians[lane];
            let closer = f64::from(high[lane]) - median < median - f64::from(low[lane]);
            dropped[lane] += u32::from(closer);
        }
    }
    let mut sums = [0.0f64; LANES];
    for (row, index) in sorted.iter().zip(0u32..) {
        for lane in 0..LANES {
            // Wrapping: rows below the first that is kept come out as huge numbers.
            let kept = index.wrapping_sub(dropped[lane]) < keep as u32;
            sums[lane] += if kept { f64::from(row[lane]) } else { 0.0 };
        }
    }
    out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = (sum / keep as f64) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_near_the_median_and_the_smaller_of_equals() {
        for (column, expected) in [
            ([0.0, 1.0, 2.0, 3.0, 4.0], 2.0),
            ([-9.0, 1.0, 2.0, 3.0, 9.0], 2.0),
            ([0.0, 0.0, 0.0, 3.0, 9.0], 0.0),
            ([-9.0, -3.0, 6.0, 6.0, 6.0], 6.0),
            ([0.0, 0.0, 3.0, 6.0, 6.0], 1.0),    // all four others are 3 away
            ([-8.0, -7.0, 0.0, 1.0, 7.0], -2.0), // -7 and 7 are equally far
        ] {
            let mut out = [0.0; LANES];
            near_median(&column.map(|x| [x; LANES]), 1, &mut out);
            assert_eq!(out, [expected; LANES], "{column:?}");
        }
    }
}
