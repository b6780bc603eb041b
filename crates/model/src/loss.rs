//! Softmax and cross-entropy of rows of logits, in `f64`.

/// `ln(sum(exp(logits)))`, without overflow.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f64::NEG_INFINITY, |max, &z| max.max(f64::from(z)));
    max + logits.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln()
}

/// The cross-entropy of one row, in nats: `-ln(softmax(logits)[label])`.
pub(crate) fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    log_sum_exp(logits) - f64::from(logits[label])
}

/// The softmax of one row.
pub(crate) fn softmax(logits: &[f32]) -> impl Iterator<Item = f64> + '_ {
    let norm = log_sum_exp(logits);
    logits.iter().map(move |&z| (f64::from(z) - norm).exp())
}

/// The index of the largest logit; the first of equals, as PyTorch's `argmax` on a CPU.
pub(crate) fn argmax(logits: &[f32]) -> usize {
    let better = |best: usize, (index, &z): (usize, &f32)| if z > logits[best] { index } else { best };
    logits.iter().enumerate().fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        // softmax([0, ln 3]) = [1/4, 3/4].
        let logits = [0.0, 3f32.ln()];
        let p: Vec<f64> = softmax(&logits).collect();
        assert!((p[0] - 0.25).abs() < 1e-7 && (p[1] - 0.75).abs() < 1e-7, "{p:?}");
        assert!((cross_entropy(&logits, 0) - 4f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn does_not_overflow() {
        assert_eq!(cross_entropy(&[f32::MAX, 0.0], 0), 0.0);
        assert_eq!(cross_entropy(&[1e30, 0.0], 1), f64::from(1e30f32));
        assert_eq!(softmax(&[f32::MAX, f32::MIN]).collect::<Vec<_>>(), [1.0, 0.0]);
    }

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[0.0, 0.0]), 0);
    }
}
