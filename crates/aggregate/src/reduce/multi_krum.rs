use super::blocks::Source;
use super::distances::Distances;
use super::{Emit, ReduceError, combine, krum, order};

/// The plain mean of the `m` rows with the lowest Krum scores (Blanchard et al. 2017, arXiv:1703.02757,
/// section 5). Ties: the lowest row.
///
/// Breakdown point: `n >= 2f + 3` and `m <= n - f`, so that a hostile row is among the `m` only when it is
/// as close to its neighbours as honest rows are. Two passes, the second over `m` rows; memory is one
/// block and `n^2` distances.
pub(super) fn run(
    source: &mut Source<'_>,
    f: usize,
    m: usize,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    let distances = Distances::between_rows(source)?;
    let best = krum::lowest(&distances, &source.all(), f, m);
    let best = order::canonical(source, &best)?;
    combine::run(source, &best, &vec![1.0; m], m as f64, emit)
}
