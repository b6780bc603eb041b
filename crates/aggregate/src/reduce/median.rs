use super::blocks::Source;
use super::sort::{LANES, Lanes, map_sorted};
use super::{Emit, ReduceError};

/// The median of each coordinate (Yin et al. 2018, arXiv:1803.01498); for an even number of rows the mean
/// of the middle two.
///
/// Breakdown point: each coordinate stays between honest values while fewer than half of the rows are
/// hostile. One pass; memory is one block.
pub(super) fn run(source: &mut Source<'_>, emit: &mut Emit<'_>) -> Result<(), ReduceError> {
    let pick = source.all();
    map_sorted(source, &pick, middle, emit)
}

fn middle(sorted: &[Lanes], out: &mut Lanes) {
    let medians = medians(sorted);
    out.iter_mut().zip(&medians).for_each(|(out, median)| *out = *median as f32);
}

/// The median of each sorted column, not yet rounded to `f32`.
pub(super) fn medians(sorted: &[Lanes]) -> [f64; LANES] {
    let (low, high) = (&sorted[(sorted.len() - 1) / 2], &sorted[sorted.len() / 2]);
    std::array::from_fn(|lane| (f64::from(low[lane]) + f64::from(high[lane])) / 2.0)
}
