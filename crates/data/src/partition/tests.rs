use proptest::prelude::*;

use super::*;

const SKEWED: Partition = Partition::Dirichlet { alpha: 0.5, min: 10 };

/// Counts of each class in each shard.
fn counts(labels: &[u32], shards: &[Vec<usize>], classes: usize) -> Vec<Vec<f64>> {
    let count = |shard: &Vec<usize>| {
        let mut counts = vec![0.0; classes];
        shard.iter().for_each(|row| counts[labels[*row] as usize] += 1.0);
        counts
    };
    shards.iter().map(count).collect()
}

/// Total variation between the label distribution of each shard and of all: half the sum of `|p_k - p|`.
fn total_variation(counts: &[Vec<f64>]) -> Vec<f64> {
    let classes = 0..counts[0].len();
    let whole: Vec<f64> = classes.map(|c| counts.iter().map(|k| k[c]).sum()).collect();
    let total: f64 = whole.iter().sum();
    let of = |shard: &Vec<f64>| {
        let size: f64 = shard.iter().sum();
        shard.iter().zip(&whole).map(|(n, all)| (n / size - all / total).abs()).sum::<f64>() / 2.0
    };
    counts.iter().map(of).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn total_variation_meets_the_reference() {
    let counts = [vec![8.0, 2.0, 0.0], vec![1.0, 1.0, 8.0], vec![3.0, 3.0, 4.0]];
    let tv = total_variation(&counts);
    assert!(tv.iter().zip([0.4, 0.4, 0.1]).all(|(a, b)| (a - b).abs() < 1e-12), "{tv:?}");
}

#[test]
fn skew_meets_the_reference() {
    // Ten classes of 6000 rows (the label counts of Fashion-MNIST), ten shards, alpha 0.5. Reference over
    // 30 seeds of Flower's rule: mean TV 43.43 %, sd 2.8 %; and CV^2 of sizes is (K-1) / (C (K a + 1)).
    let labels: Vec<u32> = (0..60_000).map(|row| row % 10).collect();
    let seeds = 30;
    let (mut variations, mut squares) = (Vec::new(), Vec::new());
    for seed in 0..seeds {
        let counts = counts(&labels, &partition(&labels, 10, &SKEWED, seed).unwrap(), 10);
        variations.push(mean(&total_variation(&counts)));
        let sizes: Vec<f64> = counts.iter().map(|shard| shard.iter().sum()).collect();
        squares.push(sizes.iter().map(|n| (n / 6000.0 - 1.0) * (n / 6000.0 - 1.0)).sum::<f64>() / 10.0);
    }
    let root = f64::from(seeds as u32).sqrt();
    let tv = 100.0 * mean(&variations);
    assert!((tv - 43.43).abs() < 4.0 * 2.8 / root, "mean total variation {tv} %");
    let (law, square) = (9.0 / (10.0 * (10.0 * 0.5 + 1.0)), mean(&squares));
    let spread: Vec<f64> = squares.iter().map(|s| (s - square) * (s - square)).collect();
    let sd = mean(&spread).sqrt();
    assert!(
        (square - law).abs() < 4.0 * sd / root,
        "squared variation of sizes {square}, law {law}, sd {sd}"
    );
    assert!(sd < law, "a test that accepts anything: sd {sd}");
}

#[test]
fn large_alpha_is_even_and_small_alpha_is_not() {
    let labels: Vec<u32> = (0..2000).map(|row| row % 2).collect();
    let tv = |alpha| {
        let shards = partition(&labels, 4, &Partition::Dirichlet { alpha, min: 1 }, 3).unwrap();
        mean(&total_variation(&counts(&labels, &shards, 2)))
    };
    assert!(tv(1e6) < 0.01 && tv(0.05) > 0.3, "{} {}", tv(1e6), tv(0.05));
}

#[test]
fn stays_the_same_across_releases() {
    // A change here deals other rows to other workers: do not update the figures, find the cause.
    let labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
    assert_eq!(
        partition(&labels, 3, &Partition::Iid, 7).unwrap(),
        [[0, 2, 8, 11], [1, 5, 7, 9], [3, 4, 6, 10]]
    );
    let skewed = Partition::Dirichlet { alpha: 0.5, min: 2 };
    assert_eq!(
        partition(&labels, 3, &skewed, 7).unwrap(),
        [vec![2, 4, 8, 10], vec![5, 6], vec![0, 1, 3, 7, 9, 11]]
    );
}

#[test]
fn names_every_fault() {
    let labels = [0, 0, 0, 1, 1, 1];
    let message = |shards, rule: Partition| partition(&labels, shards, &rule, 1).unwrap_err().to_string();
    for shards in [0, 7] {
        let expected = format!("{shards} shards for 6 training rows: use 1 to 6");
        assert_eq!(message(shards, Partition::Iid), expected);
        assert_eq!(message(shards, SKEWED), expected);
    }
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-7] {
        let expected = format!("dirichlet alpha {alpha} must be in 0.000001..=1000000");
        assert_eq!(message(2, Partition::Dirichlet { alpha, min: 1 }), expected);
    }
    assert_eq!(
        message(3, Partition::Dirichlet { alpha: 1.0, min: 3 }),
        "3 shards of at least 3 rows need more than the 6 training rows: use fewer shards"
    );
    let huge = Partition::Dirichlet { alpha: 1.0, min: usize::MAX };
    assert!(message(3, huge).contains("need more than the 6"));
    let error = partition(&labels, 6, &Partition::Dirichlet { alpha: 0.001, min: 1 }, 1).unwrap_err();
    assert_eq!(error, DataError::Skew { alpha: 0.001, shards: 6, min: 1, tries: TRIES_MAX });
    assert!(error.to_string().starts_with("dirichlet alpha 0.001 left a shard with fewer than 1 rows"));
}

proptest! {
    #[test]
    fn every_row_is_in_one_shard(
        labels in proptest::collection::vec(0u32..5, 1..120), shards in 1usize..9, alpha in 0.05f64..20.0, min in 0usize..6, seed: u64
    ) {
        for rule in [Partition::Iid, Partition::Dirichlet { alpha, min }] {
            let Ok(dealt) = partition(&labels, shards, &rule, seed) else { continue };
            prop_assert_eq!(dealt.len(), shards);
            prop_assert!(dealt.iter().all(|shard| shard.is_sorted()));
            let sizes: Vec<usize> = dealt.iter().map(Vec::len).collect();
            let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
            match rule {
                Partition::Iid => prop_assert!(least >= 1 && most - least <= 1),
                Partition::Dirichlet { .. } => prop_assert!(least >= min.max(1)),
            }
            let mut all = dealt.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            prop_assert_eq!(partition(&labels, shards, &rule, seed).unwrap(), dealt);
        }
    }
}

#[test]
fn seeds_differ() {
    let labels: Vec<u32> = (0..200).map(|row| row % 4).collect();
    for rule in [Partition::Iid, SKEWED] {
        assert_ne!(partition(&labels, 4, &rule, 1).unwrap(), partition(&labels, 4, &rule, 2).unwrap());
    }
}
