use std::cmp::Ordering;

use super::ReduceError;
use super::blocks::{Source, TILE};

/// `pick` in an order that depends on the values of the rows alone: by the first column in which they
/// differ. Rows that are equal everywhere stay side by side, in the order of `pick`.
///
/// Sums in `f64` that take the rows in this order have the same bits however the workers are named.
/// It reads one tile of each row unless rows agree in it, and then goes on with those rows only.
pub(super) fn canonical(source: &mut Source<'_>, pick: &[usize]) -> Result<Vec<usize>, ReduceError> {
    let columns = source.columns();
    let mut groups = vec![pick.to_vec()];
    let mut start = 0;
    while start < columns && groups.iter().any(|group| group.len() > 1) {
        let width = if start == 0 { TILE } else { source.block_columns(pick.len(), 0) };
        let width = width.min(columns - start);
        let mut refined = Vec::with_capacity(pick.len());
        for group in groups {
            match group.len() {
                0 | 1 => refined.push(group),
                _ => refined.extend(split(source, group, start, width)?),
            }
        }
        groups = refined;
        start += width;
    }
    Ok(groups.concat())
}

/// The rows of a group, sorted by these columns; rows that are equal in all of them stay a group.
fn split(
    source: &mut Source<'_>,
    group: Vec<usize>,
    start: usize,
    width: usize,
) -> Result<Vec<Vec<usize>>, ReduceError> {
    let mut values = vec![0.0; group.len() * width];
    for (&row, piece) in group.iter().zip(values.chunks_exact_mut(width)) {
        source.read(row, start, piece)?;
    }
    let mut rows: Vec<(usize, &[f32])> = group.into_iter().zip(values.chunks_exact(width)).collect();
    rows.sort_by(|a, b| compare(a.1, b.1));
    let groups = rows.chunk_by(|a, b| compare(a.1, b.1) == Ordering::Equal);
    Ok(groups.map(|group| group.iter().map(|(row, _)| *row).collect()).collect())
}

/// By the first difference; -0 and 0 are equal, as they are in every sum.
fn compare(a: &[f32], b: &[f32]) -> Ordering {
    let mut pairs = a.iter().zip(b).map(|(a, b)| (a + 0.0).total_cmp(&(b + 0.0)));
    pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
