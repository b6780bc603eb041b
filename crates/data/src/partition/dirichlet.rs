use std::collections::BTreeMap;

use params::Rng;

use super::gamma::dirichlet;
use crate::error::DataError;

/// The smallest concentration.
pub const ALPHA_MIN: f64 = 1e-6;
/// The largest concentration.
pub const ALPHA_MAX: f64 = 1e6;
/// How often shares are drawn before a partition is refused.
pub const TRIES_MAX: u32 = 1000;

/// Class-wise label skew (Yurochkin et al. 2019, arXiv:1905.12022, section 4, and Flower's
/// `DirichletPartitioner` without self-balancing): for each class, in the order of its index, shares
/// `p ~ Dir(alpha)` and cuts at `floor(cumsum(p) * n_c)`; the whole draw is repeated until every shard has
/// `min` rows. The rows of a class are shuffled before they are cut. Each class has streams of its own, as
/// in the holdout, so that its cuts do not depend on which other classes there are.
pub(super) fn deal(
    labels: &[u32],
    shards: usize,
    alpha: f64,
    min: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    if !(ALPHA_MIN..=ALPHA_MAX).contains(&alpha) {
        return Err(DataError::Alpha(alpha));
    }
    let rows = labels.len();
    if shards.checked_mul(min).is_none_or(|needed| needed > rows) {
        return Err(DataError::ShardMinimum { shards, min, rows });
    }
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(row);
    }
    let stream = |class: &u32, what| Rng::new(seed, &["partition", "dirichlet", what, &class.to_string()]);
    let mut streams: Vec<Rng> = classes.keys().map(|class| stream(class, "shares")).collect();
    let cuts = (0..TRIES_MAX)
        .map(|_| draw(&mut streams, &classes, shards, alpha))
        .find(|cuts| smallest(cuts, shards) >= min)
        .ok_or(DataError::Skew { alpha, shards, min, tries: TRIES_MAX })?;

    let mut dealt = vec![Vec::new(); shards];
    for ((class, mut members), cuts) in classes.into_iter().zip(cuts) {
        stream(&class, "rows").shuffle(&mut members);
        for (shard, bounds) in dealt.iter_mut().zip(cuts.windows(2)) {
            shard.extend(&members[bounds[0]..bounds[1]]);
        }
    }
    Ok(dealt)
}

/// For each class the `shards + 1` positions between which its rows are cut.
fn draw(
    streams: &mut [Rng],
    classes: &BTreeMap<u32, Vec<usize>>,
    shards: usize,
    alpha: f64,
) -> Vec<Vec<usize>> {
    let cut = |(members, rng): (&Vec<usize>, &mut Rng)| {
        let shares = dirichlet(rng, alpha, shards);
        let mut sum = 0.0;
        let mut cuts = vec![0];
        for share in &shares[..shards - 1] {
            sum += share;
            // Rounding can carry the sum past 1.
            cuts.push(((sum * members.len() as f64).floor() as usize).min(members.len()));
        }
        // The last shard takes the rest, whatever the shares sum to.
        cuts.push(members.len());
        cuts
    };
    classes.values().zip(streams).map(cut).collect()
}

fn smallest(cuts: &[Vec<usize>], shards: usize) -> usize {
    let size = |shard: usize| cuts.iter().map(|cuts| cuts[shard + 1] - cuts[shard]).sum();
    (0..shards).map(size).min().unwrap_or(0)
}
