use crate::Encoding;

/// Adds what earlier updates left out: what is encoded is `update + residual`.
///
/// Error feedback of Seide et al. (2014) and Karimireddy et al., arXiv:1901.09847: at any time, all that
/// was sent and the residual together are the sum of all updates. The additions round once per element,
/// and overflow to an infinity that [`Encoding::encode`] refuses.
///
/// # Panics
/// When the lengths differ.
pub fn compensate(update: &mut [f32], residual: &[f32]) {
    assert_eq!(update.len(), residual.len(), "a residual belongs to one form");
    for (value, left) in update.iter_mut().zip(residual) {
        *value += left;
    }
}

/// Replaces `out` by what `payload`, the encoding of `values`, does not say: `values - decode(payload)`.
/// It is exact where the payload is (`top-k`), and rounds once per element elsewhere.
///
/// # Panics
/// When the payload is not of so many elements.
pub fn remainder(values: &[f32], encoding: Encoding, payload: &[u8], out: &mut Vec<f32>) {
    out.clear();
    out.resize(values.len(), 0.0);
    encoding.decode(payload, values.len(), 0, out);
    for (left, value) in out.iter_mut().zip(values) {
        *left = value - *left;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UPDATES: [[f32; 4]; 3] = [[0.1, -0.5, 0.3, 0.05], [0.2, 0.1, -0.1, 0.05], [0.2, 0.0, 0.1, 0.3]];

    /// What is decoded in each round, and the residual behind it.
    fn play(encoding: Encoding, updates: &[Vec<f32>]) -> Vec<(Vec<f32>, Vec<f32>)> {
        let mut residual = vec![0.0; updates[0].len()];
        let round = |update: &Vec<f32>| {
            let mut values = update.clone();
            compensate(&mut values, &residual);
            let mut payload = Vec::new();
            encoding.encode(&values, 1, &mut payload).unwrap();
            remainder(&values, encoding, &payload, &mut residual);
            let mut sent = vec![9.0; values.len()];
            encoding.decode(&payload, values.len(), 0, &mut sent);
            (sent, residual.clone())
        };
        updates.iter().map(round).collect()
    }

    fn golden(encoding: Encoding) -> Vec<(Vec<f32>, Vec<f32>)> {
        play(encoding, &UPDATES.map(|update| update.to_vec()))
    }

    #[test]
    fn top_k_sends_the_golden_values() {
        let rounds = golden(Encoding::TopK { fraction: 0.5 });
        // In f32, 0.1 + 0.2 and 0.05 + 0.05 + 0.3 have these bits.
        let expected = [
            (vec![0.0, -0.5, 0.3, 0.0], vec![0.1, 0.0, 0.0, 0.05]),
            (vec![0.1 + 0.2, 0.1, 0.0, 0.0], vec![0.0, 0.0, -0.1, 0.05 + 0.05]),
            (vec![0.2, 0.0, 0.0, 0.05 + 0.05 + 0.3], vec![0.0; 4]),
        ];
        assert_eq!(rounds, expected);
    }

    #[test]
    fn signs_are_the_golden_ones() {
        let rounds = golden(Encoding::Sign);
        let sent =
            [[0.2375, -0.2375, 0.2375, 0.2375], [0.1, -0.1, -0.1, -0.1], [0.1625, -0.1625, 0.1625, 0.1625]];
        for ((found, _), expected) in rounds.iter().zip(sent) {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-7, "{rounds:?}");
            }
        }
        for (found, expected) in rounds[2].1.iter().zip([0.0, 0.1, 0.0, 0.1]) {
            assert!((found - expected).abs() <= 1e-7, "{rounds:?}");
        }
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop_oneof![
            Just(Encoding::Sign),
            Just(Encoding::Int4 { block: 3 }),
            Just(Encoding::Bf16),
            (0.01f64..=1.0).prop_map(|fraction| Encoding::TopK { fraction }),
        ]
    }

    proptest! {
        /// Multiples of 2^-6 below 2^7 are added without rounding: the invariant of top-k is exact.
        #[test]
        fn nothing_is_lost_by_top_k(
            updates in (1usize..20).prop_flat_map(|n| {
                proptest::collection::vec(proptest::collection::vec(-64i8..64, n), 1..16)
            }),
            fraction in 0.01f64..=1.0,
        ) {
            let updates: Vec<Vec<f32>> =
                updates.iter().map(|u| u.iter().map(|v| f32::from(*v) / 64.0).collect()).collect();
            let rounds = play(Encoding::TopK { fraction }, &updates);
            for index in 0..updates[0].len() {
                let sum: f32 = updates.iter().map(|u| u[index]).sum();
                let sent: f32 = rounds.iter().map(|(sent, _)| sent[index]).sum();
                prop_assert_eq!(sent + rounds.last().unwrap().1[index], sum);
            }
        }

        #[test]
        fn nothing_is_lost_within_rounding(
            updates in (1usize..20).prop_flat_map(|n| {
                proptest::collection::vec(proptest::collection::vec(-1f32..1.0, n), 1..16)
            }),
            encoding in encodings(),
        ) {
            let rounds = play(encoding, &updates);
            for index in 0..updates[0].len() {
                let sum: f64 = updates.iter().map(|u| f64::from(u[index])).sum();
                let sent: f64 = rounds.iter().map(|(sent, _)| f64::from(sent[index])).sum();
                let left = f64::from(rounds.last().unwrap().1[index]);
                // Two roundings a round, of numbers that are at most the sum of all updates.
                let bound = 2.0 * 16.0 * 16.0 * 20.0 * 2f64.powi(-24);
                prop_assert!((sent + left - sum).abs() <= bound, "{}", sent + left - sum);
            }
        }
    }
}
