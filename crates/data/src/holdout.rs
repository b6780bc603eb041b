use std::collections::{BTreeMap, BTreeSet};

use params::Rng;

use crate::error::DataError;

/// Which rows are kept from training, to test on.
#[derive(Clone, Debug, PartialEq)]
pub enum Holdout {
    /// None.
    None,
    /// This fraction, in `0..1`, of the rows of each class.
    Fraction(f64),
    /// These rows, from 0.
    Rows(Vec<usize>),
}

/// The rows to train on and to test on: disjoint, ascending, together all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on; never empty.
    pub train: Vec<usize>,
    /// Rows to test on.
    pub test: Vec<usize>,
}

/// Splits `rows` rows. With `labels` (one per row) a fraction is stratified: a class of `n` rows gives
/// `round(fraction * n)` of them, halves up. The draw depends only on `seed` and on which rows have which
/// class index.
///
/// # Errors
/// The fraction is not in `0..1`, a row is named twice or does not exist, the labels are not as many as the
/// rows, or nothing is left to train on.
pub fn split(rows: usize, labels: Option<&[u32]>, holdout: &Holdout, seed: u64) -> Result<Split, DataError> {
    if let Some(labels) = labels
        && labels.len() != rows
    {
        return Err(DataError::LabelCount { labels: labels.len(), rows });
    }
    let test = match holdout {
        Holdout::None => BTreeSet::new(),
        Holdout::Fraction(fraction) => drawn(rows, labels, *fraction, seed)?,
        Holdout::Rows(named) => checked(rows, named)?,
    };
    if test.len() == rows {
        return Err(DataError::NothingToTrain { test: test.len(), rows });
    }
    let train = (0..rows).filter(|row| !test.contains(row)).collect();
    Ok(Split { train, test: test.into_iter().collect() })
}

fn drawn(
    rows: usize,
    labels: Option<&[u32]>,
    fraction: f64,
    seed: u64,
) -> Result<BTreeSet<usize>, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Fraction(fraction));
    }
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in 0..rows {
        classes.entry(labels.map_or(0, |labels| labels[row])).or_default().push(row);
    }
    let mut test = BTreeSet::new();
    for (class, mut members) in classes {
        let count = (fraction * members.len() as f64).round() as usize;
        Rng::new(seed, &["holdout", &class.to_string()]).shuffle(&mut members);
        test.extend(&members[..count]);
    }
    Ok(test)
}

fn checked(rows: usize, named: &[usize]) -> Result<BTreeSet<usize>, DataError> {
    let mut test = BTreeSet::new();
    for &row in named {
        if row >= rows {
            return Err(DataError::NoSuchRow { row, rows });
        }
        if !test.insert(row) {
            return Err(DataError::RowTwice(row));
        }
    }
    Ok(test)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_named_rows() {
        let holdout = Holdout::Rows(vec![17, 3]);
        let split = split(20, None, &holdout, 1).unwrap();
        assert_eq!(split.test, [3, 17]);
        assert_eq!(split.train, (0..20).filter(|r| ![3, 17].contains(r)).collect::<Vec<_>>());
    }

    #[test]
    fn stratifies_by_class_and_repeats() {
        // 50, 30 and 5 rows, interleaved: 0.1 gives 5, 3 and round(0.5) = 1.
        let labels: Vec<u32> =
            (0..50).map(|_| 0).chain((0..30).map(|_| 1)).chain((0..5).map(|_| 7)).collect();
        let of = |seed| split(85, Some(&labels), &Holdout::Fraction(0.1), seed).unwrap();
        let counts = |rows: &[usize]| [0, 1, 7].map(|c| rows.iter().filter(|r| labels[**r] == c).count());
        assert_eq!((counts(&of(1).test), counts(&of(1).train)), ([5, 3, 1], [45, 27, 4]));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let plain = split(85, None, &Holdout::Fraction(0.2), 1).unwrap();
        assert_eq!((plain.test.len(), plain.train.len()), (17, 68));
        assert_eq!(split(3, None, &Holdout::None, 1).unwrap().train, [0, 1, 2]);
    }

    #[test]
    fn names_every_fault() {
        let message = |holdout| split(4, None, &holdout, 1).unwrap_err().to_string();
        for bad in ["1", "-0.1", "NaN", "inf"] {
            let expected = format!("holdout fraction {bad} must be at least 0 and below 1");
            assert_eq!(message(Holdout::Fraction(bad.parse().unwrap())), expected);
        }
        let range = "holdout row 4 does not exist: the data has 4 rows, 0 to 3";
        assert_eq!(message(Holdout::Rows(vec![0, 4])), range);
        assert_eq!(message(Holdout::Rows(vec![2, 0, 2])), "holdout row 2 is named twice");
        let all = "the holdout takes 4 of 4 rows and leaves none to train on";
        assert_eq!(message(Holdout::Rows(vec![0, 1, 2, 3])), all);
        assert_eq!(message(Holdout::Fraction(0.9)), all);
        assert_eq!(split(0, None, &Holdout::None, 1), Err(DataError::NothingToTrain { test: 0, rows: 0 }));
        let labels = split(4, Some(&[1]), &Holdout::None, 1).unwrap_err();
        assert_eq!(labels.to_string(), "1 labels for 4 rows");
    }

    proptest! {
        #[test]
        fn is_a_split(labels in proptest::collection::vec(0u32..4, 1..80), fraction in 0.0f64..0.6, seed: u64) {
            let Ok(split) = split(labels.len(), Some(&labels), &Holdout::Fraction(fraction), seed) else {
                return Ok(());
            };
            prop_assert!(split.train.is_sorted() && split.test.is_sorted());
            let mut all = [split.train.clone(), split.test.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for class in 0..4 {
                let count = |rows: &[usize]| rows.iter().filter(|r| labels[**r] == class).count();
                let whole = count(&split.train) + count(&split.test);
                prop_assert_eq!(count(&split.test), (fraction * whole as f64).round() as usize);
            }
        }
    }
}
