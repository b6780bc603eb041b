use super::blocks::Source;
use super::distances::Distances;
use super::{Emit, ReduceError, combine};

/// The row with the lowest score, where a row's score is the sum of the squared distances to its
/// `n - f - 2` nearest other rows (Blanchard et al. 2017, arXiv:1703.02757). Ties: the lowest row.
///
/// Breakdown point: `n >= 2f + 3`. It gives one worker's update, so it averages no noise away, and an
/// attacker who stays within the honest spread can be the one that is picked. Two passes, the second
/// over one row; memory is one block and `n^2` distances.
pub(super) fn run(source: &mut Source<'_>, f: usize, emit: &mut Emit<'_>) -> Result<(), ReduceError> {
    let distances = Distances::between_rows(source)?;
    let best = lowest(&distances, &source.all(), f, 1);
    combine::run(source, &best, &[1.0], 1.0, emit)
}

/// The `count` rows among `rows` with the lowest scores among them, best first; ties: the lowest row.
pub(super) fn lowest(distances: &Distances, rows: &[usize], f: usize, count: usize) -> Vec<usize> {
    let mut scored: Vec<(f64, usize)> =
        rows.iter().map(|&row| (score(distances, rows, row, f), row)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(count).map(|(_, row)| row).collect()
}

/// The sum of the squared distances of `row` to the `rows.len() - f - 2` nearest others, and to at least
/// one: Bulyan removes rows until none would be left to compare with. Added from the nearest on.
pub(super) fn score(distances: &Distances, rows: &[usize], row: usize, f: usize) -> f64 {
    let others = rows.iter().filter(|&&other| other != row);
    let mut squares: Vec<f64> = others.map(|&other| distances.squared(row, other)).collect();
    squares.sort_by(f64::total_cmp);
    squares.iter().take(rows.len().saturating_sub(f + 2).max(1)).fold(0.0, |sum, square| sum + square)
}
