use params::Rng;

/// Shuffles the rows and cuts them into `shards` pieces; the first `rows % shards` have one row more
/// (McMahan et al. 2017, arXiv:1602.05629, section 3, "IID").
pub(super) fn deal(rows: usize, shards: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows).collect();
    Rng::new(seed, &["partition", "iid"]).shuffle(&mut order);
    let (each, more) = (rows / shards, rows % shards);
    let mut rest = order.as_slice();
    let piece = |shard| {
        let (piece, after) = rest.split_at(each + usize::from(shard < more));
        rest = after;
        piece.to_vec()
    };
    (0..shards).map(piece).collect()
}
