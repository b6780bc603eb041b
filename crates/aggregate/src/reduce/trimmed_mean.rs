use super::blocks::Source;
use super::sort::{map_sorted, mean};
use super::{Emit, ReduceError};

/// The mean of each coordinate without its `f` smallest and `f` largest values (Yin et al. 2018,
/// arXiv:1803.01498).
///
/// Breakdown point: with at most `f` hostile rows, `n >= 2f + 1`, every value that is kept lies between
/// honest values. One pass; memory is one block.
pub(super) fn run(source: &mut Source<'_>, f: usize, emit: &mut Emit<'_>) -> Result<(), ReduceError> {
    let pick = source.all();
    map_sorted(source, &pick, |sorted, out| mean(&sorted[f..sorted.len() - f], out), emit)
}
