use super::blocks::{Source, TILE, Tile};
use super::distances::combination;
use super::{Emit, ReduceError};

/// Emits the sum of the picked rows (and the last aggregate below them, if there is one) times their
/// coefficients, over `divisor`: in `f64`, in the order of `pick`, rounded once.
pub(super) fn run(
    source: &mut Source<'_>,
    pick: &[usize],
    coefficients: &[f64],
    divisor: f64,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    let make = || {
        let mut sums = vec![0.0; TILE];
        move |tile: &Tile<'_>, out: &mut [f32]| {
            let sums = &mut sums[..tile.width()];
            combination(tile, coefficients, sums);
            // A tiny negative sum rounds to -0.
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (*sum / divisor) as f32 + 0.0);
        }
    };
    source.map(pick, &make, emit)
}
