use super::blocks::Source;
use super::distances::to_combination;
use super::{Emit, ReduceError, combine, order};

/// The point with the smallest sum of distances to the rows, by the smoothed Weiszfeld iteration (RFA,
/// Pillutla et al. 2019, arXiv:1912.13445): from the mean on, the next point is the mean of the rows
/// weighted by `1 / max(nu, distance)`.
///
/// Breakdown point: one half, of the point that it tends to. The mean that it starts from has none: while
/// outliers are far away, an iteration leaves about `f / (n - f)` of what `f` of them drag it by, so with 2
/// of 7 at a distance of 1e12 the paper's 3 iterations leave 1e10, and 40 leave nothing.
///
/// Every iterate is a convex combination of the rows. Only its `n` coefficients are kept, and the point is
/// computed anew for each block: no vector of the model's size. One pass per iteration and one to emit;
/// memory is one block.
pub(super) fn run(
    source: &mut Source<'_>,
    nu: f64,
    iterations: u32,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    let pick = order::canonical(source, &source.all())?;
    let coefficients = coefficients(source, &pick, nu, iterations)?;
    combine::run(source, &pick, &coefficients, 1.0, emit)
}

/// The weight of each picked row in the last iterate; they sum to 1.
pub(super) fn coefficients(
    source: &mut Source<'_>,
    pick: &[usize],
    nu: f64,
    iterations: u32,
) -> Result<Vec<f64>, ReduceError> {
    let mut coefficients = vec![1.0 / pick.len() as f64; pick.len()];
    for _ in 0..iterations {
        let squares = to_combination(source, pick, &coefficients)?;
        // A row that the iterate hits has distance 0; nu keeps its weight finite.
        let weights = squares.iter().map(|square| 1.0 / square.sqrt().max(nu));
        coefficients.iter_mut().zip(weights).for_each(|(c, weight)| *c = weight);
        let total = coefficients.iter().fold(0.0, |sum, weight| sum + weight);
        coefficients.iter_mut().for_each(|c| *c /= total);
    }
    Ok(coefficients)
}
