use super::blocks::Source;
use super::distances::to_combination;
use super::{Emit, ReduceError, combine, order};

/// Centered clipping (Karimireddy et al. 2020, arXiv:2012.10333): from the last aggregate `v` on, `v` moves
/// by the mean of the differences `u - v`, each shortened to a length of at most `tau`.
///
/// Breakdown: an attacker moves `v` by at most `tau / n` per iteration, `f` of them by `f tau / n`, whatever
/// they send. That is a bound per round and not a breakdown point: without momentum on the workers' side,
/// small steps in one direction add up over rounds. With one iteration and `v = 0` it is norm bounding.
///
/// Every iterate is `c_0` times the last aggregate plus a combination of the rows; only the coefficients
/// are kept. One pass per iteration and one to emit; memory is one block.
pub(super) fn run(
    source: &mut Source<'_>,
    tau: f64,
    iterations: u32,
    emit: &mut Emit<'_>,
) -> Result<(), ReduceError> {
    let pick = order::canonical(source, &source.all())?;
    let coefficients = coefficients(source, &pick, tau, iterations)?;
    combine::run(source, &pick, &coefficients, 1.0, emit)
}

/// The coefficient of each picked row, then that of the last aggregate; with one, they sum to 1.
pub(super) fn coefficients(
    source: &mut Source<'_>,
    pick: &[usize],
    tau: f64,
    iterations: u32,
) -> Result<Vec<f64>, ReduceError> {
    let n = pick.len() as f64;
    let mut coefficients = vec![0.0; pick.len()];
    coefficients.push(1.0);
    for _ in 0..iterations {
        let squares = to_combination(source, pick, &coefficients)?;
        // v + mean(k (u - v)) = (1 - mean k) v + sum(k / n u); a row at v itself keeps all of nothing.
        let kept: Vec<f64> = squares.iter().map(|square| shortened(square.sqrt(), tau)).collect();
        let total = kept.iter().fold(0.0, |sum, k| sum + k);
        // Exactly 0 when no row is shortened; never negative, as each k is at most 1.
        let rest = (n - total) / n;
        coefficients.iter_mut().for_each(|c| *c *= rest);
        coefficients.iter_mut().zip(&kept).for_each(|(c, k)| *c += k / n);
    }
    Ok(coefficients)
}

/// The factor that makes a length at most `tau`.
fn shortened(length: f64, tau: f64) -> f64 {
    if length > tau { tau / length } else { 1.0 }
}
