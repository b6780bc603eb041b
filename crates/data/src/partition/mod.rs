//! How training rows are dealt to shards: one rule, one file.

mod dirichlet;
mod gamma;
mod iid;

use crate::error::DataError;

pub use dirichlet::{ALPHA_MAX, ALPHA_MIN, TRIES_MAX};

/// A rule that deals rows to shards; the only list of them. A new one has a variant here, an arm in
/// [`partition`], and a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// Every shard has the same distribution; sizes differ by at most 1.
    Iid,
    /// Label skew: the share of each class that a shard gets is Dirichlet distributed.
    Dirichlet {
        /// Concentration, in [`ALPHA_MIN`]..=[`ALPHA_MAX`]: small is skewed, large is even.
        alpha: f64,
        /// The least rows of a shard; 0 counts as 1, since a shard without rows trains nobody.
        min: usize,
    },
}

/// Deals rows to `shards` shards: indices into `labels` (the class index of each training row), ascending
/// in each shard. Every row is in exactly one shard and no shard is empty. The same arguments give the same
/// shards on every platform.
///
/// # Errors
/// There are no shards or more than rows, `alpha` is out of its range, or no draw leaves every shard with
/// the least rows.
pub fn partition(
    labels: &[u32],
    shards: usize,
    partition: &Partition,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    if !(1..=labels.len()).contains(&shards) {
        return Err(DataError::ShardCount { shards, rows: labels.len() });
    }
    let mut dealt = match *partition {
        Partition::Iid => iid::deal(labels.len(), shards, seed),
        Partition::Dirichlet { alpha, min } => dirichlet::deal(labels, shards, alpha, min.max(1), seed)?,
    };
    dealt.iter_mut().for_each(|shard| shard.sort_unstable());
    Ok(dealt)
}

#[cfg(test)]
mod tests;
